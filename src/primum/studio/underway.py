"""How far the step is that a run is at, from the files that the run leaves while it goes on. Reads, and nothing else.

A run notes its step in progress.json (primum.core.progress). Where there is no such note (an older primum), the newest
step without a manifest is counted: rows of its shards, or lines of its log. What stands in these files is not trusted.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from primum.core.errors import BadInputError
from primum.core.progress import FILE
from primum.core.store import read_json

SILENT = 300.0
"""Seconds without a word after which the page says that nothing was written."""
LONGEST_FILE = 64 * 1024 * 1024
TAIL = 16 * 1024


class Underway(NamedTuple):
    """A step that goes on: units done of all (`total` None where nobody said), and what is left.

    `left` and `silent` are in seconds; `silent` is how long nothing was written, 0 where that is not worth saying.
    `loss` is the last one that a training step has logged.
    """

    step: str
    unit: str
    done: int
    total: int | None
    left: float | None
    silent: float
    loss: float | None = None


def underway(folder: Path, ended: bool = False, now: float | None = None) -> Underway | None:
    """Return the step that a run is at, or None where it is at none.

    Args:
        folder: the run's.
        ended: whether it has left its last file; then only a note says that it goes on again.
        now: seconds since 1970; the clock's where it is not given.
    """
    now = time.time() if now is None else now
    step = None if ended else _unfinished(folder)
    found = _noted(folder, now) or (_counted(folder, step, now) if step else None)
    return found and found._replace(loss=_loss(step) if step else None)


def _noted(folder: Path, now: float) -> Underway | None:
    try:
        facts = read_json(folder / FILE)
        done, found, started, updated = (_number(facts, name) for name in ("done", "found", "started", "updated"))
        total = None if facts["total"] is None else int(_number(facts, "total"))
        step, unit = str(facts["step"])[:200], str(facts["unit"])[:80]
    except (OSError, BadInputError, ValueError, KeyError, TypeError, OverflowError):
        return None
    done = min(done, total) if total is not None else done
    left = _left(done, total, done - found, updated - started, now - updated)
    return Underway(step, unit, int(done), total, left, _silence(now - updated))


def _number(facts: Mapping[str, Any], name: str) -> float:
    value = float(facts[name])
    if not math.isfinite(value) or value < 0:
        raise ValueError(name)
    return value


def _left(done: float, total: int | None, made: float, taken: float, since: float) -> float | None:
    """Return the seconds left, at the speed so far, or None where nothing says."""
    if not total or made <= 0 or taken <= 0:
        return None
    return max(0.0, taken * (total - done) / made - max(0.0, since))


def _silence(seconds: float) -> float:
    return seconds if seconds > SILENT else 0.0


def _unfinished(folder: Path) -> Path | None:
    """Return the newest step that has begun and not ended."""
    steps = folder / "steps"
    try:
        begun = [
            one for one in steps.iterdir() if (one / "key.json").is_file() and not (one / "manifest.json").exists()
        ]
        return max(begun, key=lambda one: (one.stat().st_mtime, one.name), default=None)
    except OSError:
        return None


def _counted(folder: Path, step: Path, now: float) -> Underway | None:
    """Count what a step has written: rows of shards, else steps of its log."""
    try:
        shards = sorted(step.glob("shard-*.jsonl"))
        logs = [step / "log.jsonl"] if not shards and (step / "log.jsonl").is_file() else []
        files = shards or logs
        done, total = sum(map(_lines, files)), _total(folder, step.name)
        began = (step / "key.json").stat().st_mtime
        last = max((one.stat().st_mtime for one in files), default=began)
    except OSError:
        return None
    unit = "steps" if logs else "rows"
    left = _left(done, total, done, last - began, now - last)
    return Underway(step.name, unit, min(done, total) if total else done, total, left, _silence(now - last))


def _total(folder: Path, name: str) -> int | None:
    """Return how many rows a step will have, where another file of the run has as many."""
    if name.startswith("attack-"):
        return _rows([folder / "goals.jsonl"])
    if name.startswith("09-replies-"):
        return _rows(sorted((folder / "steps" / "02-replies-before").glob("shard-*.jsonl")))
    return None


def _rows(files: list[Path]) -> int | None:
    return sum(map(_lines, files)) or None if all(one.is_file() for one in files) else None


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return file.read(LONGEST_FILE).count(b"\n")


def _loss(step: Path) -> float | None:
    """Return the loss of the last line of a step's log."""
    try:
        with (step / "log.jsonl").open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL))
            whole = file.read().rpartition(b"\n")[0]  # a line that is being written now is left out
        loss = float(json.loads(whole.rpartition(b"\n")[2])["loss"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return loss if math.isfinite(loss) else None
