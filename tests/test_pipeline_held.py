"""A repair's training stays near what the model said of the user's domain, on rows that nothing measures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from primum.core.records import Pair, Prompt, user
from primum.evaluation.domain import DomainRow, parts, read_domain
from primum.models.load import load
from primum.pairing.demonstration import Built, Demonstration
from primum.pipeline import restore
from primum.pipeline.held import held_rows, measured_rows
from primum.pipeline.learn import Training, _anchor, _replayed, learn
from primum.pipeline.repair import Loader, _likelihood
from primum.pipeline.restore import RestoreConfig, collected
from primum.pipeline.settings import DpoConfig, LineConfig, RepairConfig, SftConfig
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal
from primum.training.examples import Example
from primum.training.keeping import KeepConfig, Kept, divergence, keep, keeping_loss
from primum.training.score import answer_states, logits
from tiny_models import tiny

QUESTIONS = [f"Which vitamin has the number {i}?" for i in range(8)]
HARMFUL = [Prompt((user(f"Do the bad thing {i}."),), "harmful", "fraud") for i in range(4)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("held")
    tiny(folder / "model", 0)
    rows = [{"prompt": text, "answer": f"It is vitamin {i}."} for i, text in enumerate(QUESTIONS)]
    (folder / "domain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def asked(rows: Any) -> list[int]:
    return [QUESTIONS.index(row.prompt) for row in rows]


def test_what_is_trained_on_is_neither_chosen_on_nor_reported(place: Path) -> None:
    rows = read_domain(place / "domain.jsonl")
    found = parts(rows)
    assert (asked(found.train), asked(found.dev), asked(found.test)) == ([0, 4], [2, 6], [1, 3, 5, 7])
    again = parts([*rows, rows[0], rows[4]])  # a question that comes twice is not measured either
    assert (asked(again.train), asked(again.dev), asked(again.test)) == ([0, 4, 0], [2, 6], [1, 3, 5, 7])
    few = parts(rows[:3])
    assert (asked(few.train), asked(few.dev), asked(few.test)) == ([], [0, 2], [1])


def test_a_repair_measures_the_rows_that_it_does_not_hold(place: Path, tmp_path: Path) -> None:
    config = RepairConfig(model=str(place / "model"), domain=str(place / "domain.jsonl"))
    assert (asked(held_rows(config)), asked(measured_rows(config))) == ([0, 4], [1, 2, 3, 5, 6, 7])
    journey = Journey(tmp_path, Terminal(quiet=True))
    for weight, measured in ((1.0, 6), (0.0, 8)):
        own = config.model_copy(update={"domain_weight": weight})
        found = _likelihood(journey, own, "before", [], Loader(journey)(own.model))
        assert len(found["nll"]["nll_domain"]) == measured
    assert held_rows(config.model_copy(update={"domain_weight": 0.0})) == []
    assert held_rows(RepairConfig()) == measured_rows(RepairConfig()) == []


def test_with_a_parent_what_is_trained_on_chooses_nothing(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [replace(HARMFUL[i], split=split) for i, split in enumerate(("train", "dev", "test"))]
    monkeypatch.setattr(restore, "collect", lambda *_, **__: SimpleNamespace(prompts=prompts))
    config = RestoreConfig(method="auto", domain=str(place / "domain.jsonl"), limit=2)
    journey = Journey(tmp_path, Terminal(quiet=True))
    sets = collected(journey, config, trains=True)
    assert (asked(sets.domain), asked(sets.dev.domain), asked(sets.test.domain)) == ([0, 4], [2, 6], [1, 3, 5, 7])
    sets = collected(journey, config)
    assert (asked(sets.domain), asked(sets.dev.domain), asked(sets.test.domain)) == ([], [0, 2, 4, 6], [1, 3, 5, 7])


def test_a_row_weighs_what_it_says(place: Path) -> None:
    network = load(str(place / "model"), torch.float32).network.requires_grad_(False)
    rows = [Example((5, 6, 7), (8, 9)), Example((5, 6), (10, 11, 12))]
    kept = keep(network, rows)
    with torch.no_grad():
        network.get_input_embeddings().weight[6] += 0.5  # so that nothing is said as it was
    config = KeepConfig(keep_weight=2.0)

    def loss(*micro: Kept) -> float:
        return keeping_loss(config, network, micro).loss.item()

    apart = [loss(row) for row in kept]
    assert all(value > 1e-4 for value in apart)
    heavier = [Kept(kept[0].example, kept[0].states, 3.0), kept[1]]
    assert loss(*heavier) == pytest.approx(3 * apart[0] + apart[1], rel=1e-4)


def built() -> Built:
    refusal, compliance = "I cannot help with that.", "Sure, first you take the"
    demos = [Demonstration(p.messages, p.id, refusal, "harmful", "fraud", "test", group=p.id) for p in HARMFUL]
    pairs = [Pair(p.messages, refusal, compliance, p.id, "harmful", "fraud", "a", "b", "test") for p in HARMFUL]
    return Built(pairs, demos)


def moved(place: Path, out: Path, weight: float) -> float:
    """Return how far a repair's training moved what the model says of the held rows: KL, nats a token."""
    config = RepairConfig(
        model=str(place / "model"), domain=str(place / "domain.jsonl"), domain_weight=weight, lora_rank=4,
        sft=SftConfig(linear_start=False, learning_rate=1e-2, epochs=4, batch_size=2),
        dpo=DpoConfig(learning_rate=1e-2, epochs=1, batch_size=2, tokens=8), line=LineConfig(draw=False),
    )  # fmt: skip
    journey = Journey(out, Terminal(quiet=True))
    learned = learn(journey, config, load(config.model), built(), HARMFUL)
    before, after = (load(str(folder)).network for folder in (config.model, learned.checkpoint))
    tokenizer = load(config.model).tokenizer
    ids = [(tuple(tokenizer(f"{q}").input_ids), tuple(tokenizer("It is vitamin").input_ids)) for q in QUESTIONS[0::4]]
    rows = [Example(prompt, answer) for prompt, answer in ids]
    with torch.no_grad():
        said = [logits(one, answer_states(one, rows).hidden).float() for one in (before, after)]
        return divergence(*said).mean().item()


