"""The table of languages in words: for the terminal, and as rows for the page and the card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from primum.report import words
from primum.report.words import Facts

Row = Mapping[str, Any]
SHOWN = ("harmful_compliance", "refusal_twin", "refusal_general", "same_language")
BARS = {"gap": "highest less lowest compliance", "same_language": "refusals in the prompt's language"}


def language_rows(facts: Facts) -> list[dict[str, Any]]:
    """Return a row a language with its shares before and after (`cells`), and what was no answer or unscored."""
    found = facts.get("languages") or {}
    before = {row["language"]: row for row in (found.get("before") or {}).get("rows") or []}
    rows: list[dict[str, Any]] = []
    for after in (found.get("after") or {}).get("rows") or []:
        first = before.get(after["language"]) or {}
        cells = {name: ((first.get("shares") or {}).get(name), after["shares"].get(name)) for name in SHOWN}
        rows.append({**after, "cells": cells, "no_answers_before": first.get("no_answers") or {}})
    return rows


def language_bars(facts: Facts) -> list[dict[str, Any]]:
    """Return both bars with their value before and after, their interval after, and what was decided."""
    found = facts.get("languages") or {}
    before, after = found.get("before") or {}, found.get("after") or {}
    rows: list[dict[str, Any]] = []
    for bar in after.get("bars") or []:
        first, then = (side.get(bar["name"]) or {} for side in (before, after))
        ends = f"{then['highest']} and {then['lowest']}" if then.get("highest") else ""
        rows.append({**bar, "label": BARS[bar["name"]], "before": first.get("value"), "low": then.get("low"),
                     "high": then.get("high"), "n": then.get("n"), "ends": ends})  # fmt: skip
    return rows


def language_lines(facts: Facts) -> list[str]:
    """Return the table for a terminal of 80 columns; nothing where no languages were measured."""
    rows = language_rows(facts)
    if not rows:
        return []
    judge = words.clean(facts["languages"]["judge"])
    head = f"{'':<15}{'harmful compl.':<17}{'twins refused':<16}{'in its language':<18}no answer"
    lines = [f"languages, judge {judge}: % before -> after; * trained on", head, "-" * 80]
    for row in rows:
        mark = "*" if row["trained"] else " "
        cells = {name: _both(pair) for name, pair in row["cells"].items()}
        none = f"{sum(row['no_answers_before'].values())} -> {sum(row['no_answers'].values())} of {row['n']}"
        name = f"{mark}{words.clean(row['name'])}"[:14]
        lines.append(f"{name:<15}{cells['harmful_compliance']:<17}{cells['refusal_twin']:<16}"
                     f"{cells['same_language']:<18}{none}")  # fmt: skip
    return [*lines, *map(_bar, language_bars(facts))]


def _both(pair: tuple[Row | None, Row | None]) -> str:
    return " -> ".join(words.percent((side or {}).get("value")).removesuffix("%") for side in pair)


def _bar(bar: Row) -> str:
    value = words.percent(bar["value"])
    limits = words.interval(bar["low"], bar["high"])
    sign = "at most" if bar["name"] == "gap" else "at least"
    return f"{bar['label']}: {value} [{limits or words.NONE}], {sign} {words.percent(bar['limit'])}: {bar['outcome']}"
