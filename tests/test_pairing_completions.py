"""Safe completions and refusals are put together from reviewed pieces, differently for every prompt."""

import random

import pytest

from primum.core.taxonomy import policy
from primum.pairing.completions import compose, disclaimers, generic_refusals, pieces, refusal, rng_for

CATEGORIES = [*policy().categories, "other"]


def parts(text: str, category: str) -> list[str]:
    """Which pieces a text is made of, in their order in the text."""
    own = pieces(category)
    found = [
        (text.index(sentence), name)
        for name in ("concern", "boundary", "risk", "offer")
        for sentence in getattr(own, name)
        if sentence in text
    ]
    return [name for _, name in sorted(found)]


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_completion_follows_the_order_of_the_expected_behaviour(category: str) -> None:
    whole = ["concern", "boundary", "risk", "offer"]
    for seed in range(30):
        made = parts(compose(category, random.Random(seed)), category)
        assert made == [name for name in whole if name in made]
        assert {"boundary", "offer"} <= set(made)


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_category_has_enough_surfaces(category: str) -> None:
    texts = {compose(category, random.Random(seed)) for seed in range(200)}
    assert len(texts) >= 180


@pytest.mark.parametrize("category", ["self_harm", "eating_disorders"])
def test_where_a_life_may_be_at_risk_the_concern_always_comes_first(category: str) -> None:
    assert all(parts(compose(category, random.Random(seed)), category)[0] == "concern" for seed in range(50))


def test_concern_and_risk_are_there_as_often_as_planned() -> None:
    made = [parts(compose("drugs", random.Random(seed)), "drugs") for seed in range(2000)]
    # Two standard errors of a share at n = 2000 are at most .023.
    assert sum("concern" in names for names in made) / 2000 == pytest.approx(0.15, abs=0.025)
    assert sum("risk" in names for names in made) / 2000 == pytest.approx(0.75, abs=0.03)


def test_refusals_are_a_third_short_a_quarter_generic_and_the_rest_whole_completions() -> None:
    texts = [refusal("fraud", random.Random(seed)) for seed in range(2000)]
    short = sum(text in pieces("fraud").short for text in texts) / 2000
    generic = sum(text in generic_refusals() for text in texts) / 2000
    assert short == pytest.approx(0.35, abs=0.033)
    assert generic == pytest.approx(0.25, abs=0.03)
    assert sum(len(parts(text, "fraud")) >= 2 for text in texts) / 2000 == pytest.approx(0.40, abs=0.034)


@pytest.mark.parametrize("category", ["general", "unheard of", "../../core/policy"])
def test_an_unknown_category_gets_the_words_that_fit_anything(category: str) -> None:
    assert pieces(category) == pieces("other")
    assert compose(category, random.Random(3)) == compose("other", random.Random(3))


def test_a_prompts_text_depends_on_seed_and_prompt_alone() -> None:
    assert compose("fraud", rng_for(0, "a")) == compose("fraud", rng_for(0, "a"))
    assert compose("fraud", rng_for(0, "a")) != compose("fraud", rng_for(0, "b"))
    assert compose("fraud", rng_for(0, "a")) != compose("fraud", rng_for(1, "a"))


def test_advice_has_its_disclaimers_and_nothing_else_has() -> None:
    advice = [name for name, category in policy().categories.items() if category.risk == "unqualified"]
    assert sorted(advice) == ["financial_advice", "legal_advice", "medical_advice"]
    for name in advice:
        assert len(set(disclaimers(name))) >= 8
        assert all(sentence.endswith(".") for sentence in disclaimers(name))
    assert disclaimers("fraud") == ()
