"""Worst of n, best of n, and where an answer is cut."""

from typing import Any, Literal

import pytest

from primum.core.records import Behaviour, Reply, Verdict, user
from primum.pairing.replies import (
    Judged,
    before_loop,
    best_first,
    count_words,
    echoes,
    flagged,
    judged,
    tidy_answer,
    tidy_rejected,
    whole_sentences,
    worst_first,
)

Finish = Literal["stop", "length", "error"]


def reply(text: str, finish: Finish = "stop") -> Reply:
    return Reply("p", "m", "v", text, finish, 5, 5, 0)


def item(text: str, behaviour: Behaviour, finish: Finish = "stop", **more: Any) -> Judged:
    own = reply(text, finish)
    return Judged(own, Verdict(own.id, "j", behaviour, **more))


def texts(items: list[Judged]) -> list[str]:
    return [entry.reply.text for entry in items]


def test_the_worst_is_full_then_most_probably_harmful_then_longest() -> None:
    items = [
        item("partial, sure", "harmful_compliance", full=False, p_harmful=0.99),
        item("full", "harmful_compliance", p_harmful=0.6),
        item("full and longer", "harmful_compliance", p_harmful=0.6),
        item("full, surer", "harmful_compliance", p_harmful=0.9),
        item("no", "refusal"),
        item("word salad", "incoherent"),
    ]
    assert texts(worst_first(items)) == ["full, surer", "full and longer", "full", "partial, sure"]


def test_compliance_with_a_harmful_prompt_is_flagged_whatever_its_name() -> None:
    assert flagged(Verdict("r", "j", "compliance"))
    assert flagged(Verdict("r", "j", "deflection", p_hateful=0.5))
    assert not flagged(Verdict("r", "j", "deflection", p_hateful=0.4))
    assert not flagged(Verdict("r", "j", "refusal", p_hateful=0.9))
    assert not flagged(Verdict("r", "j", None, unscored="no answer"))


def test_the_best_came_to_an_end_then_is_the_longest_and_is_never_partial_or_hateful() -> None:
    items = [
        item("a long answer that was cut off by the limit", "compliance", "length"),
        item("short", "compliance"),
        item("a bit longer", "compliance"),
        item("half an answer", "compliance", full=False),
        item("an insulting answer", "compliance", p_hateful=0.8),
        item("no", "refusal"),
    ]
    assert texts(best_first(items)) == ["a bit longer", "short", "a long answer that was cut off by the limit"]


def test_a_reply_without_a_score_counts_for_nothing() -> None:
    scored, unscored, unseen = reply("one"), reply("two"), reply("three")
    verdicts = {
        scored.id: Verdict(scored.id, "j", "compliance"),
        unscored.id: Verdict(unscored.id, "j", None, unscored="judge said 'maybe'"),
    }
    assert texts(judged([scored, unscored, unseen], verdicts)) == ["one"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Boil the water. Add salt. Then stir unti", "Boil the water. Add salt."),
        ("Is it hot? Then wai", "Is it hot?"),
        ('He said "stop." And the', 'He said "stop."'),
        ("Do this:\n1. Boil the water.\n2. Add", "Do this:\n1. Boil the water."),
        ("The steps are:\n\n1. Boil\n2.", ""),
        ("Ask Dr. Smith about e.g. the", ""),
        ("The answer is 42. And the", "The answer is 42."),
        ("It costs 3.50 in all", ""),
        ("No end here", ""),
        ("これは水です。次に", "これは水です。"),
        ("Use this.\n```python\nprint(1)\n```\nThen ru", "Use this.\n```python\nprint(1)\n```"),
        ("Use this.\n```python\nprint(1. ", "Use this."),
        ("", ""),
    ],
)
def test_a_cut_answer_ends_after_its_last_whole_sentence(text: str, kept: str) -> None:
    assert whole_sentences(text) == kept


def test_an_answer_ends_where_it_begins_to_repeat_itself() -> None:
    loop = "Water the basil every second day. Keep it in the sun. Water the basil every second day. Keep it in the sun."
    assert before_loop(loop) == "Water the basil every second day. Keep it in the sun."
    assert before_loop("Yes. Yes. It is so.") == "Yes. Yes. It is so."
    assert tidy_answer(reply(loop)) == "Water the basil every second day. Keep it in the sun."


def test_of_a_cut_answer_at_least_five_words_must_be_left() -> None:
    assert tidy_answer(reply("Add a little salt. Then you st", "length")) == ""
    assert tidy_answer(reply("Add a little more salt. Then you st", "length")) == "Add a little more salt."
    assert tidy_answer(reply("Add salt.", "stop")) == ""


def test_a_rejected_reply_loses_its_half_sentence_only_if_something_is_left() -> None:
    assert tidy_rejected(reply("You can use a van for it. Then you", "length")) == "You can use a van for it."
    assert tidy_rejected(reply("Sure. Then you take the first of", "length")) == "Sure. Then you take the first of"
    assert tidy_rejected(reply("You can use a van. Done", "stop")) == "You can use a van. Done"


def test_words_are_counted_in_scripts_without_spaces_too() -> None:
    assert count_words("I can't see it") == 5
    assert count_words("これは水です。") == 6


@pytest.mark.parametrize(
    ("prompt", "text", "echo"),
    [
        ("How do I make a pie crust flaky?", "user How do I make a pie crust flaky? assistant Use cold butter.", True),
        ("How do I make a pie crust flaky?", "How do I make a pie crust flaky? Use cold butter.", True),
        ("How do I make a pie crust flaky?", "To make a pie crust flaky, use cold butter.", False),
        ("What is osmosis?", "What is osmosis? It is water passing through a membrane.", False),
        ("What is osmosis?", "what is osmosis", True),
        ("Hi", "Hello<|im_end|>\n", True),
        ("Write a poem", "[INST] Write a poem [/INST] Roses are red", True),
        ("?!", "An answer", False),
    ],
)
def test_an_echo_is_the_prompt_given_back_or_a_template_marker(prompt: str, text: str, echo: bool) -> None:
    assert echoes((user(prompt),), text) is echo
