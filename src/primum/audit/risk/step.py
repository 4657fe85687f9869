"""Examine rows for fine-tuning risk: the rules, and with a model how harmful each row looks to it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from primum.audit.notes import Counts, Note, table
from primum.audit.reading.document import Document
from primum.audit.reading.records import exchange
from primum.audit.risk.represent import Direction, Reader, fit
from primum.audit.risk.rules import FAULT, Turns, examine, refuses
from primum.core.records import JsonDict

ROWS = ".rows"
REPRESENTATION = "representation"
HALF = 1.0
"""Deviations at which the representation score counts as half a fault, and from which it is a reason of its own."""


@dataclass(frozen=True)
class References:
    """Texts that the direction is taken from; plain data, so that it can be sent to a worker.

    model: that reads them.
    harmful: requests.
    benign: requests.
    corpus: rows of the corpus (`sides` of each), which stand on the harmless side; few of them may be harmful.
    """

    model: str
    harmful: tuple[str, ...]
    benign: tuple[str, ...]
    corpus: tuple[str, ...] = ()


class RiskStep:
    """Rules for every row; with a model, also how harmful each request and its answer look to it."""

    def __init__(self, references: References | None = None) -> None:
        self._reader: Reader | None = None
        self._direction: Direction | None = None
        if references:
            self._reader = Reader(references.model)
            states = self._reader.states
            self._direction = fit(states(references.harmful), states(references.benign + references.corpus))

    def __call__(self, notes: Sequence[Note], counts: Counts) -> None:
        """Examine a block."""
        turns = [turns_of(note.document) for note in notes]
        deviations = self._deviations(turns)
        rules, found = table(counts, "risk_rules"), table(counts, "risk")
        for note, own, deviation in zip(notes, turns, deviations, strict=True):
            finding = examine(own)
            far = deviation is not None and deviation >= HALF
            note.risks = (*finding.rules, REPRESENTATION) if far else finding.rules
            rules.update(note.risks)
            found["documents"] += 1
            found["flagged"] += finding.score >= FAULT or far
            for rule in note.risks:
                note.mark("risk", rule)
            if deviation is not None:
                note.mark("risk", "deviation", round(deviation, 4))
            score = finding.score + (0.0 if deviation is None else weight(deviation))
            note.mark("risk", "score", round(score, 4))

    def _deviations(self, turns: Sequence[Turns]) -> list[float | None]:
        if self._reader is None or self._direction is None or not turns:
            return [None] * len(turns)
        read = {number: texts for number, own in enumerate(turns) if not refuses(own) and (texts := sides(own))}
        scores = self._reader.scores(list(read.values()), self._direction)
        found = dict(zip(read, scores.tolist(), strict=True))
        return [found.get(number) for number in range(len(turns))]


def turns_of(document: Document) -> Turns:
    """Return a document's turns as (role, text); one that is no chat is a text."""
    return exchange(document.row) or [("text", document.text)]


def sides(turns: Turns) -> list[str]:
    """Return what is read of a row, as if a user had written it: its request, and the request with the answer.

    A system turn is part of the request: it may say whom to obey.

    The whole row shows a harmful answer to a harmless request. An answer alone would not do: any few words without
    their question lie far from ordinary requests.
    """
    asked = "\n".join(text for role, text in turns if role in ("system", "user", "text"))
    said = "\n".join(text for role, text in turns if role == "assistant")
    return [text for text in (asked, f"{asked}\n\n{said}" if said.strip() else "") if text.strip()]


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
