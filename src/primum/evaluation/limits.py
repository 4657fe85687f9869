"""What a gate holds a run to: margins and fixed limits by benchmark, metric and slice, from a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from primum.core.config import Config, build, read_settings
from primum.evaluation.tables import Table

BOUNDS = {"max": "at most", "min": "at least", "worst": "at most"}
"""The fixed limits; "worst" is held by the share of items that are worse than it."""


class Bounds(Config):
    """What one metric must keep over all items, or in one slice."""

    margin: float | None = Field(None, ge=0, description="how much worse it may be than the baseline")
    max: float | None = Field(None, description="it may not lie above this")
    min: float | None = Field(None, description="it may not lie below this")
    worst: float | None = Field(None, description="at most 5% of its items may be worse than this (the tail)")


class Limit(Bounds):
    """What one metric must keep, and what it must keep in slices."""

    slices: dict[str, Bounds] = Field(
        default_factory=dict[str, Bounds], description="slice (category:chemical): margin, max, min, worst"
    )
    direction: Literal["lower_is_better", "higher_is_better"] | None = Field(
        None, description="which way is better, where another tool's log does not say it"
    )


class Limits(Config):
    """The margins and fixed limits of a gate; a YAML file of this shape may be given."""

    margin: float = Field(0.03, ge=0, description="how much worse any metric may be, in its own unit (0.03: 3 points)")
    strict: bool = Field(False, description="slices that the data cannot settle keep the gate from passing")
    benchmarks: dict[str, dict[str, Limit]] = Field(
        default_factory=dict[str, dict[str, Limit]], description="benchmark: metric: margin, max, min"
    )

    def named(self, table: Table, metric: str) -> Limit | None:
        """Return what the file says of one metric; None where it does not name it."""
        return (self.benchmarks.get(table.name) or self.benchmarks.get(table.benchmark) or {}).get(metric)

    def margin_of(self, table: Table, metric: str, part: str = "all") -> float:
        """Return how much worse one metric may be: as the file says of the slice, else of the metric, else of all."""
        own = self.named(table, metric)
        told = [own.slices[part].margin] if own and part in own.slices else []
        told += [own.margin] if own else []
        return next((margin for margin in told if margin is not None), self.margin)

    def names(self, table: Table, metric: str, part: str) -> bool:
        """Whether the file gives this slice a margin of its own."""
        own = self.named(table, metric)
        return own is not None and part in own.slices and own.slices[part].margin is not None


def read_limits(path: Path) -> Limits:
    """Read a YAML file of limits.

    Raises:
        BadInputError: no such file, or no settings in YAML.
        UsageError: an unknown key or a value that does not fit.
    """
    return build(Limits, read_settings(str(path), "file of limits", "see docs/evals.md"), where=str(path))
