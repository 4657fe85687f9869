"""Words as numbers: a block of texts becomes columns, and most of what is asked about its words one step of numpy.

A text is cut at its blanks, and each piece ("help," say) is looked up once, which gives the numbers of its words. What
a step wants to know of a word (its stem, its vector's row, the signs that it may belong to) stands in a column under
the word's number, worked out when the word is first seen. So a step takes its column for all words of a block at once,
adds up by sentence or by text, and looks no word up again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from primum.judging.text import sentences

Whole = NDArray[np.int64]
Flags = NDArray[np.bool_]
Named = dict[str, Any]
"""Arrays by name."""
_MARK = "A"
"""What stands behind each sentence while they are read: texts are in lower case, so none holds it. Its number is 0."""


def ints(values: NDArray[Any]) -> list[int]:
    """Return whole numbers as Python's own."""
    return cast(list[int], values.tolist())


def flags(values: NDArray[Any]) -> list[bool]:
    """Return flags as Python's own."""
    return cast(list[bool], values.tolist())


def offsets(counts: ArrayLike) -> Whole:
    """Return where each of some segments begins, and where the last one ends, given how long they are."""
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


def rows(begins: Whole) -> Whole:
    """Return for each member of some segments the number of its segment."""
    return np.repeat(np.arange(len(begins) - 1), np.diff(begins))


def sums(values: NDArray[Any], begins: Whole) -> Whole:
    """Return the sums of whole numbers, or how many flags are set, by segment."""
    upto = offsets(values)
    found: Whole = upto[begins[1:]] - upto[begins[:-1]]
    return found


def unions(bits: Whole, begins: Whole) -> Whole:
    """Return the bits that any member of each segment has; 0 for an empty one."""
    found = np.zeros(len(begins) - 1, np.int64)
    some = np.diff(begins) > 0
    if some.any():
        found[some] = np.bitwise_or.reduceat(bits, begins[:-1][some])
    return found


def spans(begins: Whole, sizes: Whole) -> Whole:
    """Return the places of all members of some segments, one segment after the other."""
    ends = offsets(sizes)
    return np.arange(int(ends[-1])) + np.repeat(begins - ends[:-1], sizes)


class Words(NamedTuple):
    """The numbers of the words of some sentences (M), one after the other, and where each sentence begins (M + 1)."""

    numbers: Whole
    begins: Whole

    def of(self, i: int) -> Whole:
        """Return the numbers of one sentence."""
        return self.numbers[self.begins[i] : self.begins[i + 1]]


def different(rows: Whole, numbers: Whole, n: int) -> Words:
    """Return the different numbers of each of `n` rows, 0 left out; numbers are less than 2 ** 32."""
    keys = np.sort(rows << 32 | numbers)
    keys = keys[(np.diff(keys, prepend=-1) > 0) & (keys & 0xFFFFFFFF > 0)]
    return Words(keys & 0xFFFFFFFF, np.searchsorted(keys, np.arange(n + 1) << 32))


class Owned(NamedTuple):
    """Numbers that belong to rows: which of other numbers are among those of their row?"""

    keys: Whole
    any: Flags
    """For each number, whether it is of any row: most others are of none, which is told by one look."""

    def among(self, rows: Whole, numbers: Whole) -> Flags:
        """Return which numbers are among those of their row."""
        found = self.any[numbers]
        keys = rows[found] << 32 | numbers[found]
        found[found] = self.keys[np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)] == keys
        return found


def owned(each: Sequence[Whole], size: int) -> Owned:
    """Return the numbers (less than `size`) of each row, made ready to be looked for."""
    numbers = np.concatenate(each) if each else np.zeros(0, np.int64)
    known = np.zeros(size, np.bool_)
    known[numbers] = True
    return Owned(np.sort(rows(offsets([len(one) for one in each])) << 32 | numbers), known)


