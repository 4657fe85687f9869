"""Expected numbers: worked by hand in the comments, or from scipy and statsmodels-like formulas named beside them."""

import math
import random
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from primum.core.stats import mcnemar_exact
from primum.core.stats.anytime import (
    Betting,
    confidence_sequence,
    first_alarm,
    first_certain,
    sign_evidence,
    worse_evidence,
)
from primum.core.stats.clusters import cluster_bootstrap, cluster_mde, cluster_mean, sign_flip
from primum.core.stats.multiple import holm, ppi_mean

values = st.lists(st.floats(-1, 1, allow_nan=False), min_size=3, max_size=30)


def test_cluster_mean_by_hand():
    # mean 5/6; sums of deviations a: 2 - 2(5/6) = 1/3, b: 0, c: 3 - 3(5/6)... with values a 1,1; b 1,0; c 1,1
    # total 5 of 6; deviations a 1/3, b -2/3, c 1/3; SE = sqrt(3/2) / 6 sqrt(1/9 + 4/9 + 1/9) = 1/6; t_2 = 4.302653
    interval = cluster_mean([1, 1, 1, 0, 1, 1], ["a", "a", "b", "b", "c", "c"])
    assert interval.value == pytest.approx(5 / 6)
    assert interval.high - interval.value == pytest.approx(4.302652729911275 / 6)


@settings(deadline=None)
@given(values)
def test_with_one_item_a_cluster_it_is_the_t_interval(numbers):
    interval = cluster_mean(numbers, range(len(numbers)))
    half = scipy_stats.t.ppf(0.975, len(numbers) - 1) * stdev(numbers) / math.sqrt(len(numbers))
    assert interval == pytest.approx((fmean(numbers), fmean(numbers) - half, fmean(numbers) + half), abs=1e-9)


def test_one_cluster_tells_nothing_about_its_spread():
    assert cluster_mean([0.0, 1.0], ["a", "a"])[1:] == (-math.inf, math.inf)
    assert cluster_mde([0.0, 1.0], ["a", "a"]) is None


@pytest.mark.parametrize("clusters", [[], ["a"]])
def test_every_value_has_a_cluster(clusters):
    with pytest.raises(ValueError, match="one cluster per value"):
        cluster_mean([1.0, 2.0], clusters)


def test_the_bootstrap_agrees_with_scipys_bca():
    numbers = [0.1, 0.4, 0.35, 0.8, 0.05, 0.6, 0.77, 0.2, 0.9, 0.33, 0.51, 0.48, 0.02, 0.95, 0.6]
    theirs = scipy_stats.bootstrap(
        (numbers,), np.mean, n_resamples=40_000, rng=np.random.default_rng(1), method="BCa"
    ).confidence_interval
    ours = cluster_bootstrap(numbers, range(len(numbers)), draws=40_000)
    assert ours[1:] == pytest.approx(tuple(theirs), abs=0.006)


def test_whole_clusters_are_drawn():
    # every item doubled: the interval of 12 clusters of two is that of the 12 items, not of 24
    numbers = [0, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0]
    alone = cluster_bootstrap(numbers, range(12), draws=20_000)
    doubled = cluster_bootstrap(numbers * 2, [*range(12), *range(12)], draws=20_000)
    assert doubled == pytest.approx(alone, abs=0.01)


def test_a_bootstrap_of_equal_numbers_is_no_point_where_they_are_few():
    assert cluster_bootstrap([0.5] * 20, range(20)) == (0.5, 0.5, 0.5)  # nothing varies: t gives the same
    assert cluster_bootstrap([1.0, 0.0], ["a", "a"])[1:] == (-math.inf, math.inf)


def test_sign_flips_are_exact_where_they_are_few():
    # 4 of 4 positive: 2 of 16 flips are as extreme
    assert sign_flip([1, 1, 1, 1], range(4)) == 2 / 16
    assert sign_flip([1, 1, 1, 1], range(4), side="greater") == 1 / 16
    assert sign_flip([0, 0], range(2)) == 1.0


@settings(deadline=None)
@given(st.integers(0, 9), st.integers(0, 9))
def test_sign_flips_of_discordant_pairs_are_mcnemars_test(up, down):
    changes = [1.0] * up + [-1.0] * down
    expected = mcnemar_exact(up, down)
    assert sign_flip(changes or [0.0], range(max(1, len(changes))), draws=2**18) == pytest.approx(expected)


def test_random_flips_come_near_the_exact_p():
    changes = [0.3, 0.1, -0.2, 0.5, 0.4, -0.1, 0.2, 0.6, -0.3, 0.25, 0.15, 0.35]
    exact = sign_flip(changes, range(12), draws=5000)  # 4096 flips
    drawn = sign_flip(changes, range(12), draws=4000)
    assert drawn == pytest.approx(exact, abs=0.02)


