"""A leaderboard for people: a table for the terminal and one page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from primum.report import plots, words
from primum.report.plain import document_page

Document = Mapping[str, Any]
BETTER = {"lower_is_better": "lower is better", "higher_is_better": "higher is better"}


def board_text(document: Document) -> str:
    """Return every ranking in plain text."""
    width = max(len(words.clean(name)) for name in document["runs"])
    lines: list[str] = []
    for one in document["rankings"]:
        name = f"{words.clean(one['benchmark'])} {words.clean(one['metric'])}"
        lines += ["", f"{name} ({BETTER[one['direction']]})"]
        lines += [
            f"  {place(row):>5}  {words.clean(row['run']):<{width}}  {_numbers(row, one)}" for row in one["places"]
        ]
        lines += [f"  {'?':>5}  {words.clean(run):<{width}}  not measured" for run in one["missing"]]
        if one["apart"]:
            lines.append(f"  {one['apart']} pairs of runs share too few items to be compared")
    return "\n".join(
        [*lines[1:], "", "A place like 1-3 is all that the data tell: differences inside it may be chance."]
    )


def place(row: Mapping[str, Any]) -> str:
    """Return the range of places: "1", or "1-3"."""
    return str(row["first"]) if row["first"] == row["last"] else f"{row['first']}-{row['last']}"


def _numbers(row: Mapping[str, Any], one: Mapping[str, Any]) -> str:
    limits = words.interval(row["low"], row["high"], one["unit"])
    left = f", {row['left_out']:,} unscored" if row["left_out"] else ""
    return f"{words.number(row['value'], one['unit']):>8}  [{limits}]  n {row['n']:,}{left}"


def board_page(document: Document) -> str:
    """Return the leaderboard as one self-contained page."""
    shown = [{**one, "better": BETTER[one["direction"]], **_bands(one)} for one in document["rankings"]]
    return document_page("leaderboard.html", "Leaderboard", {**document, "shown": shown})


def _bands(one: Mapping[str, Any]) -> dict[str, Any]:
    bounds = plots.scale(one["places"], one["unit"])
    rows = [
        {**row, "place": place(row), "svg": plots.strip(None, row, bounds, one["unit"], words.clean(row["run"]))}
        for row in one["places"]
    ]
    return {"rows": rows, "low": words.number(bounds.low, one["unit"]), "high": words.number(bounds.high, one["unit"])}
