"""Words to 64-bit hashes, for many texts at once: what near-duplicates and contamination are found by.

A word is a lower-cased run of letters and digits (bytes from 128 on count as letters). It is read eight bytes at a
time straight from the texts' bytes, so that no word becomes a Python object.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
MIX = np.uint64(0x9E3779B97F4A7C15)
SLICE = 1 << 18
"""Bytes of text that are looked at together: what is made of them stays in the processor's cache."""
LONGEST = 64
"""A word of more bytes is hashed by itself, so that one endless word takes no more time than many short ones."""
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], np.uint64)
_LOW, _SHIFT = np.uint64(29), np.uint64(32)


def _table() -> bytes:
    kept = {c: c for c in range(256) if c >= 128 or chr(c).isalnum()}
    kept |= {c: c + 32 for c in range(ord("A"), ord("Z") + 1)}
    return bytes(kept.get(c, 32) for c in range(256))


PLAIN = _table()
"""ASCII letters in lower case, digits and what is beyond ASCII as they are, blanks for the rest."""


class Hashed(NamedTuple):
    """The words of texts, one after the other, and where each text's begin (and the last one's end)."""

    words: Words
    first: NDArray[np.int64]

    def of(self, index: int) -> Words:
        """The words of one text."""
        return self.words[self.first[index] : self.first[index + 1]]


class Found(NamedTuple):
    """As `Hashed`, and where each word begins and ends in the texts' bytes, joined."""

    words: Words
    first: NDArray[np.int64]
    blob: bytes
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


def slices(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the texts in order, about SLICE characters together."""
    begin = size = 0
    for number, text in enumerate(texts, 1):
        size += len(text)
        if size >= SLICE:
            yield texts[begin:number]
            begin, size = number, 0
    if begin < len(texts):
        yield texts[begin:]


def hashed(texts: Sequence[str]) -> Hashed:
    """Return the hashed words of each text."""
    parts = [_hashed(some) for some in slices(texts)]
    counts = [np.zeros(1, np.int64), *(np.diff(part.first) for part in parts)]
    words = np.concatenate([part.words for part in parts]) if parts else np.zeros(0, np.uint64)
    return Hashed(words, np.cumsum(np.concatenate(counts)))


def _hashed(texts: Sequence[str]) -> Hashed:
    found = hashed_words([text.encode("utf-8", "replace") for text in texts], PLAIN)
    return Hashed(found.words, found.first)


def hashed_words(texts: Sequence[bytes], table: bytes) -> Found:
    """Return the words of texts and their hashes.

    Args:
        texts: their bytes.
        table: what each byte counts as (`bytes.translate`); what becomes a blank parts words.
    """
    blob = b" " + b" ".join(texts).translate(table) + b" " * 8
    starts, ends = stretches(np.frombuffer(blob, np.uint8) != 32)
    begins = np.cumsum([1, *(len(one) + 1 for one in texts)])
    return Found(_words(blob, starts, ends), np.searchsorted(starts, begins).astype(np.int64), blob, starts, ends)


def stretches(marked: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each unbroken stretch of marked places begins and ends; the first and the last place are not."""
    edges = np.flatnonzero(marked[1:] != marked[:-1]) + 1
    return edges[::2], edges[1::2]


def _words(blob: bytes, starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Words:
    """Return the hash of each word: its bytes, eight at a time as a number, each mixed into what came before."""
    eights = np.ndarray((len(blob) - 7,), "<u8", blob, strides=(1,))
    sizes = ends - starts
    words = (eights[starts] & _MASKS[np.minimum(sizes, 8)]) * MIX
    words ^= words >> _SHIFT
    for at in range(8, LONGEST, 8):
        longer = np.flatnonzero(sizes > at)
        if not len(longer):
            return words
        more = eights[starts[longer] + at] & _MASKS[np.minimum(sizes[longer] - at, 8)]
        mixed = (words[longer] + more) * MIX
        words[longer] = mixed ^ (mixed >> _LOW)
    for number in np.flatnonzero(sizes > LONGEST):
        digest = hashlib.blake2b(blob[starts[number] : ends[number]], digest_size=8).digest()
        words[number] = int.from_bytes(digest, "little")
    return words


def runs(held: Hashed, length: int) -> Words:
    """Return for every word the hash of the run of `length` words from it; words past its text's end count as 0."""
    words, size = held.words, len(held.words)
    padded = np.concatenate([words, np.zeros(length, np.uint64)])
    found = words.copy()
    for step in range(1, length):
        found *= MIX
        found += padded[step : step + size]
    cut, last = cut_short(held, length)  # the few whose run reaches into the next text
    found[cut] = 0
    for step in range(length):
        found[cut] = found[cut] * MIX + np.where(cut + step < last, padded[cut + step], np.uint64(0))
    found ^= found >> _LOW
    found *= MIX
    return found


def cut_short(held: Hashed, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of the words whose run of `length` words would pass their text's end, and those ends."""
    ends, counts = held.first[1:], np.diff(held.first)
    last = [ends[counts >= back] for back in range(1, length)]
    places = [some - back for back, some in enumerate(last, 1)]
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *places]), np.concatenate([none, *last])
