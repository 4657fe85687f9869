"""Word vectors: how near two texts are in subject, without a shared word. Made by fit_vectors.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name("vectors.npz")


class Vectors(NamedTuple):
    """Word to row, and the rows (N, D) of length 1 times the word's weight."""

    places: dict[str, int]
    rows: NDArray[np.float32]


class Near(NamedTuple):
    """Cosine of the two texts' sums, mean over the first text's words of the nearest in the second, and words known."""

    whole: float
    best: float
    known: int


def near(asked: Iterable[str], said: Sequence[str]) -> Near:
    """Return how near two texts are, given by their words; 0 where too few are known."""
    held = load()
    first = _rows(held, asked)
    second = _rows(held, said)
    if not len(first) or not len(second):
        return Near(0.0, 0.0, min(len(first), len(second)))
    a, b = first.sum(0), second.sum(0)
    size = float(np.sqrt((a @ a) * (b @ b))) + 1e-9
    best = (first @ second.T).max(1)
    return Near(float(a @ b) / size, float(best.mean()), min(len(first), len(second)))


def _rows(held: Vectors, words: Iterable[str]) -> NDArray[np.float32]:
    places = held.places
    found: list[int] = []
    for word in dict.fromkeys(words):
        place = places.get(word)
        if place is None and word.endswith("s"):
            place = places.get(word[:-1])
        if place is not None:
            found.append(place)
    return held.rows[found]


def save(words: Sequence[str], rows: NDArray[np.int8], weight: NDArray[np.int8], path: Path) -> None:
    """Write the vectors; bytes only, no pickle."""
    with path.open("wb") as file:
        np.savez_compressed(file, words=np.frombuffer("\n".join(words).encode(), np.uint8), rows=rows, weight=weight)


@cache
def load() -> Vectors:
    """Return the vectors that ship with primum, read once."""
    with np.load(FILE, allow_pickle=False) as file:
        words: list[str] = file["words"].tobytes().decode().split("\n")
        rows: NDArray[Any] = file["rows"].astype(np.float32) / 127
        weight: NDArray[Any] = file["weight"].astype(np.float32) / 127
    return Vectors({word: i for i, word in enumerate(words)}, rows * weight[:, None])
