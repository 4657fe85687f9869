"""Vectors left out of a hardening: what the run ends with on the terminal, and its page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from primum.report import words
from primum.report.plain import document_page
from primum.report.words import Facts

Row = Mapping[str, Any]


def closing(facts: Facts, page: Path) -> str:
    """Return the table in plain text of at most 80 columns."""
    judge, rows = next(iter(facts["judges"].items()))
    lines = [f"success of attacks %, judge {words.clean(judge)}; gap and cost in points [95% interval]", "-" * 80]
    lines.append(f"  {'left out':<13}{'before':>7}{'seen':>5}{'unseen':>7}{'gap':>23}{'cost':>23}")
    for row in rows:
        shares = [words.percent(row[name]["value"], 0) for name in ("untouched", "seen", "unseen")]
        lines.append(f"  {words.clean(row['vector']):<13}{shares[0]:>7}{shares[1]:>5}{shares[2]:>7}"
                     f"{points(row['gap']):>23}{points(row['cost']):>23}")  # fmt: skip
    lines += [f"  {note}" for note in _unknown(rows)]
    lines += ["-" * 80, "gap: under the vector left out less under those learned, paired within goals",
              "cost: under the vector of who never saw it less of those that learned it"]  # fmt: skip
    return "\n".join([*lines, "", "report:", words.clean(page)])


def points(cell: Row | None) -> str:
    """Return a difference in points with its interval."""
    if cell is None or cell["difference"] is None:
        return "not known"
    if cell["low"] is None:
        return words.change(cell["difference"])
    return f"{words.change(cell['difference'])} [{words.change(cell['low'])}, {words.change(cell['high'])}]"


def _unknown(rows: list[Row]) -> list[str]:
    left = {row["vector"]: sum(row["unseen"]["left_out"].values()) for row in rows}
    return [f"{words.clean(name)}: {count} attempts could not be judged" for name, count in left.items() if count]


def page(facts: Facts) -> str:
    """Return the report as one self-contained page."""
    tables = [
        (judge, [{**row, "gap_said": points(row["gap"]), "cost_said": points(row["cost"])} for row in rows])
        for judge, rows in facts["judges"].items()
    ]
    settings = [(key, words.clip("–" if value in (None, "", [], ()) else value, 300))
                for key, value in (facts.get("settings") or {}).items()]  # fmt: skip
    view = {**facts, "tables": tables, "settings_rows": settings}
    return document_page("vectors.html", str(facts.get("title") or "Vectors left out"), view)
