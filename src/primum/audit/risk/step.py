"""Examine rows for fine-tuning risk, rank them, and write the clean set and what was dropped."""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from primum.audit.notes import Counts, Note, table
from primum.audit.reading.records import exchange
from primum.audit.risk.represent import Direction, Reader, fit
from primum.audit.risk.rules import FAULT, WEIGHTS, Turns, examine, refuses
from primum.core.records import JsonDict
from primum.core.store import disk_error

ROWS = ".rows"
HALF = 2.0
"""Deviations at which the representation score counts as half a fault."""


@dataclass(frozen=True)
class References:
    """Requests that the direction is taken from; plain data, so that it can be sent to a worker."""

    model: str
    harmful: tuple[str, ...]
    benign: tuple[str, ...]


class RiskStep:
    """Rules for every row; with a model, also how harmful each request looks to it."""

    def __init__(self, references: References | None = None) -> None:
        self._reader: Reader | None = None
        self._direction: Direction | None = None
        if references:
            self._reader = Reader(references.model)
            states = self._reader.states
            self._direction = fit(states(references.harmful), states(references.benign))

    def __call__(self, notes: Sequence[Note], counts: Counts) -> None:
        """Examine a block."""
        turns = [exchange(note.document.row) or [("text", note.document.text)] for note in notes]
        deviations = self._deviations(turns)
        rules, found = table(counts, "risk_rules"), table(counts, "risk")
        for note, own, deviation in zip(notes, turns, deviations, strict=True):
            finding = examine(own)
            score = finding.score + (0.0 if deviation is None else weight(deviation))
            note.risks = finding.rules
            rules.update(finding.rules)
            found["documents"] += 1
            found["flagged"] += finding.score >= FAULT
            for rule in finding.rules:
                note.mark("risk", rule)
            if deviation is not None:
                note.mark("risk", "deviation", round(deviation, 4))
            note.mark("risk", "score", round(score, 4))

    def _deviations(self, turns: Sequence[Turns]) -> list[float | None]:
        if self._reader is None or self._direction is None or not turns:
            return [None] * len(turns)
        asked = ["\n".join(text for role, text in own if role in ("user", "text")) or " " for own in turns]
        scores = self._direction.score(self._reader.states(asked, self._direction.layer))
        return [0.0 if refuses(own) else float(score) for own, score in zip(turns, scores, strict=True)]


def weight(deviation: float) -> float:
    """Return a representation score as a part of a fault, 0 to 1: half at HALF deviations."""
    return 1 / (1 + math.exp(-(deviation - HALF)))


def write_rows() -> Callable[[Sequence[Note]], dict[str, bytes]]:
    """Return what keeps a block's rows with their scores, for dropping after the pass."""

    def write(notes: Sequence[Note]) -> dict[str, bytes]:
        rows = (_kept(note) for note in notes)
        return {ROWS: b"".join(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for row in rows)}

    return write


def _kept(note: Note) -> JsonDict:
    document = note.document
    row = document.row or {"id": document.id, "text": document.text, "source": document.source}
    score = note.attributes["primum__risk__score"][0][2]
    return {"where": document.where, "score": score, "reasons": list(note.risks), "row": row}


def ranked(work: Path, stems: Sequence[str], most: int) -> list[JsonDict]:
    """Return the riskiest documents, the worst first; equal scores stay in their order.

    Args:
        work: the folder with the shards.
        stems: their names, in order.
        most: how many.
    """
    return heapq.nsmallest(most, _scores(work, stems), key=lambda row: -row["score"])


def _scores(work: Path, stems: Sequence[str]) -> Iterator[JsonDict]:
    for stem in stems:
        with (work / f"{stem}.jsonl").open(encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                marks = {name.rpartition("__")[2]: spans[0][2] for name, spans in row["attributes"].items()
                         if "__risk__" in name}  # fmt: skip
                if marks.get("score", 0) > 0:
                    rules = sorted(set(marks) - {"score", "deviation"})
                    yield {"id": row["id"], "source": row["source"], "score": marks["score"],
                           "deviation": marks.get("deviation"), "rules": rules}  # fmt: skip


def drop(work: Path, stems: Sequence[str], least: float, out: Path) -> dict[str, int]:
    """Write clean.jsonl and dropped.jsonl (each dropped row with place, score and reasons); return how many of each.

    Args:
        work: the folder with the shards.
        stems: their names, in order.
        least: rows with at least this score are dropped.
        out: the folder to write to.

    Raises:
        StepFailedError: the disk is full or cannot be written.
    """
    numbers = {"kept": 0, "dropped": 0}

    def rows(kept: bool) -> Iterator[JsonDict]:
        for stem in stems:
            with (work / (stem + ROWS)).open(encoding="utf-8") as file:
                for line in file:
                    one = json.loads(line)
                    if (one["score"] < least) is kept:
                        numbers["kept" if kept else "dropped"] += 1
                        reasons = one["reasons"] + (["representation"] if one["score"] - _sum(one) > 0.5 else [])
                        yield one["row"] if kept else {**one, "reasons": reasons}

    write_lines(out / "clean.jsonl", rows(True))
    write_lines(out / "dropped.jsonl", rows(False))
    return numbers


def _sum(one: JsonDict) -> float:
    return sum(WEIGHTS[rule] for rule in one["reasons"])


def write_lines(path: Path, rows: Iterator[JsonDict]) -> None:
    """Write rows one at a time, whole or not at all."""
    temporary = path.with_name(path.name + ".partial")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        temporary.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
