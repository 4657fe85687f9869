"""`primum evaluate MODEL --against OTHER`: both on the same items, until it is certain which is better.

OTHER is a run that was kept (a folder of primum evaluate, or a log of another tool), or a model, which is asked as
MODEL is. Replies are drawn and judged a part at a time, each part a step of the run's folder: a run that was stopped
goes on where it was, and comes to the same end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from primum.core.errors import UsageError, did_you_mean
from primum.core.records import JsonDict
from primum.evaluation.early import Answers, Race, Rule, run_race
from primum.evaluation.items import Benchmark, Item
from primum.evaluation.logs import read_run
from primum.evaluation.tables import RESULTS, Table
from primum.evaluation.versus import differences
from primum.judging.options import ChosenJudge
from primum.pipeline.benchmark import Ask, measure, picked
from primum.pipeline.models import Models
from primum.pipeline.steps import Journey
from primum.report import words

FOLDER = "against"
"""The folder in a run's that holds the other model's results."""


@dataclass
class Other:
    """What is compared with: a run's tables, or a model that answers in a folder of its own."""

    name: str
    stored: Sequence[Table] = ()
    models: Models | None = None
    journey: Journey | None = None
    tables: list[Table] = field(default_factory=list[Table])


class Asked(NamedTuple):
    """A benchmark, how it is asked, and who reads the replies (nobody, where it is not judged)."""

    benchmark: Benchmark
    ask: Ask
    judges: Sequence[ChosenJudge]

    @property
    def table(self) -> str:
        """The name of the table that decides."""
        own = not self.judges or self.judges[0].id == self.benchmark.judge
        return self.benchmark.name if own else f"{self.benchmark.name}@{self.judges[0].id}"


def other_of(name: str, journey: Journey, open_model: Callable[[Journey], Models]) -> Other:
    """Return what a user named: a run that was kept, else a model.

    Raises:
        UsageError: a file or folder of a kind that nobody here reads.
        BadInputError: a broken log.
    """
    path = Path(name)
    if path.exists() and path.resolve() == journey.folder.resolve():
        raise UsageError("the earlier run and this one share a folder", where=name, cure="give another --out")
    if (path / RESULTS).is_file() or (path.is_file() and path.suffix != ".gguf"):
        return Other(name, stored=read_run(path))
    apart = Journey(journey.folder / FOLDER, journey.terminal)
    return Other(name, models=open_model(apart), journey=apart)


def check(asked: Sequence[Asked], rule: Rule, other: Other) -> None:
    """Find out before anything is drawn whether each benchmark can be decided.

    Raises:
        UsageError: no such metric, or the run that was kept has no such table or none of these items.
    """
    for one in asked:
        metric = rule.decides(one.benchmark)
        if other.models is None:
            table = _stored(other, one)
            if metric not in table.metrics:
                cure = did_you_mean(metric, table.metrics)
                raise UsageError(f"{table.name} has no metric '{metric}'", where=other.name, cure=cure)
            if not _shared(one, table):
                cure = "measure both on the same rows (--data, --limit)"
                raise UsageError(f"{table.name} holds none of these items", where=other.name, cure=cure)


def _stored(other: Other, one: Asked) -> Table:
    found = {table.name: table for table in other.stored}
    if one.table not in found:
        cure = did_you_mean(one.table, found)
        raise UsageError(f"the run has no table '{one.table}'", where=other.name, cure=cure)
    return found[one.table]


def _shared(one: Asked, table: Table) -> list[Item]:
    known = {row.item for row in table.rows}
    return [item for item in picked(one.benchmark, one.ask).items if item.id in known]


class Raced(NamedTuple):
    """One benchmark's outcome, and the new model's tables of the items that were used."""

    outcome: JsonDict
    tables: list[Table]


