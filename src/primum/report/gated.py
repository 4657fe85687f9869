"""A gate's verdict for people and machines: terminal, Markdown (GitHub's summary) and JUnit XML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from primum.report import words

Document = Mapping[str, Any]
MARKS = {"passed": "✓", "failed": "✕", "undecided": "?"}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MOST_OPEN = 10


def gated_text(document: Document) -> str:
    """Return the verdict in a few lines: failures first, then what could not be settled."""
    lines = [f"{document['outcome'].upper()}: {words.clean(document['text'])}", ""]
    for outcome in ("failed", "undecided", "passed"):
        rows = [row for row in document["checks"] if row["outcome"] == outcome]
        shown = rows if outcome == "failed" else [row for row in rows if row["slice"] == "all"]
        lines += [f"{MARKS[outcome]} {words.clean(row['text'])}" for row in shown]
        hidden = len(rows) - len(shown)
        if hidden:
            lines.append(f"{MARKS[outcome]} {hidden} slices {outcome} (--json lists them)")
    differs = document.get("differs") or []
    return "\n".join([*lines, *(f"baseline and run also differ in: {words.clean(one)}" for one in differs)])


def gated_markdown(document: Document) -> str:
    """Return the verdict as Markdown; what a benchmark is called cannot break its table."""
    outcome = document["outcome"]
    lines = [
        f"## {MARKS[outcome]} Safety gate: {outcome}",
        "",
        _cell(document["text"]),
        "",
        "| | check | worse by | limits (95%, one-sided) | may be | n |",
        "|---|---|---:|---:|---:|---:|",
    ]
    order = {"failed": 0, "undecided": 1, "passed": 2}
    rows = [row for row in document["checks"] if row["slice"] == "all" or row["outcome"] == "failed"]
    for row in sorted(rows, key=lambda one: order[one["outcome"]]):
        limits = f"{_number(row['low'])} to {_number(row['high'])}"
        lines.append(
            f"| {MARKS[row['outcome']]} {row['outcome']} | {_cell(row['name'])} | {_number(row['value'])} | {limits} "
            f"| {_number(row['limit'])} | {row['n']:,} |"
        )
    open_ = [row for row in document["checks"] if row["slice"] != "all" and row["outcome"] == "undecided"]
    if open_:
        named = ", ".join(_cell(row["name"]) for row in open_[:MOST_OPEN])
        more = f" and {len(open_) - MOST_OPEN} more" if len(open_) > MOST_OPEN else ""
        lines += ["", f"Too few items with a number to say anything of {len(open_)} slices: {named}{more}."]
    for one in document.get("differs") or []:
        lines += ["", f"Baseline and run also differ in: {_cell(one)}."]
    return "\n".join(lines) + "\n"


def _cell(text: Any) -> str:
    plain = words.clean(text).replace("\n", " ")
    return re.sub(r"([\\|`*_\[\]<>!#])", r"\\\1", plain)


def _number(value: Any) -> str:
    return "" if value is None else f"{value:+.4f}"


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
