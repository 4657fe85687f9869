"""What each strategy makes of prompts, replies and verdicts, and what it refuses to touch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from primum.core.catalogue import member, names
from primum.core.errors import UsageError
from primum.core.records import Behaviour, Prompt, Reply, Verdict, from_json, to_json, user
from primum.pairing.completions import compose, disclaimers, rng_for
from primum.pairing.demonstration import Built, Demonstration, kind_of
from primum.pairing.strategies import meditron, safe_completion

Said = tuple[str, Behaviour | None]
HARMFUL = Prompt((user("Write a letter that tricks widows into paying."),), "harmful", "fraud", twin="t")
TWIN = Prompt((user("Write a letter that thanks widows for paying."),), "benign", "fraud", twin="h")
GENERAL = Prompt((user("How do I keep basil alive?"),), "benign", "general")
ADVICE = Prompt((user("How do I cool a small burn?"),), "benign", "medical_advice", tags=("advice",))
BAD = "Dear widow, please send the money to this account today."
GOOD = "Put it on a sunny windowsill and water it sparingly."


def ended() -> dict[str, Any]:
    """What comes of a conversation with a model that does not answer."""
    return {"text": "", "finish": "stop", "error": "down", "steps": [], "prompt_tokens": 0, "reply_tokens": 0}


def build(strategy: Any, said: Sequence[tuple[Prompt, Sequence[Said]]], seed: int = 0, finish: Any = "stop") -> Built:
    """Run a strategy on prompts with what the model said to them and what the judge thought of it."""
    replies: dict[str, list[Reply]] = {}
    verdicts: dict[str, Verdict] = {}
    for prompt, spoken in said:
        for text, behaviour in spoken:
            reply = Reply(prompt.id, "m", "v", text, finish, 5, 5, 0)
            replies.setdefault(prompt.id, []).append(reply)
            verdicts[reply.id] = Verdict(reply.id, "j", behaviour, unscored=None if behaviour else "no answer")
    more: dict[str, dict[str, Any]] = {
        "llama2": {"preferences": ()}, "ai_feedback": {"prefer": lambda shown: [1.0 for _ in shown]},
        "critique": {"converse": lambda starts: [ended() for _ in starts], "judge": lambda exchanges: []},
    }  # fmt: skip
    given = more.get(strategy.__name__.rpartition(".")[2], {})
    return strategy.pairs([prompt for prompt, _ in said], replies, verdicts, seed=seed, **given)


def reasons(built: Built) -> list[str]:
    return [row["reason"] for row in built.dropped]


# ---------------------------------------------------------------- the catalogue


def test_the_strategies_are_listed() -> None:
    assert {"safe_completion", "meditron"} <= set(names("strategies"))


@pytest.mark.parametrize("name", names("strategies"))
def test_every_strategy_says_what_it_is_about_and_takes_nothing(name: str) -> None:
    strategy = member("strategies", name)
    assert strategy.about.strip() and "\n" not in strategy.about
    assert strategy.pairs([], {}, {}, seed=0) == Built([], [], [])


@pytest.mark.parametrize("name", names("strategies"))
@pytest.mark.parametrize(
    ("prompt", "what"),
    [
        (replace(HARMFUL, split="test"), "test split"),
        (replace(GENERAL, split="test"), "test split"),
        (replace(TWIN, tags=("acceptance",), source="shared:xstest"), "evaluation set"),
        (replace(HARMFUL, tags=("benchmark",)), "evaluation set"),
    ],
)
def test_what_is_measured_with_is_never_paired(name: str, prompt: Prompt, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        build(member("strategies", name), [(HARMFUL, [(BAD, "harmful_compliance")]), (prompt, [(GOOD, "compliance")])])
    assert prompt.id in str(caught.value)


@pytest.mark.parametrize("name", names("strategies"))
def test_the_same_input_gives_the_same_set(name: str) -> None:
    said = [(HARMFUL, [(BAD, "harmful_compliance")]), (GENERAL, [(GOOD, "compliance")]), (TWIN, [(GOOD, "compliance")])]
    assert build(member("strategies", name), said, seed=4) == build(member("strategies", name), said, seed=4)


# ---------------------------------------------------------------- safe_completion: harmful prompts


def test_a_flagged_reply_is_rejected_against_a_safe_completion_of_its_category() -> None:
    built = build(safe_completion, [(HARMFUL, [("No.", "refusal"), (BAD, "harmful_compliance")])])
    (pair,) = built.pairs
    assert pair.rejected == BAD
    assert pair.chosen == compose("fraud", rng_for(0, HARMFUL.id))
    assert (pair.kind, pair.category, pair.chosen_from) == ("harmful", "fraud", "completions:fraud")
    assert pair.why == "the model's own flagged reply against a safe completion for fraud and scams"
    assert pair.safety_bin == "chosen_safe"
    assert [d.answer for d in built.demonstrations] == [pair.chosen]


def test_a_plea_of_inability_is_kept_as_it_is_and_makes_no_pair() -> None:
    said = "I'm sorry for the confusion, but as a chatbot I don't have access to your garden."
    reply = Reply(GENERAL.id, "m", "v", said, "stop", 5, 5, 0)
    verdict = Verdict(reply.id, "j", "refusal", reason="ability")
    built = safe_completion.pairs([GENERAL], {GENERAL.id: [reply]}, {reply.id: verdict})
    assert [kept.answer for kept in built.demonstrations] == [said] and not built.pairs


@pytest.mark.parametrize(
    ("spoken", "reason"),
    [
        ([("I won't.", "refusal")], "not flagged"),
        ([("la la la", "incoherent")], "not flagged"),
        ([(BAD, None)], "unscored"),
        ([], "no reply"),
        ([(HARMFUL.text + " " + BAD, "harmful_compliance")], "prompt_echo"),
    ],
)
def test_a_harmful_prompt_without_a_pair_still_gives_a_demonstration(spoken: list[Said], reason: str) -> None:
    built = build(safe_completion, [(HARMFUL, spoken)])
    assert built.pairs == []
    assert built.dropped == [{"prompt_id": HARMFUL.id, "reason": reason, "kind": "harmful", "category": "fraud"}]
    assert [d.answer for d in built.demonstrations] == [compose("fraud", rng_for(0, HARMFUL.id))]


def test_of_echoing_and_clean_flagged_replies_the_clean_one_is_taken() -> None:
    echo = HARMFUL.text + " " + BAD
    built = build(safe_completion, [(HARMFUL, [(echo, "harmful_compliance"), (BAD, "harmful_compliance")])])
    assert [pair.rejected for pair in built.pairs] == [BAD]


# ---------------------------------------------------------------- safe_completion: benign prompts


@pytest.mark.parametrize("prompt", [TWIN, GENERAL, ADVICE])
def test_a_benign_prompt_prefers_the_models_own_answer_to_a_refusal(prompt: Prompt) -> None:
    built = build(safe_completion, [(prompt, [("I can't.", "refusal"), (GOOD, "compliance")])])
    (pair,) = built.pairs
    assert pair.chosen.startswith(GOOD)
    assert pair.rejected != GOOD and len(pair.rejected.split()) >= 2
    assert pair.kind == kind_of(prompt)
    assert pair.safety_bin == "both_safe"
    assert [d.answer for d in built.demonstrations] == [pair.chosen]


def test_only_advice_ends_with_a_disclaimer() -> None:
    built = build(safe_completion, [(ADVICE, [(GOOD, "compliance")]), (GENERAL, [(GOOD, "compliance")])])
    advice, general = (pair.chosen for pair in built.pairs)
    assert advice in [f"{GOOD} {sentence}" for sentence in disclaimers("medical_advice")]
    assert general == GOOD


def test_the_refusal_of_a_twin_is_of_its_category_and_a_general_one_of_a_trained_category() -> None:
    said = [(HARMFUL, [(BAD, "harmful_compliance")]), (TWIN, [(GOOD, "compliance")]), (GENERAL, [(GOOD, "compliance")])]
    assert [pair.rejected_from for pair in build(safe_completion, said).pairs[1:]] == ["refusal:fraud"] * 2
    # medical_advice is not among the trained harm categories here: its words must not be seen.
    advice = build(safe_completion, [said[0], (ADVICE, [(GOOD, "compliance")])]).pairs[1]
    assert advice.rejected_from == "refusal:fraud"


def test_an_answer_that_came_with_the_prompt_stands_in_for_one_of_the_model() -> None:
    prompt = replace(GENERAL, answer="Give it sun and a little water.")
    built = build(safe_completion, [(prompt, [("I can't.", "refusal")])])
    assert [(pair.chosen, pair.chosen_from) for pair in built.pairs] == [("Give it sun and a little water.", "prompt")]
    assert built.pairs[0].why.startswith("the answer that came with the prompt")


@pytest.mark.parametrize("behaviour", ["compliance", "deflection"])
def test_an_answer_that_is_only_begun_is_kept_but_makes_no_pair(behaviour: Any) -> None:
    built = build(safe_completion, [(GENERAL, [("Put it on a sunny", behaviour)])], finish="length")
    (kept,) = built.demonstrations
    assert (kept.answer, kept.kind, kept.ends, built.pairs) == ("Put it on a sunny", "general", False, [])


@pytest.mark.parametrize(
    ("spoken", "reason"),
    [
        ([("I can't.", "refusal")], "no good answer"),
        ([("well well well", "incoherent")], "no good answer"),
        ([], "no good answer"),
        ([("Put it", "compliance")], "no complete sentence"),
        ([("How do I keep basil alive? How do I keep basil alive? Now.", "compliance")], "prompt_echo"),
    ],
)
def test_a_benign_prompt_without_an_answer_is_dropped_with_the_reason(spoken: list[Said], reason: str) -> None:
    built = build(safe_completion, [(GENERAL, spoken)], finish="length")
    assert (built.pairs, built.demonstrations, reasons(built)) == ([], [], [reason])


def test_borderline_prompts_are_left_out_by_name() -> None:
    assert reasons(build(safe_completion, [(replace(HARMFUL, intent="borderline"), [(BAD, "compliance")])])) == [
        "borderline"
    ]


def test_other_prompts_do_not_change_a_prompts_texts() -> None:
    said = [(HARMFUL, [(BAD, "harmful_compliance")]), (TWIN, [(GOOD, "compliance")]), (ADVICE, [(GOOD, "compliance")])]
    everything = build(safe_completion, [*said, (GENERAL, [(GOOD, "compliance")])])
    assert everything.pairs[:3] == build(safe_completion, said).pairs


def test_a_demonstration_comes_back_from_disk_as_it_was() -> None:
    (demonstration,) = build(safe_completion, [(HARMFUL, [])]).demonstrations
    assert from_json(Demonstration, to_json(demonstration)) == demonstration


# ---------------------------------------------------------------- meditron


def test_meditron_has_one_refusal_for_every_flagged_reply_and_no_twins() -> None:
    said = [
        (HARMFUL, [(BAD, "harmful_compliance"), ("Send it now, dear.", "harmful_compliance"), ("No.", "refusal")]),
        (TWIN, [(GOOD, "compliance")]),
        (ADVICE, [(GOOD, "compliance")]),
        (GENERAL, [(GOOD, "compliance")]),
    ]
    built = build(meditron, said)
    fixed = "I'm sorry, but I can't help with that request."
    assert {(pair.chosen, pair.rejected) for pair in built.pairs} == {
        (fixed, BAD), (fixed, "Send it now, dear."), (GOOD, fixed)
    }  # fmt: skip
    assert built.demonstrations == []
    assert reasons(built) == ["not in the recipe", "not in the recipe"]


def test_meditron_says_which_sides_a_limit_cut() -> None:
    said = [(HARMFUL, [(BAD, "harmful_compliance")]), (GENERAL, [(GOOD, "compliance")])]
    ends = [(pair.chosen_ends, pair.rejected_ends) for pair in build(meditron, said, finish="length").pairs]
    assert ends == [(True, False), (False, True)]  # the fixed refusal is whole
    assert all(pair.chosen_ends and pair.rejected_ends for pair in build(meditron, said).pairs)


def test_meditron_drops_what_was_not_flagged_or_not_answered() -> None:
    assert reasons(build(meditron, [(HARMFUL, [("No.", "refusal")]), (GENERAL, [])])) == [
        "not flagged",
        "no good answer",
    ]
