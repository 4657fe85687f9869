from collections import Counter

import pytest

from primum.core.records import BEHAVIOURS, Verdict
from primum.judging.agreement import compare
from primum.judging.gold import WITHHELD, Gold, half_of, load_gold, text_hash

GOLD = load_gold()


def test_texts_of_harmful_compliance_are_not_shipped():
    assert GOLD.left_out[WITHHELD] > 50
    assert not [row for row in GOLD.rows if row.behaviour == "harmful_compliance"]


def test_every_row_is_whole_and_its_hash_is_its_texts():
    for row in GOLD.rows:
        assert row.behaviour in BEHAVIOURS and row.half == half_of(row.sha256)
        assert row.text is not None and row.sha256 == text_hash(row.text)
        assert (row.reason is not None) == (row.behaviour in ("refusal", "safe_completion"))


def test_enough_was_read_and_both_halves_hold_all_kinds():
    assert len(GOLD.rows) + GOLD.left_out[WITHHELD] >= 250
    kinds = {half: Counter(row.behaviour for row in GOLD.half(half)) for half in ("dev", "test")}
    assert set(kinds["dev"]) | {"safe_completion"} == set(kinds["test"]) == set(BEHAVIOURS) - {"harmful_compliance"}


def test_a_withheld_text_is_joined_by_its_hash():
    # "a text" was never a reply: joining it changes nothing
    joined = load_gold({text_hash("a text"): "a text"})
    assert joined.left_out == GOLD.left_out


def row(behaviour):
    return Gold("p", "harmful", "other", "m", "s", text_hash("x"), behaviour, True, None, "dev", "stop", "x")


def test_agreement_by_hand():
    rows = [row(b) for b in ("refusal", "safe_completion", "harmful_compliance", "deflection")]
    said = ["refusal", "refusal", "harmful_compliance", None]
    verdicts = [Verdict("i", "j", b, unscored=None if b else "unsure") for b in said]
    found = compare(rows, verdicts)
    # outcomes: refused refused went_along deflection against refused refused went_along unscored: 3 of 4 the same
    assert (found["n"], found["accuracy"], found["unscored"], found["six"]) == (4, 0.75, 1, 0.5)
    # chance: refused .5 * .5 + went_along .25 * .25 = .3125; kappa = (.75 - .3125) / .6875
    assert found["kappa"] == pytest.approx(0.4375 / 0.6875)
    assert found["refused"] == {"sensitivity": [2, 2], "specificity": [2, 2]}
    assert found["per_behaviour"]["deflection"] == {"n": 1, "recall": 0.0}
