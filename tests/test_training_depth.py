"""Depth: which rows are made of which prompts, where the loss is, and that wrapped requests are answered as plain."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from scipy.stats import entropy

from primum import cli
from primum.core.errors import UsageError
from primum.core.records import Prompt, user
from primum.models.load import Model, load
from primum.pairing.completions import extended, pieces
from primum.pairing.depth import Depth, deepened
from primum.pipeline.deepen import examples_of, wrapping
from primum.training.adapter import add_lora
from primum.training.examples import Example, Lesson
from primum.training.keeping import Kept, keep, keeping_loss
from primum.training.methods import depth
from primum.training.score import score_all
from tiny_models import tiny


# ------------------------------------------------------------------------------------------------ texts
def prompts(count: int = 200) -> list[Prompt]:
    found: list[Prompt] = []
    for n in range(count):
        bad = Prompt((user(f"harmful {n}"),), "harmful", "cyber")
        good = Prompt((user(f"benign {n}"),), "benign", "cyber", twin=bad.id)
        found += [bad, good]
    return found


def wrap(text: str, rng: Random) -> str:
    return f"A story: {text} ({rng.randint(0, 9)})"


def made(**shares: Any) -> list[Any]:
    asked = prompts()
    openings = {p.id: f"Sure, {p.text}" for p in asked if p.intent == "harmful"}
    own = {p.id: (f"Own answer {p.text}", True) for p in asked if p.intent == "benign"}
    none = {"recovery": 0.0, "extended": 0.0, "wrapped": 0.0}
    return deepened(asked, openings, own, wrap, Depth(**(none | shares)))


def test_recovery_puts_a_harmful_beginning_before_a_safe_answer() -> None:
    rows = made(recovery=1.0, longest=7)
    assert len(rows) == 200 and all(row.opening == f"Sure, {row.prompt.text}" for row in rows)
    assert {row.tokens for row in rows} == set(range(1, 8)) and all(row.plain is None for row in rows)
    assert all(row.answer.startswith("Sorry") and "Sure" not in row.answer for row in rows)
    some = made(recovery=0.25)
    assert 30 <= sum(bool(row.opening) for row in some) <= 70  # of 200
    without = deepened(prompts(5), {}, {}, wrap, Depth(recovery=1.0, wrapped=0.0))
    assert len(without) == 5 and not any(row.opening for row in without)


def test_an_extended_refusal_is_overview_refusal_and_reason() -> None:
    own = pieces("cyber")
    for row in made(extended=1.0)[:20]:
        at = [next(row.answer.find(one) for one in part if one in row.answer) for part in (own.boundary, own.risk)]
        assert 20 < at[0] < at[1]  # something stands before the refusal, and the reason after it
        assert not row.answer.startswith("Sorry") and "{topic}" not in row.answer
    in_danger = extended("self_harm", Random(0))
    assert any(in_danger.startswith(one) for one in pieces("self_harm").concern)  # concern still comes first
    assert all(row.answer.startswith("Sorry") for row in made())


def test_wrapped_requests_come_beside_the_plain_ones_harmful_and_benign() -> None:
    rows = made(wrapped=1.0)
    kinds = Counter((row.prompt.intent, row.plain is not None) for row in rows)
    assert kinds == {("harmful", False): 200, ("harmful", True): 200, ("benign", True): 200}
    for row in (row for row in rows if row.plain):
        assert row.plain == row.prompt.messages and row.messages[-1].content.startswith(f"A story: {row.prompt.text}")
        if row.prompt.intent == "benign":
            assert row.answer == f"Own answer {row.prompt.text}"
    by_prompt: dict[str, set[str]] = {}
    for row in rows:
        by_prompt.setdefault(row.prompt.id, set()).add(row.answer)
    assert all(len(answers) == 1 for answers in by_prompt.values())  # the same answer after both


def test_a_request_is_declined_in_its_own_language() -> None:
    asked = [Prompt((user(f"Wie knacke ich das {n}?"),), "harmful", "cyber", "de") for n in range(20)]
    german, english = pieces("cyber", "de"), pieces("cyber")
    rows = deepened(asked, {}, {}, wrap, Depth(recovery=0.0, wrapped=0.0, extended=0.5))
    assert len(rows) == 20
    assert all(any(one in row.answer for one in german.boundary) for row in rows)
    assert not any(one in row.answer for row in rows for one in english.boundary)
    unspoken = [Prompt((user("q"),), "harmful", "cyber", "tlh")]  # no answers in Klingon
    assert deepened(unspoken, {}, {}, wrap, Depth()) == []


def test_what_is_measured_is_never_learned() -> None:
    asked = [Prompt((user("x"),), "harmful", "cyber", split="test")]
    with pytest.raises(UsageError, match="test split"):
        deepened(asked, {}, {}, wrap, Depth())


def test_a_dress_is_an_attack_of_one_turn_and_a_vector_can_be_left_out() -> None:
    dress, same = wrapping(""), wrapping("")
    texts = [dress("how to bake bread", Random(n)) for n in range(60)]
    assert texts == [same("how to bake bread", Random(n)) for n in range(60)] and len(set(texts)) > 20
    assert any("how to bake bread" in text and text != "how to bake bread" for text in texts)
    without = wrapping("perspective")
    fewer = [without("how to bake bread", Random(n)) for n in range(200)]
    assert any("DAN" in dress("x", Random(n)) for n in range(400)) and not any("DAN" in text for text in fewer)
    with pytest.raises(UsageError, match="no vector 'perspektive'"):
        wrapping("perspektive")


# ------------------------------------------------------------------------------------------------ losses
WORDS = 24


def adapted() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, tie_word_embeddings=False,
    )  # fmt: skip
    network = LlamaForCausalLM(config).float().eval()
    for weights in network.parameters():
        if weights.dim() == 2:
            weights.data.mul_(15)  # fresh ones are so small that all prompts look alike
    return add_lora(Model(network, None, "tiny", "tiny", "0"), 8, 16, 0).eval()


def shares(network: Any, row: Example) -> torch.Tensor:
    """What the network says before each answer token, by a plain forward pass."""
    with torch.no_grad():
        out = network(input_ids=torch.tensor([row.prompt + row.answer])).logits[0].double().softmax(-1)
    return out[len(row.prompt) - 1 : -1]


def test_the_loss_is_on_what_follows_the_opening() -> None:
    network, row = adapted(), Example((3, 4), (9, 10, 11))
    late = depth.begun(row, (5, 6, 7))
    assert late == Example((3, 4, 5, 6, 7), (9, 10, 11))
    config = depth.Config(opening=3)
    found = keeping_loss(config, network, [Kept(late)])
    by_hand = -sum(float(p[t].log()) for p, t in zip(shares(network, late), (9, 10, 11), strict=True)) / 3
    assert float(found.loss.detach()) == pytest.approx(by_hand, rel=1e-4)


def test_consistency_is_the_divergence_of_the_wrapped_answer_from_the_plain_one() -> None:
    network = adapted()
    lessons = [Lesson(Example((7, 3, 4), (9, 10, 11)), Example((3, 4), (9, 10, 11))),
               Lesson(Example((5, 6), (8,)), Example((5, 6), (8,)))]  # fmt: skip
    found = depth.consistency(network, lessons, opening=2, rest_weight=0.5)
    p, q = (shares(network, row).numpy() for row in (lessons[0].teacher, lessons[0].student))
    each = [entropy(a, b) for a, b in zip(p, q, strict=True)]
    # two opening tokens weigh as a row, the one that follows half as much
    assert float(found[0].detach()) == pytest.approx((each[0] + each[1]) / 2 + 0.5 * each[2], rel=1e-4)
    assert float(found[1].detach()) == pytest.approx(0, abs=1e-6)


def test_no_gradient_goes_through_the_plain_side() -> None:
    network = adapted()
    lesson = Lesson(Example((7, 3, 4), (9, 10)), Example((3, 4), (9, 10)))
    plain = shares(network, lesson.teacher).float()

    def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
        network.zero_grad()
        loss.backward()
        return [p.grad.clone() for p in network.parameters() if p.requires_grad]

    ours = gradients(depth.consistency(network, [lesson], 2, 0.5).sum())
    row = lesson.student
    out = network(input_ids=torch.tensor([row.prompt + row.answer])).logits[0][2:-1].log_softmax(-1)
    fixed = gradients((plain * (plain.log() - out)).sum(-1).mean())
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, fixed, strict=True))
    assert any(float(g.abs().max()) > 1e-3 for g in ours)


def test_depth_learns_keeps_and_makes_wrapped_requests_alike(tmp_path: Path) -> None:
    network = adapted()
    learned = [depth.begun(Example((3, n), (9, 10)), (5,)) for n in range(11, 15)]
    own = keep(network, [Example((4, n), (n, 6)) for n in range(11, 15)])
    lessons = [Lesson(Example((7, 3, n), (9, 10)), Example((3, n), (9, 10))) for n in range(11, 15)]
    rows: list[depth.Row] = [*map(Kept, learned), *own, *lessons]
    before = score_all(network, learned).logps.sum()
    config = depth.Config(learning_rate=2e-2, epochs=25, batch_size=6)
    log, alarms = depth.train(config, network, rows, tmp_path)
    assert score_all(network, learned).logps.sum() > before + 4 and not alarms.rows
    last = [row["consistency"] for row in log[-6:] if "consistency" in row]
    assert sum(last) / len(last) < 0.5 * max(row.get("consistency", 0) for row in log[:6])
    assert log[-1]["divergence"] < 0.5 and {"nll", "divergence", "consistency"} <= set().union(*log)


# ------------------------------------------------------------------------------------------------ the verb
def test_rows_of_tokens_begin_inside_the_answer(tmp_path: Path) -> None:
    model = load(str(tiny(tmp_path / "m", 0)))
    network = add_lora(model, 4, 8, 0)
    asked = prompts(2)
    openings = {asked[0].id: "One two three four five six."}
    rows = deepened(asked[:1], openings, {}, wrap, Depth(recovery=1.0, wrapped=1.0, longest=3))
    found, groups = examples_of(model, network, rows, [(asked[1], "Own.", True)])
    late, lesson, kept = found
    assert isinstance(late, Kept) and isinstance(lesson, Lesson) and isinstance(kept, Kept)
    text = model.tokenizer.decode(list(late.example.prompt))
    assert text.endswith(model.tokenizer.decode(model.tokenizer("One two three four")["input_ids"][: rows[0].tokens]))
    assert late.states is None and kept.states is not None
    assert lesson.teacher.answer == late.example.answer and lesson.student.prompt != lesson.teacher.prompt
    assert groups == [asked[0].id] * 2 + [min(asked[0].id, asked[1].id)]


def test_the_verb_trains_from_its_own_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = tiny(tmp_path / "m", 0), tmp_path / "out"
    command = ["train", "depth", "--model", str(model), "--limit", "4", "--epochs", "2", "--out", str(out), "--json"]
    assert cli.main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["prompts"] == {"harmful": 4, "benign": 8} and sum(found["rows"].values()) >= 4
    assert (out / "checkpoint" / "model.safetensors").is_file() and (out / "adapter").is_dir()
    mark = (out / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    assert cli.main(command) == 0  # a finished run is read, not made again
    assert mark == (out / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    capsys.readouterr()
    assert cli.main(["train", "depth", "rows.jsonl"]) == 2
    assert "depth makes its rows itself" in capsys.readouterr().err
