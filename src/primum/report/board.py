"""A leaderboard for people: a table for the terminal and one page."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from primum.core.records import digest
from primum.report import plots, words
from primum.report.plain import document_page

Document = Mapping[str, Any]


def board_text(document: Document) -> str:
    """Return every ranking in plain text."""
    width = max(len(words.clean(name)) for name in document["runs"])
    lines = [f"{words.clean(run)}: {', '.join(map(words.clean, said))}" for run, said in _sources(document).items()]
    for one in document["rankings"]:
        lines += ["", f"{_named(one)} ({words.BETTER[one['direction']]})"]
        lines += [
            f"  {place(row, one):>5}  {words.clean(row['run']):<{width}}  {_numbers(row, one)}" for row in one["places"]
        ]
        lines += [f"  {'?':>5}  {words.clean(run):<{width}}  not measured" for run in one["missing"]]
        if one["apart"]:
            lines.append(f"  {apart(one)}")
    for benchmark in dict.fromkeys(one["benchmark"] for one in document["rankings"]):
        lines += ["", f"{words.clean(benchmark)}: how the runs were asked", *_asked_lines(document, benchmark)]
        lines += [f"  {differ(document, benchmark)}"] if differ(document, benchmark) else []
    tail = "A place like 1–3 is all that the data tell: differences inside it may be chance. Brackets: 95% intervals."
    return words.wrapped([*lines[not lines[0] :], "", tail])


def _sources(document: Document) -> dict[str, list[str]]:
    """Return each run's model, where it names one, and the place that its numbers were read from."""
    return {run: [one for one in (document["models"][run], document["places"][run]) if one] for run in document["runs"]}


def _asked_lines(document: Document, benchmark: str) -> list[str]:
    """Return how each run was asked; runs that were asked alike have one line."""
    alike: dict[str, list[str]] = {}
    for run, facts in document["asked"][benchmark].items():
        alike.setdefault(asked(facts), []).append(words.clean(run))
    every = len(alike) == 1 and len(document["asked"][benchmark]) == len(document["runs"]) > 1
    return [f"  {'all runs' if every else ', '.join(runs)}: {said}" for said, runs in alike.items()]


NAMES = {"system": "system prompt", "judge_revision": "judge's revision", "source": "rows from", "unused": "not used"}
VERSION, QUOTED = 8, 60
"""Digits of a system prompt's version, and letters of it that are shown."""


def asked(facts: Mapping[str, Any]) -> str:
    """Say how one run was asked: what it does not say is left out, and so is what was left as it is."""
    parts = [f"{NAMES.get(name, name)} {_said(name, value)}" for name, value in facts.items()
             if name == "system" or value not in (None, "", {})]  # fmt: skip
    return "; ".join(parts)


def _said(name: str, value: Any) -> str:
    """Return a fact's value; of a system prompt its version (a hash of its text) and how it begins."""
    if value in (None, "", {}):
        return "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{NAMES.get(key, words.clean(key))} {_said(key, one)}" for key, one in value.items())
    if name == "system":
        return f'{digest(value, VERSION)} "{textwrap.shorten(words.clean(value), QUOTED, placeholder=" …")}"'
    return words.clean(value)


def differ(document: Document, benchmark: str) -> str:
    """Say in what else the runs of a benchmark differ, which may part them, too; "" where in nothing that they say."""
    found = document["differs"].get(benchmark) or {}
    said = [
        f"{NAMES.get(name, name)} " + " / ".join(f"{_said(name, value)} ({', '.join(map(words.clean, runs))})"
                                                 for value, runs in values)
        for name, values in found.items()
    ]  # fmt: skip
    return f"the runs also differ in: {'; '.join(said)}" if said else ""


def _named(one: Mapping[str, Any]) -> str:
    return f"{words.clean(one['benchmark'])}: {words.metric(one['metric']).label}"


def place(row: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    """Return the range of places: "1", or "1–3"; a run that was measured alone has none."""
    if len(one["places"]) < 2:
        return words.NONE
    return str(row["first"]) if row["first"] == row["last"] else f"{row['first']}–{row['last']}"


def apart(one: Mapping[str, Any]) -> str:
    """Say how many pairs of runs could not be compared."""
    many = one["apart"]
    return f"{many:,} {'pair of runs shares' if many == 1 else 'pairs of runs share'} too few items to be compared"


def _numbers(row: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    limits = words.interval(row["low"], row["high"], one["unit"])
    left = f", {row['left_out']:,} unscored" if row["left_out"] else ""
    return f"{words.number(row['value'], one['unit']):>8}  [{limits}]  n {row['n']:,}{left}"


def board_page(document: Document) -> str:
    """Return the leaderboard as one self-contained page."""
    shown = [
        {**one, "title": _named(one), "better": words.BETTER[one["direction"]], "apart": one["apart"] and apart(one),
         "differ": differ(document, one["benchmark"]), **_bands(one, document["asked"][one["benchmark"]])}
        for one in document["rankings"]
    ]  # fmt: skip
    return document_page("leaderboard.html", "Leaderboard", {**document, "named": _sources(document), "shown": shown})


def _bands(one: Mapping[str, Any], told: Mapping[str, Any]) -> dict[str, Any]:
    bounds = plots.scale(one["places"], one["unit"])
    rows = [
        {
            **row,
            "place": place(row, one),
            "asked": asked(told[row["run"]]),
            "svg": plots.strip(None, row, bounds, one["unit"], words.clean(row["run"])),
        }
        for row in one["places"]
    ]
    return {"rows": rows, "low": words.number(bounds.low, one["unit"]), "high": words.number(bounds.high, one["unit"])}
