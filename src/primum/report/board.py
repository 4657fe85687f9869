"""A leaderboard for people: a table for the terminal and one page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from primum.report import plots, words
from primum.report.plain import document_page

Document = Mapping[str, Any]


def board_text(document: Document) -> str:
    """Return every ranking in plain text."""
    width = max(len(words.clean(name)) for name in document["runs"])
    lines = [f"{words.clean(run)}: {words.clean(model)}" for run, model in _models(document).items()]
    for one in document["rankings"]:
        lines += ["", f"{_named(one)} ({words.BETTER[one['direction']]})"]
        lines += [
            f"  {place(row, one):>5}  {words.clean(row['run']):<{width}}  {_numbers(row, one)}" for row in one["places"]
        ]
        lines += [f"  {'?':>5}  {words.clean(run):<{width}}  not measured" for run in one["missing"]]
        if one["apart"]:
            lines.append(f"  {apart(one)}")
    tail = "A place like 1–3 is all that the data tell: differences inside it may be chance. Brackets: 95% intervals."
    return words.wrapped([*lines[not lines[0] :], "", tail])


def _models(document: Document) -> dict[str, str]:
    """Return the model of each run that names one."""
    return {run: model for run, model in (document.get("models") or {}).items() if model}


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
         **_bands(one)}
        for one in document["rankings"]
    ]  # fmt: skip
    return document_page("leaderboard.html", "Leaderboard", {**document, "named": _models(document), "shown": shown})


def _bands(one: Mapping[str, Any]) -> dict[str, Any]:
    bounds = plots.scale(one["places"], one["unit"])
    rows = [
        {**row, "place": place(row, one), "svg": plots.strip(None, row, bounds, one["unit"], words.clean(row["run"]))}
        for row in one["places"]
    ]
    return {"rows": rows, "low": words.number(bounds.low, one["unit"]), "high": words.number(bounds.high, one["unit"])}
