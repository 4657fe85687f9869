"""Agreement where raters left items out or labels have an order: Gwet's AC1 and AC2, Krippendorff's alpha.

Counts are items x labels: how many raters gave the item that label. Items may have different numbers of raters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Counts = Sequence[Sequence[int]]
Closeness = Callable[[int, int, int], float]
"""(label, other label, number of labels) -> how much the two agree, 1 for the same label."""


def identity(a: int, b: int, q: int) -> float:
    """Return 1 for the same label and 0 otherwise: labels without an order."""
    del q
    return float(a == b)


def quadratic(a: int, b: int, q: int) -> float:
    """Return 1 - ((a - b) / (q - 1))^2: ordered labels, equally far apart."""
    return 1 - ((a - b) / (q - 1)) ** 2


def gwet_ac(counts: Counts, closeness: Closeness = identity) -> float | None:
    """Return Gwet's AC1, or with ordered labels AC2; None where no item has two raters.

    Gwet 2014, Handbook of Inter-Rater Reliability (4th edition), chapter 2 and its treatment of missing ratings:
    observed agreement over items with at least two raters, label shares over all items that have one.
    """
    rated = [row for row in counts if sum(row) > 0]
    paired = [row for row in rated if sum(row) > 1]
    if not paired:
        return None
    q = len(paired[0])
    observed = sum(_agreeing(row, closeness) for row in paired) / len(paired)
    shares = [sum(row[k] / sum(row) for row in rated) / len(rated) for k in range(q)]
    total = sum(closeness(a, b, q) for a in range(q) for b in range(q))
    chance = total * sum(share * (1 - share) for share in shares) / (q * (q - 1))
    return 1.0 if chance == 1 else (observed - chance) / (1 - chance)


def _agreeing(row: Sequence[int], closeness: Closeness) -> float:
    """Return the mean closeness of an item's pairs of ratings."""
    q, raters = len(row), sum(row)
    close = [sum(closeness(a, b, q) * row[b] for b in range(q)) for a in range(q)]
    return sum(row[a] * (close[a] - 1) for a in range(q)) / (raters * (raters - 1))


def krippendorff_alpha(counts: Counts, closeness: Closeness = identity) -> float | None:
    """Return Krippendorff's alpha (Krippendorff 2011, Computing Krippendorff's Alpha-Reliability).

    None where no item has two raters. All ratings the same is full agreement: 1. `identity` gives the nominal alpha,
    `quadratic` the interval one.
    """
    paired = [row for row in counts if sum(row) > 1]
    if not paired:
        return None
    q = len(paired[0])
    sums = [sum(row[k] for row in paired) for k in range(q)]
    n = sum(sums)
    away = [[1 - closeness(a, b, q) for b in range(q)] for a in range(q)]
    cells = [(a, b) for a in range(q) for b in range(q)]
    within = sum(row[a] * row[b] * away[a][b] / (sum(row) - 1) for row in paired for a, b in cells) / n
    between = sum(sums[a] * sums[b] * away[a][b] for a, b in cells) / (n * (n - 1))
    return 1.0 if between == 0 else 1 - within / between
