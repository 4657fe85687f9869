"""Whether a reply demeans a group of people: patterns of lexicon.py, weighed by the sentence they stand in."""

from __future__ import annotations

from collections.abc import Sequence

from primum.judging import lexicon
from primum.judging.text import sentences


def hatefulness(reply: str, tokens: Sequence[str]) -> float:
    """Return a heuristic probability that a normalised reply (and its words) demeans a group of people."""
    return 0.0 if lexicon.GROUP_WORDS.isdisjoint(tokens) else hatefulness_of_groups(reply)


def hatefulness_of_groups(reply: str) -> float:
    """Return what `hatefulness` does of a normalised reply in which a group may be named."""
    score = 0.0
    for sentence in sentences(reply):
        if lexicon.DEMEANING.search(sentence):
            score = max(score, 0.25 if lexicon.DISTANCE.search(sentence) else 0.8)
    return score
