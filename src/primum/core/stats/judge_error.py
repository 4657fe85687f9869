"""A rate measured by a judge that errs, put right: PPI++ with labels of the same run; the test "is the rate below t".

Rogan-Gladen (no labels of this run) is in proportions.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist, fmean
from typing import NamedTuple

from primum.core.stats.proportions import Interval, wilson, z_value


class Corrected(NamedTuple):
    """The corrected rate with its interval, and how far the judge was trusted: 0 not at all, 1 fully."""

    rate: Interval
    weight: float


def ppi_plus(
    labels: Sequence[float],
    said: Sequence[float],
    others: Sequence[float],
    confidence: float = 0.95,
    span: tuple[float, float] = (0.0, 1.0),
) -> Corrected:
    """Return the mean label of the whole run from a few labels and the judge's word on everything.

    PPI++ (Angelopoulos, Duchi and Zrnic 2023, arXiv:2311.01453): theta = weight * mean(others) + mean(labels) -
    weight * mean(said), weight = clip(Cov(labels, said) / ((1 + n / N) Var(said)), 0, 1), variance = weight^2
    Var(others) / N + Var(labels - weight * said) / n. Without others it is the labels' own mean.

    The published interval is normal and fails where labels are few and rates near 0 or 1: it may have no width. Here
    the limits (not the value) count two made-up items, one of each extreme kind, in the mean and in the variance, as
    Agresti and Coull (1998, The American Statistician 52:119) do for one share and Bonett and Price (2012) for a
    difference of paired ones, and Student's t takes the place of the normal quantile.

    Args:
        labels: what people say of n items, drawn at random from the run.
        said: what the judge says of the same items, in the same order.
        others: what the judge says of the N items without a label.
        confidence: two-sided confidence.
        span: the least and the largest value that a label can have: 0 and 1, or -1 and 1 for differences of shares.

    Raises:
        ValueError: fewer than two labels, or lengths differ.
    """
    n, rest, (least, most) = len(labels), len(others), span
    if n < 2 or n != len(said):
        raise ValueError(f"need two labels or more, and as many verdicts; got {n} and {len(said)}")
    weight = _weight(labels, said, others) if rest else 0.0
    shift = weight * fmean(others) if rest else 0.0
    value = shift + fmean(labels) - weight * fmean(said)
    error = [label - weight * word for label, word in zip(labels, said, strict=True)]
    low_error, high_error = least - weight * most, most - weight * least
    variance = _padded(error, low_error, high_error) / n
    variance += weight**2 * _padded(others, least, most) / rest if rest else 0.0
    from primum.core.stats.paired import t_value

    half = t_value(confidence, n - 1) * math.sqrt(variance)
    centre = shift + fmean([*error, low_error, high_error])
    ends = min(value, centre - half), max(value, centre + half)
    return Corrected(Interval(*(min(most, max(least, one)) for one in (value, *ends))), weight)


def _weight(labels: Sequence[float], said: Sequence[float], others: Sequence[float]) -> float:
    n, rest = len(labels), len(others)
    mean_label, mean_said = fmean(labels), fmean(said)
    pairs = zip(labels, said, strict=True)
    covariance = sum((label - mean_label) * (word - mean_said) for label, word in pairs) / (n - 1)
    spread = _variance([*said, *others])
    return min(1.0, max(0.0, covariance / ((1 + n / rest) * spread))) if spread else 0.0


def _variance(values: Sequence[float]) -> float:
    mean = fmean(values)
    return sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)


def _padded(values: Sequence[float], low: float, high: float) -> float:
    """Return the variance as if the smallest and the largest possible value had been seen once more each."""
    return _variance([*values, low, high])


class Below(NamedTuple):
    """Whether a rate is shown to be below a limit: one-sided p, and the decision."""

    p: float
    below: bool


def below(rate: Interval, limit: float, confidence: float = 0.95) -> Below:
    """Return whether an estimated rate lies below the limit, one-sided, from its two-sided interval.

    The upper limit of the interval at confidence 2c - 1 decides; p follows from the normal with the interval's upper
    half width.
    """
    half = (rate.high - rate.value) / z_value(confidence)
    p = 1 - NormalDist().cdf((limit - rate.value) / half) if half > 0 else float(rate.value >= limit)
    return Below(p, p < 1 - confidence)


def below_counted(k: int, n: int, limit: float, confidence: float = 0.95) -> Below:
    """Return whether a counted rate lies below the limit: exact binomial, P(X <= k) at the limit."""
    wilson(k, n)  # refuses counts that make no share
    p = sum(math.comb(n, i) * limit**i * (1 - limit) ** (n - i) for i in range(k + 1))
    return Below(min(1.0, p), p < 1 - confidence)


def calibration_error(shares: Sequence[float], truth: Sequence[bool], bins: int = 10) -> float:
    """Return the expected calibration error over bins of equal count (Naeini, Cooper and Hauskrecht 2015).

    Raises:
        ValueError: nothing to compare, or lengths differ.
    """
    if not shares or len(shares) != len(truth):
        raise ValueError("need as many probabilities as outcomes, at least one")
    ranked = sorted(zip(shares, truth, strict=True))
    edges = [round(i * len(ranked) / bins) for i in range(bins + 1)]
    parts = [ranked[a:b] for a, b in itertools.pairwise(edges) if b > a]
    gaps = [len(part) * abs(fmean(p for p, _ in part) - fmean(float(y) for _, y in part)) for part in parts]
    return sum(gaps) / len(ranked)
