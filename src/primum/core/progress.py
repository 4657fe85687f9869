"""How long work tells that it goes on. The terminal draws it; tests and libraries keep it silent."""

from __future__ import annotations

from collections.abc import Callable

Advance = Callable[[int], None]
"""Called with the number of units just finished."""


def silent(_: int) -> None:
    """Report nothing."""
