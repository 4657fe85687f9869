"""Many runs side by side: by each metric, which run is where, and which differences are certain.

There is no overall score: what it means to be safer but more refusing is the reader's to say. Runs are compared two by
two on the items that both have, with Holm's adjustment over all pairs of one metric. A run's place is a range: from one
more than the runs that are certainly better to the number of runs less those that are certainly worse.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from primum.core.records import JsonDict
from primum.core.stats.multiple import holm
from primum.evaluation.estimates import finite
from primum.evaluation.estimates import interval as estimated
from primum.evaluation.items import Metric
from primum.evaluation.tables import Table
from primum.evaluation.versus import Settings, join, matched, test

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Place:
    """One run by one metric: its value, and the best and the worst place that the data leave it."""

    run: str
    value: float
    low: float | None
    high: float | None
    n: int
    left_out: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """All runs by one metric, the best value first. `apart` counts pairs of runs without ten items in common."""

    benchmark: str
    metric: str
    about: str
    direction: str
    unit: str
    places: tuple[Place, ...]
    missing: tuple[str, ...]
    apart: int


ASKED = (
    "system", "sampling", "unused", "seed", "engine", "judge_revision", "scorer", "readers", "source", "limit", "tool",
)  # fmt: skip
"""What is shown of how a run was asked and measured; a run says of these what its tables' facts hold."""


def asked(runs: Mapping[str, Sequence[Table]]) -> dict[str, dict[str, JsonDict]]:
    """Return, by benchmark and run, how it was asked and by what it was measured, as far as the run says so."""
    found: dict[str, dict[str, JsonDict]] = {}
    for run, tables in runs.items():
        for table in tables:
            told = {name: table.facts[name] for name in ASKED if name in table.facts}
            found.setdefault(table.name, {})[run] = {"judge": table.judge, **told}
    return found


LEAST_COMMON = 10


class _Pair(NamedTuple):
    better: str
    worse: str
    p: float


def rankings(runs: Mapping[str, Sequence[Table]], settings: Settings | None = None) -> list[Ranking]:
    """Rank runs by every primary metric that says which way is better, in order of first appearance."""
    settings = settings or Settings()
    asked: dict[tuple[str, str], Metric] = {}
    for tables in runs.values():
        for table in tables:
            for name, metric in table.metrics.items():
                if metric.primary and metric.direction != "neither":
                    asked.setdefault((table.name, name), metric)
    found = (_ranking(runs, benchmark, name, metric, settings) for (benchmark, name), metric in asked.items())
    return [one for one in found if one.places]


def _ranking(
    runs: Mapping[str, Sequence[Table]], benchmark: str, name: str, metric: Metric, settings: Settings
) -> Ranking:
    held = {run: table for run, tables in runs.items() for table in tables if table.name == benchmark}
    held = {run: table for run, table in held.items() if table.values(name).numbers}
    # so many flips that the least p, adjusted over all pairs of runs, can be certain
    settings = settings._replace(draws=max(settings.draws, math.ceil(len(held) * (len(held) - 1) / ALPHA)))
    pairs = [_pair(first, second, held, name, metric, settings) for first, second in combinations(held, 2)]
    known = [one for one in pairs if one is not None]
    adjusted = holm([one.p for one in known])
    certain = [one for one, p in zip(known, adjusted, strict=True) if p < ALPHA]
    lower = metric.direction == "lower_is_better"
    places = [_place(run, table, name, metric, certain, len(held)) for run, table in held.items()]
    return Ranking(
        benchmark, name, metric.about, metric.direction, metric.unit,
        tuple(sorted(places, key=lambda one: one.value if lower else -one.value)),
        tuple(run for run in runs if run not in held), len(pairs) - len(known),
    )  # fmt: skip


def _pair(
    first: str, second: str, held: Mapping[str, Table], name: str, metric: Metric, settings: Settings
) -> _Pair | None:
    """Compare two runs on the items that both have; None where there are too few."""
    pairs = join(matched(held[first], held[second]), name)
    if len(pairs.first) < LEAST_COMMON:
        return None
    tested = test(pairs, settings)
    rose = tested.interval.value > 0
    first_is_better = rose if metric.direction == "lower_is_better" else not rose
    return _Pair(first, second, tested.p) if first_is_better else _Pair(second, first, tested.p)


def _place(run: str, table: Table, name: str, metric: Metric, certain: Sequence[_Pair], among: int) -> Place:
    values = table.values(name)
    value, low, high = estimated(values, metric.unit)
    first = 1 + sum(one.worse == run for one in certain)
    last = among - sum(one.better == run for one in certain)
    left = sum(values.left_out.values())
    return Place(run, value, finite(low), finite(high), len(values.numbers), left, first, last)