class Column:
    """Whole numbers that come one after the other; `values` has room for more."""

    def __init__(self) -> None:
        self.values: Whole = np.zeros(1024, np.int64)
        self.size = 0

    def extend(self, new: Sequence[int]) -> None:
        """Add numbers behind those that are there."""
        end = self.size + len(new)
        if end > len(self.values):
            self.values = np.concatenate([self.values, np.zeros(2 * end - len(self.values), np.int64)])
        self.values[self.size : end] = new
        self.size = end


class Numbered(dict[str, int]):
    """Piece of a text in lower case to the number of the piece; filled as pieces come.

    Args:
        find: returns the words of a text; none may reach over a blank.
        columns: what is known of a word, by name.
    """

    MOST = 20_000_000
    """Size (letters, and ENTRY for each piece) from which on it is `full`: time for a new one, between two blocks."""
    ENTRY = 64

    def __init__(self, find: Callable[[str], list[str]], columns: Mapping[str, Callable[[str], int]]) -> None:
        super().__init__({_MARK: 0})
        self.words: list[str] = []
        """The words by number."""
        self._numbers: dict[str, int] = {}
        self._find, self._of, self._size = find, columns, 0
        self._new: list[list[int]] = [[]]
        """The words of the pieces that have come since the last reading."""
        self._flat, self._begins, self._sizes = Column(), Column(), Column()
        """The words of all pieces one after the other, and where those of each begin, and how many they are."""
        self._columns = {name: Column() for name in columns}

    @property
    def size(self) -> int:
        """How many words have a number."""
        return len(self.words)

    @property
    def full(self) -> bool:
        """Whether it has grown so large that the next block should begin with a new one."""
        return self._size > self.MOST

    def __missing__(self, piece: str) -> int:
        self._size += len(piece) + self.ENTRY
        self._new.append([self._number(word) for word in self._find(piece)])
        self[piece] = found = len(self)
        return found

    def _number(self, word: str) -> int:
        number = self._numbers.setdefault(word, len(self.words))
        if number == len(self.words):
            self.words.append(word)
        return number

    def spelled(self, numbers: Whole) -> list[str]:
        """Return the words that have these numbers."""
        return [self.words[number] for number in ints(numbers)]

    def read(self, texts: Sequence[str]) -> Words:
        """Return the numbers of the words of some sentences, all in lower case."""
        parts = f" {_MARK} ".join([*texts, ""]).split()
        pieces = np.fromiter(map(self.__getitem__, parts), np.int64, len(parts))
        if self._new:
            self._keep()
        sizes = self._sizes.values[pieces]
        numbers = self._flat.values[spans(self._begins.values[pieces], sizes)]
        return Words(numbers, np.concatenate([[0], np.cumsum(sizes)[pieces == 0]]))

    def _keep(self) -> None:
        """Keep the words of the pieces that have come."""
        sizes = [len(words) for words in self._new]
        self._begins.extend(ints(self._flat.size + offsets(sizes)[:-1]))
        self._sizes.extend(sizes)
        self._flat.extend(list(chain.from_iterable(self._new)))
        self._new = []

    def column(self, name: str) -> Whole:
        """Return what is known of each word so far."""
        column, of = self._columns[name], self._of[name]
        if column.size < len(self.words):
            column.extend([of(word) for word in self.words[column.size :]])
        return column.values


class Told(NamedTuple):
    """Some normalised texts, their sentences one after the other, and the numbers of these sentences' words."""

    texts: list[str]
    sentences: list[str]
    firsts: Whole
    """Where the sentences of each text begin (N + 1)."""
    words: Words

    @property
    def begins(self) -> Whole:
        """Where the words of each text begin (N + 1)."""
        return self.words.begins[self.firsts]

    def sentences_of(self, i: int) -> list[str]:
        """Return the sentences of one text."""
        return self.sentences[self.firsts[i] : self.firsts[i + 1]]


def tell(texts: list[str], book: Numbered) -> Told:
    """Return normalised texts with their sentences and words: no word reaches from one sentence into the next."""
    each = [sentences(text) for text in texts]
    whole = list(chain.from_iterable(each))
    return Told(texts, whole, offsets([len(some) for some in each]), book.read(whole))
