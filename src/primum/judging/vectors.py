"""Word vectors: how near two texts are in subject, without a shared word. Made by fit_vectors.py."""

from __future__ import annotations

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
    """How near N pairs of texts are.

    Cosine of the texts' sums, mean over the first one's words of the nearest in the second, known words of the poorer.
    """

    whole: NDArray[np.float64]
    best: NDArray[np.float64]
    known: NDArray[np.int64]


def near(asked: Sequence[Known], said: Sequence[Known]) -> Near:
    """Return how near the texts of each pair are; 0 where too few of their words are known."""
    known = np.array([min(len(a.rows), len(b.rows)) for a, b in zip(asked, said, strict=True)])
    a, b = (np.array([one.sum for one in some]) for some in (asked, said))
    sizes = np.sqrt(_products(a, a) * _products(b, b)) + 1e-9
    best = [
        float(np.add.reduce(np.maximum.reduce(a.rows @ b.rows.T, 1))) / len(a.rows) if n else 0.0
        for a, b, n in zip(asked, said, known, strict=True)
    ]
    return Near(np.where(known > 0, _products(a, b) / sizes, 0.0), np.array(best), known)


def _products(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the products of the rows of two arrays (N, D)."""
    return (a[:, None] @ b[:, :, None])[:, 0, 0].astype(np.float64)


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
