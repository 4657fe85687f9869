"""One benchmark's results on one model, an item a row: what is stored, read from other tools, compared and gated."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, cast

from primum.core.errors import BadInputError, UsageError, did_you_mean
from primum.core.records import JsonDict, from_json, to_json
from primum.core.store import read_json, read_jsonl, write_jsonl
from primum.evaluation.items import Metric
from primum.prompts.files import csv_rows

RESULTS = "results.json"
FORMAT = 1
LIKELIHOOD = "likelihood"
"""What a table's facts say of the sampling where nothing was drawn."""


@dataclass(frozen=True, slots=True)
class ScoredItem:
    """What one item scored. `scores` has a number a metric, `unscored` the reason where there is none.

    `prompt_cut` counts the tokens at the prompt's beginning that the model's window had no room for.
    """

    item: str
    cluster: str
    scores: Mapping[str, float]
    unscored: Mapping[str, str] = field(default_factory=dict[str, str])
    groups: tuple[str, ...] = ()
    prompt: str = ""
    reply: str = ""
    label: str = ""
    finish: str = ""
    tokens: int = 0
    prompt_cut: int = 0

    def __post_init__(self) -> None:
        both = set(self.scores) & set(self.unscored)
        if both:
            raise ValueError(f"a metric is a number or unscored, not both: {sorted(both)}")


@dataclass(frozen=True, slots=True)
class Table:
    """A benchmark by a judge on a model; rows in the benchmark's order.

    `labels` holds what people said: metric -> item -> value.
    """

    benchmark: str
    judge: str
    metrics: Mapping[str, Metric]
    rows: tuple[ScoredItem, ...]
    facts: JsonDict = field(default_factory=dict[str, Any])
    labels: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])

    @property
    def name(self) -> str:
        """The benchmark, with the judge where that is not the benchmark's own."""
        own = self.facts.get("own_judge", self.judge)
        return self.benchmark if own == self.judge else f"{self.benchmark}@{self.judge}"

    def values(self, metric: str, part: str = "all") -> Values:
        """Return a metric's numbers with their clusters, and how many items were left out and why."""
        chosen = [row for row in self.rows if part == "all" or part in row.groups]
        kept = [row for row in chosen if metric in row.scores]
        left_out = Counter(row.unscored[metric] for row in chosen if metric in row.unscored)
        numbers, clusters = [row.scores[metric] for row in kept], [row.cluster or row.item for row in kept]
        return Values(numbers, clusters, dict(sorted(left_out.items())))

    @property
    def slices(self) -> list[str]:
        """Every group that a row names, sorted."""
        return sorted({group for row in self.rows for group in row.groups})


@dataclass(frozen=True, slots=True)
class Values:
    """Numbers, the cluster of each, and the count of items left out by reason."""

    numbers: list[float]
    clusters: list[str]
    left_out: dict[str, int]

    @property
    def binary(self) -> bool:
        """Whether every number is 0 or 1."""
        return all(number in (0.0, 1.0) for number in self.numbers)


def model_of(tables: Sequence[Table]) -> str:
    """Return the model that a run speaks of, without the hash of its weights; "" where the run does not say it."""
    told = (str(table.facts.get("model") or "").partition("@")[0] for table in tables)
    return ", ".join(dict.fromkeys(name for name in told if name))


def write_table(folder: Path, table: Table) -> None:
    """Write a table's rows into a run folder."""
    write_jsonl(folder / f"{table.name}.jsonl", (to_json(row) for row in table.rows))


def table_facts(table: Table) -> JsonDict:
    """Return all of a table but its rows."""
    metrics = {name: to_json(metric) for name, metric in table.metrics.items()}
    return {
        "benchmark": table.benchmark, "judge": table.judge, "metrics": metrics, "rows": f"items/{table.name}.jsonl",
        "n": len(table.rows), "prompts_cut": sum(row.prompt_cut > 0 for row in table.rows), "facts": table.facts,
    }  # fmt: skip


def read_tables(folder: Path) -> list[Table]:
    """Read every table of a folder that `primum evaluate` wrote.

    Raises:
        UsageError: no such folder, or no finished evaluation.
        BadInputError: a broken file; names it and the line.
    """
    path = folder / RESULTS
    if not path.is_file():
        problem = f"no {RESULTS} in this folder" if folder.is_dir() else "no such folder"
        cure = "name a folder that `primum evaluate --out` wrote (after it has ended), or a log of another tool"
        raise UsageError(problem, where=str(folder), cure=cure)
    try:
        document = read_json(path, "run it again")
        tables = list(cast(list[JsonDict], document["tables"]))
    except (KeyError, TypeError) as error:
        raise BadInputError(
            f"not results of primum evaluate ({error})", where=str(path), cure="run it again"
        ) from error
    labels = read_labels(folder)
    found = [_table(folder, facts, path) for facts in tables]
    _check_labels(labels, found, str(folder / LABELS))
    return [replace(table, labels=labels.get(table.benchmark, {})) for table in found]


