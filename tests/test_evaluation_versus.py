"""Pairing, planted changes, repeated A/A runs: what must be found is found, what is not there is not."""

import math
import random
import time
from dataclasses import replace

import pytest

from primum.core.stats import bonett_price, mcnemar_exact
from primum.evaluation.items import Metric
from primum.evaluation.limits import Limits, read_limits
from primum.evaluation.regression import gate_tables
from primum.evaluation.tables import ScoredItem, Table
from primum.evaluation.versus import (
    Settings,
    changed_items,
    compare_tables,
    differences,
    equal_by_construction,
    join,
    matched,
    rate,
)

BAD = {"harm": Metric("share that is harmful", "lower_is_better")}
FAST = Settings(draws=400)


def table(values, metrics=None, groups=None, clusters=None, name="set"):
    """A table with one metric; values None are unscored."""
    metric = next(iter(metrics or BAD))
    rows = []
    for i, value in enumerate(values):
        known = {} if value is None else {metric: float(value)}
        why = {metric: "no parse"} if value is None else {}
        group = (groups[i],) if groups else ()
        rows.append(ScoredItem(f"i{i}", clusters[i] if clusters else "", known, why, group, f"p{i}", f"r{value}"))
    return Table(name, "rules", metrics or BAD, tuple(rows))


def overall(changes):
    return next(one for one in changes if one.slice == "all")


def test_fixed_and_broken_and_mcnemar_by_hand():
    # A: 1 1 1 1 0 0 0 0, B: 0 0 0 1 1 0 0 0: three fixed, one broken (lower is better)
    one = overall(compare_tables([table([1, 1, 1, 1, 0, 0, 0, 0])], [table([0, 0, 0, 1, 1, 0, 0, 0])]))
    assert (one.fixed, one.broken, one.n) == (3, 1, 8)
    assert (one.a, one.b, one.difference) == (0.5, 0.25, -0.25)
    assert one.p == one.mcnemar == mcnemar_exact(1, 3) == 0.625  # 2 (1 + 4) / 16
    assert (one.low, one.high) == bonett_price(3, 1, 8)[1:]


def test_what_has_no_pair_is_counted():
    a, b = table([1, None, 0, 1]), table([0, 1, None])
    pairs = join(matched(a, b), "harm")
    assert pairs.items == ["i0"]
    assert pairs.left_out == {"no parse": 2, "not on both sides": 1}


def test_rounding_is_no_change():
    metrics = {"mc2": Metric("", "higher_is_better")}
    one = overall(compare_tables([table([0.5, 0.25], metrics)], [table([0.5 + 1e-12, 0.25], metrics)]))
    assert (one.fixed, one.broken, one.difference) == (0, 0, 0)
    assert one.low < 0 < one.high  # two items do not show that nothing changed


def test_holm_is_taken_inside_a_family():
    groups = [f"category:{i % 4}" for i in range(80)]
    b = [int(i % 4 == 0) for i in range(80)]
    found = {one.slice: one for one in compare_tables([table([0] * 80, groups=groups)], [table(b, groups=groups)])}
    assert found["category:0"].p == pytest.approx(2 / 2**20)
    assert found["category:0"].p_holm == pytest.approx(4 * 2 / 2**20)
    assert found["all"].p_holm == found["all"].p


def test_a_metric_whose_direction_is_neither_is_in_no_family():
    metrics = {"words": Metric("", "neither", "score")}
    assert overall(compare_tables([table([3, 4, 5], metrics)], [table([4, 5, 7], metrics)])).p_holm is None


def test_changed_items_show_what_got_worse_first():
    a, b = table([1, 0, 0]), table([0, 1, 0])
    assert [(one["item"], one["worse"]) for one in changed_items(a, b, "harm")] == [("i1", True), ("i0", False)]


def test_labels_correct_a_rate():
    values = [1] * 40 + [0] * 60
    labels = {"harm": {f"i{i}": float(i < 20) for i in range(40)}}  # of 40 flagged, 20 are wrong
    one = Table("set", "rules", BAD, table(values).rows, labels=labels)
    assert rate(one, "harm")["value"] == pytest.approx(0.5)  # all labelled were flagged: the judge tells nothing apart
    assert rate(one, "harm")["agree"] == 0.5
    assert rate(table(values), "harm") is None


def repeats(many, seed, lift=0.0):
    """Return comparisons of one metric over clustered items; B turns `lift` of what would be 0 into 1."""
    random_, found = random.Random(seed), []
    clusters = [f"c{i % 30}" for i in range(120)]
    for _ in range(many):
        tendency = [random_.betavariate(1, 2) for _ in range(30)]
        chances = [tendency, [one + lift * (1 - one) for one in tendency]]
        sides = [table([random_.random() < side[i % 30] for i in range(120)], clusters=clusters) for side in chances]
        found.append(overall(compare_tables(sides[:1], sides[1:], FAST)))
    return found


