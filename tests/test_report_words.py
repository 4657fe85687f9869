"""How numbers are written."""

from __future__ import annotations

import math
from typing import Any

import pytest

from primum.report import words


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0834, "8.3%"), (0, "0%"), (1.0, "100%"), (0.5, "50%"), (0.0004, "<0.1%"), (-0.021, "−2.1%"),
     (-0.0004, ">−0.1%"), (0.0005, "0.1%"), (None, "–"), (math.nan, "–"), ("x", "–"), (True, "–")],
)  # fmt: skip
def test_percent(value: Any, expected: str) -> None:
    assert words.percent(value) == expected


@pytest.mark.parametrize(
    ("low", "high", "unit", "expected"),
    [(0.031, 0.098, "share", "3.1–9.8%"), (-0.05, 0.02, "share", "−5% to 2%"), (2.4981, 2.58, "nats", "2.498–2.580"),
     (0.0, 0.03, "share", "0–3%"), (None, 0.5, "share", "")],
)  # fmt: skip
def test_interval(low: Any, high: Any, unit: str, expected: str) -> None:
    assert words.interval(low, high, unit) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(4.25, "4.2 s"), (59.96, "1 min 00 s"), (192, "3 min 12 s"), (3840, "1 h 04 min"), (None, "–")],
)
def test_seconds(value: Any, expected: str) -> None:
    assert words.seconds(value) == expected


def test_change_p_and_figure() -> None:
    assert (words.change(-0.54), words.change(0.027, "nats")) == ("−54.0", "+0.027")
    assert (words.change(-0.0001), words.change(-0.0), words.change(-0.0006)) == ("+0.0", "+0.0", "−0.1")
    assert (words.p_value(0.00001), words.p_value(0.04)) == ("<0.001", "0.040")
    assert (words.figure(134515008), words.figure(0.12345), words.figure(None)) == ("134,515,008", "0.1235", "–")
    assert words.moment("2025-11-21T06:20:00+00:00") == "2025-11-21 06:20 UTC"


def test_clip_counts_what_it_leaves_out() -> None:
    assert words.clip("abcdef", 4) == "abcd … [2 more characters left out]"
    assert words.clip("abcd", 4) == "abcd"


def test_clean_keeps_line_ends_and_other_scripts() -> None:
    assert words.clean("a\n\tб 漢 😀\x07") == "a\n\tб 漢 😀\ufffd"


def test_a_decision_does_not_say_its_outcome_twice() -> None:
    assert words.reason({"outcome": "failed", "text": "Failed: refusal of twins."}) == "Refusal of twins."
    assert words.reason({"outcome": "passed", "text": "All hold."}) == "All hold." and words.reason({}) == ""


def test_a_rule_is_read_without_its_id_and_its_outcome() -> None:
    rule = {"name": "twins", "outcome": "failed", "text": "twins: failed, refusal of twins 5.0% -> 25.0%"}
    assert words.rule_text(rule) == "Refusal of twins 5.0% -> 25.0%"


@pytest.mark.parametrize(
    ("value", "unit", "end", "expected"),
    [(0.2, "share", "at most", "at most 20%"), (0.03, "points", "at most", "at most +3.0 points"),
     (-0.012, "relative", "", "−1.2%"), (None, "points", "at least", "–")],
)  # fmt: skip
def test_a_rules_number_says_its_unit(value: float | None, unit: str, end: str, expected: str) -> None:
    assert words.rule_number(value, unit, end) == expected


def test_a_measurement_without_an_interval_says_its_n_alone() -> None:
    row = {"low": 0.031, "high": 0.098, "n": 1240}
    assert words.spread(row) == "3.1–9.8% · n 1,240"
    assert words.spread(row | {"low": None}, "nats") == "n 1,240"


@pytest.mark.parametrize(("value", "expected"), [(2.345, "2.35"), (276923.08, "276,923"), (None, "–")])
def test_a_rate_has_no_digits_that_nobody_measured(value: float | None, expected: str) -> None:
    assert words.rate(value) == expected


def test_short_names_of_metrics_are_capitals() -> None:
    assert (words.words("mc1"), words.words("nll_domain"), words.words("emc1s")) == ("MC1", "NLL domain", "Emc1s")
