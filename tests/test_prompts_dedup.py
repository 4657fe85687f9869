from __future__ import annotations

import random
from dataclasses import replace

from primum.core.records import Message, Prompt, assistant, system, user
from primum.prompts.dedup import dedup
from primum.prompts.rows import twins

THIRTY = " ".join(f"word{i}" for i in range(30))


def ask(text: str, intent="harmful", category="other", **more) -> Prompt:
    return Prompt((user(text),), intent, category, **more)


def texts(prompts) -> list[str]:
    return [prompt.text for prompt in prompts]


def test_exact_key_keeps_the_first_spelling():
    kept, dropped = dedup([ask("Alpha beta gamma delta?"), ask(" alpha BETA gamma delta? "), ask("Something else")])
    assert texts(kept) == ["Alpha beta gamma delta?", "Something else"]
    assert [(d.reason, d.of) for d in dropped] == [("exact_duplicate", kept[0].id)]


def test_invisible_characters_make_no_new_prompt_unless_as_published():
    pair = [ask("Alpha"), ask("Al\u200bpha")]
    assert len(dedup(pair).kept) == 1
    assert len(dedup(pair, unicode=False, threshold=2).kept) == 2


def test_long_texts_are_compared_by_trigrams():
    # 30 words have 28 trigrams. Another last word changes 1: 27 / 29 = .93. Another word in the middle changes 3:
    # 25 / 31 = .81. Two such, far apart, change 6: 22 / 34 = .65.
    last, middle = THIRTY.replace("word29", "x"), THIRTY.replace("word15", "x")
    two = middle.replace("word5", "y")
    kept, dropped = dedup([ask(THIRTY), ask(last), ask(middle), ask(two)])
    assert texts(kept) == [THIRTY, two]
    assert [(d.reason, d.of, d.detail) for d in dropped] == [
        ("near_duplicate", kept[0].id, "Jaccard 0.93"),
        ("near_duplicate", kept[0].id, "Jaccard 0.81"),
    ]


def test_short_texts_are_compared_as_sets_of_words():
    # {how do i open a tin} and the same with "now": 6 / 7 = .86; with "the" for "a": 5 / 7 = .71
    kept, dropped = dedup([ask("How do I open a tin?"), ask("How do I open a tin now?"), ask("How do I open the tin?")])
    assert texts(kept) == ["How do I open a tin?", "How do I open the tin?"]
    assert dropped[0].detail == "Jaccard 0.86"


def test_a_short_text_is_found_beside_one_just_too_long_to_be_short():
    # 7 words and 8 words, 7 in common: 7 / 8 = .88
    short, longer = "a b c d e f g", "a b c d e f g h"
    assert texts(dedup([ask(short), ask(longer)]).kept) == [short]
    assert texts(dedup([ask(longer), ask(short)]).kept) == [longer]


def test_twins_and_other_intents_may_look_alike():
    harmful, benign = twins(ask(THIRTY), ask(THIRTY.replace("word29", "safe"), "benign"))
    other = ask(THIRTY.replace("word29", "third"), "borderline")
    assert dedup([harmful, benign, other]) == ([harmful, benign, other], [])


def test_twins_of_one_intent_are_still_no_duplicates():
    first = ask(THIRTY)
    second = ask(THIRTY.replace("word29", "x"), twin=first.id)
    assert len(dedup([first, second]).kept) == 2


def test_the_same_words_cannot_be_both_harmful_and_benign():
    harmful, benign = ask("Tell me more about it"), ask("tell me more about it", "benign")
    kept, dropped = dedup([harmful, benign])
    assert kept == [harmful]
    assert dropped[0].reason == "same_words_other_intent"


def test_blank_prompts_are_dropped_by_name():
    kept, dropped = dedup([ask(" \u200b\n"), ask("hi")])
    assert texts(kept) == ["hi"]
    assert [d.reason for d in dropped] == ["blank"]


def test_a_dropped_prompts_twin_follows_what_it_duplicated():
    first, first_benign = twins(ask("Alpha beta gamma"), ask("Safe one here", "benign"))
    again, again_benign = twins(ask("ALPHA beta gamma"), ask("Another harmless question", "benign"))
    kept, _ = dedup([first, first_benign, again, again_benign])
    assert texts(kept) == ["Alpha beta gamma", "Safe one here", "Another harmless question"]
    assert [p.twin for p in kept] == [first_benign.id, first.id, first.id]


def test_a_twin_that_never_was_there_is_forgotten():
    assert dedup([ask("Alpha", twin="0123456789abcdef")]).kept[0].twin is None


def test_turns_before_the_last_make_another_prompt():
    last = user("Go on with the next part of the story please")
    talks = [
        Prompt((last,), "benign", "general"),
        Prompt((system("Be kind"), last), "benign", "general"),
        Prompt((user("Once"), assistant("upon"), last), "benign", "general"),
        Prompt((system("be KIND "), last), "benign", "general"),
    ]
    kept, dropped = dedup(talks)
    assert kept == talks[:3]
    assert [d.of for d in dropped] == [talks[1].id]


def test_a_second_pass_drops_nothing():
    rng = random.Random(1)
    prompts = [ask(" ".join(rng.choices("abcdefghij", k=rng.randint(1, 14)))) for _ in range(300)]
    once = dedup(prompts)
    assert once.dropped
    assert dedup(once.kept) == (once.kept, [])


def _brute_force(prompts: list[Prompt]) -> list[str]:
    """The definition, each against each: no index, no order by rarity."""

    def same(a: list[str], b: list[str]) -> bool:
        if min(len(a), len(b)) >= 8:
            x, y = ({tuple(w[i : i + 3]) for i in range(len(w) - 2)} for w in (a, b))
        else:
            x, y = set(a), set(b)
        return 10 * len(x & y) >= 8 * len(x | y)

    kept: list[str] = []
    for prompt in prompts:
        if not any(same(prompt.text.split(), other.split()) for other in kept):
            kept.append(prompt.text)
    return kept


def test_the_index_finds_exactly_what_comparing_all_pairs_finds():
    rng = random.Random(7)
    base = [rng.choices([f"w{i}" for i in range(12)], k=rng.randint(2, 40)) for _ in range(60)]
    prompts = []
    for _ in range(400):
        tokens = list(rng.choice(base))
        for _ in range(rng.randint(0, 2)):
            tokens[rng.randrange(len(tokens))] = f"w{rng.randrange(14)}"
        prompts.append(ask(" ".join(tokens)))
    found = texts(dedup(prompts).kept)
    assert found == _brute_force(prompts)
    assert 60 < len(found) < 400


def test_rows_of_what_was_dropped_say_all_of_it():
    _, dropped = dedup([ask("Alpha"), replace(ask("alpha"), source="mine")])
    row = dropped[0].row()
    assert row["reason"] == "exact_duplicate"
    assert row["source"] == "mine"
    assert row["messages"] == [{"role": Message("user", "alpha").role, "content": "alpha"}]
