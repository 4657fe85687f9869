"""What the steps have noted of one document, and the counts that shards are merged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from primum.audit.language import Language
from primum.audit.pii.span import Span
from primum.audit.reading.document import Document
from primum.audit.terms.match import Mentions

PREFIX = "primum"
Counts = dict[str, Counter[str]]
"""Table -> row -> number. Merging adds, so the order of the shards does not matter."""
MOST_SOURCES = 100_000
OTHERS = "(other sources)"


@dataclass(slots=True)
class Note:
    """What is known of one document so far. A step reads what earlier ones wrote; unread for names, `names` is None."""

    document: Document
    language: Language | None = None
    scoped: bool = True
    mentions: Mentions | None = None
    spans: list[Span] = field(default_factory=lambda: list[Span]())
    names: list[Span] | None = None
    toxicity: float | None = None
    risks: tuple[str, ...] = ()
    attributes: dict[str, list[list[Any]]] = field(default_factory=dict)

    def mark(self, step: str, name: str, value: float = 1.0) -> None:
        """Note an attribute of the whole document, in Dolma's form (start, end, value)."""
        self.attributes[f"{PREFIX}__{step}__{name}"] = [[0, len(self.document.text), value]]

    def span(self, step: str, name: str, start: int, end: int) -> None:
        """Note an attribute of some characters."""
        self.attributes.setdefault(f"{PREFIX}__{step}__{name}", []).append([start, end, 1.0])


class Step(Protocol):
    """One look at the documents of a block: it writes into their notes and adds to the counts."""

    def __call__(self, notes: Sequence[Note], counts: Counts) -> None:
        """Look at a block's documents, in order."""
        ...


def table(counts: Counts, name: str) -> Counter[str]:
    """Return a table of the counts, made where it is not there yet."""
    return counts.setdefault(name, Counter())


def merge(all_counts: Iterable[Mapping[str, Mapping[str, int]]]) -> Counts:
    """Return the sum of counts, in order; sources beyond MOST_SOURCES are counted together."""
    total: Counts = {}
    kept: set[str] = set()
    for counts in all_counts:
        for name, rows in counts.items():
            if not name.startswith("source_"):
                table(total, name).update(rows)
                continue
            into = table(total, name)
            for row, number in rows.items():
                into[_bounded(row, kept)] += number
    return total


def _bounded(row: str, kept: set[str]) -> str:
    source, tab, rest = row.partition("\t")
    if source not in kept:
        if len(kept) >= MOST_SOURCES:
            return OTHERS + tab + rest
        kept.add(source)
    return row
