"""How far raters agree beyond chance: two raters (Cohen), many (Fleiss), and where one label is rare (Gwet)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Return Cohen's kappa of two raters over the same items (Cohen 1960, Educ Psychol Meas 20:37).

    Both raters using one and the same label throughout is full agreement: 1.

    Raises:
        ValueError: no items, or lengths differ.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"two raters need the same items, at least one; got {len(first)} and {len(second)}")
    n = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    one, other = Counter(first), Counter(second)
    chance = sum(one[label] * other[label] for label in one) / n**2
    return _beyond(observed, chance)


def fleiss_kappa(counts: Sequence[Sequence[int]]) -> float:
    """Return Fleiss' kappa (Fleiss 1971, Psychol Bull 76:378).

    Args:
        counts: items x labels; how many raters gave the item that label. Every item has the same number of raters.
    """
    observed, shares = _observed(counts), _label_shares(counts)
    return _beyond(observed, sum(share * share for share in shares))


def gwet_ac1(counts: Sequence[Sequence[int]]) -> float:
    """Return Gwet's AC1 (Gwet 2008, Br J Math Stat Psychol 61:29), which stays high where one label is rare.

    Args:
        counts: items x labels, at least two labels; how many raters gave the item that label.
    """
    observed, shares = _observed(counts), _label_shares(counts)
    chance = sum(share * (1 - share) for share in shares) / (len(shares) - 1)
    return _beyond(observed, chance)


def _observed(counts: Sequence[Sequence[int]]) -> float:
    """Return the share of agreeing pairs of raters, over all items."""
    if not counts or len(counts[0]) < 2:
        raise ValueError("agreement needs items and at least two labels")
    raters = sum(counts[0])
    if raters < 2 or any(sum(row) != raters or len(row) != len(counts[0]) for row in counts):
        raise ValueError("every item needs the same labels and the same number of raters, at least two")
    agreeing = sum(k * (k - 1) for row in counts for k in row)
    return agreeing / (len(counts) * raters * (raters - 1))


def _label_shares(counts: Sequence[Sequence[int]]) -> list[float]:
    total = sum(map(sum, counts))
    return [sum(row[label] for row in counts) / total for label in range(len(counts[0]))]


def _beyond(observed: float, chance: float) -> float:
    return 1.0 if chance == 1 else (observed - chance) / (1 - chance)
