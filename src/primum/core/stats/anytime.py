"""Tests that may be looked at after every item: they reject where evidence reaches 1/alpha, whenever that is.

An e-process is a non-negative process whose mean under the null hypothesis is at most 1 at every time; by Ville's
inequality the chance that it ever reaches 1/alpha is at most alpha. Items must come in an order that does not depend on
their outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from primum.core.stats.proportions import Interval


def sign_evidence(wins: int, losses: int) -> float:
    """Return the log of the e-value that wins and losses are not equally likely, after so many of both.

    A uniform mixture over the chance of a win: E = 2^m s! (m-s)! / (m+1)! for s wins of m (Robbins 1970). Over
    discordant pairs it is the anytime-valid counterpart of McNemar's test.
    """
    m = wins + losses
    return m * math.log(2) + math.lgamma(wins + 1) + math.lgamma(losses + 1) - math.lgamma(m + 2)


def worse_evidence(losses: int, wins: int) -> float:
    """Return the log of the e-value that losses are likelier than wins, one-sided.

    The mixture is uniform over chances of a loss above one half: twice the part of the two-sided mixture that lies
    there, which is a tail of the Beta distribution.
    """
    from scipy.special import betainc  # scipy takes long to load, and most verbs never need it

    upper = 1 - float(betainc(losses + 1, wins + 1, 0.5))
    return sign_evidence(wins, losses) + math.log(2) + (math.log(upper) if upper > 0 else -math.inf)


@dataclass
class Betting:
    """Evidence that the mean of values in [0, 1] is above `limit`, one value at a time.

    Waudby-Smith and Ramdas 2024 (JRSS-B 86:1), the one-sided betting process: K_t = prod(1 + lambda_i (y_i - limit)),
    with the predictable plug-in bet lambda_i = min(1/(2 limit), sqrt(2 log(1/alpha) / (var_{i-1} i log(1 + i)))).

    Args:
        limit: the mean that is tolerated, in (0, 1).
        alpha: the chance of a false alarm, ever.
    """

    limit: float
    alpha: float = 0.05
    n: int = 0
    total: float = 0.0
    squares: float = 0.25
    log_evidence: float = 0.0
    highest: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.limit < 1 or not 0 < self.alpha < 1:
            raise ValueError(f"need a limit and an alpha between 0 and 1, got {self.limit} and {self.alpha}")

    def add(self, value: float) -> bool:
        """Take one value; say whether the alarm has been raised, now or before.

        Raises:
            ValueError: the value is outside [0, 1].
        """
        if not 0 <= value <= 1:
            raise ValueError(f"need a value in [0, 1], got {value}")
        self.log_evidence += math.log1p(self._bet() * (value - self.limit))
        self.n += 1
        self.total += value
        mean = (0.5 + self.total) / (self.n + 1)
        self.squares += (value - mean) ** 2
        self.highest = max(self.highest, self.log_evidence)
        return self.alarmed

    def _bet(self) -> float:
        i = self.n + 1
        variance = self.squares / i
        return min(0.5 / self.limit, math.sqrt(2 * math.log(1 / self.alpha) / (variance * i * math.log(1 + i))))

    @property
    def alarmed(self) -> bool:
        """Whether the evidence has ever reached 1/alpha."""
        return self.highest >= -math.log(self.alpha)

    @property
    def mean(self) -> float | None:
        """The mean so far."""
        return self.total / self.n if self.n else None


def first_alarm(values: Iterable[float], limit: float, alpha: float = 0.05) -> int | None:
    """Return after how many values the alarm is raised, or None."""
    process = Betting(limit, alpha)
    return next((i for i, value in enumerate(values, 1) if process.add(value)), None)


def confidence_sequence(values: Sequence[float], alpha: float = 0.05, plan: int = 100) -> Interval:
    """Return the mean with limits that hold at every time at once, asymptotically (Waudby-Smith et al. 2024, AoS).

    mean +- sd sqrt(2 (t rho^2 + 1) / (t^2 rho^2) log(sqrt(t rho^2 + 1) / alpha)); rho is chosen so that the sequence is
    tightest at `plan` values. Limits are infinite below two values.
    """
    t = len(values)
    mean = math.fsum(values) / t
    if t < 2:
        return Interval(mean, -math.inf, math.inf)
    deviation = math.sqrt(math.fsum((one - mean) ** 2 for one in values) / t)
    half = _half_width(deviation, t, alpha, plan)
    return Interval(mean, mean - half, mean + half)


def first_certain(values: Iterable[float], alpha: float = 0.05, plan: int = 100, least: int = 10) -> int | None:
    """Return after how many values, `least` or more, the confidence sequence leaves 0 out; None if it never does.

    One pass: mean and squared deviations are carried on (Welford 1962, Technometrics 4:419).
    """
    mean = squares = 0.0
    for t, value in enumerate(values, 1):
        gap = value - mean
        mean += gap / t
        squares += gap * (value - mean)
        if t >= max(2, least) and abs(mean) > _half_width(math.sqrt(max(0.0, squares / t)), t, alpha, plan):
            return t
    return None


def _half_width(deviation: float, t: int, alpha: float, plan: int) -> float:
    rho2 = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha) + 1)) / plan
    return deviation * math.sqrt(2 * (t * rho2 + 1) / (t**2 * rho2) * math.log(math.sqrt(t * rho2 + 1) / alpha))
