"""Context distillation and ghost attention as stages: run() on a tiny random network that learns.

What a policy says is scripted, so that every count can be worked by hand; what is learned, is learned by the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from primum.core.errors import StepFailedError, UsageError
from primum.core.records import Messages, Prompt, user
from primum.models.embedded import embedded_folder
from primum.models.load import Model, quiet
from primum.models.sampling import Engine, Generated, Sampling
from primum.pairing.demonstration import Demonstration
from primum.pipeline.constraints import LEARNED, UNSEEN, Rule
from primum.pipeline.context import Context, Sets
from primum.pipeline.demos import SHELF
from primum.pipeline.desk import Desk, Policy
from primum.pipeline.preprompted import STATES, Twin, kept_share, twin_facts
from primum.pipeline.recipe import LoraPart, Recipe, StageSpec, read_recipe
from primum.pipeline.stages import distill, gatt
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal
from primum.training.methods import distill as method
from primum.training.methods.gatt import Constraint, instructions

Says = Callable[[str, Messages], str]
"""(policy, conversation) -> reply."""
HARM = "Sure, here is how it is done: take a pin and a wrench, and push until it opens."
NO = "I cannot help with that, because it could hurt someone badly."
SAFE = ("I will not help to break into a home. If you are locked out, a locksmith can open your door, and your "
        "landlord has a key.")  # fmt: skip
TEA = "Pour hot water over the leaves and wait for three minutes."


def bad(text: str) -> Prompt:
    return Prompt((user(text),), "harmful", "theft")


GAINS, SAFE_BEFORE, VAGUE, WILLING, TIED = ASKED = [bad(f"How do I break into house {i}?") for i in range(5)]
TWIN = Prompt((user("How do I get into my own house?"),), "benign", "theft", twin=GAINS.id)
CALM = Prompt((user("How do I lock my own house?"),), "benign", "theft", twin=TIED.id)
TEST = [bad(f"How do I rob bank {i}?") for i in range(4)]
PLAIN = [Prompt((user(f"How do I make tea number {i}?"),), "benign", "general") for i in range(3)]
SCRIPT = {
    GAINS.text: (HARM, NO), SAFE_BEFORE.text: (SAFE, NO),
    VAGUE.text: (HARM, "It depends on many things, as it always does."),
    WILLING.text: (HARM, HARM), TIED.text: (NO, NO), TWIN.text: (TEA, NO), CALM.text: (TEA, TEA),
}  # fmt: skip
"""Question -> what the base says without a preprompt and with one."""


def distilling(policy: str, messages: Messages) -> str:
    """Of four test prompts the base goes along with 4, with a preprompt with 1; the distilled policy with 2, and 1."""
    led, question = messages[0].role == "system", messages[-1].text
    if question in SCRIPT:
        return SCRIPT[question][led]
    if question.startswith("How do I rob"):
        number = int(question[-2])
        return HARM if number < (1 if led else 2 if policy == "distilled" else 4) else NO
    return TEA


class Scripted:
    """An engine that says what it is told to say, by policy."""

    model_name = "scripted"

    def __init__(self, policy: str, says: Says) -> None:
        self.policy, self.says = policy, says

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: Any) -> list[Generated]:
        del sampling, seed
        return [Generated(self.says(self.policy, messages), "stop", 5, 5) for messages in batch]


class Reward:
    """A reward model for which a refusal is safe (.9), a safe completion, too, and all else is not (.1)."""

    def take(self, weights: Any) -> None: ...

    def give_back(self) -> None: ...

    def scores(self, prompts: Any, texts: Sequence[str], ended: Sequence[bool], tokenizer: Any) -> list[list[float]]:
        del prompts, ended, tokenizer
        return [[0.9 if text in (NO, SAFE) else 0.1, 0.5] for text in texts]


class Bench(Desk):
    """A desk whose policies say what is scripted; training goes through its network as ever."""

    says: Says

    def engine(self, policy: Policy) -> Callable[[], Engine]:
        return lambda: Scripted(policy.name, self.says)

    def reward_model(self, heads: tuple[str, ...]) -> Any:
        del heads
        return Reward()


@pytest.fixture(scope="module")
def tiny() -> Model:
    torch.manual_seed(0)
    with quiet():
        tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
            num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=512, tie_word_embeddings=True,
        )  # fmt: skip
        return Model(LlamaForCausalLM(config).eval(), tokenizer, "tiny", "tiny", "0")


def begun(tiny: Model, folder: Path, says: Says, train: Sequence[Prompt], test: Sequence[Prompt]) -> Context:
    """Return a journey at its beginning, on a copy of the network: an adapter is put into the network itself."""
    from copy import deepcopy

    journey = Journey(folder, Terminal(quiet=True))
    desk = Bench(journey, "tiny", LoraPart(rank=2, start=0.0), 0)
    desk._model = Model(deepcopy(tiny.network), tiny.tokenizer, "tiny", "tiny", "0")
    desk.says = says
    return Context(journey, Recipe(about="a test"), desk, Sets(train, (), test), ("rules",), 0, folder)


def shown(prompt: Prompt, text: str) -> Demonstration:
    return Demonstration(prompt.messages, prompt.id, text, "general", "general", "prompt")


def distillation(tiny: Model, folder: Path, reward: bool = True, **settings: Any) -> tuple[Context, StageSpec]:
    context = begun(tiny, folder, distilling, [*ASKED, TWIN, CALM, *PLAIN], [*TEST, PLAIN[0]])
    context.shelf |= {"reward": Policy("reward", "r")} if reward else {}
    context.shelf[SHELF] = [shown(PLAIN[0], TEA), shown(PLAIN[1], NO), shown(PLAIN[2], TEA)]
    given = distill.Settings.model_validate({"tokens": 24, "batch_size": 2, **settings})
    return context, StageSpec("distilled", "distill", None, False, given, "mine.yaml:7")


# ------------------------------------------------------------------------------------------------ distillation
def test_a_gate_without_a_reward_model_is_an_error_before_anything_is_drawn(tiny: Model, tmp_path: Path) -> None:
    context, spec = distillation(tiny, tmp_path, reward=False)
    with pytest.raises(StepFailedError, match="needs reward") as told:
        distill.run(context, spec)
    assert told.value.where == "mine.yaml:7"
    assert "do: reward" in str(told.value.cure) and "stages.distilled.gate=false" in str(told.value.cure)
    assert not (tmp_path / "steps").exists()


def test_what_is_learned_was_looked_at_and_what_was_left_out_is_counted(tiny: Model, tmp_path: Path) -> None:
    context, spec = distillation(tiny, tmp_path)
    distill.run(context, spec)
    found = context.facts["distilled"]
    assert (found["asked"], found["kept"]) == (5, 1)
    assert found["left_out"] == {
        "false refusal: the plain answer was a safe completion": 1, "vague": 1, "judged harmful_compliance": 1,
        "no gain in the safety reward": 1,
    }  # fmt: skip
    assert found["benign"] == {"kept": 2, "left_out": {"false refusal": 1}}
    # of the two twins one is refused with its prompt's preprompt, and none without
    assert found["twins"]["refused_with_preprompt"]["value"] == 0.5
    assert found["twins"]["refused_without_preprompt"]["value"] == 0 and found["twins"]["unscored"] == 0
    assert len(found["log"]) == 2, "one answer and two benign ones, two a step"
    made, start = (load_file(str(context.policies["distilled"].weights)), context.desk._fresh)
    assert any(not torch.equal(made[name], start[name]) for name in start)


def test_without_the_gate_the_reward_does_not_decide(tiny: Model, tmp_path: Path) -> None:
    context, spec = distillation(tiny, tmp_path, reward=False, gate=False, keep=0)
    distill.run(context, spec)
    found = context.facts["distilled"]
    assert found["kept"] == 2 and "no gain in the safety reward" not in found["left_out"]
    assert set(found["by_reward"]) == {"kept, plain reward unknown", "left, plain reward unknown"}
    assert [row["by"] for row in found["gain_kept"]] == ["rules"]
    assert not context.left_out, "no benign answer was asked for"


def test_answers_whose_preprompt_refuses_the_twin_are_left_out_where_that_is_asked(tiny: Model, tmp_path: Path) -> None:
    context, spec = distillation(tiny, tmp_path, twins="leave_out")
    with pytest.raises(StepFailedError, match="no answer was better"):  # the only answer that gains is that one
        distill.run(context, spec)
    context, spec = distillation(tiny, tmp_path / "other", twins="leave_out", gate=False)
    distill.run(context, spec)
    left = context.facts["distilled"]["left_out"]
    assert left["false refusal: its preprompt makes the model refuse the benign twin"] == 1
    assert context.facts["distilled"]["kept"] == 1, "the twin of the other one is answered"


def test_the_share_of_the_gain_that_is_kept_without_the_preprompt(tiny: Model, tmp_path: Path) -> None:
    context, spec = distillation(tiny, tmp_path)
    distill.run(context, spec)
    judged, scored = context.facts["distilled"]["gain_kept"]
    assert [judged[state] for state in STATES] == [1, 0.25, 0.5, 0.25] and judged["n"] == 4
    assert judged["share"]["value"] == pytest.approx((4 - 2) / (4 - 1))
    # safety rewards: .1 where it goes along, .9 where it refuses
    assert [scored[state] for state in STATES] == pytest.approx([0.1, 0.7, 0.5, 0.7])
    assert scored["share"]["value"] == pytest.approx(0.4 / 0.6) and scored["by"] == "reward model"
    assert list(context.measured) == ["base", "distilled"]


def test_a_share_of_nothing_has_no_value_and_what_was_not_judged_is_counted() -> None:
    values = {state: dict.fromkeys([p.id for p in TEST], 0.0) for state in STATES}
    none = kept_share(TEST, {**values, "led": dict.fromkeys(values["led"], 1.0)}, lower=True)
    assert none["share"] is None and none["n"] == 4 and none["led"] == 1
    unknown = kept_share(TEST, {**values, "after": dict.fromkeys(values["after"])}, lower=True)
    assert (unknown["n"], unknown["left_out"], unknown["share"], unknown["before"]) == (0, 4, None, None)
    facts = twin_facts({"a": Twin(None, True), "b": Twin(False, True), "c": Twin(True, True)})
    assert (facts["unscored"], facts["refused_with_preprompt"]["n"]) == (1, 2)
    assert facts["refused_without_preprompt"]["value"] == 0.5
    assert [t.lost for t in (Twin(None, True), Twin(False, True), Twin(True, True))] == [False, True, False]


def test_the_soft_form_keeps_benign_rows_and_a_killed_run_does_not_teach_again(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, spec = distillation(tiny, tmp_path / "whole", form="soft")
    distill.run(whole, spec)
    learned: list[Sequence[method.Taught]] = []

    def killed(config: Any, network: Any, rows: Sequence[method.Taught], *rest: Any) -> Any:
        learned.append(rows)
        raise KeyboardInterrupt

    def again(*given: Any) -> Any:
        raise AssertionError("taught again")

    context, spec = distillation(tiny, tmp_path / "killed", form="soft")
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(method, "train", killed)
        distill.run(context, spec)
    assert (tmp_path / "killed/steps/stage-distilled/targets-00000.safetensors").exists()
    context, spec = distillation(tiny, tmp_path / "killed", form="soft")
    with monkeypatch.context() as patched:
        patched.setattr(method, "teach", again)
        distill.run(context, spec)
    weights = [load_file(str(one.policies["distilled"].weights)) for one in (whole, context)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    led, *beside = [one.lesson for one in learned[0]]
    assert len(led.teacher.prompt) > len(led.student.prompt) and led.teacher.prompt != led.student.prompt
    assert len(beside) == 2 and all(one.teacher == one.student for one in beside)
    texts = [tiny.tokenizer.decode(one.student.answer) for one in beside]
    assert texts[0] and all(TEA.startswith(text) for text in texts)


def test_targets_read_back_are_those_that_were_taught(tiny: Model, tmp_path: Path) -> None:
    from primum.training.examples import Example

    lessons = [
        method.Lesson(Example((5, 6), tuple(range(7, 7 + n))), Example((9, 5, 6), tuple(range(7, 7 + n))))
        for n in (3, 1, 2)
    ]
    network = tiny.network
    fresh = method.teach(network, lessons, 4)
    for _ in range(2):  # made, then read
        found = method.teach_once(network, lessons, 4, tmp_path, size=2)
        for one, other in zip(found, fresh, strict=True):
            assert one.lesson is other.lesson and one.tokens is not None and one.shares is not None
            assert other.tokens is not None and other.shares is not None
            assert torch.equal(one.tokens, other.tokens) and torch.allclose(one.shares, other.shares, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"targets-0000{i}.safetensors" for i in (0, 1)]


# ------------------------------------------------------------------------------------------------ ghost attention
MINE = (
    Rule(long="Begin every answer with 'Arr'.", short="First word: Arr.", starts="Arr,"),
    Rule(long="Write in small letters.", short="Small letters.", case="lower"),
)
OTHER = (Rule(long="Say 'indeed' in every answer.", contains="indeed"),)


def ghostly(policy: str, messages: Messages) -> str:
    """The base keeps to what the last turn asks for at length; who learned, to the learned rules of the first turn."""
    first, last = messages[0].text, messages[-1].text
    rules = [r for r in (*MINE, *OTHER) if r.long in last or (policy == "ghost" and r in MINE and r.long in first)]
    return gatt.held_to("Tea is a drink.", rules)


@pytest.mark.parametrize(("learned", "count"), [("last", 6), ("each", 15)])
def test_answers_of_the_last_turn_or_of_each_are_learned(
    tiny: Model, tmp_path: Path, learned: Literal["last", "each"], count: int
) -> None:
    context = begun(tiny, tmp_path, ghostly, PLAIN, [*TEST, *PLAIN])
    settings = gatt.Settings(rules=MINE, unseen=(), dialogues=6, longest=3, learned=learned, tokens=12)
    rows, groups, _ = gatt.dialogues(context, StageSpec("ghost", "gatt", None, False, settings, "mine.yaml:9"))
    turns = [[sum(m.role == "user" for m in row[0]) for row, g in zip(rows, groups, strict=True) if g == one]
             for one in range(6)]  # fmt: skip
    whole = [[1, 2], [1, 2, 3]] * 3  # dialogues of two and three turns, one after another
    assert len(rows) == count and turns == (whole if learned == "each" else [each[-1:] for each in whole])
    for messages, text, _ends in rows:
        asked = [m.text for m in messages if m.role == "user"]
        marked = [any(r.long in one or r.short in one for r in MINE) for one in asked]
        assert marked == [True] + [False] * (len(asked) - 1)  # the instruction is in the first turn alone
        assert any(rule.kept(text) for rule in MINE)


def test_own_rules_are_learned_and_others_measured_beside(tiny: Model, tmp_path: Path) -> None:
    context = begun(tiny, tmp_path, ghostly, PLAIN, [*TEST, *PLAIN])
    settings = gatt.Settings(
        rules=MINE, unseen=OTHER, dialogues=6, longest=3, turns=(1, 3), test=4, tokens=12, epochs=1.0
    )
    gatt.run(context, StageSpec("ghost", "gatt", None, False, settings, "mine.yaml:9"))
    found = context.facts["ghost"]
    assert {turn: (row["value"], row["n"]) for turn, row in found["turns_before"].items()} == {"1": (1, 4), "3": (0, 4)}
    assert {turn: row["value"] for turn, row in found["turns_after"].items()} == {"1": 1, "3": 1}
    for when in ("before", "after"):
        assert {turn: row["value"] for turn, row in found[f"unseen_{when}"].items()} == {"1": 1, "3": 0}
    # the base keeps to the long form alone: answers to the short one had to be made to keep it
    drawn = instructions([Constraint(r.kind, r.long, r.short) for r in MINE], 6, context.seed)
    short = sum(not any(MINE[part].long in one.text for part in one.parts) for one in drawn)
    assert found["answers_made_to_keep"] == short > 0 and found["dialogues"] == 6
    made = load_file(str(context.policies["ghost"].weights))
    assert any(not torch.equal(made[name], context.desk._fresh[name]) for name in made)
    said = [row["text"] for row in context.journey.said]
    assert any("not learned holds after: turn 1 100%, turn 3 0%" in text for text in said)


def test_without_unseen_rules_none_is_measured() -> None:
    both, alone = gatt.Settings(test=3), gatt.Settings(test=3, unseen=())
    assert [one.kind for one in gatt._tested(both)] == ["turns"] * 3 + ["unseen"] * 3
    assert {one.kind for one in gatt._tested(alone)} == {"turns"}


@pytest.mark.parametrize(
    ("rule", "keeps", "breaks"),
    [
        ({"starts": "Dear friend,"}, ["Dear friend, tea.", '  "dear FRIEND: tea'], ["Dear friends, tea.", "My dear"]),
        ({"contains": "indeed!"}, ["Indeed.", "Tea, indeed, is"], ["Indeedy", "tea", ""]),
        ({"case": "upper"}, ["TEA 3."], ["Tea", "3.", ""]),
        ({"case": "lower"}, ["tea 3."], ["Tea", "3.", ""]),
    ],
)
def test_a_rule_says_what_keeps_it(rule: dict[str, str], keeps: list[str], breaks: list[str]) -> None:
    one = Rule.model_validate({"long": "x", **rule})
    assert all(map(one.kept, keeps)) and not any(map(one.kept, breaks))
    assert all(one.kept(one.keep(text)) for text in ("Tea is a drink.", "x"))


def test_rules_put_words_in_front_before_letters_are_changed() -> None:
    upper, start = Rule(long="x", case="upper"), Rule(long="y", starts="Hi,")
    assert gatt.held_to("tea.", [upper, start]) == "HI, TEA."
    assert not any(one.same_as(rule) for one in UNSEEN for rule in LEARNED)


def test_rules_are_read_from_the_file_and_a_wrong_one_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"

    def read(rules: str, more: str = "") -> Any:
        file.write_text(f"about: mine\nstages:\n- {{name: ghost, do: gatt, rules: [{rules}]{more}}}\n")
        return read_recipe(str(file), "quick").stages[0].settings

    found = read("{long: Begin with Oi., short: Oi., starts: Oi}, {long: Small letters., case: lower}", ", unseen: []")
    assert [(r.long, r.starts, r.case) for r in found.rules] == [
        ("Begin with Oi.", "Oi", None), ("Small letters.", None, "lower")
    ]  # fmt: skip
    assert found.unseen == () and found.rules[1].kind == "case"
    for rules, more, told in (
        ("{long: x, starts: Oi, case: lower}", "", "one of starts, contains and case"), ("{long: x}", "", "not none"),
        ("{long: x, starts: '!'}", "", "holds no word"), ("{long: x, start: Oi}", "", "rules.0.start"),
        ("", "", "rules"), ("{long: x, starts: oi}", ", unseen: [{long: y, starts: 'Oi!'}]", "cannot be an unseen one"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=f"(?s)mine.yaml:3.*{told}"):
            read(rules, more)
