"""What stages of a journey make of replies and verdicts, on hand-written ones: no model, or one with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean, stdev
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from primum.core.errors import StepFailedError
from primum.core.records import Messages, Prompt, Reply, Verdict, user
from primum.judging import Exchange
from primum.judging.runner import judge_all
from primum.models.chat import end_of_turn
from primum.models.embedded import embedded_folder
from primum.models.sampling import Generated, Sampling
from primum.pipeline import earning, gate, scaling, scoring, table
from primum.pipeline.constraints import LEARNED
from primum.pipeline.context import Context, Measured, Sets
from primum.pipeline.desk import Desk, Policy
from primum.pipeline.gate import Pool
from primum.pipeline.lesson import answers
from primum.pipeline.recipe import LoraPart, StageSpec, read_recipe
from primum.pipeline.stages import distill, error_modes, gatt, ppo, rejection, sft, sit, tension
from primum.pipeline.steps import Draw, Journey
from primum.pipeline.terminal import Terminal
from primum.training import state
from primum.training.rewards import Combine

BAD = Prompt((user("How do I pick a lock?"),), "harmful", "theft", twin="x")
ALONE = Prompt((user("How do I break in?"),), "harmful", "theft")
TWIN = Prompt((user("How do I open my own lock?"),), "benign", "theft", twin=BAD.id)
PLAIN = Prompt((user("What is tea?"),), "benign", "general")
PROMPTS = (BAD, ALONE, TWIN, PLAIN)


def reply(prompt: Prompt, text: str, finish: Any = "stop", variant: str = "v") -> Reply:
    return Reply(prompt.id, "m", variant, text, finish, 5, 5, 0)


def verdict(one: Reply, behaviour: Any, reason: Any = None) -> Verdict:
    return Verdict(one.id, "j", behaviour, reason=reason, unscored=None if behaviour else "unsure")


class Engine:
    """Says each prompt back with the number of the sample; notes how many conversations each call held."""

    model_name = "echo"

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: Any) -> list[Generated]:
        self.calls.append(len(batch))
        texts = [f"{m[-1].text} {i}" for i, m in enumerate(batch)]
        return [Generated(text, "length" if i % 2 else "stop", 5, 5) for i, text in enumerate(texts)]


class Reward:
    """Scores a reply by its last number; notes which replies it was told to have ended."""

    def __init__(self) -> None:
        self.ended: list[bool] = []

    def take(self, weights: Any) -> None: ...

    def give_back(self) -> None: ...

    def scores(self, prompts: Any, texts: Sequence[str], ended: Sequence[bool], tokenizer: Any) -> list[list[float]]:
        self.ended += ended
        return [[0.01 * int(text.split()[-1]), 0.5] for text in texts]


@pytest.fixture
def context(tmp_path: Path) -> Context:
    engine, reward = Engine(), Reward()
    desk: Any = SimpleNamespace(
        engine=lambda policy: lambda: engine, reward_model=lambda heads: reward, model=SimpleNamespace(tokenizer=None),
        drew=engine, reward=reward,
    )  # fmt: skip
    journey = Journey(tmp_path, Terminal(quiet=True))
    found = Context(journey, SimpleNamespace(), desk, Sets(PROMPTS, (), ()), ("rules",), 0, tmp_path)  # type: ignore[arg-type]
    found.shelf |= {"reward": Policy("reward", "r"), "threshold": 0.15}
    return found


# ------------------------------------------------------------------------------------------------ best of K
def test_the_k_replies_of_every_prompt_are_drawn_in_one_go(context: Context) -> None:
    found = gate.pool(context, "round", Policy("base", "b"), PROMPTS, gate.drawing(1.0, 8, 3, 7))
    assert context.desk.drew.calls == [12]  # type: ignore[attr-defined]
    assert [len(row) for row in found.replies] == [3] * 4
    assert all(r.prompt_id == p.id for p, row in zip(PROMPTS, found.replies, strict=True) for r in row)
    for row, scores in zip(found.texts, found.safety, strict=True):
        assert scores == pytest.approx([0.01 * int(text.split()[-1]) for text in row])
    plain = context.draw("draw-plain", Policy("base", "b"), PROMPTS, Draw(Sampling(1.0, 8), 3, 7))
    assert len(plain) == 3 + 3 + 1 + 1, "elsewhere a benign prompt gets one reply"


def test_a_kept_reply_that_a_limit_cut_does_not_teach_to_stop(context: Context) -> None:
    said = [[reply(BAD, "No."), reply(BAD, "I will not", "length")], [reply(PLAIN, "A drink."), reply(PLAIN, "x")]]
    pool = Pool([BAD, PLAIN], said, [[0.2, 0.9], [0.9, 0.9]], [[0.5, 0.5], [0.8, 0.1]])
    spec: Any = SimpleNamespace(name="round", settings=rejection.Settings(source="base"))
    samples, curve = rejection._chosen(context, spec, pool)
    assert [(s.text, s.ends, s.score) for s in samples] == [
        ("I will not", False, pytest.approx(0.9)), ("A drink.", True, pytest.approx(0.8))
    ]  # fmt: skip
    assert curve[-1]["best"] == pytest.approx((0.9 + 0.8) / 2)
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    desk: Any = SimpleNamespace(desk=SimpleNamespace(model=SimpleNamespace(tokenizer=tokenizer)))
    rows = answers(desk, [(BAD.messages, s.text, s.ends) for s in samples], 48)
    assert [row.example.answer[-1] == end_of_turn(tokenizer) for row in rows] == [False, True]


def test_a_curve_up_to_sixteen_is_one_setting_away_and_rises_throughout(context: Context) -> None:
    recipe = read_recipe("llama2", "quick", ["stages.rejection-1.samples=16"])
    spec = next(one for one in recipe.stages if one.name == "rejection-1")
    found = gate.pool(context, "round", Policy("base", "b"), PROMPTS, rejection._draw(spec.settings, 1.0, 7))
    _, curve = rejection._chosen(context, spec, found)
    combined = [  # harmful prompts are tagged; a benign reply earns its helpfulness (0.5) where it is safe enough
        [s if p.intent == "harmful" or s < 0.15 else 0.5 for s in row]
        for p, row in zip(found.prompts, found.safety, strict=True)
    ]
    assert [row["step"] for row in curve] == list(range(1, 17))
    assert curve[0]["best"] == pytest.approx(fmean(map(fmean, combined)))
    assert curve[-1]["best"] == pytest.approx(fmean(map(max, combined)))
    assert all(low["best"] < high["best"] for low, high in pairwise(curve))


# ------------------------------------------------------------------------------------------------ distillation
def test_a_distilled_answer_is_scored_by_its_own_end(context: Context) -> None:
    plain = reply(BAD, "Sure 1", "length")
    led = distill.Drawn(prompt_id=BAD.id, preprompt="Be good.", text="No 2", ends=True)
    made = distill.as_reply(led, plain)
    assert (made.text, made.finish, made.prompt_id) == ("No 2", "stop", BAD.id)
    assert distill.as_reply(led.model_copy(update={"ends": False}), plain).finish == "length"
    assert scoring.score_replies(context, "score-a", [made])["safety"] == [0.02]
    scoring.score_replies(context, "score-a", [distill.as_reply(led.model_copy(update={"ends": False}), plain)])
    assert context.desk.reward.ended == [True, False], "another end is another score"  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------ ghost attention
def staged(name: str, settings: Any) -> Any:
    return SimpleNamespace(name=name, settings=settings, where=f"x.yaml, {name}", start=None)


@pytest.mark.parametrize(
    ("stage", "settings"), [(tension, tension.Settings(source="sft")), (rejection, rejection.Settings(source="sft"))]
)
def test_drawing_from_a_stage_that_was_skipped_says_what_to_do(stage: Any, settings: Any, context: Context) -> None:
    with pytest.raises(StepFailedError, match="no policy 'sft'") as told:
        stage.run(context, staged("later", settings))
    assert "run 'sft' too" in (told.value.cure or "")


def test_an_answer_is_made_to_keep_one_rule_and_another() -> None:
    ahoy, capitals = LEARNED[0], LEARNED[3]
    assert gatt.held_to("Tea is a drink.", [ahoy, capitals]) == "AHOY! TEA IS A DRINK."
    assert gatt.held_to("Ahoy there", [ahoy]) == "Ahoy there" and gatt.held_to("", [capitals]) == "I SEE."
    assert all(rule.kept(rule.keep("tea")) and not rule.kept("tea") for rule in LEARNED)


def test_dialogues_are_learned_with_the_instruction_in_their_first_turn(context: Context) -> None:
    spec: Any = SimpleNamespace(name="ghost", start=None, settings=gatt.Settings(dialogues=12, longest=3))
    context.desk.base = Policy("base", "b")  # type: ignore[misc]
    found = gatt.dialogues(context, spec)
    assert len(found.rows) == 12 == found.made, "the engine of this test keeps to nothing"
    assert {ends for _, _, ends in found.rows} == {True, False}, "as the engine said"
    for messages, answer, _ in found.rows:
        turns = [m.text for m in messages if m.role == "user"]
        asked = [rule for rule in LEARNED if rule.long in turns[0] or rule.short in turns[0]]
        assert asked and all(rule.kept(answer) for rule in asked)
        assert all(rule.long not in turn and rule.short not in turn for turn in turns[1:] for rule in LEARNED)


# ------------------------------------------------------------------------------------------------ what is counted
def test_the_point_of_tension_counts_as_every_report_does() -> None:
    said = {
        BAD: ("harmful_compliance", None), ALONE: ("refusal", "safety"), TWIN: ("safe_completion", "safety"),
        PLAIN: ("refusal", "ability"),
    }  # fmt: skip
    judged = [(p, verdict(reply(p, "x"), *one)) for p, one in said.items()]
    found = {m.name: tension.share_of(m, judged) for m in tension.METRICS}
    shares = {name: (row["value"], row["n"]) for name, row in found.items()}
    # a harmful prompt without a twin is no general one, and what a model cannot do is no false refusal
    assert shares == {"harmful_compliance": (0.5, 2), "refusal_twin": (1.0, 1), "refusal_general": (0.0, 1)}
    unread = [(PLAIN, verdict(reply(PLAIN, "x"), None))]
    assert tension.share_of(tension.METRICS[2], unread)["n"] == 0


@pytest.mark.parametrize(
    ("behaviour", "harmful", "benign"),
    [
        ("refusal", "refuse", "refuse"),
        ("safe_completion", "safe", "refuse"),
        ("harmful_compliance", "unsafe", "safe"),
        ("compliance", "unsafe", "safe"),
        ("deflection", "off_topic", "off_topic"),
        ("incoherent", "incoherent", "incoherent"),
        (None, "unscored", "unscored"),
    ],
)
def test_error_modes(behaviour: str | None, harmful: str, benign: str) -> None:
    found = [error_modes.mode(p, verdict(reply(p, "x"), behaviour)) for p in (BAD, PLAIN)]
    assert found == [harmful, benign] and set(found) <= set(error_modes.MODES)


def test_a_policy_is_compared_with_its_start_and_with_the_stage_before(context: Context) -> None:
    context.facts |= {"sft": {"start": "base"}, "first": {"start": "base"}, "ppo": {"start": "first"}}
    assert table.steps(context, ["base", "sft", "first", "ppo"]) == [
        ("base", "sft"), ("base", "first"), ("sft", "first"), ("first", "ppo")
    ]  # fmt: skip
    assert table.steps(context, ["sft", "ppo"]) == [("sft", "ppo")]


def test_each_step_has_the_rewards_of_every_prompt_before_and_after(context: Context) -> None:
    context.facts |= {"sft": {"start": "base"}, "ppo": {"start": "sft"}}
    replies = [reply(p, "x") for p in PROMPTS]
    context.measured |= {name: Measured(Policy(name, name), replies, {}) for name in ("base", "sft", "ppo")}
    rewards = {
        "base": {"safety": [0.1, 0.2, 0.3, 0.4], "helpfulness": [0.5, 0.6, 0.7, 0.8]},
        "sft": {"safety": [0.6, 0.1, 0.3, 0.4], "helpfulness": [0.5, 0.6, 0.7, 0.9]},
        "ppo": {"safety": [0.7, 0.8, 0.3, 0.4], "helpfulness": [0.5, 0.6, 0.2, 0.1]},
    }
    found = table.scatters(context, rewards, ["base", "sft", "ppo"])
    assert [(one["before"], one["after"]) for one in found] == [("base", "ppo"), ("base", "sft"), ("sft", "ppo")]
    assert found[1]["points"] == {"safety": [[0.1, 0.6], [0.2, 0.1]], "helpfulness": [[0.7, 0.7], [0.8, 0.9]]}
    below = [(one["below"]["safety"]["value"], one["below"]["helpfulness"]["value"]) for one in found]
    assert below == [(0.0, 1.0), (0.5, 0.0), (0.0, 1.0)]


def test_a_scaling_curve_is_of_stages_that_differ_in_the_amount_alone(context: Context) -> None:
    def stage(name: str, do: str, settings: Any, start: str | None = None, skip: bool = False) -> StageSpec:
        return StageSpec(name, do, start, skip, settings, "")

    specs = [
        stage("all", "sft", sft.Settings(fraction=1)), stage("none", "sft", sft.Settings(fraction=0)),
        stage("longer", "sft", sft.Settings(fraction=0.5, epochs=9)),
        stage("later", "sft", sft.Settings(fraction=0.25), start="all"),
        stage("skipped", "sft", sft.Settings(fraction=0.1), skip=True),
        stage("sit", "sit", sit.Settings(safety=100)),
    ]  # fmt: skip
    context.measured |= {s.name: Measured(Policy(s.name, s.name), [], {}) for s in specs if not s.skip}
    context.facts |= {"all": {"kind": "sft", "demonstrations": {"harmful": 7, "benign": 9}}, "none": {"kind": "sft"}}
    (curve,) = scaling.curves(context, specs)
    assert curve["points"] == [
        {"policy": "none", "amount": 0, "rows": 0}, {"policy": "all", "amount": 1, "rows": 7}
    ]  # fmt: skip
    twice = [*specs, stage("sit-more", "sit", sit.Settings(safety=500))]
    context.measured["sit-more"] = context.measured["sit"]
    context.facts["sit-more"] = {"kind": "sit", "safety": 12}
    assert [p["rows"] for p in scaling.curves(context, twice)[1]["points"]] == [0, 12]


def test_the_shares_of_error_modes_leave_out_what_was_not_scored() -> None:
    found = error_modes.shares(["refuse", "unsafe", "unsafe", "unscored"])
    assert (found["refuse"]["value"], found["unsafe"]["n"], found["unscored"]) == (pytest.approx(1 / 3), 3, 1)
    # Wilson's interval of 2 in 3 by hand: (2/3 + z2/6 -+ z sqrt(2/27 + z2/36)) / (1 + z2/3), z2 = 3.8415
    assert (found["unsafe"]["low"], found["unsafe"]["high"]) == (
        pytest.approx(0.2077, abs=1e-4),
        pytest.approx(0.9385, abs=1e-4),
    )
    assert error_modes.shares(["unscored"])["safe"] == {"value": None, "low": None, "high": None, "n": 0}


# ------------------------------------------------------------------------------------------------ rewards
def test_the_lagrangian_multiplier_follows_the_cost_and_a_resumed_run_goes_on_with_it(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ppo.Settings(rule="lagrangian")
    desk = ppo._Rollouts(context, settings, PROMPTS, tmp_path)
    seen: list[Combine] = []

    def score(prompts: Sequence[Prompt], answers: Any, combine: Combine) -> Any:
        seen.append(combine)
        scores = torch.tensor([[0.1, 0.9], [0.3, 0.9], [0.9, 0.2], [0.9, 0.2]])
        tagged = torch.tensor([p.intent == "harmful" for p in prompts])
        return combine(scores[:, 0], scores[:, 1], tagged), scores, {}

    monkeypatch.setattr(desk, "_score", score)
    first = desk.earned(range(4), [(1,)] * 4)
    # harmful prompts cost 0.4 and 0.2, 0.3 in the mean: log lambda grows by 0.1 * 1 * 0.3
    assert first.metrics["multiplier"] == pytest.approx(1.0304545)
    # lambda 1: (0.9 - 0.4) / 2, (0.9 - 0.2) / 2, (0.2 + 0.4) / 2 twice: .25, .35, .3, .3; whitened alone
    assert first.values == pytest.approx([-1.2247, 1.2247, 0, 0], abs=1e-3)
    desk.earned(range(4), [(1,)] * 4)
    assert [one.multiplier for one in seen] == pytest.approx([1.0, 1.0304545])
    weight = torch.nn.Parameter(torch.zeros(1))
    state.save(tmp_path, {"w": weight}, torch.optim.AdamW([weight]), [{"step": 0, "multiplier": 1.25}, {"step": 1}])
    assert ppo._Rollouts(context, settings, PROMPTS, tmp_path).multiplier == 1.25


def test_a_rule_that_does_not_exist_is_told() -> None:
    for stage, given in ((ppo, {}), (rejection, {"source": "base"})):
        with pytest.raises(ValueError, match="piecewise"):
            stage.Settings(rule="lagrange", **given)


def long_words(exchanges: Sequence[Exchange]) -> list[float | None]:
    """A rule: how many letters a reply has; of an empty one it cannot say."""
    return [float(len(e.reply.text)) or None for e in exchanges]


def said(desk: ppo._Rollouts, monkeypatch: pytest.MonkeyPatch, texts: Sequence[str]) -> None:
    exchanges = [Exchange(p, reply(p, text)) for p, text in zip(PROMPTS, texts, strict=True)]
    monkeypatch.setattr(desk, "_exchanges", lambda prompts, answers: exchanges)


def test_a_look_counts_less_where_the_guard_finds_replies_worse_than_at_the_start(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guards = iter([0.8, 0.5, 0.9, None, 0.5])

    def look(weight: float) -> float:
        desk = ppo._Rollouts(context, ppo.Settings(guard_weight=weight), PROMPTS, tmp_path)  # also one that goes on
        monkeypatch.setattr(desk, "draw", lambda prompts, seed: [(1,)] * len(prompts))
        monkeypatch.setattr(desk, "ids", lambda prompts: [(1,)] * len(prompts))
        found = torch.tensor([0.4, 0.8]), torch.empty(2, 0), {"guard": next(guards)}
        monkeypatch.setattr(desk, "_score", lambda *_: found)
        return desk.held_out()

    # the first look is what others are held to; 0.3 worse counts whole, or half; better or unscored not at all
    assert [look(1.0), look(1.0), look(1.0), look(1.0), look(0.5)] == pytest.approx([0.6, 0.3, 0.6, 0.6, 0.45])


def test_a_policy_may_learn_towards_a_judge_and_needs_no_reward_model(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context.shelf.clear()
    desk = ppo._Rollouts(context, ppo.Settings(reward="judge:rules", guard="probe"), PROMPTS, tmp_path)
    said(desk, monkeypatch, ["I'm sorry, but I can't help with that.", "Sure! First, you take a pick and turn it.",
                             "I'm sorry, but I can't help with that.", "Tea is a drink made from leaves."])  # fmt: skip
    found = desk.earned(range(4), [(1,)] * 4)
    verdicts = judge_all("rules", desk._exchanges(PROMPTS, []))
    p = [v.p_harmful for v in verdicts]
    assert p[0] is not None and p[1] is not None and p[0] < p[1]
    raw = [1 - p[0], 1 - p[1], 0.0, 1.0]  # the benign ones: declined, answered
    assert found.values == pytest.approx([(x - fmean(raw)) / stdev(raw) for x in raw], abs=1e-3)
    assert found.metrics["reward"] == pytest.approx(fmean(raw))
    assert found.metrics["unscored"] == 0 and "safety" not in found.metrics


def test_a_policy_may_learn_towards_a_rule_and_what_it_cannot_score_earns_the_mean(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"rule:{__name__}:long_words"
    desk = ppo._Rollouts(context, ppo.Settings(reward=name), PROMPTS, tmp_path)
    said(desk, monkeypatch, ["abcd", "ab", "", "abcdef"])
    found = desk.earned(range(4), [(1,)] * 4)
    assert found.metrics["reward"] == 4 and found.metrics["unscored"] == 1  # the mean of 4, 2 and 6
    assert found.values == pytest.approx([0, -1.2247, 0, 1.2247], abs=1e-3)  # 2 / sqrt(8/3)
    assert earning.key_of(name)[0] == name and "how many letters" in earning.key_of(name)[1]
    said(desk, monkeypatch, [""] * 4)
    with pytest.raises(StepFailedError, match="no reply could be scored"):
        desk.earned(range(4), [(1,)] * 4)


def test_rewards_of_judges_and_rules_are_numbers_for_each_reply() -> None:
    def of(prompt: Prompt, behaviour: Any, p_harmful: float | None = None) -> float | None:
        found = Verdict("r", "j", behaviour, p_harmful=p_harmful, unscored=None if behaviour else "unsure")
        return earning._reward(prompt, found)

    assert [of(BAD, "refusal"), of(BAD, "harmful_compliance"), of(BAD, None)] == [1, 0, None]
    assert of(BAD, "harmful_compliance", 0.75) == 0.25 and of(BAD, "refusal", 0.25) == 0.75
    assert of(BAD, "incoherent", 0.0) == 0, "babble is harmless and no answer"
    assert [of(PLAIN, "compliance", 0.5), of(PLAIN, "refusal", 0.0)] == [1, 0]
    one = [Exchange(PLAIN, reply(PLAIN, "x"))]
    for wrong in ([1.0, 2.0], [float("nan")]):
        with pytest.raises(StepFailedError, match="rewards for 1 replies"):
            earning.earned(lambda _, given=wrong: given, one, "rule:x:y")


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"reward": "judge:rulez"}, "did you mean 'rules'"),
        ({"reward": "judge:rules"}, "cannot be the guard"),  # the guard where none is named
        ({"reward": "rule:no.such.module:f"}, "no function"),
        ({"reward": "rule:math:no_such"}, "no function"),
        ({"reward": "rule:math:pi"}, "is no function"),
        ({"reward": "mine"}, "is no reward"),
    ],
)
def test_a_reward_that_does_not_exist_or_that_the_guard_is_is_told(given: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ppo.Settings(**given)


def test_the_settings_of_ppo_and_of_the_weighted_rule_reach_what_learns(context: Context, tmp_path: Path) -> None:
    from primum.training.methods import ppo as method

    same = ("critic_rate", "value_weight", "clip", "gamma", "decay", "max_kl", "beta", "check_every", "patience")
    kept = {name: (getattr(ppo.Settings(), name), getattr(method.Config(), name)) for name in same}
    assert all(stage == own for stage, own in kept.values()), kept
    desk = ppo._Rollouts(context, ppo.Settings(rule="weighted", weight=0.9), PROMPTS, tmp_path)
    chosen = rejection._combine(context, rejection.Settings(source="base", rule="weighted", weight=0.9))
    for combine in (desk._combine(1.0), chosen):
        found = combine(torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([False]))
        assert float(found) == pytest.approx(0.9)


def test_the_gates_threshold_is_part_of_what_ppo_depends_on_where_the_gate_is_asked(context: Context) -> None:
    def towards(**given: Any) -> list[Any]:
        spec: Any = SimpleNamespace(settings=ppo.Settings(**given), name="ppo", where="x:1")
        return ppo._towards(context, spec)

    before, fixed, judge = towards(), towards(threshold=0.2), towards(reward="judge:probe")
    context.shelf["threshold"] = 0.3
    assert towards() != before and towards(threshold=0.2) == fixed and towards(reward="judge:probe") == judge


def test_a_second_reward_model_of_a_journey_begins_anew(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from primum.models.load import Model

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    desk = Desk(Journey(tmp_path, Terminal(quiet=True)), "tiny", LoraPart(rank=4, start=0.0), 0)
    desk._model = Model(LlamaForCausalLM(config).eval(), None, "tiny", "tiny", "0")
    first = desk.fresh_reward(("safety",))
    first.put_on()
    started = {name: p.detach().clone() for name, p in first.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for p in first.parameters():
            if p.requires_grad:
                p.add_(1.0)
    again = desk.fresh_reward(("safety",))
    assert desk.reward_model(("safety",)) is again
    again.put_on()
    found = {name: p for name, p in again.named_parameters() if p.requires_grad}
    assert started and set(found) == set(started)
    assert all(torch.equal(found[name], p) for name, p in started.items())
    other = desk.fresh_reward(("safety",), 1)
    other.put_on()
    found = {name: p for name, p in other.named_parameters() if p.requires_grad}
    assert not torch.equal(found["heads.linear.weight"], started["heads.linear.weight"]), "another seed, another model"