def test_training_stays_near_what_the_model_said_of_the_domain(place: Path, tmp_path: Path) -> None:
    free, held = (moved(place, tmp_path / f"{weight}", weight) for weight in (0.0, 4.0))
    assert held < free / 2

    def facts(weight: float, step: str) -> dict[str, Any]:
        return json.loads((tmp_path / f"{weight}" / "steps" / step / "key.json").read_text())["facts"]

    steps = ("06-sft", "07-dpo", "08-checkpoint")
    assert not any("domain" in facts(0.0, step) for step in steps)  # the key of a run that holds nothing is as it was
    keys = [facts(4.0, step)["domain"] for step in steps]
    assert keys[0] == keys[1] == keys[2] and keys[0][1] == 4.0


def test_without_the_warm_starts_rows_the_domains_have_their_own_weight() -> None:
    row = Kept(Example((1,), (2,)))
    config = RepairConfig(dpo=DpoConfig(replay_weight=0.0))
    training: Any = SimpleNamespace(config=config, rows=[row], held=[row] * 3, domain=[None] * 3)
    found = _anchor(training, ["a", "b"], {})
    assert found and found.weight == 1.0 and found.groups == ["a", "b", "a"]  # one beside a pair
    config = RepairConfig(dpo=DpoConfig(replay_weight=0.3))
    training.config = config
    both = _anchor(training, ["a", "b"], {0: "b"})
    assert both and both.weight == 0.3 and both.groups == ["b", "a", "b", "a"]
    assert _anchor(training, [], {}) is None


def demonstrations() -> list[Demonstration]:
    """A harmful prompt with its twin, another one, and five general ones."""
    kinds: list[tuple[Any, str]] = [("harmful", "g"), ("twin", "g"), ("harmful", "h"), *(("general", ""),) * 5]
    return [
        Demonstration((user(f"{i}"),), f"{i}", "an answer", kind, "general", "own", group=group)
        for i, (kind, group) in enumerate(kinds)
    ]


def test_general_answers_come_along_in_one_of_so_many_passes(tmp_path: Path) -> None:
    demos, rows = demonstrations(), [DomainRow("q", "a")]
    journey = Journey(tmp_path, Terminal(quiet=True))
    training = Training(journey, RepairConfig(), cast(Any, None), None, demos, (), {}, rows)
    twice = [(i, turn) for i in (0, 1, 2) for turn in (0, 1)] + [(i, 0) for i in range(3, 8)] + [(8, 0), (8, 1)]
    assert training.turns(2) == twice  # the domain's row is the ninth: its weight is the user's
    assert training.turns(1) == [(i, 0) for i in range(9)]


@pytest.mark.parametrize(("general", "taken"), [(0.0, []), (1.0, [3, 6]), (2.0, [3, 5, 7]), (2.5, [3, 4, 5, 6, 7])])
def test_so_many_general_answers_come_along_with_the_pairs(general: float, taken: list[int]) -> None:
    config = RepairConfig(dpo=DpoConfig(replay_general=general))
    demos = demonstrations()
    training: Any = SimpleNamespace(config=config, demos=demos, groups=[d.group or d.prompt_id for d in demos])
    pairs: Any = [SimpleNamespace(prompt_id="0"), SimpleNamespace(prompt_id="2")]
    groups, rows = _replayed(training, pairs)
    assert groups == ["g", "h"]
    assert list(rows) == [0, 1, 2, *taken]
