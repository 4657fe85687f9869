"""Many tests at once, and rates corrected by labels of people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from primum.core.stats.proportions import Interval, z_value


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values adjusted for being several (Holm 1979, Scand J Stat 6:65), in the order given."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, highest = [1.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def ppi_mean(
    labels: Sequence[float], judged: Sequence[float], others: Sequence[float], confidence: float = 0.95
) -> Interval:
    """Return the mean of the labels that all items would have, from a few labels and a judge on every item.

    PPI++ (Angelopoulos, Duchi and Zrnic 2023, arXiv:2311.01453): with f the judge's word, Y the label, n labelled and N
    other items, theta = lambda mean_N(f) + mean_n(Y) - lambda mean_n(f), lambda = Cov(Y, f) / ((1 + n/N) Var(f)), cut
    to [0, 1]; its variance is lambda^2 Var(f)/N + Var(Y - lambda f)/n. A judge that says nothing gets lambda 0, and
    what is left is the labels' own mean; no judge can make the estimate biased.

    Args:
        labels: what people said, at least two.
        judged: what the judge said of the same items.
        others: what the judge said of the items without a label.
        confidence: two-sided confidence.

    Raises:
        ValueError: fewer than two labels, or labels and judged differ in length.
    """
    n, others_n = len(labels), len(others)
    if n < 2 or n != len(judged):
        raise ValueError(f"need at least two labels with the judge's word on each, got {n} and {len(judged)}")
    weight = _power(labels, judged, others) if others_n else 0.0
    rest = [y - weight * f for y, f in zip(labels, judged, strict=True)]
    value = fmean(rest) + (weight * fmean(others) if others_n else 0.0)
    variance = _variance(rest) / n + (weight**2 * _variance(others) / others_n if others_n > 1 else 0.0)
    half = z_value(confidence) * math.sqrt(variance)
    return Interval(value, value - half, value + half)


def _power(labels: Sequence[float], judged: Sequence[float], others: Sequence[float]) -> float:
    spread = _variance([*judged, *others])
    if not spread:
        return 0.0
    means = fmean(labels), fmean(judged)
    together = sum((y - means[0]) * (f - means[1]) for y, f in zip(labels, judged, strict=True)) / (len(labels) - 1)
    return min(1.0, max(0.0, together / ((1 + len(labels) / len(others)) * spread)))


def _variance(values: Sequence[float]) -> float:
    """Sample variance; 0 below two values."""
    if len(values) < 2:
        return 0.0
    mean = fmean(values)
    return sum((one - mean) ** 2 for one in values) / (len(values) - 1)
