"""Rows that are made when they are asked for, and the file in which their tokens lie.

As Python tuples a hundred thousand pairs take gigabytes. Here their token ids go to a file while rows are read, four
bytes each; in memory stay where each text ends and how long each row is.
"""

from __future__ import annotations

import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeVar, cast, overload

from primum.core.store import disk_error
from primum.models.embedded import cache_folder

T = TypeVar("T")
BYTES = array("i").itemsize


class Lazy(Sequence[T]):
    """A sequence whose members are made each time they are asked for; a slice is a list of them."""

    def __init__(self, count: int, make: Callable[[int], T], lengths: Sequence[int] = ()) -> None:
        """Describe a sequence.

        Args:
            count: how many there are.
            make: the member at a place from 0.
            lengths: tokens of each, where members have a length.
        """
        self._count, self._make, self.lengths = count, make, lengths

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> T: ...
    @overload
    def __getitem__(self, place: slice) -> list[T]: ...
    def __getitem__(self, place: int | slice) -> T | list[T]:
        if isinstance(place, slice):
            return [self._make(i) for i in range(*place.indices(self._count))]
        if not -self._count <= place < self._count:
            raise IndexError(f"no member {place} of {self._count}")
        return self._make(place % self._count)


def lengths_of(rows: Sequence[Any]) -> Sequence[int]:
    """Return the tokens of each row, of lazy rows without making them."""
    return rows.lengths if isinstance(rows, Lazy) else array("q", (row.length for row in rows))


def only(rows: Sequence[T], places: Iterable[int]) -> Lazy[T]:
    """Return some of the rows, by their places."""
    kept, lengths = array("q", places), lengths_of(rows)
    return Lazy(len(kept), lambda i: rows[kept[i]], array("q", (lengths[place] for place in kept)))


def joined(*parts: Sequence[T]) -> Lazy[T]:
    """Return rows one part after the other."""
    starts = [0, *accumulate(len(part) for part in parts)]

    def make(place: int) -> T:
        number = next(n for n, end in enumerate(starts[1:]) if place < end)
        return parts[number][place - starts[number]]

    return Lazy(starts[-1], make, array("q", (length for part in parts for length in lengths_of(part))))


def sides(rows: Sequence[Any], *names: str) -> Lazy[Any]:
    """Return the examples that rows hold under some names, row after row."""
    lengths = array("q", (getattr(row, name).length for row in rows for name in names))
    count = len(names)
    return Lazy(count * len(rows), lambda i: getattr(rows[i // count], names[i % count]), lengths)


class TokenFile:
    """Token ids on disk: stretches of any length, each with a number from 0. The file has no name and ends with us."""

    def __init__(self, stretches: Iterable[Sequence[int]]) -> None:
        """Write all stretches.

        Raises:
            StepFailedError: the disk is full or primum's cache cannot be written.
        """
        folder = cache_folder()
        self._ends = array("q", [0])
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = cast(Any, tempfile.TemporaryFile(dir=folder))  # noqa: SIM115 - open as long as rows are
            weakref.finalize(self, self._file.close)
            for ids in stretches:
                self._file.write(array("i", ids))
                self._ends.append(self._ends[-1] + len(ids))
            self._file.flush()
        except OSError as error:
            raise disk_error(error, folder) from error

    def __len__(self) -> int:
        return len(self._ends) - 1

    def size(self, number: int) -> int:
        """Return how many ids a stretch has."""
        return self._ends[number + 1] - self._ends[number]

    def read(self, first: int, count: int) -> list[tuple[int, ...]]:
        """Return `count` stretches from one on."""
        ends = self._ends[first : first + count + 1]
        self._file.seek(ends[0] * BYTES)
        ids = array("i", self._file.read((ends[-1] - ends[0]) * BYTES))
        return [tuple(ids[start - ends[0] : end - ends[0]]) for start, end in pairwise(ends)]
