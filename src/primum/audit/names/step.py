"""Find people's names in the documents of a sample: positions and counts are kept, names are not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from primum.audit import language
from primum.audit.names.recognizers import ANY_LANGUAGE, Recognizer, Stretch
from primum.audit.notes import Counts, Note, table
from primum.audit.pii.span import Span
from primum.audit.sample import sampled
from primum.audit.terms.match import WORD

KIND = "person"
LONGEST = 10_000
"""Characters that a recognizer reads at a time: spaCy's memory grows with them."""
_TOKEN = re.compile(r"\w+(?:[-_]\w+)*|\S")
"""A word or a sign, as GLiNER counts them."""
_NAME = re.compile(r"[^\W_].*[^\W_]", re.DOTALL)
_POSSESSIVE = ("'s", "’s")
_LETTERS = re.compile(r"[^\W\d_]{2}")


class NamesStep:
    """Reads the documents of the sample that are in the recognizer's language."""

    def __init__(self, of: Recognizer, share: float = 0.1, seed: int = 0) -> None:
        self._of, self._share, self._seed = of, share, seed

    def __call__(self, notes: Sequence[Note], counts: Counts) -> None:
        """Find names in a block."""
        chosen = [note for note in notes if sampled(note.document.id, self._share, self._seed)]
        read = [note for note in chosen if readable(note, self._of)]
        table(counts, "names")["other_language"] += len(chosen) - len(read)
        for note, spans in zip(read, find_names(self._of, [one.document.text for one in read]), strict=True):
            note.names = spans
            for span in spans:
                note.span("names", KIND, span.start, span.end)
        _count(read, counts)


def readable(note: Note, of: Recognizer) -> bool:
    """Return whether a document may be in the recognizer's language; one of unknown language may."""
    if of.language == ANY_LANGUAGE or note.language is None or note.language.code == language.UNKNOWN:
        return True
    text = note.document.text
    words = len(WORD.findall(text[:400])) if len(text) < 400 else language.SHORT_WORDS
    return language.is_of(note.language, of.language, words)


def _count(read: Sequence[Note], counts: Counts) -> None:
    """Count by source; the sums of squares and products give the interval of the density."""
    names = ("documents", "characters", "items", "with", "xx", "xy", "yy")
    tables = [table(counts, f"source_names_{name}") for name in names]
    for note in read:
        size, found = len(note.document.text), len(note.names or ())
        facts = (1, size, found, found > 0, size * size, size * found, found * found)
        for into, number in zip(tables, facts, strict=True):
            into[note.document.source] += number


def find_names(of: Recognizer, texts: Sequence[str]) -> list[list[Span]]:
    """Return the names in each text, in order and without overlaps; long texts are read in pieces."""
    cut = [(number, start, end) for number, text in enumerate(texts) for start, end in pieces(text, of.words)]
    found: list[list[Span]] = [[] for _ in texts]
    answers = of.find([texts[number][start:end] for number, start, end in cut]) if cut else []
    for (number, start, _), stretches in zip(cut, answers, strict=True):
        for stretch in sorted(stretches):
            span = tidy(texts[number], start + stretch[0], start + stretch[1])
            if span and (not found[number] or found[number][-1].end <= span.start):
                found[number].append(span)
    return found


def pieces(text: str, words: int, longest: int = LONGEST) -> Iterator[Stretch]:
    """Yield where to cut a text: after a line, else a sentence, else a word, so that few names are cut in two.

    Args:
        text: any text.
        words: words and signs of a piece, at most.
        longest: characters of a piece, at most.
    """
    start = 0
    while start < len(text):
        end = min(start + longest, len(text))
        for number, token in enumerate(_TOKEN.finditer(text, start, end)):
            if number == words:
                end = token.start()
                break
        end = end if end == len(text) else _cut(text, start, end)
        yield start, end
        start = end


def _cut(text: str, start: int, end: int) -> int:
    middle = (start + end) // 2
    for mark in ("\n", ". ", " "):
        at = text.rfind(mark, middle, end)
        if at >= 0:
            return at + len(mark)
    return end


def tidy(text: str, start: int, end: int) -> Span | None:
    """Return a name without signs and a possessive at its ends, or None where no two letters are left."""
    name = _NAME.search(text, start, end)
    if name is None:
        return None
    start, end = name.span()
    if text[start:end].endswith(_POSSESSIVE):
        end -= 2
    return Span(start, end, KIND) if _LETTERS.search(text, start, end) else None


def merged(patterns: Sequence[Span], names: Sequence[Span]) -> list[Span]:
    """Return what patterns found, and of the names what lies outside of it, in order."""
    found = list(patterns)
    for name in names:
        start = name.start
        for other in (one for one in patterns if one.start < name.end and one.end > name.start):
            found.append(Span(start, other.start, KIND))
            start = other.end
        found.append(Span(start, name.end, KIND))
    return sorted(one for one in found if one.start < one.end)
