"""PPI++ by hand and in simulation, the test below a limit, calibration error."""

import numpy as np
import pytest
from scipy import stats

from primum.core.stats import Interval, rogan_gladen
from primum.core.stats.judge_error import below, below_counted, calibration_error, ppi_plus


def test_ppi_plus_by_hand():
    # labels 1 1 0 0, said 1 0 0 0 of those, 1 1 0 0 0 0 of the rest: means .5, .25, 1/3
    # cov = sum((y - .5)(f - .25)) / 3 = (.375 - .125 + .125 + .125) / 3 = 1/6; all ten f: var = .21 * 10 / 9 = .2333..
    # weight = (1/6) / ((1 + 4/6) * .2333) = 3/7; theta = 3/7 * 1/3 + .5 - 3/7 * .25 = .5357
    found = ppi_plus([1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0, 0, 0])
    assert found.weight == pytest.approx(3 / 7)
    assert found.rate.value == pytest.approx(0.5 + 3 / 7 * (1 / 3 - 1 / 4))


def test_a_judge_that_says_nothing_is_given_no_weight():
    found = ppi_plus([1, 0, 1, 0], [1, 1, 1, 1], [1, 1, 1])
    assert (found.weight, found.rate.value) == (0.0, 0.5)


def test_too_few_labels_are_refused():
    with pytest.raises(ValueError, match="two labels"):
        ppi_plus([1], [1], [0, 1])


def simulate(truth: float, sensitivity: float, specificity: float, runs: int = 400) -> tuple[float, float, float]:
    """Return the mean error of the raw and of the corrected rate (in points), and the coverage, with 50 labels."""
    rng = np.random.default_rng(7)
    raw, fixed, covered = [], [], 0
    for _ in range(runs):
        y = rng.random(1000) < truth
        f = np.where(y, rng.random(1000) < sensitivity, rng.random(1000) >= specificity)
        labelled = rng.permutation(1000)[:50]
        rest = np.setdiff1d(np.arange(1000), labelled)
        found = ppi_plus(
            y[labelled].astype(float).tolist(), f[labelled].astype(float).tolist(), f[rest].astype(float).tolist()
        )
        raw.append(f.mean() - truth)
        fixed.append(found.rate.value - truth)
        covered += found.rate.low <= truth <= found.rate.high
    return 100 * float(np.mean(raw)), 100 * float(np.mean(fixed)), covered / runs


@pytest.mark.parametrize(
    ("truth", "sensitivity", "specificity"), [(0.3, 0.98, 0.62), (0.6, 0.7, 0.95), (0.08, 0.95, 0.8), (0.9, 0.75, 0.9)]
)
def test_ppi_plus_is_unbiased_where_the_raw_rate_is_far_off_and_covers(
    truth: float, sensitivity: float, specificity: float
):
    raw, fixed, covered = simulate(truth, sensitivity, specificity)
    assert abs(raw) >= 10
    assert abs(fixed) <= 3
    assert covered >= 0.93


def test_rogan_gladen_covers_where_the_judge_errs_as_it_did():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(400):
        hits, clear = rng.binomial(80, 0.9), rng.binomial(120, 0.8)
        flagged = rng.binomial(600, 0.3 * 0.9 + 0.7 * 0.2)
        found = rogan_gladen(int(flagged), 600, int(hits), 80, int(clear), 120)
        covered += found.low <= 0.3 <= found.high
    assert covered / 400 >= 0.93


def test_below_a_limit_counted_is_the_binomial_test():
    for k, n, limit in ((0, 60, 0.05), (2, 100, 0.05), (9, 100, 0.05)):
        expected = stats.binomtest(k, n, limit, alternative="less").pvalue
        found = below_counted(k, n, limit)
        assert found.p == pytest.approx(expected)
        assert found.below == (expected < 0.05)


def test_below_a_limit_by_interval():
    assert below(Interval(0.02, 0.0, 0.04), 0.05).below
    assert not below(Interval(0.04, 0.0, 0.08), 0.05).below


def test_calibration_error_by_hand():
    # one bin of ten: mean .3, two of ten true: |.3 - .2|
    assert calibration_error([0.3] * 10, [True, True, *[False] * 8], bins=1) == pytest.approx(0.1)
    assert calibration_error([0.0, 1.0], [False, True], bins=2) == 0
