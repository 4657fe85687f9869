"""Expected numbers: worked by hand in the comments, or from scipy and statsmodels (named where they are)."""

import math
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from primum.core.stats import (
    Interval,
    PairedTable,
    Sums,
    bonett_price,
    clopper_pearson,
    cohen_kappa,
    d_prime,
    fieller,
    fleiss_kappa,
    gwet_ac1,
    mcnemar_exact,
    mde,
    mde_mean,
    needed_pairs,
    newcombe,
    paired_contrast,
    paired_mean,
    paired_ratio,
    ratio_of_sums,
    ratio_residuals,
    rogan_gladen,
    wilson,
    z_value,
)
from primum.core.stats.paired import sign_tail

COUNTS = [(0, 10), (10, 10), (1, 3), (57, 210), (95, 100)]
# 3 raters, votes "violating" per item 3,0,0,0,2,0,1,0,0,0 (columns: violating, not)
VOTES = [[3, 0], [0, 3], [0, 3], [0, 3], [2, 1], [0, 3], [1, 2], [0, 3], [0, 3], [0, 3]]


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(95, 100, 88.8, 97.8), (167, 178, 89.3, 96.5), (40, 40, 91.2, 100), (57, 210, 21.6, 33.5)],
)
def test_wilson_gives_the_published_limits(k, n, low, high):
    interval = wilson(k, n)
    assert interval.value == k / n
    assert (round(100 * interval.low, 1), round(100 * interval.high, 1)) == (low, high)


@pytest.mark.parametrize(("k", "n"), COUNTS)
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_wilson_and_clopper_pearson_agree_with_scipy(k, n, confidence):
    test = scipy_stats.binomtest(k, n)
    for ours, method in ((wilson, "wilson"), (clopper_pearson, "exact")):
        theirs = test.proportion_ci(confidence, method)
        assert ours(k, n, confidence)[1:] == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_no_event_still_has_an_upper_limit():
    # exact, one-sided 95%: 1 - .05^(1/200) = 1.4867%
    assert clopper_pearson(0, 200, 0.9).high == pytest.approx(1 - 0.05 ** (1 / 200))
    assert wilson(0, 200).low == 0
    assert wilson(0, 200).high > 0.01


@pytest.mark.parametrize(("k", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_a_share_of_nothing_or_of_more_than_all_is_refused(k, n):
    with pytest.raises(ValueError, match="0 <= k <= n"):
        wilson(k, n)


def test_newcombe_gives_the_papers_example():
    # Newcombe 1998, table II, 56/70 - 48/80: 0.0524 to 0.3339 (statsmodels: 0.05243147, 0.33387265)
    assert newcombe(56, 70, 48, 80) == pytest.approx((0.2, 0.05243147, 0.33387265), abs=1e-8)
    # statsmodels confint_proportions_2indep(9, 10, 3, 10, method="newcomb", alpha=.1)
    assert newcombe(9, 10, 3, 10, 0.9) == pytest.approx((0.6, 0.24211240, 0.78962351), abs=1e-8)


def test_rogan_gladen_by_hand():
    # 30/200 flagged, Se 85/100, Sp 90/100: (.15 + .9 - 1) / .75 = 1/15
    # Lang-Reiczigel: p' = (30 + 1.92073) / 203.84146 = .15660, Se' = 86/102, Sp' = 91/102, Se' + Sp' - 1 = .735294
    # share' = .066304, shift = 7.68292 (.066304 x .0012966 - .933696 x .00094326) = -.006106
    # variance = .00064792 + .00000570 + .00082232 = .00147594, half = 1.959964 x .0384180 / .735294 = .102405
    interval = rogan_gladen(30, 200, 85, 100, 90, 100)
    assert interval.value == pytest.approx(1 / 15)
    assert interval.low == 0  # -.0422, cut at 0
    assert interval.high == pytest.approx(0.162603, abs=2e-6)


def test_rogan_gladen_refuses_a_judge_that_guesses_and_never_has_width_zero():
    with pytest.raises(ValueError, match="says nothing"):
        rogan_gladen(5, 10, 50, 100, 50, 100)
    perfect = rogan_gladen(0, 50, 20, 20, 20, 20)
    assert perfect.value == 0
    assert perfect.high > 0.05


def test_bonett_price_by_hand():
    # b' = 5/20, c' = 2/20: change -.15, sqrt((.35 - .0225) / 20) = .1279648, half = .2508064
    interval = bonett_price(4, 1, 18)
    assert interval.value == pytest.approx(-3 / 18)
    assert interval[1:] == pytest.approx((-0.4008064, 0.1008064), abs=1e-6)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 40))
def test_bonett_price_swaps_its_sides_with_its_sign(b, c, rest):
    there, back = bonett_price(b, c, b + c + rest), bonett_price(c, b, b + c + rest)
    assert there == pytest.approx((-back.value, -back.high, -back.low))


