"""Words to 64-bit hashes, for many texts at once: what near-duplicates and contamination are found by.

A word is a lower-cased run of letters and digits (bytes from 128 on count as letters). Its hash is the polynomial of
its bytes modulo 2^64, read off prefix sums, so that no word becomes a Python object.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
_STEP, MIX = np.uint64(0x100000001B3), np.uint64(0x9E3779B97F4A7C15)
_BACK = np.uint64(pow(0x100000001B3, -1, 1 << 64))


def _table() -> bytes:
    kept = {c: c for c in range(256) if c >= 128 or chr(c).isalnum()}
    kept |= {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}
    return bytes(kept.get(c, 32) for c in range(256))


_PLAIN = _table()


@cache
def _powers(size: int) -> tuple[Words, Words]:
    """Return step^i and step^-i modulo 2^64 for i < size."""
    up, down = np.full(size, _STEP), np.full(size, _BACK)
    up[0] = down[0] = 1
    return np.cumprod(up, dtype=np.uint64), np.cumprod(down, dtype=np.uint64)


class Hashed(NamedTuple):
    """The words of texts, one after the other, and where each text's begin (and the last one's end)."""

    words: Words
    first: NDArray[np.int64]

    def of(self, index: int) -> Words:
        """The words of one text."""
        return self.words[self.first[index] : self.first[index + 1]]


def hashed(texts: Sequence[str]) -> Hashed:
    """Return the hashed words of each text.

    A word's hash is a difference of prefix sums of byte times step^position, shifted back to position 0.
    """
    encoded = [text.encode("utf-8", "replace") for text in texts]
    blob = b" ".join(encoded).translate(_PLAIN) + b" "
    starts_of = np.cumsum([0, *(len(one) + 1 for one in encoded)])
    data = np.frombuffer(blob, np.uint8)
    inside = data != 32
    edges = np.flatnonzero(np.diff(inside.astype(np.int8), prepend=0))
    starts, ends = edges[::2], edges[1::2]
    up, down = _powers(1 << max(len(blob) + 1, 2).bit_length())
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(data * up[: len(data)], dtype=np.uint64)])
    words = (sums[ends] - sums[starts]) * down[starts]
    return Hashed(words, np.searchsorted(starts, starts_of).astype(np.int64))


def runs(held: Hashed, length: int) -> Words:
    """Return for every word the hash of the run of `length` words from it; words past its text's end count as 0."""
    words = held.words
    padded = np.concatenate([words, np.zeros(length, np.uint64)])
    last = np.repeat(held.first[1:], np.diff(held.first))
    here = np.arange(len(words))
    found = np.zeros(len(words), np.uint64)
    for step in range(length):
        found = found * MIX + np.where(here + step < last, padded[step : step + len(words)], np.uint64(0))
    return (found ^ (found >> np.uint64(29))) * MIX