def test_holm_by_hand():
    # sorted .005, .01, .03, .04 times 4, 3, 2, 1 = .02, .03, .06, .04 -> made to rise
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_ppi_with_a_perfect_judge_and_by_hand():
    # Y = f on four labelled items; Var(f) over 4 + 4 items = 2/7, Cov(Y, f) = 1/3; lambda = (1/3) / (2 * 2/7) = 7/12
    # theta = 7/12 (1/2) + 1/2 - 7/12 (1/2) = 1/2; Var = (7/12)^2 (1/3) / 4 + (5/12)^2 (1/3) / 4 = (49 + 25) / 1728
    found = ppi_mean([0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 0, 1])
    half = scipy_stats.norm.ppf(0.975) * math.sqrt(74 / 1728)
    assert found == pytest.approx((0.5, 0.5 - half, 0.5 + half))


def test_ppi_does_not_listen_to_a_judge_that_says_nothing():
    labels = [0, 1, 1, 0, 1]
    found = ppi_mean(labels, [1] * 5, [1] * 50)
    assert found.value == pytest.approx(0.6)
    half = scipy_stats.norm.ppf(0.975) * stdev(labels) / math.sqrt(5)
    assert found.high - found.value == pytest.approx(half)
    with pytest.raises(ValueError, match="two labels"):
        ppi_mean([1], [1], [1, 0])


def test_ppi_undoes_a_biased_judge():
    # the judge flags everything that is flagged and a fifth of the rest; truth .3, judged .44
    random_ = random.Random(0)
    truth = [float(random_.random() < 0.3) for _ in range(4000)]
    judged = [max(y, float(random_.random() < 0.2)) for y in truth]
    found = ppi_mean(truth[:300], judged[:300], judged[300:])
    assert found.low < fmean(truth) < found.high
    assert found.high - found.low < 2 * 1.96 * math.sqrt(0.3 * 0.7 / 300)  # tighter than the labels alone
    assert fmean(judged) > found.high


def test_sign_evidence_is_the_mixtures_integral():
    # E = integral of (2q)^s (2(1-q))^(m-s) dq
    grid = np.linspace(0, 1, 200_001)
    for wins, losses in [(0, 0), (5, 1), (9, 12)]:
        expected = np.trapezoid((2 * grid) ** wins * (2 * (1 - grid)) ** losses, grid)
        assert math.exp(sign_evidence(wins, losses)) == pytest.approx(expected, rel=1e-6)
    upper = np.linspace(0.5, 1, 200_001)
    expected = 2 * np.trapezoid((2 * upper) ** 7 * (2 * (1 - upper)) ** 2, upper)
    assert math.exp(worse_evidence(7, 2)) == pytest.approx(expected, rel=1e-6)


def test_the_sign_process_rarely_crosses_by_chance():
    # 400 runs of 200 fair coins, looked at after every one: at most 5% may ever reach 20 (here, with 4 sigma of room)
    random_ = random.Random(3)
    crossed = 0
    for _ in range(400):
        wins = 0
        for i in range(1, 201):
            wins += random_.random() < 0.5
            if sign_evidence(wins, i - wins) >= math.log(20):
                crossed += 1
                break
    assert crossed <= 400 * 0.05 + 4 * math.sqrt(400 * 0.05 * 0.95)


def test_betting_alarms_on_a_raised_rate_and_keeps_quiet_at_the_limit():
    random_ = random.Random(5)
    false = sum(first_alarm((float(random_.random() < 0.05) for _ in range(300)), 0.05) is not None for _ in range(200))
    assert false <= 200 * 0.05 + 4 * math.sqrt(200 * 0.05 * 0.95)
    caught = [first_alarm((float(random_.random() < 0.2) for _ in range(600)), 0.05) for _ in range(40)]
    assert all(caught)
    assert fmean(caught) < 200


def test_the_first_bet_by_hand():
    # variance 1/4, i = 1: sqrt(2 log 20 / (log 2 / 4)) = 5.88 < 1/(2 * .05) = 10; K = 1 + 5.88 * .95
    process = Betting(0.05, 0.05)
    assert not process.add(1.0)
    assert math.exp(process.log_evidence) == pytest.approx(
        1 + math.sqrt(2 * math.log(20) / (0.25 * math.log(2))) * 0.95
    )
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        process.add(1.5)


def test_the_confidence_sequence_holds_at_every_time():
    random_ = random.Random(8)
    missed = 0
    for _ in range(200):
        drawn = [random_.gauss(0, 1) for _ in range(120)]
        missed += any(abs(confidence_sequence(drawn[:t], plan=60).value) > confidence_sequence(drawn[:t], plan=60).high
                      - confidence_sequence(drawn[:t], plan=60).value for t in range(20, 121, 10))  # fmt: skip
    assert missed <= 200 * 0.05 + 4 * math.sqrt(200 * 0.05 * 0.95)


def test_the_first_certain_mean_is_that_of_the_whole_sequence():
    random_ = random.Random(5)
    for shift in (0.0, 0.3, -0.8):
        values = [random_.gauss(shift, 1) for _ in range(300)]
        one_by_one = (t for t in range(10, 301) if (ends := confidence_sequence(values[:t], 0.05, 150)).low > 0
                      or ends.high < 0)  # fmt: skip
        assert first_certain(values, 0.05, 150) == next(one_by_one, None)
    assert first_certain([0.5] * 12) == 10  # all alike: no spread
    assert first_certain([1.0] * 9) is None
