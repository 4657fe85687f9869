"""The embedded toxicity classifier: a bag of words, for machines without a better one.

The weights are those of alt-profanity-check 1.9.1 (MIT; NOTICE.md), a calibrated linear model over 15,442 words, laid
out as plain arrays, so that nothing is unpickled. It knows insults and swear words. It does not know what is meant, and
it scores harmless sentences about some groups high: `bias.py` prints by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

NAME = "embedded"


class _Model(NamedTuple):
    vectorizer: Any
    idf: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float64]
    slope: NDArray[np.float64]
    offset: NDArray[np.float64]


@cache
def _model() -> _Model:
    from sklearn.feature_extraction.text import CountVectorizer

    with resources.files("primum.audit.toxicity").joinpath("embedded.npz").open("rb") as file:
        held = np.load(file, allow_pickle=False)
        words = held["words"].tobytes().decode("utf-8").split("\n")
        arrays = [held[name] for name in ("idf", "weights", "bias", "slope", "offset")]
    return _Model(CountVectorizer(vocabulary={word: i for i, word in enumerate(words)}), *arrays)


def score(lines: Sequence[str]) -> list[float]:
    """Return the probability, 0 to 1, that each line insults or swears.

    TF-IDF with unit length, five linear models, each calibrated by Platt's sigmoid 1 / (1 + exp(a f + b)); their mean.
    """
    if not lines:
        return []
    model = _model()
    counts = model.vectorizer.transform(lines).multiply(model.idf).tocsr()
    norms = np.sqrt(np.asarray(counts.multiply(counts).sum(axis=1))).ravel()
    raw = np.asarray(counts @ model.weights.T) / np.where(norms == 0, 1, norms)[:, None] + model.bias
    return (1 / (1 + np.exp(model.slope * raw + model.offset))).mean(axis=1).tolist()
