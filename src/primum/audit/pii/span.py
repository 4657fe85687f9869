"""Where something was found, and what kind of thing. Never what it said."""

from __future__ import annotations

from typing import NamedTuple


class Span(NamedTuple):
    """Characters start to end (end not included) hold one item of a type."""

    start: int
    end: int
    type: str
