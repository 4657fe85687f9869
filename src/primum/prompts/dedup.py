"""Duplicates: first Meditron's exact key, then near-duplicates by Jaccard overlap; the first occurrence wins.

Near-duplicates are found exactly, without hashing: an inverted index over each text's rarest features (prefix
filtering) yields every candidate that can reach the threshold. It knows words only: a paraphrase is no duplicate here.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from primum.core.records import Prompt, digest
from primum.prompts.dropped import Dropped, mend_twins
from primum.prompts.text import exact_key, ngrams, words

THRESHOLD = 0.8
SHORT_WORDS = 8
"""Texts of fewer words are compared as sets of words: a single changed word would spoil most of their 3-grams."""


class Deduped(NamedTuple):
    """What stays, in order, and what was dropped."""

    kept: list[Prompt]
    dropped: list[Dropped]


class Near(NamedTuple):
    """An earlier prompt that says nearly the same, and how much of it (Jaccard, 0 to 1)."""

    prompt: Prompt
    overlap: float


class _Features(NamedTuple):
    tokens: frozenset[str]
    trigrams: frozenset[str]
    short: bool


def _features(text: str) -> _Features:
    found = words(text)
    return _Features(frozenset(found), ngrams(found, 3), len(found) < SHORT_WORDS)


class _Sets:
    """Feature sets that were added, found again by their rarest members."""

    def __init__(self, threshold: float, rank: Counter[str]) -> None:
        self.threshold, self.rank = threshold, rank
        self.held: list[tuple[frozenset[str], Prompt]] = []
        self.postings: defaultdict[str, list[int]] = defaultdict(list)

    def _rarest(self, features: frozenset[str]) -> list[str]:
        # Two sets with Jaccard >= t share at least t * |larger| members, so in any common order their
        # first |x| - ceil(t |x|) + 1 members share one. The order by rarity keeps the postings short.
        ordered = sorted(features, key=lambda feature: (self.rank[feature], feature))
        return ordered[: len(ordered) - math.ceil(self.threshold * len(ordered) - 1e-9) + 1]

    def add(self, features: frozenset[str], prompt: Prompt) -> None:
        for feature in self._rarest(features):
            self.postings[feature].append(len(self.held))
        self.held.append((features, prompt))

    def matches(self, features: frozenset[str]) -> Iterator[Near]:
        candidates = {i for feature in self._rarest(features) for i in self.postings.get(feature, ())}
        for index in sorted(candidates):
            other, prompt = self.held[index]
            if min(len(other), len(features)) < self.threshold * max(len(other), len(features)) - 1e-9:
                continue  # the sizes alone rule it out
            overlap = len(features & other) / len(features | other)
            if overlap >= self.threshold - 1e-9:
                yield Near(prompt, overlap)


class NearIndex:
    """Prompts added so far, asked for one that nearly equals a new one.

    Only prompts of the same intent with the same turns before the last are compared, and never a prompt with its
    own twin: twins are meant to look alike.

    Args:
        prompts: all prompts that will be added or asked about (their word counts set the search order).
        threshold: the least Jaccard overlap that counts.
    """

    def __init__(self, prompts: Iterable[Prompt], threshold: float = THRESHOLD) -> None:
        self.threshold = threshold
        self.rank: Counter[str] = Counter()
        self.read: dict[str, _Features] = {}
        for prompt in prompts:
            features = self._features(prompt)
            self.rank.update(features.tokens | features.trigrams)
        self.groups: dict[tuple[str, str, str], _Sets] = {}

    def _features(self, prompt: Prompt) -> _Features:
        """Return what a prompt's text is compared by; every text is read once."""
        text = prompt.text
        if text not in self.read:
            self.read[text] = _features(text)
        return self.read[text]

    def _sets(self, prompt: Prompt, kind: str) -> _Sets:
        others = [m.identity for m in prompt.messages if m.content != prompt.text]
        key = (kind, prompt.intent, digest(others) if others else "")
        if key not in self.groups:
            self.groups[key] = _Sets(self.threshold, self.rank)
        return self.groups[key]

    def add(self, prompt: Prompt) -> None:
        """Hold the prompt for later questions."""
        features = self._features(prompt)
        self._sets(prompt, "short" if features.short else "long").add(features.tokens, prompt)
        if not features.short:
            self._sets(prompt, "trigrams").add(features.trigrams, prompt)

    def find(self, prompt: Prompt) -> Near | None:
        """Return the first prompt held that nearly equals this one, or None (see `all`)."""
        return next(self.all(prompt), None)

    def all(self, prompt: Prompt) -> Iterator[Near]:
        """Yield the prompts held that nearly equal this one.

        Two long texts are compared by word 3-grams; where either is short, by their sets of words.
        """
        features = self._features(prompt)
        by_words = ("short", "long") if features.short else ("short",)
        found = [near for kind in by_words for near in self._sets(prompt, kind).matches(features.tokens)]
        if not features.short:
            found += self._sets(prompt, "trigrams").matches(features.trigrams)
        yield from (near for near in found if not _twins(near.prompt, prompt))


def _twins(a: Prompt, b: Prompt) -> bool:
    return a.twin == b.id or b.twin == a.id


def prompt_key(prompt: Prompt, *, unicode: bool = True) -> str:
    """Return Meditron's exact key of a prompt; turns before or beside a single user turn are part of it."""
    if any(m.files for m in prompt.messages):  # what is in a file no text tells
        return prompt.id
    if len(prompt.messages) == 1:
        return exact_key(prompt.text, unicode=unicode)
    return "\x1f".join(f"{m.role}\x1e{exact_key(m.text, unicode=unicode)}" for m in prompt.messages)


def dedup(prompts: Sequence[Prompt], *, threshold: float = THRESHOLD, unicode: bool = True) -> Deduped:
    """Drop what was there before; the first occurrence stays as it was written.

    The exact key holds across all prompts (the same words cannot be both harmful and benign: the later is dropped
    for `same_words_other_intent`); near-duplicates are sought within an intent, never between twins.

    Args:
        prompts: in the order of precedence.
        threshold: Jaccard overlap from which two texts are near-duplicates; above 1, none are sought.
        unicode: make texts plain (NFKC, no zero-width characters) before the exact key. False: as published.
    """
    first: dict[str, Prompt] = {}
    near = NearIndex(prompts, threshold)
    kept: list[Prompt] = []
    dropped: list[Dropped] = []
    for prompt in prompts:
        key = prompt_key(prompt, unicode=unicode)
        fault = _fault(prompt, first.get(key), near)
        if fault:
            dropped.append(fault)
            continue
        first[key] = prompt
        near.add(prompt)
        kept.append(prompt)
    instead = {d.prompt.id: d.of for d in dropped if d.reason in ("exact_duplicate", "near_duplicate")}
    return Deduped(mend_twins(kept, instead), dropped)


def _fault(prompt: Prompt, same: Prompt | None, near: NearIndex) -> Dropped | None:
    if not exact_key(prompt.text):
        return Dropped(prompt, "blank", detail="no visible text")
    if same:
        reason = "exact_duplicate" if same.intent == prompt.intent else "same_words_other_intent"
        return Dropped(prompt, reason, same.id, f"same as a {same.intent} prompt of {same.source}")
    if near.threshold <= 1 and (found := near.find(prompt)):
        return Dropped(prompt, "near_duplicate", found.prompt.id, f"Jaccard {found.overlap:.2f}")
    return None