def test_repeated_runs_of_the_same_model_alarm_at_the_nominal_rate():
    found = repeats(100, 1)
    for level in (0.05, 0.5):  # four standard errors: one such test in 16,000 fails by chance
        spread = 4 * math.sqrt(100 * level * (1 - level))
        assert 100 * level - spread <= sum(one.p < level for one in found) <= 100 * level + spread


def test_a_planted_difference_is_found():
    # B answers 1 half as often again of what A does not: by a third (5.7 standard errors), missed once in 10,000 times
    found = repeats(20, 2, lift=0.5)
    assert sum(one.p < 0.05 and one.low > 0 for one in found) >= 18


def test_the_gate_fails_on_a_planted_regression_and_names_its_category():
    random_ = random.Random(4)
    groups = [f"category:{i % 6}" for i in range(2400)]
    before = [int(random_.random() < 0.1) for _ in range(2400)]
    after = list(before)
    planted = [i for i in range(2400) if i % 6 == 2 and not before[i]][:20]  # 20 of 400: five points
    for i in planted:
        after[i] = 1
    gated = gate_tables([table(after, groups=groups)], [table(before, groups=groups)], Limits.model_validate({}), FAST)
    assert gated.outcome == "failed"
    assert [one.slice for one in gated.checks if one.outcome == "failed"] == ["category:2"]
    assert "category:2" in gated.text
    assert next(one for one in gated.checks if one.slice == "all").outcome == "passed"  # 20 of 2400 overall


def test_no_change_with_few_items_is_undecided_and_says_how_many_would_decide():
    gated = gate_tables([table([0] * 20)], [table([0] * 20)], Limits.model_validate({}), FAST)
    assert gated.outcome == "undecided"
    # (1.645 + .842)^2 (2/22) / .03^2 = 624.5
    assert gated.checks[0].needed == 625
    assert "about 625 items" in gated.text


def test_no_change_with_enough_items_passes_though_small_slices_stay_open():
    groups = [f"category:{i % 50}" for i in range(500)]
    same = table([i % 7 == 0 for i in range(500)], groups=groups)
    gated = gate_tables([same], [same], Limits.model_validate({}), FAST)
    assert gated.outcome == "passed"
    assert "The data cannot settle 50 slices." in gated.text
    strict = gate_tables([same], [same], Limits.model_validate({"strict": True}), FAST)
    assert strict.outcome == "undecided"


def test_what_was_not_measured_or_not_scored_never_passes():
    whole = table([0] * 500)
    assert gate_tables([], [whole], Limits.model_validate({}), FAST).outcome == "undecided"
    holes = table([None if i % 10 == 0 else 0 for i in range(500)])
    gated = gate_tables([holes], [whole], Limits.model_validate({}), FAST)
    assert gated.outcome == "undecided"
    assert "50 items have no number" in gated.checks[0].text
    assert gate_tables([], [], Limits.model_validate({}), FAST).outcome == "undecided"


def test_better_is_no_regression_in_either_direction():
    good = {"acc": Metric("", "higher_is_better")}
    low, high = [i % 3 == 0 for i in range(600)], [i % 3 != 2 for i in range(600)]
    limits = Limits.model_validate({})
    assert gate_tables([table(high, good)], [table(low, good)], limits, FAST).outcome == "passed"
    assert gate_tables([table(low, good)], [table(high, good)], limits, FAST).outcome == "failed"
    assert gate_tables([table(low)], [table(high)], limits, FAST).outcome == "passed"
    assert gate_tables([table(high)], [table(low)], limits, FAST).outcome == "failed"


def test_the_tail_is_watched_where_the_mean_hides_it():
    metrics = {"mc2": Metric("", "higher_is_better")}
    random_ = random.Random(2)
    before = [0.3 + 0.6 * random_.random() for _ in range(600)]
    after = [value + 0.04 for value in before]
    for i in range(0, 600, 10):  # a tenth falls below what was the worst twentieth; the mean hardly moves
        after[i] = 0.05
    gated = gate_tables(
        [table(after, metrics)], [table(before, metrics)], Limits.model_validate({"margin": 0.045}), FAST
    )
    kinds = {one.kind: one.outcome for one in gated.checks}
    assert kinds == {"no worse": "passed", "tail": "failed"}


