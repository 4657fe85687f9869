"""How long work tells that it goes on. The terminal draws it; tests and libraries keep it silent.

A run also leaves a line of it in its folder, so that others can see how far it is without asking it:

    RUN/progress.json    the step that goes on now; there only while one does (or where it was killed)
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Generator
from pathlib import Path

Advance = Callable[[int], None]
"""Called with the number of units just finished."""
FILE = "progress.json"
EVERY = 1.0
"""Seconds between two notes of one step."""


def silent(_: int) -> None:
    """Report nothing."""


@contextlib.contextmanager
def noted(
    folder: Path, step: str, total: int | None, unit: str, advance: Advance, clock: Callable[[], float] = time.time
) -> Generator[Advance]:
    """Keep a note of a step in a run's folder while the block runs, and take it away at its end.

    A folder that is not there, or that cannot be written, gets no note: the run does not depend on it.

    Args:
        folder: the run's.
        step: what goes on.
        total: units of the whole step, where they are known.
        unit: what is counted.
        advance: told of the same units.
        clock: seconds since 1970.

    Yields:
        The function to call with the units just finished.
    """
    path, begun = folder / FILE, clock()
    done = found = 0
    written = float("-inf")

    def write(now: float) -> None:
        nonlocal written
        written = now
        facts = {"step": step, "unit": unit, "done": done, "found": found, "total": total, "started": begun}
        temporary = path.with_name(f"{FILE}.{os.getpid()}.partial")
        with contextlib.suppress(OSError):
            temporary.write_text(json.dumps({**facts, "updated": now}), encoding="utf-8", errors="replace")
            temporary.replace(path)

    def tell(units: int) -> None:
        nonlocal done, found
        advance(units)
        done += units
        now = clock()
        if now - begun < EVERY:
            found = done  # found finished: it took no time, and says nothing of how long the rest takes
        if now - written >= EVERY:
            write(now)

    write(begun)
    try:
        yield tell
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
