"""How well a model tells two kinds of prompt apart, in the words of signal detection: refusing is saying "harmful"."""

from __future__ import annotations

import math
from statistics import NormalDist

from primum.core.stats.proportions import Interval, check_counts, z_value

_NORMAL = NormalDist()


def d_prime(hits: int, signals: int, false_alarms: int, noises: int, confidence: float = 0.95) -> Interval:
    """Return d' = z(hit rate) - z(false alarm rate), in standard deviations, with its interval.

    Log-linear correction of both rates, always applied: (k + 1/2) / (n + 1) (Hautus 1995, Behav Res Methods 27:46).
    Variance: Gourevitch and Galanter 1967, Psychometrika 32:25. The two rates are taken for independent; of look-alike
    twins, which are positively correlated, the interval is somewhat too wide.

    Args:
        hits: harmful prompts that were refused.
        signals: harmful prompts.
        false_alarms: benign prompts that were refused.
        noises: benign prompts.
        confidence: two-sided confidence.
    """
    check_counts(hits, signals)
    check_counts(false_alarms, noises)
    hit, alarm = (hits + 0.5) / (signals + 1), (false_alarms + 0.5) / (noises + 1)
    value = _NORMAL.inv_cdf(hit) - _NORMAL.inv_cdf(alarm)
    half = z_value(confidence) * math.sqrt(_variance(hit, signals) + _variance(alarm, noises))
    return Interval(value, value - half, value + half)


def _variance(rate: float, n: int) -> float:
    density = _NORMAL.pdf(_NORMAL.inv_cdf(rate))
    return rate * (1 - rate) / (n * density**2)