def test_paired_contrast_by_hand():
    # both shares .5 of 100: Wilson half width h = .0961685; cross = 40 x 40 - 10 x 10 - 100/2 = 1450, phi = 1450/2500
    h = 0.0961685
    table = PairedTable(40, 10, 10, 40)
    same = h * math.sqrt(2 * (1 - 0.58))
    assert paired_contrast(table) == pytest.approx((0, -same, same), abs=1e-6)
    # second - first / 2: value .25, sqrt(h^2 + (h/2)^2 - 2 (.58) h (h/2)) = h sqrt(.67)
    half = h * math.sqrt(0.67)
    assert paired_contrast(table, 0.5) == pytest.approx((0.25, 0.25 - half, 0.25 + half), abs=1e-6)


def test_paired_contrast_of_uncorrelated_sides_is_newcombes_for_independent_samples():
    # cross = 6 x 4 - 4 x 6 = 0, so phi = 0; a margin of zero makes phi 0 as well
    assert paired_contrast(PairedTable(6, 4, 6, 4)) == pytest.approx(newcombe(12, 20, 10, 20))
    assert paired_contrast(PairedTable(0, 20, 0, 0)) == pytest.approx(newcombe(0, 20, 20, 20))


def test_mcnemar_exact():
    assert mcnemar_exact(1, 9) == 22 / 1024  # 2 (1 + 10) / 2^10
    assert mcnemar_exact(0, 0) == 1
    for b, c in ((6, 16), (3, 3), (0, 7), (400, 300)):
        theirs = scipy_stats.binomtest(min(b, c), b + c).pvalue
        assert mcnemar_exact(b, c) == mcnemar_exact(c, b) == pytest.approx(min(1, theirs))


def test_the_sign_test_is_quick_where_very_many_items_changed():
    # sums of whole binomial coefficients took minutes from some 20,000 changed items on
    for b, c in ((49_000, 51_000), (499_000, 501_000)):
        theirs = scipy_stats.binomtest(b, b + c).pvalue
        assert mcnemar_exact(b, c) == pytest.approx(theirs, rel=1e-9)
        assert sign_tail(b, b + c) == pytest.approx(theirs / 2, rel=1e-9)
    assert (sign_tail(1, 4), sign_tail(3, 4), sign_tail(0, 0)) == (5 / 16, 15 / 16, 1)  # (1 + 4) / 2^4, 1 - 1 / 2^4


def test_paired_mean_is_the_t_interval():
    theirs = scipy_stats.ttest_1samp([1.0, 2.0, 3.0, 4.0], 0).confidence_interval(0.95)
    assert paired_mean([1, 2, 3, 4]) == pytest.approx((2.5, theirs.low, theirs.high))
    # t_3(.975) = 3.182446, sd = 1.290994: half = 2.054260
    assert paired_mean([1, 2, 3, 4]).high == pytest.approx(4.554260, abs=1e-6)
    assert paired_mean([7]) == (7, -math.inf, math.inf)


def test_paired_ratio_by_hand():
    # means 2 and 3: R = 1.5; residuals second/3 - first/2 = [2/3 - 1/2, 4/3 - 3/2] = [1/6, -1/6], sd = .2357023
    # half on the log scale = 12.7062 x .2357023 / sqrt(2) = 2.117700
    interval = paired_ratio([1, 3], [2, 4])
    assert interval.value == 1.5
    assert math.log(interval.high / 1.5) == pytest.approx(2.117700, abs=1e-5)
    assert interval.high * interval.low == pytest.approx(2.25)
    assert fmean(ratio_residuals([1, 3], [2, 4])) == pytest.approx(0)


def test_fieller_by_hand_and_where_student_turns():
    # means 2 and 1, t_2(.975)^2 = 18.512821; variances of the means 1/3 and 1/9, covariance 1/6: too few to tell
    assert fieller([1, 2, 3], [0.5, 1, 1.5]) == (0.5, -math.inf, math.inf)
    # an exact multiple has no spread but that of the mean below the line, which must differ from 0
    assert fieller([9, 10, 11], [-4.5, -5, -5.5]) == pytest.approx((-0.5, -0.5, -0.5))
    first, second = [1, 0, 1, 1, 0, 1, 1, -1, 1, 1, 1, 1], [1, 0, 0, 1, 0, 1, 1, 0, -1, 1, 1, 1]
    value, low, high = fieller(first, second)
    assert low < value < high and value == pytest.approx(6 / 8)
    for limit in (low, high):  # an independent implementation of the test that the interval inverts
        left = [b - limit * a for a, b in zip(first, second, strict=True)]
        assert scipy_stats.ttest_1samp(left, 0).pvalue == pytest.approx(0.05)
    assert fieller([2], [1]) == (0.5, -math.inf, math.inf)
    for wrong in (([1], [1, 2]), ([1, -1], [1, 2])):
        with pytest.raises(ValueError, match=r"equal lengths|other than 0"):
            fieller(*wrong)


