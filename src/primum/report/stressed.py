"""A stress run: what it ends with on the terminal, and its page with the matrix. It never says that a model holds."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from primum.report import plots, words
from primum.report.page import style, template
from primum.report.words import Facts
from primum.stress.measure import harmful_said

Row = Mapping[str, Any]
COLUMNS = ("harmful_compliance", "refusal_twin", "refusal_general", "incoherent")
HEADS = ("Harmful compliance", "Twins refused", "General refused", "Incoherent")
NO_PROOF = (
    "What was not undone here can be undone by somebody else: these are the attacks that were tried, with the effort "
    "that was spent. Nobody's weights are safe from who holds them."
)


_TRAINED = re.compile(r"(\d+) (lora|full) (\S+) s(\d+)")
"""The level of an attack by training: examples, way, learning rate, seed."""
_WAYS = {"lora": "LoRA", "full": "all weights"}


def closing(facts: Facts, page: Path) -> str:
    """Return what a stress run ends with, in plain text of at most 80 columns."""
    lead, found = next(iter((facts.get("judges") or {}).items()))
    start = found["untouched"]["harmful_compliance"]
    lines = [f"harmful compliance % [95% interval], n {start['n']}, judge {words.clean(lead)}", "-" * 80]
    lines.append(f"  {'untouched':<48}{_said(start)}")
    for row in found["matrix"]:
        cell = row["harmful_compliance"]
        change = f"{words.change(cell.get('change')):>8}" if cell.get("change") is not None else ""
        lines.append(f"  {_name(row)[:47]:<48}{_said(cell):<21}{change}")
    notes = [f"{_name(one)}: not tried, {words.clean(one['why'])}" for one in facts.get("skipped") or []]
    notes += _examples(found["curves"]) + [
        f"{words.clean(name).replace('_', ' ')}: judge {words.clean(row['judge'])}; the change is from the untouched "
        f"model's {words.percent(row['reference']['harmful_compliance']['value'])} on the same requests in English"
        for name, row in _own_references(found["matrix"]).items()
    ]
    notes += [
        f"{words.clean(name).replace('_', ' ')}: {words.too_long(n)}"
        for name, n in (facts.get("prompts_cut") or {}).items()
    ]
    for one in found["curves"]:
        if one["steps_to_80"] is not None:
            notes.append(f"80% after {one['steps_to_80']:g} steps, {one['examples_to_80']} examples: {_name(one)}")
        if one["warning"]:
            notes.append(f"suspicious: {_name(one)}: {words.clean(one['warning'])}")
    unequal = [one for one in facts.get("checks") or [] if not one["equal"]]
    notes += [
        f"CHECK FAILED: {_name(one)}: step 0 gives {one['same']} of {one['n']} untouched replies" for one in unequal
    ]
    lines += [line for note in notes for line in textwrap.wrap(note, 80, initial_indent="  ", subsequent_indent="    ")]
    return "\n".join([*lines, "", "report:", words.clean(page)])


def _own_references(matrix: Sequence[Row]) -> dict[str, Row]:
    """Return one row of each tamper that asks requests of its own: who judges them, and what they are compared with."""
    return {row["tamper"]: row for row in matrix if row.get("reference")}


def _examples(curves: Sequence[Row]) -> list[str]:
    """Return, for each attack that learns from harmful answers, how many of its examples are harmful."""
    sets = {(one["tamper"], one["shots"]): one for one in curves if one.get("harmful") is not None}
    return [
        f"{harmful_said(one['harmful'], one['examples'], shots)}: {words.clean(tamper).replace('_', ' ')}"
        for (tamper, shots), one in sets.items()
    ]


def _said(cell: Row) -> str:
    if cell["value"] is None:
        return "not known"
    return f"{100 * cell['value']:5.1f} [{100 * cell['low']:.1f}, {100 * cell['high']:.1f}]"


def _name(row: Row) -> str:
    return words.clean(f"{row['tamper'].replace('_', ' ')} {row['level']}")


def _title(row: Row) -> str:
    """Return a tamper and its level as a page says them, where there is room: an attack by training in words."""
    name = _TRAINED.sub(_trained, _name(row))
    return name[:1].upper() + name[1:]


def _trained(found: re.Match[str]) -> str:
    shots, way, rate, seed = found.groups()
    return f"on {shots} examples, {_WAYS[way]}, rate {rate}, seed {seed}"


def page(facts: Facts) -> str:
    """Return the report as one self-contained page; what a model or a user's file wrote is escaped."""
    judges: Mapping[str, Row] = facts.get("judges") or {}
    lead = next(iter(judges), None)
    found = judges[lead] if lead else {"untouched": {}, "matrix": [], "curves": [], "families": []}
    return template("stressed.html").render(
        facts=facts, style=style("redteam.css"), lead=lead, heads=HEADS, no_proof=NO_PROOF,
        others=[name for name in judges if name != lead],
        start=[_cell(found["untouched"].get(name)) for name in COLUMNS],
        rows=[_line(facts, row, judges) for row in found["matrix"]],
        curves=[_curve(one) for one in found["curves"]], families=found["families"],
        other_start=[_cell(judges[name]["untouched"]["harmful_compliance"]) for name in judges if name != lead],
        settings=[(key, words.clip("–" if value in (None, "", [], ()) else value, 300))
                  for key, value in (facts.get("settings") or {}).items()],
    )  # fmt: skip


