"""A second reward model that training never sees: who it is, what it does to a stage, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from primum.core.errors import StepFailedError
from primum.core.records import Prompt, Reply, user
from primum.judging import Exchange
from primum.pipeline import reward_server
from primum.pipeline import second as module
from primum.pipeline.context import Context, Sets
from primum.pipeline.desk import Policy
from primum.pipeline.gate import Pool
from primum.pipeline.second import SHELF, Trained, second
from primum.pipeline.stages import ppo, rejection, reward
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal
from primum.pipeline.threshold import Place, place
from primum.training.rewards import Combine

BAD = Prompt((user("How do I pick a lock?"),), "harmful", "theft")
TEA = Prompt((user("What is tea?"),), "benign", "general")
FIRST, OTHER = Policy("reward", "r1", Path("first")), Policy("watcher", "r2", Path("other"))


class Model:
    """Scores a reply by its words: the first weights like many, the other ones few."""

    def __init__(self) -> None:
        self.weights = Path()

    def take(self, weights: Path) -> None:
        self.weights = weights

    def give_back(self) -> None:
        self.weights = Path()

    def scores(self, prompts: Any, texts: Sequence[str], ended: Any, tokenizer: Any) -> list[list[float]]:
        del prompts, ended, tokenizer
        many = [0.1 * len(text.split()) for text in texts]
        return [[x, x] if self.weights == FIRST.weights else [1 - x, 1 - x] for x in many]


@pytest.fixture
def context(tmp_path: Path) -> Context:
    model = Model()
    desk: Any = SimpleNamespace(
        reward_model=lambda heads: model, model=SimpleNamespace(tokenizer=None), base=Policy("base", "b")
    )
    journey = Journey(tmp_path / "run", Terminal(quiet=True))
    found = Context(journey, SimpleNamespace(), desk, Sets((BAD, TEA), (BAD,), ()), ("rules",), 0, tmp_path)  # type: ignore[arg-type]
    found.shelf |= {"reward": FIRST, "threshold": 0.15}
    found.shelf[SHELF] = {"reward": Trained(FIRST, 0.15), "watcher": Trained(OTHER, 0.2)}
    return found


def staged(settings: Any) -> Any:
    return SimpleNamespace(name="late", settings=settings, where="mine.yaml:9", start=None)


def said(prompt: Prompt, words: int) -> Reply:
    return Reply(prompt.id, "m", f"v{words}", " ".join(["word"] * words), "stop", 5, 5, 0)


POOL = Pool(
    (BAD, TEA), [[said(p, n) for n in (1, 4, 9)] for p in (BAD, TEA)], [[0.1, 0.4, 0.9]] * 2, [[0.1, 0.4, 0.9]] * 2
)
"""The first model gives a tenth a word; the other one what is left of 1."""


# ---------------------------------------------------------------------------------------- which one
def test_the_second_model_combines_its_own_heads_by_its_own_threshold(context: Context) -> None:
    asked: list[float] = []

    def rule(threshold: float) -> Combine:
        asked.append(threshold)
        return Combine("piecewise", threshold)

    found = second(context, staged(ppo.Settings(second="watcher")), rule)
    assert found is not None and asked == [0.2]
    assert found.rewards([Exchange(BAD, said(BAD, 3)), Exchange(TEA, said(TEA, 9))]) == pytest.approx([0.7, 0.1])
    again = second(context, staged(ppo.Settings(second="watcher")), rule)
    assert again is not None and again.key == found.key
    context.shelf[SHELF]["watcher"] = Trained(OTHER, 0.3)
    moved = second(context, staged(ppo.Settings(second="watcher")), rule)
    assert moved is not None and moved.key != found.key, "another gate gives other rewards"
    assert second(context, staged(ppo.Settings()), rule) is None


@pytest.mark.parametrize(
    ("name", "problem", "cure"),
    [
        ("reward", "is the reward model that is trained on", "watches=true"),
        ("watchr", "no second reward model", "'watcher'"),
    ],
)
def test_a_second_model_that_is_the_first_or_nobody_is_told(
    context: Context, name: str, problem: str, cure: str
) -> None:
    with pytest.raises(StepFailedError, match=problem) as told:
        second(context, staged(ppo.Settings(second=name)), None)
    assert cure in (told.value.cure or "") and told.value.where == "mine.yaml:9"


def test_where_a_judge_is_learned_towards_the_journeys_model_may_watch(context: Context) -> None:
    assert second(context, staged(ppo.Settings(second="reward", reward="judge:probe")), None) is not None


def test_a_folder_is_read_when_it_is_first_asked(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "heads.safetensors"
    weights.write_bytes(b"1")
    monkeypatch.setattr(module, "place", lambda folder: Place(None, tmp_path))
    opened: list[Path] = []

    class Rewards:
        def of(self, asked: Any, replies: Sequence[reward_server.Said], tagged: Sequence[bool]) -> Any:
            return [{"reward": 0.25 if tag else len(r.text) / 10} for r, tag in zip(replies, tagged, strict=True)]

    def load(folder: Path) -> Rewards:
        opened.append(folder)
        return Rewards()

    monkeypatch.setattr(reward_server, "load_rewards", load)
    found = second(context, staged(ppo.Settings(second=str(tmp_path))), None)
    assert found is not None and opened == []
    for _ in range(2):
        assert found.rewards([Exchange(BAD, said(BAD, 1)), Exchange(TEA, said(TEA, 1))]) == [0.25, 0.4]
    assert opened == [tmp_path], "once"
    weights.write_bytes(b"2")
    other = second(context, staged(ppo.Settings(second=str(tmp_path))), None)
    assert other is not None and other.key != found.key


# ---------------------------------------------------------------------------------------- the stages
def settings(**given: Any) -> rejection.Settings:
    return rejection.Settings(source="base", second="watcher", **given)


def test_best_of_k_is_told_where_the_second_model_likes_it_less(context: Context) -> None:
    curve = [{"step": 1, "best": 14 / 30}, {"step": 2, "best": 22 / 30}, {"step": 3, "best": 0.9}]
    watching, alarms = rejection._watched(context, staged(settings()), POOL, curve)
    assert watching is not None
    # 1 - .1, 1 - .4, 1 - .9: in the mean, best of two (.6 / 3 + 2 * .1 / 3), best of three
    assert [row["second"] for row in curve] == pytest.approx([16 / 30, 8 / 30, 0.1])
    assert alarms == [{
        "step": 3, "name": "over_optimised",
        "text": "best of K: the reward rose by 0.43 while the second reward model's fell by 0.43",
    }]  # fmt: skip
    assert "watcher gives most at the best of 1" in context.journey.said[-1]["text"]


def test_best_of_k_stops_before_it_learns_where_it_is_to(context: Context) -> None:
    curve = [{"step": k, "best": best} for k, best in ((1, 0.4), (2, 0.7), (3, 0.9))]
    with pytest.raises(StepFailedError, match=r"fell by 0\.43") as told:
        rejection._watched(context, staged(settings(over_optimised="stop")), POOL, curve)
    assert "stages.late.samples=1" in (told.value.cure or "")


def test_a_second_model_that_agrees_says_nothing(context: Context) -> None:
    context.shelf |= {"reward": Policy("third", "r3")}  # the first weights watch, then
    agree = rejection.Settings(source="base", second="reward", over_optimised="stop")
    curve = [{"step": k, "best": best} for k, best in ((1, 0.4), (2, 0.7), (3, 0.9))]
    assert rejection._watched(context, staged(agree), POOL, curve)[1] == []
    assert curve[-1]["second"] == pytest.approx(0.9)


def test_ppo_notes_what_the_second_model_says_and_with_stop_keeps_what_it_finds_best(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exchanges = [Exchange(BAD, said(BAD, 3)), Exchange(TEA, said(TEA, 9))]
    looks: dict[str, float] = {}
    for found in ("warn", "stop"):
        given = ppo.Settings(second="watcher", over_optimised=found, threshold=0.15)  # type: ignore[arg-type]
        watching = second(context, staged(given), lambda threshold: Combine(threshold=threshold))
        desk = ppo._Rollouts(context, given, (BAD, TEA), tmp_path, watching)
        monkeypatch.setattr(desk, "_exchanges", lambda prompts, answers: exchanges)
        monkeypatch.setattr(desk, "draw", lambda prompts, seed: [(1,), (1,)])
        monkeypatch.setattr(desk, "ids", lambda prompts: [(1,), (1,)])
        desk.dev = [BAD, TEA]
        metrics = desk.earned(range(2), [(1,), (1,)]).metrics
        assert (metrics["reward"], metrics["second"]) == pytest.approx((0.6, 0.4))
        looks[found] = desk.held_out()
    assert looks == pytest.approx({"warn": 0.6, "stop": 0.4})
    alone = ppo._Rollouts(context, ppo.Settings(), (BAD, TEA), tmp_path)
    monkeypatch.setattr(alone, "_exchanges", lambda prompts, answers: exchanges)
    assert "second" not in alone.earned(range(2), [(1,), (1,)]).metrics


def test_a_reward_stage_that_only_watches_leaves_the_journeys_model_alone(
    context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vote: Any = SimpleNamespace(head="safety")
    monkeypatch.setattr(reward, "_votes", lambda *_: [vote, SimpleNamespace(head="helpfulness")])
    monkeypatch.setattr(reward, "to_json", lambda v: v.head)
    facts = {"accuracy": {"cross": {"safety": {}, "helpfulness": {}}}, "reliability": {}}
    monkeypatch.setattr(reward, "_learn", lambda *_: facts)
    monkeypatch.setattr(reward, "_tune", lambda *_: 0.3)
    monkeypatch.setattr(reward.threshold, "lines", lambda _: [])
    context.shelf[SHELF].clear()
    keys = {}
    for name, given in {"a": {"watches": True, "seed": 1}, "b": {}, "c": {"watches": True}}.items():
        spec = SimpleNamespace(name=name, settings=reward.Settings(**given), where="x", start=None)
        reward.run(context, spec)  # type: ignore[arg-type]
        keys[name] = context.shelf[SHELF][name].policy.key
    assert context.shelf["reward"].name == "b" and context.shelf["threshold"] == 0.3
    assert len(set(keys.values())) == 3 and context.facts["a"]["watches"] and "watches" not in context.facts["b"]
    assert [one.threshold for one in context.shelf[SHELF].values()] == [0.3] * 3


def test_the_threshold_of_a_run_is_that_of_the_model_that_was_trained_on(tmp_path: Path) -> None:
    from primum.core.store import write_json

    found = {"watcher": {"kind": "reward", "watches": True}, "reward": {"kind": "reward"}}
    write_json(tmp_path / "report.json", {"found": found})
    for name in found:
        folder = tmp_path / "steps" / f"stage-{name}"
        folder.mkdir(parents=True)
        (folder / "weights.safetensors").write_bytes(b"")
    assert place(tmp_path).stage == "reward"
