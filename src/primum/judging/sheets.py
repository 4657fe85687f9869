"""The labelling sheet as CSV: what a person labels, without a word of the judge's; `primum calibrate` reads it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

COLUMNS = ("id", "prompt", "reply", "label")


def sheet_csv(rows: Iterable[tuple[str, str, str, str]]) -> str:
    """Return the sheet's text.

    Args:
        rows: id, prompt, reply and label (empty where there is none) of each reply, in the order of the draw.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def _cell(text: str) -> str:
    """Return the text so that no spreadsheet takes it for a formula (OWASP, CSV injection)."""
    return "'" + text if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