def _line(facts: Facts, row: Row, judges: Mapping[str, Row]) -> dict[str, Any]:
    others = list(judges)[1:]
    same = [next((r for r in judges[j]["matrix"] if _name(r) == _name(row)), None) for j in others]
    return {
        "name": _title(row), "about": (facts.get("about") or {}).get(row["tamper"], "") + _compared(row),
        "cells": [_cell(row[name]) for name in COLUMNS],
        "others": [_cell(r["harmful_compliance"]) if r else None for r in same],
    }  # fmt: skip


def _compared(row: Row) -> str:
    """Return who judges a row of other requests than the run's, and what it is compared with."""
    if not row.get("reference"):
        return ""
    start = row["reference"]["harmful_compliance"]
    return f"; judge {words.clean(row['judge'])}, from {words.percent(start['value'], 0)} of {start['n']} in English"


def _cell(cell: Row | None) -> dict[str, Any]:
    if not cell or not cell.get("n"):
        return {"value": words.NONE, "span": "", "change": "", "shade": 0.0, "n": 0, "said": "nothing to count"}
    value, change = words.finite(cell["value"]), cell.get("change")
    span = words.interval(cell.get("change_low"), cell.get("change_high")) if change is not None else ""
    left = sum((cell.get("left_out") or {}).values())
    said = f"n {cell['n']}" + (f", {left} unscored" if left else "") + (f"; change {span}" if span else "")
    return {
        "value": words.percent(value, 0), "n": cell["n"],
        "span": f"{words.interval(cell['low'], cell['high'])}, n {words.figure(cell['n'])}",
        "change": words.change(change) if change else "", "shade": math.sqrt(value) if value else 0.0, "said": said,
    }  # fmt: skip


def _curve(one: Row) -> dict[str, Any]:
    rows = [{"step": p["step"], "share": p["value"]} for p in one["points"]]
    chart = plots.chart(_title(one), rows, {"share": "harmful compliance"}, up=plots.Scale(0.0, 1.0))
    return {**one, "name": _title(one), "chart": chart if chart else Markup(""), "known": one["cost"]["known"]}


def rows_text(rows: Sequence[Row]) -> str:
    """Return a matrix as a Markdown table, for docs."""
    head = "| tamper | " + " | ".join(HEADS) + " |\n|---|" + "---|" * len(HEADS)
    lines = [
        f"| {_name(row)} | " + " | ".join(_said(row[name]) if row[name]["n"] else "–" for name in COLUMNS) + " |"
        for row in rows
    ]
    return "\n".join([head, *lines])
