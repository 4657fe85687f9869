"""Shares of attempts that hang together: all attacks on one goal are one cluster."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from primum.core.stats import Interval, wilson, z_value
from primum.core.stats.paired import t_value


class Tally(NamedTuple):
    """k events among n attempts on one goal (k may be a mean over attempts that could have been drawn)."""

    k: float
    n: int


def clustered(tallies: Iterable[Tally], confidence: float = 0.95) -> Interval | None:
    """Return the share of all attempts, with an interval that counts goals and not attempts; None without attempts.

    Wilson's interval with an effective sample size: p(1 - p) over the variance between clusters, times (z / t)^2 for
    the few clusters that estimate it (Korn and Graubard 1998, Survey Methodology 24:193; with Wilson's limits: Dean and
    Pagano 2015, J Surv Stat Methodol 3:484). Where all attempts agree the variance says nothing, and each goal counts
    once.

    Args:
        tallies: one a goal; goals without attempts are passed over.
        confidence: two-sided confidence.
    """
    rows = [tally for tally in tallies if tally.n]
    if not rows:
        return None
    n, k = sum(row.n for row in rows), sum(row.k for row in rows)
    p = k / n
    size = effective_size(rows, confidence)
    low, high = _wilson(p, size, confidence)
    return Interval(p, 0.0 if k == 0 else low, 1.0 if k == n else high)


def effective_size(rows: Sequence[Tally], confidence: float = 0.95) -> float:
    """Return how many independent attempts the clusters are worth, between 1 and the number of attempts."""
    goals, n = len(rows), sum(row.n for row in rows)
    p = sum(row.k for row in rows) / n
    if goals < 2:
        return 1.0
    # the linearised variance of a ratio, with G / (G - 1) (Miller 2024, arXiv:2411.00640, appendix A)
    between = goals / (goals - 1) * sum((row.k - p * row.n) ** 2 for row in rows) / n**2
    size = p * (1 - p) / between if between > 0 and 0 < p < 1 else float(goals)
    return min(float(n), max(1.0, size * (z_value(confidence) / t_value(confidence, goals - 1)) ** 2))


def _wilson(p: float, n: float, confidence: float) -> tuple[float, float]:
    """Return Wilson's limits for a share of n, which need not be a whole number here."""
    z = z_value(confidence)
    centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def hit_at(k: int, successes: int, tries: int) -> float | None:
    """Return how likely k of a goal's tries hold a success: 1 - C(n - c, k) / C(n, k); None where n < k.

    Unbiased where the tries are exchangeable (Chen et al. 2021, arXiv:2107.03374, eq. 1).
    """
    return 1 - math.comb(tries - successes, k) / math.comb(tries, k) if tries >= k else None


def holm(ps: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in the order given (Holm 1979, Scand J Stat 6:65)."""
    order = sorted(range(len(ps)), key=lambda i: ps[i])
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def share(k: int, n: int) -> Interval | None:
    """Return k of n with Wilson's interval; None where n is 0."""
    return wilson(k, n) if n else None
