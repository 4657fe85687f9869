"""One document, and one thing that could not be read."""

from __future__ import annotations

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
