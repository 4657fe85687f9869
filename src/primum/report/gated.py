"""A gate's verdict for people and machines: terminal, Markdown (GitHub's summary) and JUnit XML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from primum.evaluation.limits import BOUNDS
from primum.evaluation.regression import level, moved
from primum.report import words
from primum.report.compared import equal

Document = Mapping[str, Any]
MARKS = {"passed": "✓", "failed": "✕", "undecided": "?"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MOST_OPEN = 10
SAME = "The run is its own baseline: nothing can have become worse."


def gated_text(document: Document) -> str:
    """Return the verdict in a few lines: failures first, then what could not be settled."""
    lines = [f"{document['outcome'].upper()}: {_why(document)}", ""]
    for outcome in ("failed", "undecided", "passed"):
        rows = [row for row in document["checks"] if row["outcome"] == outcome]
        shown = rows if outcome == "failed" else [row for row in rows if row["asked_for"]]
        lines += [f"{MARKS[outcome]} {words.clean(row['text'])}" for row in shown]
        hidden = len(rows) - len(shown)
        if hidden:
            lines.append(
                f"{MARKS[outcome]} {_slices(hidden)} {outcome} (--json lists {'it' if hidden == 1 else 'them'})"
            )
    lines += ["", "Limits are one-sided, 95%."]
    lines += _warnings(document)
    lines += [f"baseline and run also differ in: {words.clean(one)}" for one in document.get("differs") or []]
    return words.wrapped(lines)


def _warnings(document: Document) -> list[str]:
    """Return why nothing can have become worse, in all or in a benchmark."""
    return [SAME] if document.get("same") else [equal(one) for one in document.get("equal") or []]


def _why(document: Document) -> str:
    return words.clean(document["text"]).removeprefix(f"{str(document['outcome']).capitalize()}: ")


def _slices(many: int) -> str:
    return f"{many:,} slice{'' if many == 1 else 's'}"


def gated_markdown(document: Document) -> str:
    """Return the verdict as Markdown; what a benchmark is called cannot break its table."""
    outcome = document["outcome"]
    lines = [
        f"## {MARKS[outcome]} Safety gate: {outcome}",
        "",
        _cell(document["text"]),
        "",
        "| | check | before → after | change | limits (95%, one-sided) | allowed | n |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    order = {"failed": 0, "undecided": 1, "passed": 2}
    rows = [row for row in document["checks"] if row["asked_for"] or row["outcome"] == "failed"]
    for row in sorted(rows, key=lambda one: order[one["outcome"]]):
        cells = " | ".join(_numbers(row))
        lines.append(f"| {MARKS[row['outcome']]} {row['outcome']} | {_cell(row['name'])} | {cells} | {row['n']:,} |")
    open_ = [row for row in document["checks"] if not row["asked_for"] and row["outcome"] == "undecided"]
    if open_:
        named = ", ".join(_cell(row["name"]) for row in open_[:MOST_OPEN])
        more = f" and {len(open_) - MOST_OPEN} more" if len(open_) > MOST_OPEN else ""
        lines += ["", f"The data cannot settle {_slices(len(open_))}: {named}{more}."]
    lines += [line for said in _warnings(document) for line in ("", _cell(said))]
    for one in document.get("differs") or []:
        lines += ["", f"Baseline and run also differ in: {_cell(one)}."]
    return "\n".join(lines) + "\n"


def _cell(text: Any) -> str:
    plain = words.clean(text).replace("\n", " ")
    return re.sub(r"([\\|`*_\[\]<>!#])", r"\\\1", plain)


def _numbers(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Return what was measured, the change, its limits, and what is allowed, in the metric's unit."""
    unit, ends = str(row["unit"]), (row["low"], row["high"])
    if row["value"] is None:
        return ("", "", "", "")
    if row["kind"] in BOUNDS:
        low, high = (level(end, unit) for end in ends)
        return level(row["value"], unit), "", f"{low} to {high}", f"{BOUNDS[row['kind']]} {level(row['limit'], unit)}"
    low, high = (moved(end, unit) for end in ends)
    sides = f"{level(row['before'], unit)} → {level(row['after'], unit)}"
    return sides, moved(row["value"], unit), f"{low} to {high}", moved(row["limit"], unit)


def gated_junit(document: Document) -> str:
    """Return the verdict as JUnit XML: a failed check fails its case, an undecided one is skipped with its reason.

    Whether an undecided gate stops a build is said by the exit code (3), not by this file.
    """
    counts = document["counts"]
    root = ElementTree.Element("testsuites")
    facts = {"name": "primum gate", "tests": str(len(document["checks"])), "failures": str(counts["failed"]),
             "errors": "0", "skipped": str(counts["undecided"])}  # fmt: skip
    suite = ElementTree.SubElement(root, "testsuite", facts)
    for row in document["checks"]:
        name = {"classname": _xml(f"primum.{row['benchmark']}"), "name": _xml(row["name"])}
        case = ElementTree.SubElement(suite, "testcase", name)
        if row["outcome"] != "passed":
            kind = "failure" if row["outcome"] == "failed" else "skipped"
            ElementTree.SubElement(case, kind, {"message": _xml(row["text"])})
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _xml(text: Any) -> str:
    return _NOT_XML.sub("�", words.clean(text))
