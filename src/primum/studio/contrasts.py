"""Two runs side by side: what differs on the same items, with a paired interval, and in which settings they differ.

The arithmetic is evaluation's own: `versus` for what `primum evaluate` measured, `compare` for the prompts of two
`primum repair` runs, as they answered in the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from primum.core.errors import BadInputError
from primum.core.records import JsonDict, Prompt, Reply, Verdict, from_json
from primum.core.stats.multiple import holm
from primum.core.store import read_json
from primum.evaluation import versus
from primum.evaluation.compare import compare
from primum.evaluation.metrics import Scored
from primum.evaluation.tables import RESULTS, read_tables
from primum.studio.reported import PAGES
from primum.studio.runs import step_rows

DRAWS = 2000
"""Draws of a bootstrap, where one is needed: somebody waits for the page."""
_OWN = ("out", "folder", "page")
"""Settings in which every two runs differ."""


class Moved(NamedTuple):
    """One metric of two runs on the same items; `difference` with its limits is second - first, `p` is Holm's."""

    what: str
    judge: str
    first: float
    second: float
    difference: float
    low: float | None
    high: float | None
    p: float | None
    n: int
    left_out: int
    unit: str
    better: str


def moved(first: Path, second: Path) -> list[Moved]:
    """Return what can be paired: nothing where the runs are of other kinds, or have no item in common.

    Raises:
        UsageError, BadInputError: a run's files are broken.
    """
    if (first / RESULTS).is_file() and (second / RESULTS).is_file():
        return _measured(first, second)
    return _answered(first, second)


def _measured(first: Path, second: Path) -> list[Moved]:
    settings = versus.Settings(draws=DRAWS)
    others = {table.name: table for table in read_tables(second)}
    tables = [(table, others[table.name]) for table in read_tables(first) if table.name in others]
    sides = [(table, other, versus.matched(table, other)) for table, other in tables]
    changes = [
        versus.change(table.name, name, metric, "all", versus.join(both, name), settings)
        for table, other, both in sides
        for name, metric in table.metrics.items() if name in other.metrics
    ]  # fmt: skip
    judges = {name: table.judge for name, table in others.items()}
    return [
        Moved(f"{one.benchmark}: {one.metric.replace('_', ' ')}", judges[one.benchmark], one.a, one.b, one.difference,
              one.low, one.high, one.p_holm, one.n, sum(one.left_out.values()), one.unit, _better(one.direction))
        for one in versus.adjusted(changes)
        if one.a is not None and one.b is not None and one.difference is not None
    ]  # fmt: skip


def _answered(first: Path, second: Path) -> list[Moved]:
    sides = [_by_judge(folder) for folder in (first, second)]
    found = [
        (judge, one)
        for judge in sides[0] if judge in sides[1]
        for one in compare(sides[0][judge], sides[1][judge]) if one.slice == "all" and one.n
    ]  # fmt: skip
    adjusted = holm([one.p if one.p is not None else 1.0 for _, one in found])
    return [
        Moved(one.metric, judge, one.before, one.after, one.difference, one.low, one.high, p, one.n,
              sum(one.left_out.values()), "share", _better(one.direction))
        for (judge, one), p in zip(found, adjusted, strict=True)
        if one.before is not None and one.after is not None and one.difference is not None
    ]  # fmt: skip


def _better(direction: str) -> str:
    return {"lower_is_better": "lower is better", "higher_is_better": "higher is better"}.get(direction, "")


def _by_judge(folder: Path) -> dict[str, list[Scored]]:
    """Return what each judge said of a repair run's last replies; nothing where the run has none."""
    steps = folder / "steps"
    held = sorted(one.name for one in steps.iterdir()) if steps.is_dir() else []
    replies = next((name for name in held if name.endswith("-replies-after")), None)
    if replies is None or "01-prompts" not in held:
        return {}
    try:
        prompts = {row["id"]: from_json(Prompt, row) for row in step_rows(steps / "01-prompts")}
        said = {row["id"]: from_json(Reply, row) for row in step_rows(steps / replies)}
        return {
            name.partition("-by-")[2]: [
                Scored(prompts[said[row["reply_id"]].prompt_id], said[row["reply_id"]], from_json(Verdict, row))
                for row in step_rows(steps / name)
            ]
            for name in held if "-judge-after-by-" in name
        }  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        cure = "run it again, or compare others"
        raise BadInputError(f"the run's steps cannot be read ({error})"[:300], where=folder.name, cure=cure) from error


# ---------------------------------------------------------------- settings


class Setting(NamedTuple):
    """One setting in which two runs differ; empty where a run has none of that name."""

    name: str
    first: str
    second: str


def settings(folder: Path) -> dict[str, str]:
    """Return a run's settings, each by its whole name, with its model and seed; empty where it left none."""
    facts: JsonDict = {}
    for name in (*PAGES, "settings.json"):
        held = _json(folder / name)
        facts = {**(held if name == "settings.json" else held.get("settings") or {}), **facts}
        for key in ("model", "seed", "budget", "primum"):
            if key not in facts and held.get(key) is not None:
                facts[key] = held[key]
    return {name: value for name, value in _flat(facts, "") if name not in _OWN}


def _json(path: Path) -> JsonDict:
    try:
        found = read_json(path)
    except (OSError, BadInputError):
        return {}
    return found if isinstance(found, dict) else {}


def _flat(values: Mapping[str, Any], before: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict) and value:
            found += _flat(value, f"{before}{key}.")
        else:
            found.append((f"{before}{key}", value if isinstance(value, str) else json.dumps(value)))
    return found


def differing(first: Mapping[str, str], second: Mapping[str, str]) -> list[Setting]:
    """Return the settings that differ, in the order of their names."""
    names = sorted({*first, *second})
    return [
        Setting(name, first.get(name, ""), second.get(name, ""))
        for name in names
        if first.get(name) != second.get(name)
    ]
