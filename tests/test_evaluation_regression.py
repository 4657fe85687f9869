"""What keeps the gate from passing: measurements that are missing, unscored, or named by limits and not there."""

import pytest

from primum.evaluation.items import Metric
from primum.evaluation.regression import Limits, gate_tables, level, moved
from primum.evaluation.tables import ScoredItem, Table
from primum.evaluation.versus import Settings

HARM = Metric("share that is harmful", "lower_is_better")
FAST = Settings(draws=400)


def table(rows, metrics=None, name="set"):
    """A table of rows (group, cluster, scores, unscored)."""
    made = tuple(ScoredItem(f"i{i}", c, s, u, (g,) if g else ()) for i, (g, c, s, u) in enumerate(rows))
    return Table(name, "rules", metrics or {"harm": HARM}, made)


def plain(values, group=""):
    """Rows with a number each; None is unscored."""
    return [(group, "", {} if v is None else {"harm": float(v)}, {"harm": "no parse"} if v is None else {})
            for v in values]  # fmt: skip


def limits(**values):
    return Limits.model_validate(values)


def by_name(gated):
    return {one.name: one.outcome for one in gated.checks}


def test_a_metric_that_the_new_run_lacks_is_undecided():
    both = {"harm": HARM, "babble": Metric("share of babble", "lower_is_better")}
    old = table([("", "", {"harm": 0.0, "babble": 0.0}, {}) for _ in range(300)], both)
    gated = gate_tables([table(plain([0] * 300))], [old], limits(), FAST)
    assert by_name(gated) == {"set harm": "passed", "set babble (measured)": "undecided"}
    assert gated.outcome == "undecided"


def test_a_category_of_which_nothing_was_scored_is_named():
    # 20 of 400 are 5%: not more than may be missing over all items
    old = table(plain([0] * 380, "category:a") + plain([0] * 20, "category:b"))
    new = table(plain([0] * 380, "category:a") + plain([None] * 20, "category:b"))
    gated = gate_tables([new], [old], limits(), FAST)
    assert by_name(gated)["set harm [category:b]"] == "undecided"
    assert gated.outcome == "passed"
    assert gated.text == "Passed: 2 checks. The data cannot settle 1 slice."
    assert gate_tables([new], [old], limits(strict=True), FAST).outcome == "undecided"


def test_a_fixed_limit_does_not_pass_on_the_few_that_were_scored():
    held = limits(benchmarks={"set": {"harm": {"max": 0.3}}})
    assert gate_tables([table(plain([0] * 20))], [], held, FAST).outcome == "passed"
    gated = gate_tables([table(plain([0] * 20 + [None] * 380))], [], held, FAST)
    assert gated.outcome == "undecided"
    assert gated.checks[0].text.endswith("n=20; 380 items have no number")
    gated = gate_tables([table(plain([None] * 12))], [], held, FAST)
    assert gated.checks[0].text == "set harm (max): undecided, none of 12 items has a number"


def test_a_check_says_both_levels_and_which_way_it_moved():
    # 3 of 20 before, 1 of 20 after: 10 points better; the margin is 3 points worse
    checks = gate_tables([table(plain([1] + [0] * 19))], [table(plain([1, 1, 1] + [0] * 17))], limits(), FAST).checks
    assert (checks[0].before, checks[0].after, checks[0].unit) == (0.15, 0.05, "share")
    assert ", 15.0% -> 5.0%, 10.0 points better (limits: " in checks[0].text
    assert ", allowed: 3.0 points worse, n=20" in checks[0].text


def test_amounts_are_said_in_words_of_their_unit():
    assert [moved(value, "share") for value in (0.072, -0.168, 0.0, -0.0)] == [
        "7.2 points worse", "16.8 points better", "no change", "no change",
    ]  # fmt: skip
    assert (moved(0.25, "nats"), moved(None, "share"), moved(-float("inf"), "share")) == (
        "0.25 worse", "unknown", "unknown",
    )  # fmt: skip
    assert (level(0.161, "share"), level(2.5, "nats"), level(None, "share")) == ("16.1%", "2.5", "unknown")


