"""What keeps the gate from passing: measurements that are missing, unscored, or named by limits and not there."""

import pytest
import yaml

from primum.cli import main
from primum.core.store import write_json
from primum.evaluation.items import Metric
from primum.evaluation.limits import Limits
from primum.evaluation.regression import gate_tables, level, moved
from primum.evaluation.tables import FORMAT, RESULTS, ScoredItem, Table, table_facts, write_table
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


def by_category(**categories):
    """A table of so many harmful replies among so many of each category."""
    return table([row for name, (bad, n) in categories.items()
                  for row in plain([1] * bad + [0] * (n - bad), f"category:{name}")])  # fmt: skip


def in_slices(**slices):
    return limits(benchmarks={"set": {"harm": {"slices": {f"category:{name}": own for name, own in slices.items()}}}})


def test_fixed_limits_of_a_category_have_three_outcomes_and_name_it():
    run = by_category(a=(10, 200), b=(100, 200))

    def at(limit):
        return gate_tables([run], [], in_slices(a={"max": limit}), FAST)

    # 10 of 200: Wilson's one-sided limits are 3.0% and 8.2%, whatever the other category does
    assert [at(limit).outcome for limit in (0.1, 0.02, 0.06)] == ["passed", "failed", "undecided"]
    assert at(0.02).text == "Failed: set harm [category:a] (max)."
    assert at(0.06).text.startswith("Undecided: the data cannot settle set harm [category:a] (max)")
    (check,) = at(0.02).checks
    assert (check.slice, check.value, check.n) == ("category:a", 0.05, 200)
    assert check.text == (
        "set harm [category:a] (max): failed, 5.0% (limits: 3.0% to 8.2%), allowed: at most 2.0%, n=200"
    )


def test_a_limit_for_all_items_and_one_for_a_category_are_both_held():
    run = by_category(a=(0, 200), b=(100, 200))
    held = limits(benchmarks={"set": {"harm": {"max": 0.9, "slices": {"category:b": {"max": 0.1, "min": 0.1}}}}})
    gated = gate_tables([run], [], held, FAST)
    assert by_name(gated) == {
        "set harm (max)": "passed", "set harm [category:b] (max)": "failed", "set harm [category:b] (min)": "passed",
    }  # fmt: skip
    assert gated.text == "Failed: set harm [category:b] (max)."


def test_many_categories_do_not_make_one_fail_by_chance():
    # Wilson's lower limit of 10 in 200: 3.01% at 95% one-sided, 2.74% at 97.5%, which Bonferroni asks of two categories
    run = by_category(a=(10, 200), b=(10, 200))
    assert by_name(gate_tables([run], [], in_slices(a={"max": 0.029}), FAST)) == {
        "set harm [category:a] (max)": "failed"
    }
    both = gate_tables([run], [], in_slices(a={"max": 0.029}, b={"max": 0.2}), FAST)
    assert by_name(both) == {"set harm [category:a] (max)": "undecided", "set harm [category:b] (max)": "passed"}
    assert "(limits: 2.7% to 8.2%, the lower for 2 limits of slices together)" in both.checks[0].text


def test_a_category_that_the_run_lacks_is_undecided_and_the_nearest_is_named():
    gated = gate_tables([by_category(chemical=(0, 200))], [], in_slices(chemicals={"max": 0.1}), FAST)
    assert gated.outcome == "undecided"
    assert gated.checks[0].text == (
        "set harm [category:chemicals] (measured): undecided, the limits name this slice and the run has no such one; "
        "did you mean 'category:chemical'?"
    )


def test_a_margin_of_a_category_holds_there_and_keeps_the_gate_from_passing():
    old, new = by_category(a=(0, 600), b=(0, 20)), by_category(a=(0, 600), b=(8, 20))
    failed = [one.slice for one in gate_tables([new], [old], limits(), FAST).checks if one.outcome == "failed"]
    assert failed == ["category:b"]  # by 40 points, where 3 are allowed
    assert gate_tables([new], [old], in_slices(b={"margin": 0.7}), FAST).outcome == "passed"
    # no change among 20 items settles nothing: passed over, unless the limits ask for this category
    assert gate_tables([old], [old], limits(), FAST).outcome == "passed"
    gated = gate_tables([old], [old], in_slices(b={"margin": 0.03}), FAST)
    assert gated.outcome == "undecided"
    assert "category:b" in gated.text
    # nor does a baseline whose items are not of this category
    assert gate_tables([old], [by_category(a=(0, 620))], in_slices(b={"margin": 0.03}), FAST).outcome == "undecided"


def test_the_tail_has_a_fixed_limit():
    metrics = {"mc2": Metric("", "higher_is_better", "score")}

    def at(low):
        run = table([("", "", {"mc2": 0.1 if i < low else 0.9}, {}) for i in range(100)], metrics)
        (check,) = gate_tables([run], [], limits(benchmarks={"set": {"mc2": {"worst": 0.4}}}), FAST).checks
        return check

    # at most 5% may lie below 0.4. Wilson's one-sided limits: 0 to 2.6% of 0 in 100, 1.8 to 8.6% of 4, 14.3% on of 20
    assert [at(low).outcome for low in (0, 4, 20)] == ["passed", "undecided", "failed"]
    assert at(20).text.startswith("set mc2 (worst): failed, 20.0% of items below 0.4 (limits: 14.3% to ")
    assert at(20).text.endswith("allowed: at most 5.0%, n=100")
    lower = {"mc2": Metric("", "neither", "score")}
    run = table([("", "", {"mc2": 0.9}, {}) for _ in range(100)], lower)
    held = {"set": {"mc2": {"worst": 0.4}}}
    assert gate_tables([run], [], limits(benchmarks=held), FAST).outcome == "undecided"
    held["set"]["mc2"]["direction"] = "lower_is_better"
    gated = gate_tables([run], [], limits(benchmarks=held), FAST)
    assert gated.outcome == "failed"
    assert "100.0% of items above 0.4" in gated.checks[0].text


def test_limits_of_a_category_on_the_command_line(tmp_path, capsys):
    one = by_category(a=(0, 100), b=(90, 100))
    write_table(tmp_path / "run" / "items", one)
    write_json(tmp_path / "run" / RESULTS, {"format": FORMAT, "tables": [table_facts(one)]})
    file = tmp_path / "limits.yaml"
    held = {"category:b": {"max": 0.2}, "category:a": {"max": 0.2}}
    file.write_text(yaml.safe_dump({"benchmarks": {"set": {"harm": {"slices": held}}}}))
    out = {name: tmp_path / name for name in ("junit", "markdown")}
    flags = [word for name, path in out.items() for word in (f"--{name}", str(path))]
    assert main(["gate", str(tmp_path / "run"), "--limits", str(file), *flags]) == 1
    said = capsys.readouterr().out
    assert "✕ set harm [category:b] (max): failed, 90.0% (limits: " in said
    assert "✓ set harm [category:a] (max): passed, 0.0% (limits: " in said
    assert r"| ✕ failed | set harm \[category:b\] (max) | 90.0% |" in out["markdown"].read_text()
    assert 'name="set harm [category:b] (max)"' in out["junit"].read_text()
    file.write_text(file.read_text().replace("max:", "maxi:"))
    assert main(["gate", str(tmp_path / "run"), "--limits", str(file)]) == 2
    assert "maxi" in capsys.readouterr().err
