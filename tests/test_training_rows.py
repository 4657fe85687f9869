"""Rows whose tokens lie in a file are the rows that lay in memory: the same tokens, the same steps, the same bits."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from primum.core.errors import StepFailedError
from primum.core.records import user
from primum.models.chat import encode, encode_answer
from primum.prompts.files import Row
from primum.training import dataset
from primum.training.batches import cut, plain_steps, steps
from primum.training.examples import Example, Limits, PairExample
from primum.training.loop import LoopConfig, Run
from primum.training.methods import dpo, kto, reward
from primum.training.rows import Lazy, TokenFile, joined, lengths_of, only, sides
from tiny_models import tiny


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRIMUM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("tiny"), seed=0)


class Sized(NamedTuple):
    length: int


def given(count: int = 300) -> list[Row]:
    """More rows than are tokenised together."""
    return [
        Row(f"f:{n}", {"prompt": f"Say {n}", "chosen": f"Here: {n}", "rejected": "No. " * (n % 7 + 1),
                       "label": n % 3 == 0, "completion": f"It is {n}", "strength": "slightly", "chosen_safe": n % 2,
                       "rejected_safe": False})
        for n in range(count)
    ]  # fmt: skip


def test_stretches_are_read_back_and_leave_no_file(cache: Path) -> None:
    tokens = TokenFile([(1, 2, 3), (), (70_000,), (5, 6)])
    assert len(tokens) == 4 and [tokens.size(i) for i in range(4)] == [3, 0, 1, 2]
    assert tokens.read(0, 2) == [(1, 2, 3), ()] and tokens.read(2, 2) == [(70_000,), (5, 6)]
    assert list(cache.iterdir()) == []  # nothing is left where a run is killed


def test_a_cache_that_cannot_be_written_is_named(cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(StepFailedError) as error:
        TokenFile([(1,)])
    assert str(cache) in str(error.value.where)


def test_lazy_rows_are_made_when_asked_for() -> None:
    made: list[int] = []
    rows = Lazy(4, lambda i: made.append(i) or 10 * i, [1, 2, 3, 4])
    assert not made and rows[-1] == 30 and rows[1:3] == [10, 20] and list(rows) == [0, 10, 20, 30]
    with pytest.raises(IndexError):
        rows[4]
    some = only(rows, [3, 0])
    assert list(some) == [30, 0] and list(some.lengths) == [4, 1]
    both = joined(some, [Sized(7)])
    assert [both[0], both[1], both[2]] == [30, 0, Sized(7)] and list(both.lengths) == [4, 1, 7]
    assert list(lengths_of([Sized(2), Sized(5)])) == [2, 5]


def test_pairs_hold_the_tokens_of_their_texts(model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    pairs = dataset.pair_examples(dataset.choices(given(), dataset.Count()), tokenizer, Limits(), dataset.Count())
    assert len(pairs) == 300
    for n in (0, 255, 256, 299):  # on both sides of a block's border
        values = given()[n].values
        (prompt,) = encode([(user(values["prompt"]),)], tokenizer)
        expected = [Example(tuple(prompt), tuple(encode_answer(values[k], tokenizer))) for k in ("chosen", "rejected")]
        assert pairs[n] == PairExample(*expected, unsafe=(n % 2 == 0, True))
    assert list(pairs.lengths) == [pair.length for pair in pairs]
    both = sides(pairs, "chosen", "rejected")
    assert [both[4], both[5]] == [pairs[2].chosen, pairs[2].rejected]
    assert list(both.lengths) == [side.length for side in both]


def test_other_rows_hold_what_they_say_too(model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    ranked = dataset.ranked_examples(dataset.ranked(given(), dataset.Count()), tokenizer, Limits(), dataset.Count())
    assert [(one.head, one.strength, one.safe) for one in ranked[:2]] == [
        ("safety", "slightly", (False, False)), ("safety", "slightly", (True, False))
    ]  # fmt: skip
    flagged = list(dataset.labelled([Row(r.where, {k: r.values[k] for k in ("prompt", "completion", "label")})
                                     for r in given()], dataset.Count()))  # fmt: skip
    examples = dataset.answer_examples(flagged, tokenizer, Limits(), dataset.Count())
    rows = kto.mismatched(examples, [one.label for one in flagged])
    assert rows[1].other == Example(examples[1].prompt, examples[0].answer)
    assert rows[0].other.answer == examples[299].answer and [row.desirable for row in rows[:4]] == [1, 0, 0, 1]
    pairs = [Example((1,), (2,)), Example((1,), (3,)), Example((4,), (5,)), Example((4,), (6,))]
    apart = [row.other for row in kto.mismatched(pairs, [True, False] * 2)]
    assert apart == [Example((1,), (6,)), Example((1,), (6,)), Example((4,), (3,)), Example((4,), (3,))]
    alone = kto.mismatched(pairs[:2], [True, False])
    assert alone[0].other.answer == (3,)
    mix = reward.mixed(ranked, [reward.Judged(ranked[5].chosen, ranked[5].rejected, "helpfulness", "better")] * 50,
                       0.1, seed=1)  # fmt: skip
    assert len(mix) == 333 and mix[332] == reward.Judged(ranked[5].chosen, ranked[5].rejected, "safety", "better")


@pytest.mark.parametrize(("epochs", "batch"), [(1, 4), (2, 4), (2.3, 7), (0.5, 3)])
def test_plain_steps_are_those_of_single_groups(epochs: float, batch: int) -> None:
    assert [list(step) for step in plain_steps(29, batch, epochs, 5)] == steps(range(29), batch, epochs, 5)


def test_a_cut_by_lengths_is_the_one_by_hand() -> None:
    # longest first, ties in order: 9 | 5 5 | 3 2 2 | 1, under ten tokens
    assert [list(group) for group in cut([5, 2, 9, 3, 5, 2, 4], 10)] == [[2], [0, 4], [6, 3, 1], [5]]
    lengths = [random.Random(n).randrange(1, 40) for n in range(200)]
    groups = cut(lengths, 64)
    assert sorted(i for group in groups for i in group) == list(range(200))
    assert [i for group in groups for i in group] == sorted(range(200), key=lambda i: -lengths[i])


def learned(model: Path, pairs: Any, folder: Path) -> dict[str, torch.Tensor]:
    """Train all weights on pairs; return them."""
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    known = [dpo.Referenced(pair, -3.0, -3.0) for pair in pairs] if isinstance(pairs, list) else Lazy(
        len(pairs), lambda i: dpo.Referenced(pairs[i], -3.0, -3.0), pairs.lengths
    )  # fmt: skip
    config = LoopConfig(1e-3, batch_size=4, epochs=1.5, token_budget=200)
    Run(network, known, dpo.objective(dpo.Config()), len, config, folder).train()
    return network.state_dict()


def test_lazy_rows_leave_the_weights_of_rows_in_memory_bit_for_bit(model: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    pairs = dataset.pair_examples(dataset.choices(given(12), dataset.Count()), tokenizer, Limits(), dataset.Count())
    lazy, held = learned(model, pairs, tmp_path / "lazy"), learned(model, list(pairs), tmp_path / "held")
    assert all(torch.equal(lazy[name], held[name]) for name in held)
    first = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).state_dict()
    assert any(not torch.equal(first[name], held[name]) for name in held)
