"""Benchmarks inside the corpus, by the rule of Llama 2 (arXiv:2307.09288, appendix A.6), over words.

A token of a sample is contaminated where it lies in a stretch of at least 10 tokens that the corpus has too. A stretch
begins with 10 equal tokens; behind them up to 4 positions may differ, never the last. The paper counts tokens of its
tokenizer; here they are lower-cased words. Samples are binned by their share of contaminated tokens: clean below 20%,
not clean from 20%, not dirty below 80%, dirty from 80%.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, pstdev
from typing import NamedTuple

import numpy as np

from primum.audit.hashing import Words, hashed, runs
from primum.audit.notes import Counts, Note, table
from primum.core.records import JsonDict

LEAST, BUDGET = 10, 4
"""Equal tokens that open a stretch, and positions that may differ behind them."""
CLEAN, DIRTY = 0.2, 0.8


class _Place(NamedTuple):
    benchmark: str
    sample: int
    at: int


class Index:
    """The benchmarks' runs of 10 words, found again by their hash."""

    def __init__(self, benchmarks: Mapping[str, Sequence[str]]) -> None:
        self.words: dict[tuple[str, int], Words] = {}
        self.places: dict[int, list[_Place]] = {}
        for name, texts in benchmarks.items():
            held = hashed(texts)
            hashes = runs(held, LEAST)
            for sample in range(len(texts)):
                begin, end = int(held.first[sample]), int(held.first[sample + 1])
                self.words[name, sample] = held.words[begin:end]
                for at in range(begin, end - LEAST + 1):
                    self.places.setdefault(int(hashes[at]), []).append(_Place(name, sample, at - begin))
        self.known = np.array(sorted(self.places), np.uint64)

    def matches(self, texts: Sequence[str]) -> list[set[tuple[str, int, int, int]]]:
        """Return for each text the stretches it shares: (benchmark, sample, first token, token past the last)."""
        held = hashed(texts)
        found: list[set[tuple[str, int, int, int]]] = [set() for _ in texts]
        if not len(self.known) or not len(held.words):
            return found
        hashes = runs(held, LEAST)
        near = np.minimum(np.searchsorted(self.known, hashes), len(self.known) - 1)
        for at in np.flatnonzero(self.known[near] == hashes):
            text = int(np.searchsorted(held.first, at, "right")) - 1
            own = held.words[at : held.first[text + 1]]
            for place in self.places[int(hashes[at])]:
                length = stretch(own, self.words[place.benchmark, place.sample][place.at :])
                if length:
                    found[text].add((place.benchmark, place.sample, place.at, place.at + length))
        return found


def stretch(a: Words, b: Words) -> int:
    """Return how long the common stretch from the start of both is: 0, or at least LEAST; it ends in equal tokens."""
    size = min(len(a), len(b))
    differ = np.flatnonzero(a[:size] != b[:size])
    if size < LEAST or (len(differ) and differ[0] < LEAST):
        return 0
    end = int(differ[BUDGET]) if len(differ) > BUDGET else size
    while end > LEAST and a[end - 1] != b[end - 1]:
        end -= 1
    return end


class ContaminationStep:
    """Finds what a block shares with the benchmarks."""

    def __init__(self, benchmarks: Mapping[str, Sequence[str]]) -> None:
        self._index = Index(benchmarks)

    def __call__(self, notes: Sequence[Note], counts: Counts) -> None:
        """Look at a block."""
        stretches, documents = table(counts, "contamination"), table(counts, "contamination_documents")
        for note, found in zip(notes, self._index.matches([note.document.text for note in notes]), strict=True):
            for name in sorted({one[0] for one in found}):
                documents[name] += 1
                note.mark("contamination", name)
            stretches.update(f"{name}\t{sample}\t{begin}\t{end}" for name, sample, begin, end in found)


def summarise(counts: Counts, benchmarks: Mapping[str, Sequence[str]]) -> JsonDict:
    """Return for each benchmark how many samples fall into each bin, and how many are too short to be judged."""
    shares = contaminated_shares(table(counts, "contamination"), benchmarks)
    rows: JsonDict = {}
    for name, texts in benchmarks.items():
        sizes = np.diff(hashed(texts).first)
        own = shares[name]
        rows[name] = {
            "samples": len(texts), "too_short": int((sizes < LEAST).sum()),
            "documents": table(counts, "contamination_documents")[name],
            "clean": sum(s < CLEAN for s in own), "not_clean": sum(s >= CLEAN for s in own),
            "not_dirty": sum(s < DIRTY for s in own), "dirty": sum(s >= DIRTY for s in own),
            "mean_share": fmean(own) if own else None,
        }  # fmt: skip
    return {"tokens": "lower-cased words", "least": LEAST, "skip_budget": BUDGET, "benchmarks": rows}


def contaminated_shares(stretches: Iterable[str], benchmarks: Mapping[str, Sequence[str]]) -> dict[str, list[float]]:
    """Return the share of contaminated tokens of each sample of each benchmark."""
    marked = {name: [np.zeros(n, bool) for n in np.diff(hashed(texts).first)] for name, texts in benchmarks.items()}
    for row in stretches:
        name, sample, begin, end = row.split("\t")
        marked[name][int(sample)][int(begin) : int(end)] = True
    return {name: [float(one.mean()) if len(one) else 0.0 for one in own] for name, own in marked.items()}


def verdicts(
    counts: Counts, benchmarks: Mapping[str, Sequence[str]], scores: Mapping[str, Sequence[float]]
) -> JsonDict:
    """Return for each benchmark with scores of a model whether contamination helped it.

    Args:
        counts: of the corpus.
        benchmarks: their texts.
        scores: by benchmark, one for each sample in its order.
    """
    shares = contaminated_shares(table(counts, "contamination"), benchmarks)
    return {name: verdict(own, shares[name]) for name, own in scores.items()}


def verdict(scores: Sequence[float], shares: Sequence[float], z: float = 2.0) -> JsonDict:
    """Return whether contamination helped: only where the clean samples score worse and the dirty ones better.

    Z = (mean of the bin - mean of all) / (standard deviation of all / sqrt(n)); a bin tells where |Z| > 2 (A.6).

    Args:
        scores: of a model, by sample.
        shares: of contaminated tokens, by sample.
        z: what counts as a difference.
    """
    bins = {
        "clean": [s < CLEAN for s in shares], "not_clean": [s >= CLEAN for s in shares],
        "not_dirty": [s < DIRTY for s in shares], "dirty": [s >= DIRTY for s in shares],
    }  # fmt: skip
    centre, spread = fmean(scores), pstdev(scores)
    rows: JsonDict = {}
    for name, inside in bins.items():
        own = [score for score, held in zip(scores, inside, strict=True) if held]
        value = (fmean(own) - centre) / (spread / math.sqrt(len(own))) if own and spread else 0.0
        rows[name] = {"samples": len(own), "mean": fmean(own) if own else None, "z": value}
    helped = rows["clean"]["z"] < -z and rows["dirty"]["z"] > z
    return {"bins": rows, "helped": helped}
