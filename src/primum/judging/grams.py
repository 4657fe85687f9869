"""A linear model over n-grams of words in their place, for many texts at once: n-grams are numbers, and never strings.

A word is a number of 13 bits, so that three of them and the place make one of 41, which a table of slots finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

ORDER = 3
START = "^"
"""What stands before a sentence's first word."""
PLACES = ("", "1:", "$:")
"""Anywhere, in the first sentence, and in the last one of several: what a term of the model may begin with."""
_BITS, _SLOTS = 13, 18
_BEGIN, _OTHER = 1, 2
"""The numbers of START and of a word that no term holds."""
_MIX, _SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(64 - _SLOTS)
Sentences = Sequence[Sequence[str]]
Whole = NDArray[np.int64]


def terms(sentences: Sentences) -> set[str]:
    """Return a text's n-grams of one to ORDER words, given its sentences' words, each as it would be a model's term."""
    found = set[str]()
    for i, words in enumerate(sentences):
        here = _ngrams(words)
        found.update(here)
        if i == 0:
            found.update([PLACES[1] + gram for gram in here])
        if i == len(sentences) - 1 and i:
            found.update([PLACES[2] + gram for gram in here])
    return found


def _ngrams(words: Sequence[str]) -> list[str]:
    pairs = [f"{a} {b}" for a, b in zip([START, *words], words, strict=False)]
    return [*words, *pairs, *[f"{pair} {c}" for pair, c in zip(pairs, words[1:], strict=False)]]


class Grams:
    """A model's terms made ready.

    Args:
        weights: of the terms: words with blanks between them, behind one of PLACES.
        bias: what is added to each score.
    """

    def __init__(self, weights: Mapping[str, float], bias: float) -> None:
        self.bias = bias
        split = [_split(term) for term in weights]
        words = dict.fromkeys(word for _, some in split for word in some)
        self._numbers = {word: number for number, word in enumerate(words, _OTHER + 1)} | {START: _BEGIN}
        if len(words) + _OTHER >= 1 << _BITS:
            raise ValueError(f"{len(words)} words; a number of {_BITS} bits has no room for them")
        self._keys = np.array([self._key(place, some) for place, some in split], np.int64)
        self._weights = np.array(list(weights.values()))
        self._slots, self._tries = _table(self._keys)

    def _key(self, place: int, words: Sequence[str]) -> int:
        key = place
        for number in [0, 0, *map(self._numbers.__getitem__, words)][-ORDER:]:
            key = key << _BITS | number
        return key

    def scores(self, texts: Sequence[Sentences]) -> NDArray[np.float64]:
        """Return the texts' log-odds, each given by its sentences' words.

        They are what `weights.Words.score` gives for `terms`: each known term counts once, and their sum is over the
        root of their number.
        """
        keys, text = self._all_keys(texts)
        found = self._find(keys)
        known = found >= 0
        pairs = np.sort(text[known] * len(self._keys) + found[known])  # several times as fast as numpy's `unique`
        text, term = np.divmod(pairs[np.diff(pairs, prepend=-1) > 0], len(self._keys))
        sums = np.bincount(text, self._weights[term], len(texts))
        return sums / np.sqrt(np.maximum(1, np.bincount(text, minlength=len(texts)))) + self.bias

    def _all_keys(self, texts: Sequence[Sentences]) -> tuple[Whole, Whole]:
        """Return the keys of all n-grams, at every place that they have, and the number of the text of each."""
        sentences = list(chain.from_iterable(texts))
        numbers = self._numbers
        c = np.array([numbers.get(word, _OTHER) for one in sentences for word in (START, *one)], np.int64)
        sizes = np.array([len(one) + 1 for one in sentences], np.int64)
        counts = np.array([len(text) for text in texts], np.int64)
        ends = np.cumsum(counts)
        first, last = np.zeros((2, len(sentences)), np.int64)
        first[(ends - counts)[counts > 0]] = 1 << ORDER * _BITS
        last[ends[counts > 1] - 1] = 2 << ORDER * _BITS
        text, first, last = (np.repeat(one, sizes) for one in (np.repeat(np.arange(len(texts)), counts), first, last))
        b = np.concatenate([c[:1], c[:-1]])
        pairs = b << _BITS | c
        triples = np.concatenate([b[:1], b[:-1]]) << 2 * _BITS | pairs
        inside = c != _BEGIN
        third = inside & (b != _BEGIN)
        grams = np.concatenate([c[inside], pairs[inside], triples[third]])
        text, first, last = (np.concatenate([one[inside], one[inside], one[third]]) for one in (text, first, last))
        at_first, at_last = first > 0, last > 0
        keys = np.concatenate([grams, (grams | first)[at_first], (grams | last)[at_last]])
        return keys, np.concatenate([text, text[at_first], text[at_last]])

    def _find(self, keys: Whole) -> NDArray[np.int32]:
        """Return the places of keys among the model's, -1 for others."""
        found = self._slots[_slots(keys)]
        other = np.flatnonzero((found >= 0) & (self._keys[found] != keys))
        for step in range(1, self._tries):
            place = self._slots[_slots(keys[other], step)]
            found[other] = place
            other = other[(place >= 0) & (self._keys[place] != keys[other])]
        found[other] = -1
        return found


def _split(term: str) -> tuple[int, list[str]]:
    place = next((number for number, name in enumerate(PLACES) if name and term.startswith(name)), 0)
    return place, term.removeprefix(PLACES[place]).split(" ")


def _slots(keys: Whole, step: int = 0) -> Whole:
    """Return the slots in which keys are looked for after `step` others."""
    return ((keys.astype(np.uint64) * _MIX >> _SHIFT).astype(np.int64) + step) & ((1 << _SLOTS) - 1)


def _table(keys: Whole) -> tuple[NDArray[np.int32], int]:
    """Return which key is in each slot (-1: none), and in how many slots, one after the other, a key is looked for."""
    table, tries = np.full(1 << _SLOTS, -1, np.int32), 0
    left = np.arange(len(keys), dtype=np.int32)
    while len(left):
        slots = _slots(keys[left], tries)
        free = table[slots] < 0
        table[slots[free]] = left[free]
        left, tries = left[table[slots] != left], tries + 1
    return table, tries
