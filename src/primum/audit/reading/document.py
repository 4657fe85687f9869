"""One document, and one thing that could not be read."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any, NamedTuple


class Document(NamedTuple):
    """A document: its id, its text, the source it came from, its place (`file:line`) and the row it was read from."""

    id: str
    text: str
    source: str
    where: str
    row: dict[str, Any]


class Skipped(NamedTuple):
    """What was passed over: its place, the reason's name, and what exactly is wrong."""

    where: str
    reason: str
    detail: str


def failed(where: str, error: Exception) -> Skipped:
    """Return a record that something unforeseen happened to.

    Only the error's type and the line that raised it are told: its own words may hold the record's.
    """
    if isinstance(error, RecursionError):
        return Skipped(where, "nested_too_deep", "lists and objects lie too deep in one another")
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return Skipped(where, "failed_step", f"{type(error).__name__}{place}")