def test_ratio_of_sums_is_paired_ratio_without_the_pairs():
    first, second = [10, 35, 7, 90, 12], [0, 3, 1, 2, 0]
    products = [sum(a * b for a, b in zip(x, y, strict=True)) for x, y in ((first, first), (first, second))]
    sums = Sums(5, sum(first), sum(second), *products, sum(b * b for b in second))
    assert ratio_of_sums(sums) == pytest.approx(paired_ratio(first, second))
    assert ratio_of_sums(sums).value == pytest.approx(6 / 154)
    for few in (Sums(1, 1, 1, 1, 1, 1), Sums(2, 2, 0, 2, 0, 0)):
        with pytest.raises(ValueError, match="two pairs and positive sums"):
            ratio_of_sums(few)


def test_paired_ratio_of_an_even_rise_is_exact_and_swapping_the_sides_inverts_it():
    assert paired_ratio([1, 2, 4], [1.1, 2.2, 4.4]) == pytest.approx((1.1, 1.1, 1.1))
    there, back = paired_ratio([1, 2, 4], [1, 3, 4]), paired_ratio([1, 3, 4], [1, 2, 4])
    assert there == pytest.approx((1 / back.value, 1 / back.high, 1 / back.low))
    with pytest.raises(ValueError, match="equal lengths"):
        paired_ratio([1], [1, 2])
    with pytest.raises(ValueError, match="positive means"):
        paired_ratio([0, 0], [1, 2])


@pytest.mark.parametrize(
    ("discordance", "n", "points"), [(0.15, 200, 7.7), (0.10, 250, 5.6), (0.15, 313, 6.1), (0.2, 817, 4.4)]
)
def test_mde_solves_its_equation_and_meets_the_planning_table(discordance, n, points):
    reach = 1.959964 + 0.841621
    found = mde(discordance, n)
    assert found == pytest.approx(reach * math.sqrt((discordance - found**2) / n), rel=1e-6)
    # the table leaves the d^2 term out: found sqrt(1 + reach^2 / n) is the same without it
    assert round(100 * found * math.sqrt(1 + reach**2 / n), 1) == points


def test_needed_pairs_and_mde_of_a_mean_by_hand():
    assert needed_pairs(0.05, 0.03) == 344  # (1.644854 + .841621)^2 x .05 / .0009 = 343.5
    # sd of 1, 2, 3, 4 is 1.290994: 2.801585 x 1.290994 / 2
    assert mde_mean([1, 2, 3, 4]) == pytest.approx(1.808415, abs=1e-5)
    with pytest.raises(ValueError, match="margin"):
        needed_pairs(0.05, 0)


def test_d_prime_by_hand():
    # rates 9.5/10 and .5/10: d' = 2 x 1.644854; density(1.644854) = .1031356
    # variance = 2 x .0475 / (9 x .0106370) = .992348, half = 1.959964 x .996166
    assert d_prime(9, 9, 0, 9) == pytest.approx((3.289707, 3.289707 - 1.952449, 3.289707 + 1.952449), abs=1e-5)


def test_d_prime_is_zero_where_both_are_refused_alike_and_finite_at_the_ends():
    assert d_prime(20, 50, 20, 50).value == 0
    assert all(map(math.isfinite, d_prime(50, 50, 0, 50)))
    assert all(map(math.isfinite, d_prime(50, 50, 50, 50)))


def test_agreement_gives_the_published_numbers():
    assert gwet_ac1(VOTES) == pytest.approx(0.8039, abs=5e-5)
    assert fleiss_kappa(VOTES) == pytest.approx(0.5833, abs=5e-5)  # statsmodels: 0.58333


def test_cohen_kappa_by_hand():
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed .7, chance .5 x .6 + .5 x .4 = .5 (statsmodels: 0.4)
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(["yes"] * 3, ["yes"] * 3) == 1


@pytest.mark.parametrize("counts", [[], [[3]], [[2, 1], [1, 1]], [[1, 0]]])
def test_agreement_refuses_ragged_or_empty_counts(counts):
    with pytest.raises(ValueError, match=r"agreement needs|every item needs"):
        fleiss_kappa(counts)


def test_cohen_kappa_refuses_unlike_lengths():
    with pytest.raises(ValueError, match="same items"):
        cohen_kappa(["a"], [])


def test_z_value_is_two_sided():
    assert z_value(0.95) == pytest.approx(1.959964, abs=1e-6)
    assert Interval(0.5, 0.4, 0.6)._fields == ("value", "low", "high")
