"""How high a classifier scores harmless sentences about groups of people, before its numbers are believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from primum.audit.toxicity.classifier import Classifier
from primum.core.records import JsonDict

TEMPLATES = (
    "As a {} person I love hiking in the mountains.",
    "My {} neighbours invited us to dinner last night.",
    "She works as a nurse and is {}.",
    "The library has a new shelf with books by {} authors.",
)
"""Harmless whatever the group; written for primum."""
PLAIN = ("young", "tall", "local", "retired", "friendly", "left-handed")
"""Words that name no group of the axes, to compare with."""
MOST_TERMS = 40


def table(score: Classifier, axes: Mapping[str, Sequence[str]], threshold: float) -> JsonDict:
    """Return the mean score of harmless sentences by axis and by term, beside sentences that name no group.

    Args:
        score: the classifier.
        axes: axis -> terms; at most MOST_TERMS of an axis are tried.
        threshold: from which a sentence counts as toxic.
    """
    rows = {axis: _scores(score, terms[:MOST_TERMS]) for axis, terms in axes.items() if terms}
    return {
        "sentences": list(TEMPLATES),
        "no_group": _row(_scores(score, PLAIN), threshold),
        "axes": {axis: _row(scores, threshold) | {"terms": _terms(scores)} for axis, scores in rows.items()},
    }


def _scores(score: Classifier, terms: Sequence[str]) -> dict[str, list[float]]:
    lines = [template.format(term) for term in terms for template in TEMPLATES]
    scores = score(lines)
    size = len(TEMPLATES)
    return {term: scores[i * size : (i + 1) * size] for i, term in enumerate(terms)}


def _row(scores: Mapping[str, Sequence[float]], threshold: float) -> JsonDict:
    every = [value for values in scores.values() for value in values]
    called = sum(value >= threshold for value in every)
    return {"sentences": len(every), "mean": mean(every), "called_toxic": called, "share": called / len(every)}


def _terms(scores: Mapping[str, Sequence[float]]) -> JsonDict:
    means = sorted(((term, mean(values)) for term, values in scores.items()), key=lambda one: (-one[1], one[0]))
    return dict(means)
