"""Word vectors: how near two texts are in subject, without a shared word. Made by fit_vectors.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FILE = Path(__file__).with_name("vectors.npz")


class Vectors(NamedTuple):
    """Word (and its plural) to row, and the rows (N, D) of length 1 times the word's weight."""

    places: dict[str, int]
    rows: NDArray[np.float32]


class Known(NamedTuple):
    """What is known of a text's words: their rows (N, D), each word once, and the rows' sum (D)."""

    rows: NDArray[np.float32]
    sum: NDArray[np.float32]

class Near(NamedTuple):
    """Cosine of the two texts' sums, mean over the first text's words of the nearest in the second, and words known."""

    whole: float
    best: float
    known: int


def near(asked: Known, said: Known) -> Near:
    """Return how near two texts are; 0 where too few of their words are known."""
    fewest = min(len(asked.rows), len(said.rows))
    if not fewest:
        return Near(0.0, 0.0, 0)
    a, b = asked.sum, said.sum
    size = math.sqrt(float(a @ a) * float(b @ b)) + 1e-9
    best = (asked.rows @ said.rows.T).max(1)
    return Near(float(a @ b) / size, float(best.sum()) / len(best), fewest)


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
    places = {word + "s": i for i, word in enumerate(words)} | {word: i for i, word in enumerate(words)}
    return Vectors(places, rows * weight[:, None])