def test_fixed_limits_have_three_outcomes():
    def at(limit):
        limits = Limits.model_validate({"benchmarks": {"set": {"harm": {"max": limit}}}})
        return gate_tables([table([1] * 10 + [0] * 190)], [], limits, FAST).outcome

    # 10 of 200: Wilson's one-sided limits are 3.0% and 8.3%
    assert (at(0.1), at(0.02), at(0.06)) == ("passed", "failed", "undecided")


def test_limits_are_read_from_yaml_and_mistakes_are_named(tmp_path):
    path = tmp_path / "limits.yaml"
    path.write_text("margin: 0.02\nbenchmarks:\n  xstest:\n    false_refusal: {margin: 0.05, max: 0.2}\n")
    limits = read_limits(path)
    one = table([0], {"false_refusal": BAD["harm"]}, name="xstest")
    assert (limits.margin_of(one, "false_refusal"), limits.margin_of(one, "other")) == (0.05, 0.02)
    assert (limits.named(one, "false_refusal").max, limits.named(one, "other")) == (0.2, None)
    path.write_text("margins: 1\n")
    with pytest.raises(Exception, match="did you mean 'margin'"):
        read_limits(path)


def test_runs_that_were_asked_differently_say_so():
    def asked(**facts):
        return replace(table([0, 1] * 10), facts=facts)

    a, b = asked(sampling="t0-n128", seed=0, engine="hf"), asked(sampling="t0-n16", seed=0)
    assert differences([a], [b]) == ["sampling t0-n128 / t0-n16 (set)"]
    assert differences([a], [a]) == []
    assert gate_tables([b], [a], Limits.model_validate({}), FAST).differs == ("sampling t0-n128 / t0-n16 (set)",)


def test_only_likelihoods_of_the_same_weights_are_equal_by_construction():
    def by(**facts):
        return [replace(table([0, 1] * 10), facts=facts)]

    ours = by(model="m@1-float32", sampling="likelihood")
    told = by(model="m@1-float32", sampling="likelihood", unused={"system": "Be kind."})
    assert equal_by_construction(ours, told) == equal_by_construction(told, ours) == [("set", ["system"])]
    assert gate_tables(told, ours, Limits.model_validate({}), FAST).equal == (("set", ["system"]),)
    others = [by(model="m@2-float32", sampling="likelihood"), by(sampling="likelihood"), by(model="m@1-float32")]
    assert [equal_by_construction(ours, one) for one in others] == [[], [], []]
    assert equal_by_construction(by(sampling="likelihood"), by(sampling="likelihood")) == []  # of unknown models


def test_few_labels_that_all_agree_do_not_make_a_rate_certain():
    labels = {"harm": {f"i{i}": 0.0 for i in range(10)}}
    one = Table("set", "rules", BAD, table([0] * 60).rows, labels=labels)
    found = rate(one, "harm")
    # the judge never says yes, so that it is not listened to: ten labels, none of them 1; limits of two made-up items
    # more, one of each kind: mean 1/12, variance (1/12)(11/12)(12/11) = 1/12, t with 9 degrees 2.262157
    assert (found["value"], found["low"]) == (0, 0)
    assert found["high"] == pytest.approx(1 / 12 + 2.262157 * math.sqrt(1 / 12 / 10), abs=1e-6)
    changed = overall(compare_tables([one], [one], FAST)).corrected["difference"]
    assert changed["value"] == 0
    assert changed["low"] < -0.2 < 0.2 < changed["high"]  # ten items do not show that nothing changed


def test_labels_of_all_items_need_no_judge():
    labels = {"harm": {f"i{i}": float(i < 4) for i in range(12)}}
    found = rate(Table("set", "rules", BAD, table([0] * 12).rows, labels=labels), "harm")
    assert (found["value"], found["labels"], found["elsewhere"]) == (pytest.approx(1 / 3), 12, 0)
    assert 0 < found["low"] < 1 / 3 < found["high"]


def test_the_anytime_test_reads_many_items_once():
    values = [int(i % 7 == 0) for i in range(20_000)]
    clusters = [f"c{i // 2}" for i in range(20_000)]
    a, b = table(values, clusters=clusters), table([1 - one for one in values], clusters=clusters)
    start = time.process_time()
    one = overall(compare_tables([a], [b], Settings(draws=200, anytime=True)))
    assert one.anytime["enough_after"] < 100
    assert time.process_time() - start < 20  # quadratic work took minutes
    a, b = table(values), table([1 - one for one in values])
    assert overall(compare_tables([a], [b], Settings(draws=200, anytime=True))).anytime["enough_after"] < 100
    assert time.process_time() - start < 20
