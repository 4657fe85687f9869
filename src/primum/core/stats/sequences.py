"""Limits of a mean that hold at every time at once: what may be looked at after every value, and stopped by.

`BettingSequence` is for bounded numbers and holds at any number of them; `NormalSequence` is for any numbers and holds
asymptotically.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from primum.core.stats.anytime import confidence_sequence
from primum.core.stats.proportions import Interval

LEAST = 30
"""Values before an asymptotic sequence leaves anything out."""


class Sequence(Protocol):
    """Takes values one after the other; its limits hold after each of them at once."""

    def add(self, values: Iterable[float]) -> None:
        """Take values."""
        ...

    def limits(self) -> Interval:
        """Return the mean so far with its limits."""
        ...

    def excludes(self, mean: float) -> bool:
        """Whether a mean is left out."""
        ...


@dataclass
class BettingSequence:
    """Limits of the mean of values in [-1, 1].

    Waudby-Smith and Ramdas 2024 (JRSS-B 86:1), the betting confidence sequence: a mean is left out as soon as one of
    the two processes of `anytime.Betting` against it (that the true one is above, or below), each at alpha / 2, has
    reached 2 / alpha. The chance that the true mean is ever left out is at most alpha, at any number of values. What is
    left out once stays out.

    Args:
        alpha: the chance of ever leaving the true mean out.
        exact: means that `excludes` may be asked about; the limits are rounded outwards to one of `cells`, never past
            one of these that is left out.
        cells: how finely limits are told.
    """

    alpha: float = 0.05
    exact: tuple[float, ...] = (0.0,)
    cells: int = 1000
    n: int = 0
    total: float = 0.0
    squares: float = 0.25
    means: NDArray[np.float64] = field(init=False)
    above: NDArray[np.float64] = field(init=False)
    below: NDArray[np.float64] = field(init=False)
    out: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or not all(-1 < one < 1 for one in self.exact):
            raise ValueError(f"need an alpha in (0, 1) and means in (-1, 1), got {self.alpha} and {self.exact}")
        asked = np.array([(one + 1) / 2 for one in self.exact])
        self.means = np.union1d(np.linspace(0, 1, self.cells + 1)[1:-1], asked)
        self.above, self.below = np.zeros_like(self.means), np.zeros_like(self.means)
        self.out = np.zeros(len(self.means), bool)

    def add(self, values: Iterable[float]) -> None:
        """Take values.

        Raises:
            ValueError: one is outside [-1, 1].
        """
        for value in values:
            if not -1 <= value <= 1:
                raise ValueError(f"need a value in [-1, 1], got {value}")
            self._add((value + 1) / 2)

    def _add(self, value: float) -> None:
        i, enough = self.n + 1, math.log(2 / self.alpha)
        bet = math.sqrt(2 * enough / (self.squares / i * i * math.log(1 + i)))
        self.above += np.log1p(np.minimum(bet, 0.5 / self.means) * (value - self.means))
        self.below += np.log1p(np.minimum(bet, 0.5 / (1 - self.means)) * (self.means - value))
        self.out |= (self.above >= enough) | (self.below >= enough)
        self.n, self.total = i, self.total + value
        self.squares += (value - (0.5 + self.total) / (i + 1)) ** 2

    def limits(self) -> Interval:
        """Return the mean of the values so far with its limits; the nearest means that are left out, or -1 and 1.

        Raises:
            ValueError: there are no values.
        """
        if not self.n:
            raise ValueError("no values")
        mean, kept = 2 * self.total / self.n - 1, np.flatnonzero(~self.out)
        if not len(kept):  # the rarer than alpha
            return Interval(mean, mean, mean)
        edges = np.concatenate([[0.0], self.means, [1.0]])
        return Interval(mean, float(2 * edges[kept[0]] - 1), float(2 * edges[kept[-1] + 2] - 1))

    def excludes(self, mean: float) -> bool:
        """Whether a mean, one of `exact`, is left out."""
        return bool(self.out[int(np.argmin(np.abs(self.means - (mean + 1) / 2)))])


@dataclass
class NormalSequence:
    """Limits of the mean of any numbers, asymptotically (`anytime.confidence_sequence`); none below LEAST values.

    Args:
        alpha: as there.
        plan: at how many values the limits are tightest.
    """

    alpha: float = 0.05
    plan: int = 100
    values: list[float] = field(default_factory=list[float])

    def add(self, values: Iterable[float]) -> None:
        """Take values."""
        self.values.extend(values)

    def limits(self) -> Interval:
        """Return the mean so far with its limits; infinite below LEAST values."""
        found = confidence_sequence(self.values, self.alpha, self.plan)
        return found if len(self.values) >= LEAST else Interval(found.value, -math.inf, math.inf)

    def excludes(self, mean: float) -> bool:
        """Whether a mean lies outside the limits."""
        _, low, high = self.limits()
        return not low <= mean <= high
