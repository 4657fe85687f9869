from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from primum.core.errors import StepFailedError, UsageError
from primum.core.records import Prompt, user
from primum.prompts.rows import twins
from primum.prompts.split import check_split, split


def ask(text: str, intent, category: str, **more) -> Prompt:
    return Prompt((user(text),), intent, category, **more)


def pairs(category: str, n: int) -> list[Prompt]:
    made = [
        twins(ask(f"{category} bad {i}", "harmful", category), ask(f"{category} good {i}", "benign", category))
        for i in range(n)
    ]
    return [prompt for pair in made for prompt in pair]


def general(n: int, answered: int = 0) -> list[Prompt]:
    return [ask(f"general {i}", "benign", "general", answer=f"answer {i}" if i < answered else None) for i in range(n)]


def count(prompts, keep=lambda p: True) -> dict[str, int]:
    return dict(Counter(p.split for p in prompts if keep(p)))


def test_held_out_categories_are_tested_on_and_never_trained_on():
    done = split(pairs("theft", 30) + pairs("fraud", 30), ["theft"], seed=0)
    assert count(done, lambda p: p.category == "theft") == {"test": 60}
    assert count(done, lambda p: p.category == "fraud") == {"train": 54, "dev": 6}  # 3 of 30 pairs


def test_twins_stay_together():
    done = split(pairs("theft", 9) + pairs("fraud", 25) + pairs("other", 25), ["theft"], seed=3)
    where = {p.id: p.split for p in done}
    assert all(where[p.twin] == p.split for p in done)


def test_pairs_without_a_category_are_drawn_at_random():
    done = split(pairs("other", 50), [], seed=0)
    assert count(done) == {"test": 20, "dev": 10, "train": 70}  # 10, 5 and 35 pairs


def test_general_prompts_with_an_answer_are_tested_on():
    done = split(general(300, answered=80), [], seed=0, general_test=200)
    assert count(done) == {"test": 200, "dev": 10, "train": 90}
    assert all(p.split == "test" for p in done if p.answer)


def test_all_answered_prompts_are_tested_on_even_beyond_the_number_asked_for():
    assert count(split(general(50, answered=30), [], seed=0, general_test=10)) == {"test": 30, "dev": 2, "train": 18}


def test_a_small_general_set_keeps_a_third_to_train_on():
    assert count(split(general(60), [], seed=0, general_test=200)) == {"test": 40, "dev": 2, "train": 18}


def test_advice_is_halved_in_each_category_unless_held_out():
    advice = [
        ask(f"{category} advice {i}", "benign", category, tags=("advice",))
        for category in ("medical_advice", "legal_advice", "financial_advice")
        for i in range(20)
    ]
    done = split(advice, ["financial_advice"], seed=0)
    assert count(done, lambda p: p.category == "medical_advice") == {"test": 10, "train": 10}
    assert count(done, lambda p: p.category == "legal_advice") == {"test": 10, "train": 10}
    assert count(done, lambda p: p.category == "financial_advice") == {"test": 20}


def test_evaluation_sets_are_always_tested_on():
    done = split([ask("from a benchmark", "harmful", "fraud", tags=("acceptance",)), *pairs("fraud", 5)], [], seed=0)
    assert done[0].split == "test"
    assert "test" not in count(done[1:])


def test_a_pair_over_two_categories_is_held_out_with_either():
    pair = twins(ask("bad thing", "harmful", "fraud"), ask("good thing", "benign", "theft"))
    assert count(split(pair, ["theft"], seed=0)) == {"test": 2}


def test_several_twins_of_one_prompt_stay_with_it():
    harmful, benign = twins(ask("bad thing", "harmful", "fraud"), ask("good thing", "benign", "fraud"))
    second = ask("another fine matter", "benign", "fraud", twin=harmful.id)
    for seed in range(10):
        done = split([harmful, benign, second, *pairs("fraud", 3)], [], seed=seed, dev_share=0.5)
        assert len({p.split for p in done[:3]}) == 1


def test_order_of_input_changes_nothing_and_is_kept():
    prompts = pairs("fraud", 20) + pairs("other", 20) + general(60, 5)
    shuffled = random.Random(5).sample(prompts, len(prompts))
    done, again = split(prompts, [], seed=1), split(shuffled, [], seed=1)
    assert [p.id for p in again] == [p.id for p in shuffled]
    assert {p.id: p.split for p in done} == {p.id: p.split for p in again}


def test_another_category_does_not_change_what_is_drawn():
    alone, beside = split(pairs("fraud", 20), [], seed=1), split(pairs("drugs", 9) + pairs("fraud", 20), [], seed=1)
    assert alone == [p for p in beside if p.category == "fraud"]


def test_the_seed_changes_what_is_drawn():
    assert split(pairs("fraud", 40), [], seed=1) != split(pairs("fraud", 40), [], seed=2)


def test_an_unknown_held_out_category_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'theft'"):
        split(pairs("theft", 3), ["thefts"], seed=0)


def test_general_cannot_be_held_out():
    with pytest.raises(UsageError, match="no harm category 'general'"):
        split(general(3), ["general"], seed=0)


@pytest.mark.parametrize("share", [-0.1, 1.0, 3.0])
def test_impossible_dev_share(share):
    with pytest.raises(UsageError, match="dev_share"):
        split(pairs("theft", 3), [], seed=0, dev_share=share)


def test_a_near_duplicate_across_train_and_test_stops_the_run():
    text = "how would one quietly get into the locked shed behind the old mill at night"
    with pytest.raises(StepFailedError, match="nearly equals"):
        split([ask(text, "harmful", "theft"), ask(text + "!", "harmful", "fraud")], ["theft"], seed=0)


def test_parted_twins_are_caught():
    harmful, benign = twins(ask("bad thing", "harmful", "fraud"), ask("good thing", "benign", "fraud"))
    with pytest.raises(StepFailedError, match="different splits"):
        check_split([harmful, replace(benign, split="test")])