def race(journey: Journey, one: Asked, rule: Rule, models: Models, other: Other) -> Raced:
    """Ask one benchmark of both until it is decided."""
    items, repeated = picked(one.benchmark, one.ask)
    missing = 0
    if other.models is None or other.journey is None:
        table = _stored(other, one)
        shared = _shared(one, table)
        missing, items = len(items) - len(shared), shared
        old: Answers = partial(_rows_of, table)
    else:
        old = partial(_answers, other.journey, one, other.models)
    metric = rule.decides(one.benchmark)
    run = Race(metric, one.benchmark.metrics[metric], rule, len(items))
    told = partial(_tell, journey, one.benchmark.name)
    before, after = run_race(run, items, old, partial(_answers, journey, one, models), told)
    facts = {"limit": one.ask.limit, "repeated": repeated, "stopped": {"used": run.used, "of": run.of}}
    tables = joined(after, one.benchmark.name, facts)
    theirs = joined(before, one.benchmark.name, facts)
    if other.models is not None:
        other.tables += theirs
    judge = one.judges[0].id if one.judges else one.benchmark.judge
    outcome = run.facts(one.benchmark.name, judge)
    outcome |= {"missing": missing, "differs": differences(theirs[:1], tables[:1])}
    return Raced({**outcome, "text": " ".join(_lines(outcome))}, tables)


def _answers(journey: Journey, one: Asked, models: Models, number: int, part: Sequence[Item]) -> list[Table]:
    """Return a model's answers to one part of the items, each part a step of its own."""
    name = f"{one.benchmark.name}-part-{number:03d}"
    piece = replace(one.benchmark, name=name, items=lambda _: iter(part), per_group=None)
    ask = replace(one.ask, limit=None, per_group=None)
    return measure(journey, piece, ask, models.subject(one.benchmark.by_likelihood), one.judges)


def _rows_of(table: Table, number: int, part: Sequence[Item]) -> list[Table]:
    wanted = {item.id for item in part}
    return [replace(table, rows=tuple(row for row in table.rows if row.item in wanted))]


def joined(parts: Sequence[Sequence[Table]], benchmark: str, facts: JsonDict) -> list[Table]:
    """Return the tables of all parts as one for each judge."""
    return [
        replace(
            own[0], benchmark=benchmark, rows=tuple(chain(*(one.rows for one in own))), facts={**own[0].facts, **facts}
        )
        for own in zip(*parts, strict=True)
    ]


def _tell(journey: Journey, name: str, run: Race) -> None:
    journey.terminal.note(f"  {name}: {run.used:,} of {run.of:,} items, {_change(run.looks[-1], run.about.unit)}")


def _change(row: JsonDict, unit: str) -> str:
    return "none scored on both sides" if row["difference"] is None else words.difference(row, unit)


def said(name: str, outcomes: Sequence[JsonDict]) -> str:
    """Return what a comparison ends with, in plain text."""
    head = f"against {words.clean(name)} (new minus old; limits that hold at every look)"
    lines = [(" " * 2 * bool(i)) + line for one in outcomes for i, line in enumerate(_lines(one))]
    return words.wrapped(["", head, *lines])


def _lines(one: JsonDict) -> list[str]:
    lines = [f"{words.clean(one['benchmark'])}: {words.metric(one['metric']).label}: {verdict(one)}."]
    lines.append(f"{_change(one, one['unit'])}; {_used(one)}.")
    left = {**one["left_out"], "not in the run that was kept": one["missing"]}
    lost = ", ".join(f"{n:,} {words.clean(why)}" for why, n in left.items() if n)
    lines += [f"Left out: {lost}."] if lost else []
    return lines + ([f"They also differ in: {words.clean('; '.join(one['differs']))}."] if one["differs"] else [])


def _used(one: JsonDict) -> str:
    text = f"{one['used']:,} of {one['of']:,} items used"
    return f"{text}, {one['of'] - one['used']:,} never drawn" if one["stopped_early"] else text


def verdict(one: JsonDict) -> str:
    """Return a decision in words, with the margin where there is one."""
    if one["margin"] and one["decision"] in ("no worse", "worse"):
        size = words.amount(one["margin"], one["unit"])
        return f"worse by more than {size}" if one["decision"] == "worse" else f"worse by less than {size}, if at all"
    return str(one["decision"])
