"""A linear model over n-grams of words in their place, for many texts at once: n-grams are numbers, and never strings.

A word is a number of 13 bits, so that three of them and the place make one of 41, which a table of slots finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

ORDER = 3
START = "^"
"""What stands before a sentence's first word."""
PLACES = ("", "1:", "$:")
"""Anywhere, in the first sentence, and in the last one of several: what a term of the model may begin with."""
_BITS = 13
_BEGIN, _OTHER = 1, 2
"""The numbers of START and of a word that no term holds."""
_MIX, _ROOM = np.uint64(0x9E3779B97F4A7C15), 4
"""What spreads keys over slots, and how many slots there are for a key at least."""
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


class Table:
    """Keys (whole numbers), each of which is found in a few steps of numpy for many at once."""

    def __init__(self, keys: Whole) -> None:
        self._keys = keys
        self._bits = (_ROOM * len(keys)).bit_length()
        self._slots, self._tries = np.full(1 << self._bits, -1, np.int32), 0
        """Which key is in each slot (-1: none), and in how many slots, one after the other, a key is looked for."""
        left = np.arange(len(keys), dtype=np.int32)
        while len(left):
            slots = self._places(keys[left], self._tries)
            free = self._slots[slots] < 0
            self._slots[slots[free]] = left[free]
            left, self._tries = left[self._slots[slots] != left], self._tries + 1

    def _places(self, keys: Whole, step: int = 0) -> Whole:
        """Return the slots in which keys are looked for after `step` others."""
        mixed = (keys.astype(np.uint64) * _MIX >> np.uint64(64 - self._bits)).astype(np.int64)
        return (mixed + step) & ((1 << self._bits) - 1)

    def find(self, keys: Whole) -> NDArray[np.int32]:
        """Return the places of keys among the table's, -1 for others."""
        found = self._slots[self._places(keys)]
        other = np.flatnonzero((found >= 0) & (self._keys[found] != keys))
        for step in range(1, self._tries):
            place = self._slots[self._places(keys[other], step)]
            found[other] = place
            other = other[(place >= 0) & (self._keys[place] != keys[other])]
        found[other] = -1
        return found


def scores(text: Whole, term: NDArray[Any], weights: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return what the terms found in each of `n` texts weigh: each counts once, their sum is over the root of how many.

    With a model's bias added, it is what `weights.Words.score` gives for a text's terms.

    Args:
        text: in which text a term was found.
        term: its number, -1 for one that is not the model's.
        weights: of the model's terms.
        n: texts.
    """
    known = term >= 0
    pairs = np.sort(text[known] * len(weights) + term[known])  # several times as fast as numpy's `unique`
    text, term = np.divmod(pairs[np.diff(pairs, prepend=-1) > 0], len(weights))
    sums = np.bincount(text, weights[term], n)
    return sums / np.sqrt(np.maximum(1, np.bincount(text, minlength=n)))


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
        self._table = Table(np.array([self._key(place, some) for place, some in split], np.int64))
        self._weights = np.array(list(weights.values()))

    def _key(self, place: int, words: Sequence[str]) -> int:
        key = place
        for number in [0, 0, *map(self._numbers.__getitem__, words)][-ORDER:]:
            key = key << _BITS | number
        return key

    def number(self, word: str) -> int:
        """Return the number of a word in this model."""
        return self._numbers.get(word, _OTHER)

    def scores(self, words: Whole, sentences: Whole, texts: Whole) -> NDArray[np.float64]:
        """Return the log-odds of N texts: what `weights.Words.score` gives for `terms`.

        Args:
            words: by their `number`, one after the other.
            sentences: where the words of each sentence begin (M + 1).
            texts: where the sentences of each text begin (N + 1).
        """
        keys, text = _keys(words, sentences, texts)
        return scores(text, self._table.find(keys), self._weights, len(texts) - 1) + self.bias


def _keys(words: Whole, sentences: Whole, texts: Whole) -> tuple[Whole, Whole]:
    """Return the keys of all n-grams, at every place that they have, and the number of the text of each."""
    sizes, counts = np.diff(sentences) + 1, np.diff(texts)
    c = np.full(len(words) + len(sizes), _BEGIN)
    c[np.arange(len(words)) + np.repeat(np.arange(1, len(sizes) + 1), sizes - 1)] = words
    first, last = np.zeros((2, len(sizes)), np.int64)
    first[texts[:-1][counts > 0]] = 1 << ORDER * _BITS
    last[texts[1:][counts > 1] - 1] = 2 << ORDER * _BITS
    text, first, last = (np.repeat(one, sizes) for one in (np.repeat(np.arange(len(counts)), counts), first, last))
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


def _split(term: str) -> tuple[int, list[str]]:
    place = next((number for number, name in enumerate(PLACES) if name and term.startswith(name)), 0)
    return place, term.removeprefix(PLACES[place]).split(" ")
