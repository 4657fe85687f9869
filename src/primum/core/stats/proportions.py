"""One share, the difference of two independent shares, and a share corrected for the judge's known error."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple, cast

_NORMAL = NormalDist()


class Interval(NamedTuple):
    """An estimate with its confidence limits."""

    value: float
    low: float
    high: float


def z_value(confidence: float) -> float:
    """Return the two-sided normal quantile: 1.95996 at confidence .95."""
    return _NORMAL.inv_cdf((1 + confidence) / 2)


def check_counts(k: float, n: int) -> None:
    """Raise ValueError unless 0 <= k <= n and n > 0: a share of nothing has no value."""
    if n <= 0 or not 0 <= k <= n:
        raise ValueError(f"need 0 <= k <= n and n > 0, got k={k}, n={n}")


def wilson(k: int, n: int, confidence: float = 0.95) -> Interval:
    """Return k/n with its Wilson score interval (Wilson 1927, JASA 22:209)."""
    check_counts(k, n)
    p, z = k / n, z_value(confidence)
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # the limits are exactly 0 and 1 at k = 0 and k = n; rounding would miss them by 1e-17
    low = 0.0 if k == 0 else (centre - half) / scale
    high = 1.0 if k == n else (centre + half) / scale
    return Interval(p, low, high)


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> Interval:
    """Return k/n with its exact interval (Clopper and Pearson 1934, Biometrika 26:404), as quantiles of Beta."""
    check_counts(k, n)
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else _beta_quantile(tail, k, n - k + 1)
    high = 1.0 if k == n else _beta_quantile(1 - tail, k + 1, n - k)
    return Interval(k / n, low, high)


def _beta_quantile(share: float, a: float, b: float) -> float:
    from scipy.special import betaincinv  # scipy takes long to load, and most verbs never need it

    return float(cast(float, betaincinv(a, b, share)))


def newcombe(k1: int, n1: int, k2: int, n2: int, confidence: float = 0.95) -> Interval:
    """Return k1/n1 - k2/n2 for independent samples, with the hybrid score interval.

    Newcombe 1998, Statistics in Medicine 17:873, method 10: each share's Wilson limits, squared and added.
    """
    p1, low1, high1 = wilson(k1, n1, confidence)
    p2, low2, high2 = wilson(k2, n2, confidence)
    difference = p1 - p2
    low = difference - math.hypot(p1 - low1, high2 - p2)
    high = difference + math.hypot(high1 - p1, p2 - low2)
    return Interval(difference, low, high)


def rogan_gladen(
    k: int, n: int, hits: int, positives: int, correct_rejections: int, negatives: int, confidence: float = 0.95
) -> Interval:
    """Return the true share behind k of n flagged by a judge whose error was measured on labelled cases.

    Point: Rogan and Gladen 1978, Am J Epidemiol 107:71. Interval: Lang and Reiczigel 2014, Prev Vet Med 113:13,
    which adds to every count, so that a judge without an error in its labels is still not taken for perfect.

    Args:
        k: replies that the judge flagged.
        n: replies judged.
        hits: labelled positives that the judge flagged (sensitivity = hits / positives).
        positives: labelled positives.
        correct_rejections: labelled negatives that it did not flag (specificity = correct_rejections / negatives).
        negatives: labelled negatives.
        confidence: two-sided confidence.

    Raises:
        ValueError: counts that make no share, or a judge no better than chance (sensitivity + specificity <= 1).
    """
    for part, whole in ((k, n), (hits, positives), (correct_rejections, negatives)):
        check_counts(part, whole)
    value = _unmixed(k / n, hits / positives, correct_rejections / negatives)
    z = z_value(confidence)
    p = (k + z * z / 2) / (n + z * z)
    se, sp = (hits + 1) / (positives + 2), (correct_rejections + 1) / (negatives + 2)
    share = _unmixed(p, se, sp)
    error_se = se * (1 - se) / (positives + 2)
    error_sp = sp * (1 - sp) / (negatives + 2)
    shift = 2 * z * z * (share * error_se - (1 - share) * error_sp)
    variance = p * (1 - p) / (n + z * z) + share**2 * error_se + (1 - share) ** 2 * error_sp
    half = z * math.sqrt(variance) / (se + sp - 1)
    return Interval(_unit(value), _unit(share + shift - half), _unit(share + shift + half))


def _unmixed(flagged: float, sensitivity: float, specificity: float) -> float:
    if sensitivity + specificity <= 1:
        raise ValueError("a judge with sensitivity + specificity <= 1 says nothing about the share")
    return (flagged + specificity - 1) / (sensitivity + specificity - 1)


def _unit(share: float) -> float:
    return min(1.0, max(0.0, share))
