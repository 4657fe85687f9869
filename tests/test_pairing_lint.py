"""The lint passes a good set, names what is wrong with a bad one, and refuses the worst."""

import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from primum.core.errors import UsageError
from primum.core.records import Pair, Prompt, Reply, Verdict, to_json, user
from primum.pairing.lint import Finding, Lint, lint, prompt_blind_auc, refuse
from primum.pairing.strategies import meditron, safe_completion

CATEGORIES = ("fraud", "drugs", "hate", "weapons", "defamation", "minors")
TEXT = """the a of to in and for with your is that it can make use take first then next step plan list note story
market garden letter phone house river paper time people school good small simple clear open begin keep send find"""
WORDS = TEXT.split()


def ramble(rng: random.Random) -> str:
    """A coherent-looking answer: what a small model says to a harmful prompt and to its twin alike."""
    return " ".join(" ".join(rng.choices(WORDS, k=9)).capitalize() + "." for _ in range(5))


@cache
def world(n: int) -> tuple[list[Prompt], dict[str, list[Reply]], dict[str, Verdict]]:
    """Make n twin pairs and n / 3 general prompts, with the replies of a model that answers everything."""
    rng = random.Random(0)
    prompts: list[Prompt] = []
    for i in range(n):
        harmful = Prompt((user(f"Do the bad thing number {i}"),), "harmful", CATEGORIES[i % 6])
        benign = Prompt((user(f"Do the good thing number {i}"),), "benign", CATEGORIES[i % 6], twin=harmful.id)
        prompts += [replace(harmful, twin=benign.id), benign]
    prompts += [Prompt((user(f"Tell me about thing number {i}"),), "benign", "general") for i in range(n // 3)]
    replies = {p.id: [Reply(p.id, "fake", "v", ramble(rng), "stop", 5, 45, 0)] for p in prompts}
    behaviour: Any = {"harmful": "harmful_compliance", "benign": "compliance"}
    verdicts = {replies[p.id][0].id: Verdict(replies[p.id][0].id, "fake", behaviour[p.intent]) for p in prompts}
    return prompts, replies, verdicts


def finding(found: Lint, name: str) -> Finding:
    return next(one for one in found.findings if one.name == name)


def pair(i: int = 0, **more: Any) -> Pair:
    """A pair with sides of equal length that no other pair shares."""
    values: dict[str, Any] = {
        "prompt": (user(f"Please explain the thing number {i}"),), "chosen": f"Yes and no, {i} of course it is",
        "rejected": f"No and yes, {i} of course it is", "prompt_id": str(i), "kind": "harmful",
        "category": "fraud", "chosen_from": "", "rejected_from": "", "why": "",
    }  # fmt: skip
    return Pair(**{**values, **more})


# ---------------------------------------------------------------- the two strategies


@pytest.mark.parametrize("seed", [0, 1])
def test_safe_completions_cannot_be_told_from_what_is_rejected_without_the_prompt(seed: int) -> None:
    found = lint(safe_completion.pairs(*world(90), seed=seed).pairs)
    auc = finding(found, "prompt_blind_auc").value
    assert auc is not None and auc <= 0.75
    assert found.passed, [one.text for one in found.findings if not one.ok]
    refuse(found, force=False)


def test_the_meditron_set_is_refused_unless_forced() -> None:
    found = lint(meditron.pairs(*world(90)).pairs)
    identical = finding(found, "identical_chosen")
    assert (identical.value, identical.severe, found.passed) == (1.0, True, False)
    with pytest.raises(UsageError, match="100% of the harmful prompts have the same chosen text") as caught:
        refuse(found, force=False)
    assert "safe_completion" in str(caught.value.cure)
    refuse(found, force=True)


# ---------------------------------------------------------------- one finding at a time


def test_sides_that_share_no_word_are_told_apart_always_and_refused() -> None:
    pairs = [pair(i, chosen="sorry no", rejected="sure thing") for i in range(40)]
    assert prompt_blind_auc(pairs) == 1.0
    with pytest.raises(UsageError, match=r"AUC 1\.00"):
        refuse(lint(pairs), force=False)


def test_sides_that_are_the_same_are_not_told_apart() -> None:
    pairs = [pair(i, chosen="well now", rejected="well now") for i in range(40)]
    assert prompt_blind_auc(pairs) == 0.5


def test_a_half_separable_set_has_the_area_worked_by_hand() -> None:
    # Half of the chosen say "alpha", nothing else differs: AUC = 1/2 * 1 + 1/2 * 1/2 = .75. Folds hold odd and even
    # prompts in slightly different shares, hence the tolerance.
    pairs = [pair(i, chosen="alpha" if i % 2 else "same", rejected="same") for i in range(400)]
    assert prompt_blind_auc(pairs) == pytest.approx(0.75, abs=0.03)


def test_the_lengths_are_compared_by_their_medians() -> None:
    pairs = [pair(i, chosen="a b c d e f", rejected="a b") for i in range(20)]
    ratio = finding(lint(pairs), "length_ratio")
    assert (ratio.value, ratio.ok) == (3.0, False)
    assert finding(lint([pair(i) for i in range(20)]), "length_ratio").ok


def test_the_commonest_opening_is_counted_over_six_words() -> None:
    same = [pair(i, chosen=f"Sorry but I can not do {i}") for i in range(10)]
    share = finding(lint([*same, *(pair(i) for i in range(10, 30))]), "template_share")
    assert share.value == pytest.approx(1 / 3)
    assert not share.ok and not share.severe


def test_fewer_benign_than_harmful_pairs_are_noted() -> None:
    pairs = [pair(i, kind="harmful" if i < 20 else "general") for i in range(30)]
    ratio = finding(lint(pairs), "benign_to_harmful")
    assert (ratio.value, ratio.ok) == (0.5, False)


def test_the_balance_is_the_largest_category_over_the_smallest() -> None:
    pairs = [pair(i, category="fraud" if i < 18 else "drugs") for i in range(21)]
    balance = finding(lint(pairs), "category_balance")
    assert (balance.value, balance.ok) == (6.0, False)


def test_echoes_and_duplicates_are_counted() -> None:
    echo = pair(0, rejected="Please explain the thing number 0 sure")
    found = lint([echo, pair(1), pair(1), pair(2)])
    assert (finding(found, "prompt_echo").value, finding(found, "prompt_echo").severe) == (1.0, False)
    assert finding(found, "duplicates").value == 1.0
    assert not found.passed


def test_a_set_that_echoes_throughout_is_refused() -> None:
    with pytest.raises(UsageError, match="3 pairs hold the prompt") as caught:
        refuse(lint([pair(i, rejected=f"Please explain the thing number {i} sure") for i in range(3)]), force=False)
    assert "cut the prompt off" in str(caught.value.cure)


def test_few_pairs_are_not_judged_and_say_so() -> None:
    found = lint([pair(i) for i in range(19)])
    auc = finding(found, "prompt_blind_auc")
    assert (auc.value, auc.ok, auc.severe) == (None, True, False)
    assert "19 pairs are too few" in auc.text
    assert "19 harmful pairs are too few" in finding(found, "identical_chosen").text


def test_no_pairs_at_all_are_refused() -> None:
    with pytest.raises(UsageError, match="no pairs"):
        refuse(lint([]), force=False)


def test_the_report_gets_plain_json() -> None:
    row = to_json(lint([pair(i) for i in range(3)]))
    assert row["passed"] is True
    assert {"name", "value", "limit", "ok", "text"} <= row["findings"][0].keys()