def test_fewer_than_ten_items_keep_no_fixed_limit():
    scores = {"score": Metric("a score", "higher_is_better", "score")}
    rows = [("", "", {"score": 7.0}, {}) for _ in range(3)]  # three equal numbers: an interval of no width
    held = limits(benchmarks={"set": {"score": {"min": 6}}})
    assert gate_tables([table(rows, scores)], [], held, FAST).outcome == "undecided"
    assert gate_tables([table(rows * 4, scores)], [], held, FAST).outcome == "passed"


@pytest.mark.parametrize("named", [{"sett": {"harm": {"max": 0.1}}}, {"set": {"hram": {"margin": 0.01}}}])
def test_limits_on_what_was_not_measured_are_undecided(named):
    run = table(plain([0] * 300))
    gated = gate_tables([run], [run], limits(benchmarks=named), FAST)
    assert gated.outcome == "undecided"
    assert "the limits name it and this run did not" in gated.checks[0].text


def test_a_margin_for_a_metric_that_is_not_primary_is_held():
    side = {"harm": HARM, "partial": Metric("share refused in part", "lower_is_better", primary=False)}
    old = table([("", "", {"harm": 0.0, "partial": 0.0}, {}) for _ in range(300)], side)
    new = table([("", "", {"harm": 0.0, "partial": 1.0}, {}) for _ in range(300)], side)
    assert gate_tables([new], [old], limits(), FAST).outcome == "passed"
    held = limits(benchmarks={"set": {"partial": {"margin": 0.05}}})
    assert gate_tables([new], [old], held, FAST).outcome == "failed"


def test_limits_say_which_way_is_better_where_a_log_does_not():
    taken_for_good = {"harm": Metric("as the tool scored it", "higher_is_better")}
    old, new = table(plain([0] * 300), taken_for_good), table(plain([1] * 300), taken_for_good)
    assert gate_tables([new], [old], limits(), FAST).outcome == "passed"
    told = limits(benchmarks={"set": {"harm": {"direction": "lower_is_better"}}})
    assert gate_tables([new], [old], told, FAST).outcome == "failed"


def test_a_slice_of_all_items_is_not_tested_again():
    # 5 of 300 got worse and none better: one-sided p 1/32, which is certain of one test and not of two
    def rows(worse, group):
        return plain([1] * worse + [0] * (300 - worse), group)

    held = limits(margin=0.01)
    alone = gate_tables([table(rows(5, ""))], [table(rows(0, ""))], held, FAST)
    gated = gate_tables([table(rows(5, "risk:illicit"))], [table(rows(0, "risk:illicit"))], held, FAST)
    assert by_name(gated) == by_name(alone) == {"set harm": "failed"}
    assert gated.checks[0].p == alone.checks[0].p == 1 / 32
    # of all items but one it is another question
    part = gate_tables([table(rows(5, "a") + plain([0]))], [table(rows(0, "a") + plain([0]))], held, FAST)
    assert by_name(part) == {"set harm": "undecided", "set harm [a]": "undecided"}
    assert [one.p for one in part.checks] == [1 / 16, 1 / 16]


def test_so_many_slices_do_not_hide_one_that_is_certainly_worse():
    # 60 slices of fifteen clusters of two: with 400 flips the least p, adjusted over all, is 2 * 60 / 401
    def rows(worse):
        return [(f"category:{s}", f"{s}/{i // 2}", {"harm": float(worse and s == 7)}, {})
                for s in range(60) for i in range(30)]  # fmt: skip

    gated = gate_tables([table(rows(True))], [table(rows(False))], limits(), FAST)
    assert [one.slice for one in gated.checks if one.outcome == "failed"] == ["category:7"]
