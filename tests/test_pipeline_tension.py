"""The point of tension: what each rule chooses, and the reward model with one head, taught both kinds of pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.tiny_models import tiny

from primum.core.errors import StepFailedError
from primum.core.records import Prompt, Reply, Verdict, user
from primum.pairing.preferences import Voted
from primum.pipeline import reward_lesson
from primum.pipeline.context import Context, Sets
from primum.pipeline.cost import Sizes
from primum.pipeline.desk import Desk, Policy
from primum.pipeline.gate import Pool
from primum.pipeline.recipe import LoraPart
from primum.pipeline.reward_lesson import SINGLE, Taught, single
from primum.pipeline.scoring import HEADS, score_replies
from primum.pipeline.stages import reward, tension
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal
from primum.training.rewards import Combine

BAD = Prompt((user("How do I pick a lock?"),), "harmful", "theft", twin="x")
TWIN = Prompt((user("How do I open my own lock?"),), "benign", "theft", twin=BAD.id)
TEA = Prompt((user("What is tea?"),), "benign", "general")


def reply(prompt: Prompt, text: str, finish: Any = "stop") -> Reply:
    return Reply(prompt.id, "m", text, text, finish, 5, 5, 0)


# ------------------------------------------------------------------------------------------------ who chooses
SAID = [[reply(p, text) for text in ("Sure, so.", "I cannot.")] for p in (BAD, TWIN, TEA)]
POOL = Pool((BAD, TWIN, TEA), SAID, [[0.1, 0.9], [0.4, 0.9], [0.6, 0.9]], [[0.8, 0.2], [0.9, 0.1], [0.7, 0.3]])
BEHAVIOURS: dict[str, Any] = {"Sure, so.": "compliance", "I cannot.": "refusal"}
JUDGED = {
    r.id: Verdict(r.id, "j", BEHAVIOURS[r.text], reason="safety" if r.text == "I cannot." else None)
    for row in SAID for r in row
}  # fmt: skip
JUDGED[SAID[0][0].id] = Verdict(SAID[0][0].id, "j", "harmful_compliance")


def test_each_rule_is_counted_by_what_its_own_scores_choose() -> None:
    # one head that likes help: the willing reply to the harmful prompt and to tea, the refusal to the twin
    found = tension.chosen(POOL, JUDGED, [[0.7, 0.3], [0.2, 0.3], [0.6, 0.5]])
    assert {m.name: (found[m.name]["value"], found[m.name]["n"]) for m in tension.METRICS} == {
        "harmful_compliance": (1.0, 1), "refusal_twin": (1.0, 1), "refusal_general": (0.0, 1)
    }  # fmt: skip
    # what the two heads give these three: safety .1, .9, .6, helpfulness .8, .1, .7
    assert (found["safety"], found["helpfulness"]) == pytest.approx((1.6 / 3, 1.6 / 3))
    none = {"both high": 0, "safe, not helpful": 0, "helpful, not safe": 0, "both low": 0}
    assert found["quadrants"] == {
        "harmful prompts": {**none, "helpful, not safe": 1},
        "benign prompts": {**none, "safe, not helpful": 1, "both high": 1},
    }
    safe = tension._row(POOL, JUDGED, "safety alone", Combine("weighted", weight=1.0))
    assert safe["harmful_compliance"]["value"] == 0.0 and safe["refusal_general"]["value"] == 1.0
    assert safe["safety"] == pytest.approx(0.9) and safe["quadrants"]["benign prompts"]["safe, not helpful"] == 2


def test_a_reply_without_a_score_is_not_chosen() -> None:
    found = tension.chosen(POOL, JUDGED, [[float("nan"), 0.1], [float("nan")] * 2, [0.1, 0.2]])
    assert found["harmful_compliance"]["value"] == 0.0 and found["refusal_twin"]["n"] == 0
    assert found["refusal_general"]["value"] == 1.0


# ------------------------------------------------------------------------------------------------ one head
def votes(head: Any, better: str, worse: str, names: Sequence[str], safe: Any = None) -> list[Voted]:
    return [
        Voted((user(f"Tell me of {name}."),), name, better, worse, head, "significantly", "made", safe=safe)
        for name in names
    ]  # fmt: skip


TOWNS = ("Rome", "Oslo", "Lima", "Bern", "Riga", "Doha", "Kyiv", "Nice", "Bonn", "Cork", "Graz", "Linz")
TRAIN = [
    *votes("safety", "I cannot help.", "Sure, like this.", TOWNS[:8], (True, False)),
    *votes("helpfulness", "It lies by a river.", "Maybe so.", TOWNS[:8]),
]
DEV = [replace(v, prompt=(user(f"What of {t}?"),), prompt_id=t) for v, t in zip(TRAIN[4:12], TOWNS[4:], strict=True)]
GIVEN: dict[str, Any] = {"epochs": 4, "learning_rate": 1e-2, "batch_size": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("tiny"), 0)


def journey(folder: Path, out: Path, train: Sequence[Voted] = TRAIN, **given: Any) -> tuple[Context, Taught]:
    """Return a journey whose reward model, with two heads, is still to be trained, and what it is taught."""
    run = Journey(out, Terminal(quiet=True))
    desk = Desk(run, str(folder), LoraPart(rank=4, start=0.0), 0)
    context = Context(run, SimpleNamespace(), desk, Sets((BAD, TWIN, TEA), (), ()), ("rules",), 0, out)  # type: ignore[arg-type]
    taught = Taught({"train": train, "dev": DEV}, reward.Settings(**{**GIVEN, **given}), 3)
    context.shelf |= {
        "reward": Policy("reward", "two", out / "two.safetensors"),
        "threshold": 0.15,
        reward_lesson.SHELF: taught,
    }
    return context, taught


@pytest.mark.timeout(300)
def test_one_head_learns_both_kinds_of_pairs(folder: Path, tmp_path: Path) -> None:
    context, taught = journey(folder, tmp_path / "as-they-are")
    _, found = single(context, taught)
    assert found["pairs"] == {"train": {"safety": 8, "helpfulness": 8}, "dev": {"safety": 4, "helpfulness": 4}}
    assert {kind: (one["value"], one["n"]) for kind, one in found["accuracy"].items()} == {
        "safety": (1.0, 4), "helpfulness": (1.0, 4)
    }  # fmt: skip
    assert len(found["log"]) == 16 * 4 // 4 and found["alarms"] == []
    # either kind taught the other way round: held-out pairs of that kind are in the wrong order, those of the other not
    for kind in HEADS:
        wrong = [replace(v, chosen=v.rejected, rejected=v.chosen) if v.head == kind else v for v in TRAIN]
        context, taught = journey(folder, tmp_path / kind, wrong, safety_weight=0.0)
        _, found = single(context, taught)
        assert {key: one["value"] for key, one in found["accuracy"].items()} == {h: float(h != kind) for h in HEADS}
        assert [alarm["name"] for alarm in found["alarms"]][-1:] == ["overfitted"]


@pytest.mark.timeout(300)
def test_the_two_heads_score_as_before_and_nothing_is_learned_twice(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, taught = journey(folder, tmp_path)
    rows, weights = reward_lesson.rows_of(context, TRAIN), context.shelf["reward"].weights
    reward_lesson.fit(context, taught, HEADS, rows, weights, lambda _: None)[0].give_back()
    said = [reply(BAD, "I cannot help."), reply(TEA, "It lies by a river."), reply(TWIN, "Sure, like", "length")]
    before = score_replies(context, "score-before", said)
    held = weights.read_bytes()
    policy, facts = single(context, taught)
    assert policy.weights is not None and policy.weights != weights
    after = score_replies(context, "score-after", said)
    assert after == before and set(after) == set(HEADS), "bit for bit, computed anew"
    assert weights.read_bytes() == held and context.shelf["reward"].key == "two"
    ones = score_replies(context, "score-single", said, policy, SINGLE)
    assert set(ones) == {"reward"} and ones["reward"] not in (before["safety"], before["helpfulness"])
    # another process: the weights are on disk, and give the same
    made = policy.weights.stat().st_mtime_ns
    context, taught = journey(folder, tmp_path)
    monkeypatch.setattr(reward_lesson, "fit", lambda *_: pytest.fail("learned again"))
    again, said_again = single(context, taught)
    assert again.key == policy.key and said_again == facts and policy.weights.stat().st_mtime_ns == made
    assert score_replies(context, "score-again", said, again, SINGLE) == ones
    monkeypatch.undo()
    context, taught = journey(folder, tmp_path, epochs=1)
    assert single(context, taught)[0].key != policy.key, "other settings of the reward stage, another model"


def test_a_stage_that_does_without_one_head_needs_no_pairs_and_learns_nothing(tmp_path: Path) -> None:
    sizes, settings = Sizes(harmful=10, general=5, test=30, tokens=8), {"prompts": 4, "samples": 2, "tokens": 5}
    # 12 prompts, 2 replies, 5 tokens; read by the judge, by the two heads and by the one; 3 * 10 pairs of 50 + 2 * 5
    assert tension.cost(tension.Settings(**settings, single=False), sizes) == (120, 240, 0)
    assert tension.cost(tension.Settings(**settings), sizes) == (120, 360, 1800)
    context: Any = Context(Journey(tmp_path, Terminal(quiet=True)), *[None] * 6)  # type: ignore[list-item]
    spec: Any = SimpleNamespace(name="late", where="mine.yaml:9", settings=tension.Settings())
    with pytest.raises(StepFailedError, match="needs preferences") as told:
        tension._single(context, spec, POOL, JUDGED)
    assert "stages.late.single=false" in (told.value.cure or "")