def _check_labels(labels: Labels, tables: Sequence[Table], where: str) -> None:
    """Refuse labels that would be passed over: of no metric of this run, or outside what the metric can be."""
    metrics = {(table.benchmark, name): metric for table in tables for name, metric in table.metrics.items()}
    for benchmark, by_metric in labels.items():
        for name, values in by_metric.items():
            metric = metrics.get((benchmark, name))
            if metric is None:
                cure = did_you_mean(f"{benchmark},{name}", [",".join(one) for one in metrics])
                raise BadInputError(f"the run has no metric '{benchmark},{name}'", where=where, cure=cure)
            wrong = next((value for value in values.values() if not 0 <= value <= 1), None)
            if metric.unit == "share" and wrong is not None:
                problem = f"'{benchmark},{name}' is a share, and {wrong:g} is none"
                raise BadInputError(problem, where=where, cure="give numbers from 0 to 1")


def _table(folder: Path, facts: JsonDict, path: Path) -> Table:
    try:
        metrics = {name: from_json(Metric, row) for name, row in facts["metrics"].items()}
        inside = (folder / str(facts["rows"])).resolve()
        if not inside.is_relative_to(folder.resolve()):
            raise BadInputError("rows lie outside the folder", where=str(path), cure="use the folder as it was written")
        return Table(facts["benchmark"], facts["judge"], metrics, tuple(_rows(inside)), facts.get("facts") or {})
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"not results of primum evaluate ({error})", where=str(path), cure="run it again"
        ) from error


LABELS = "labels.csv"
"""What people said of a run's replies: benchmark,item,metric,value (further columns are passed over)."""


Labels = dict[str, dict[str, dict[str, float]]]
"""Benchmark -> metric -> item -> value."""


def read_labels(folder: Path) -> Labels:
    """Read people's labels; rows without a value are not labelled yet, several of one item count by their mean.

    Raises:
        BadInputError: a missing column, or a value that is no finite number; names file and line.
    """
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    path = folder / LABELS
    for row in csv_rows(path) if path.is_file() else ():
        try:
            benchmark, item, metric, value = (
                row.values[key].strip() for key in ("benchmark", "item", "metric", "value")
            )
            if value:
                number = float(value)
                if not math.isfinite(number):
                    raise ValueError(f"'{value}' is no finite number")
                found.setdefault(benchmark, {}).setdefault(metric, {}).setdefault(item, []).append(number)
        except (KeyError, ValueError) as error:
            cure = "columns benchmark,item,metric,value; a value is a number, or empty where nobody has looked"
            raise BadInputError(f"not a label ({error})", where=row.where, cure=cure) from error
    return {
        benchmark: {metric: {item: fmean(said) for item, said in items.items()} for metric, items in metrics.items()}
        for benchmark, metrics in found.items()
    }


def _rows(path: Path) -> Iterator[ScoredItem]:
    seen: set[str] = set()
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        try:
            one = from_json(ScoredItem, row)
        except (TypeError, ValueError) as error:
            raise BadInputError(
                f"not a scored item ({error})", where=where, cure="run primum evaluate again"
            ) from error
        wrong = next((name for name, value in one.scores.items() if not _is_number(value)), None)
        if wrong is not None:
            problem = f"the score of '{wrong}' is no finite number"
            raise BadInputError(
                problem, where=where, cure="what has no number stands under 'unscored', with its reason"
            )
        if one.item in seen:
            raise BadInputError(f"item {one.item} is there twice", where=where, cure="one row an item")
        seen.add(one.item)
        yield one


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def unique(rows: Sequence[ScoredItem]) -> tuple[ScoredItem, ...]:
    """Return rows with an id each: a repeated one (another epoch, another attempt) is numbered."""
    seen: Counter[str] = Counter()
    named: list[ScoredItem] = []
    for row in rows:
        seen[row.item] += 1
        again = seen[row.item]
        named.append(row if again == 1 else _renamed(row, f"{row.item}#{again}"))
    return tuple(named)


def _renamed(row: ScoredItem, item: str) -> ScoredItem:
    return replace(row, item=item, cluster=row.cluster or row.item)
