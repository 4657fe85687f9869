"""Where a text is worth the detailed patterns: around rows of digits, long unbroken strings and a few short forms.

Many texts at once are read as one array of bytes: a blank or a digit costs no Python, and only what is long enough is
looked at.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from primum.audit.hashing import slices, stretches
from primum.audit.pii import context

Window = tuple[int, int]
"""Begin and end of a stretch of text."""
_ROW = re.compile(r"\d[\d .()/:\-\u00a0\u202f\u2010\u2011\u2013]{4,}\d")
_LIKE = {"\u00a0": " ", "\u202f": " ", "\u2010": "-", "\u2011": "-", "\u2013": "-"}
_NO_DIGIT = re.compile(r"\D+")
_NO_DIGIT_BYTES = bytes(range(0x30)) + bytes(range(0x3A, 0x100))
_DIGIT_OR_PREFIX = re.compile(r"\d|gh[opsur]_|github_pat_|hf_|glpat-|xox[a-z]-|npm_|pypi-|ya29\.|AIza|sk-|[rsp]k_|SG\.")
"""A key of 20 random letters and digits has no digit at all in 3 of 100 cases; its prefix tells it."""
LONG = 14
"""An unbroken string of so many characters may be a key, an address or an id."""
_SHORT_IDS = re.compile(r"(?<!\w)[A-Z]{5}\d{4}[A-Z](?!\w)|[0-9A-Fa-f]:(?::[0-9A-Fa-f]|[0-9A-Fa-f]+::)")
_IN_ROW = bytes(chr(c) in "0123456789 .()/:-" for c in range(256))
_IN_WORD = bytes(not chr(c).isspace() for c in range(256))
SHORTEST_ROW = 6
"""Characters of the shortest row of digits."""


class _Signs(dict[str, str]):
    """The ASCII sign that another sign is like: as a part of a row of digits, and in parting words."""

    def __missing__(self, sign: str) -> str:
        like = "0" if sign.isdecimal() else "\n" if sign.isspace() else "?"
        self[sign] = like
        return like


_SIGNS = _Signs(_LIKE)


def _like(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(_SIGNS.__getitem__, error.object[error.start : error.end])), error.end


codecs.register_error("primum-like", _like)


def windows(texts: Sequence[str]) -> Iterator[list[Window]]:
    """Yield for each text the stretches that are worth the detailed patterns, merged and in order."""
    for some in slices(texts):
        for text, hits in zip(some, _hits(some), strict=True):
            if "::" in text or "PAN" in text:
                hits += [match.span() for match in _SHORT_IDS.finditer(text)]
            yield list(_merged(text, sorted(hits))) if hits else []


def _hits(texts: Sequence[str]) -> list[list[Window]]:
    """Return the rows of digits and the long strings of each text."""
    found: list[list[Window]] = [[] for _ in texts]
    blob = "\n".join(texts).encode("ascii", "primum-like")  # what parts two texts is in no row and in no word
    sizes = np.array([len(text) + 1 for text in texts])
    first = np.cumsum(sizes) - sizes
    for number, start, end in _runs(blob, _IN_ROW, SHORTEST_ROW, first):
        rows = _ROW.finditer(texts[number], start, end)
        found[number] += [match.span() for match in rows if _many_digits(match) or _between_letters(match)]
    for number, start, end in _runs(blob, _IN_WORD, LONG, first):
        if _may_be_secret(texts[number][start:end]):
            found[number].append((start, end))
    return found


def _runs(blob: bytes, table: bytes, least: int, first: NDArray[np.int64]) -> Iterator[tuple[int, int, int]]:
    """Yield the runs of at least so many bytes that the table marks: a text's number, begin and end in it."""
    starts, ends = (at - 1 for at in stretches(np.frombuffer(b"\0" + blob.translate(table) + b"\0", np.bool_)))
    long = ends - starts >= least
    starts, ends = starts[long], ends[long]
    numbers = np.searchsorted(first, starts, side="right") - 1
    yield from zip(numbers.tolist(), (starts - first[numbers]).tolist(), (ends - first[numbers]).tolist(), strict=True)


def _may_be_secret(word: str) -> bool:
    """Whether a long word holds a digit or begins as a key does; AIza is the one such begin of letters alone."""
    return (not word.isalpha() or "AIza" in word) and _DIGIT_OR_PREFIX.search(word) is not None


def _many_digits(match: re.Match[str]) -> bool:
    """Whether a row of digits could be a number of somebody, and not a few decimals: 7 digits, an IP, three pairs."""
    found = match.group()
    if len(found) < 7:
        return False
    digits = digits_of(found)
    return digits >= 7 or found.count(".") == 3 or (digits == 6 and found.count(" ") >= 2)


def _between_letters(match: re.Match[str]) -> bool:
    """Whether six digits stand between capitals, as in a British insurance number (AB123456C)."""
    start, end = match.span()
    before, behind = match.string[max(start - 2, 0) : start], match.string[end : end + 1]
    return end - start == 6 and behind in ("A", "B", "C", "D") and before.isalpha() and before.isupper()


def _merged(text: str, hits: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    low, high = -1, -1
    for start, end in hits:
        left, right = _left(text, start), _right(text, end)
        if left <= high:
            high = max(high, right)
            continue
        if high >= 0:
            yield low, high
        low, high = left, right
    yield low, high


def _left(text: str, start: int) -> int:
    """Widen to the left by context.REACH, to a blank: labels of secrets and the first letters of spaced ids."""
    edge = max(0, start - context.REACH)
    blank = text.rfind(" ", max(0, edge - 32), edge)
    return blank if blank >= 0 else edge


def _right(text: str, end: int) -> int:
    edge = min(len(text), end + 12)
    blank = text.find(" ", edge, edge + 32)
    return blank if blank >= 0 else edge


def digits_of(piece: str) -> int:
    """Return how many digits a piece of text has."""
    if piece.isascii():
        return len(piece.encode().translate(None, _NO_DIGIT_BYTES))
    return len(_NO_DIGIT.sub("", piece))
