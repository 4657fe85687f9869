"""The weights of the embedded judge: numbers and words in one npz file, no pickle.

Logistic regressions over what reading.py sees: does the reply decline (`refused`: n-grams and numbers), is it
about something else (`topic`), does it give what was asked (`helps`: numbers), and of a prompt whose intent nobody
states, does it ask for harm (`intent`: words and pairs of words of the prompt). One more is of single sentences: is it
meant for a judge (`addressed`, addressed.py)?
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from primum.judging.grams import Grams

Array = NDArray[np.float32]
FILE = Path(__file__).with_name("embedded.npz")


class Words(NamedTuple):
    """A linear model over the presence of terms: the terms' weights, and the bias."""

    weights: dict[str, float]
    bias: float

    def score(self, terms: Iterable[str]) -> float:
        """Return the log-odds: the weights of the known terms over the root of their number, and the bias."""
        found = [weight for weight in map(self.weights.get, terms) if weight is not None]
        return math.fsum(found) / max(1, len(found)) ** 0.5 + self.bias


class Weights(NamedTuple):
    """All of the judge's numbers. `refused` holds the n-grams, `refused_numbers` what is added to its score."""

    vocabulary: frozenset[str]
    refused: Words
    refused_numbers: Array
    topic: Array
    topic_bias: float
    helps: Array
    helps_bias: float
    intent: Words
    addressed: Words
    """Is a sentence meant for a judge (addressed.py)?"""
    scale: Array
    """Platt's slope and offset of `refused`."""


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


@cache
def grams() -> Grams:
    """Return the n-grams of `refused`, made ready for many texts at once."""
    return Grams(load().refused.weights, load().refused.bias)


@cache
def intent_grams() -> Grams:
    """Return the words and pairs of words of `intent`, made ready for many texts at once."""
    return Grams(load().intent.weights, load().intent.bias)


def save(weights: Weights, path: Path = FILE) -> None:
    """Write the weights; words as UTF-8 bytes."""
    arrays: dict[str, Any] = {"vocabulary": _pack(sorted(weights.vocabulary))}
    for name in ("refused", "intent", "addressed"):
        words = cast(Words, getattr(weights, name))
        arrays[name + "_terms"] = _pack(list(words.weights))
        arrays[name] = np.array(list(words.weights.values()), np.float16)
        arrays[name + "_bias"] = np.float32(words.bias)
    for name in ("refused_numbers", "topic", "topic_bias", "helps", "helps_bias", "scale"):
        arrays[name] = np.asarray(getattr(weights, name), np.float32)
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)


@cache
def load(path: Path = FILE) -> Weights:
    """Return the weights that ship with primum, read once."""
    with np.load(path, allow_pickle=False) as file:
        held = {name: file[name] for name in file.files}
    return Weights(
        frozenset(_unpack(held["vocabulary"])), _words(held, "refused"), _array(held, "refused_numbers"),
        _array(held, "topic"), float(held["topic_bias"]), _array(held, "helps"), float(held["helps_bias"]),
        _words(held, "intent"), _words(held, "addressed"), _array(held, "scale"),
    )  # fmt: skip


def _array(held: dict[str, Any], name: str) -> Array:
    return held[name].astype(np.float32)


def _words(held: dict[str, Any], name: str) -> Words:
    values: list[float] = held[name].astype(np.float64).tolist()
    return Words(dict(zip(_unpack(held[name + "_terms"]), values, strict=True)), float(held[name + "_bias"]))


def _pack(words: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(words).encode(), np.uint8)


def _unpack(packed: NDArray[np.uint8]) -> list[str]:
    return packed.tobytes().decode().split("\n")
