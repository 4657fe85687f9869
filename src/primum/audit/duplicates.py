"""Near-duplicates by MinHash and banding (Broder 1997; Leskovec et al., Mining of Massive Datasets, chapter 3).

Words are lower-cased runs of letters and digits; a document's features are its runs of 5 words. The pass writes a
small signature of every document; afterwards bands are compared one at a time, so memory is 16 bytes a document.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from primum.audit.hashing import MIX, Words, hashed, runs
from primum.audit.notes import Note
from primum.core.errors import MissingExtraError
from primum.core.records import JsonDict
from primum.core.store import write_jsonl

RUN = 5
"""Words of a feature, as datatrove takes them."""
BANDS, ROWS = 16, 8
"""A pair of overlap J shares a band with probability 1 - (1 - J^8)^16: 95% at .8, 6% at .5."""
HASHES = BANDS * ROWS
THRESHOLD = 0.8
SUFFIX = ".signatures"
SEED = 42
NOTHING = 0
"""The bands of a text without a word: it repeats nothing."""
SIGNATURE = np.dtype([("bands", np.uint64, (BANDS,)), ("hashes", np.uint8, (HASHES,))])
"""What is kept of a document: a hash of each band, and the last byte of each MinHash to confirm a pair by."""


class Features(NamedTuple):
    """Hashed features of documents, one after the other, and where each document's begin (and the last one's end)."""

    hashes: Words
    offsets: Words


def features(texts: Sequence[str]) -> Features:
    """Return the hashed 5-word runs of each text; a shorter text is one feature, one without words has none."""
    held = hashed(texts)
    counts = np.diff(held.first)
    sizes = np.where(counts >= RUN, counts - RUN + 1, np.minimum(counts, 1))
    kept = np.arange(len(held.words)) - np.repeat(held.first[:-1], counts) < np.repeat(sizes, counts)
    return Features(runs(held, RUN)[kept], np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64))


def signatures(texts: Sequence[str]) -> NDArray[Any]:
    """Return the signature of each text, dtype SIGNATURE.

    Raises:
        MissingExtraError: rensa is not installed.
    """
    try:
        from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue] (a compiled module without stubs)
    except ImportError as error:
        raise MissingExtraError("rensa, which finds near-duplicates,", "audit") from error
    out = np.zeros(len(texts), SIGNATURE)
    if not texts:
        return out
    found = features(texts)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(found.hashes, found.offsets, HASHES, SEED)
    rows = np.fromiter(chain.from_iterable(matrix.to_rows()), np.uint32, len(texts) * HASHES)
    hashes = rows.reshape(len(texts), BANDS, ROWS).astype(np.uint64)
    bands = np.zeros((len(texts), BANDS), np.uint64)
    for row in range(ROWS):
        bands = (bands ^ hashes[:, :, row]) * MIX
        bands ^= bands >> np.uint64(31)
    out["bands"] = np.where(np.diff(found.offsets)[:, None] > 0, np.maximum(bands, 1), NOTHING)
    out["hashes"] = (hashes & np.uint64(255)).reshape(len(texts), HASHES)
    return out


def write_signatures() -> Callable[[Sequence[Note]], dict[str, bytes]]:
    """Return what writes the signatures of a block's documents."""
    return lambda notes: {SUFFIX: signatures([note.document.text for note in notes]).tobytes()}


def groups(work: Path, stems: Sequence[str], threshold: float = THRESHOLD) -> NDArray[np.int64]:
    """Return for each document the number of the first one that it repeats (its own where it repeats none).

    Documents that share a band are confirmed by the share of equal hashes, an estimate of their Jaccard overlap with
    a standard error of at most 0.045; a chain of near-duplicates is one group.

    Args:
        work: the folder with the shards.
        stems: their names, in order.
        threshold: the least overlap.
    """
    paths = [work / (stem + SUFFIX) for stem in stems]
    total = sum(path.stat().st_size for path in paths) // SIGNATURE.itemsize
    parent = np.arange(total, dtype=np.int64)
    if not total:
        return parent
    joined = work / "all.signatures"
    _concatenate(paths, joined)
    held = np.memmap(joined, SIGNATURE, "r")
    for band in range(BANDS):
        for first, other in _candidates(np.array(held["bands"][:, band])):
            if _root(parent, first) != _root(parent, other) and _overlap(held, first, other) >= threshold:
                low, high = sorted((_root(parent, first), _root(parent, other)))
                parent[high] = low
    del held
    joined.unlink()
    return np.array([_root(parent, index) for index in range(total)], np.int64)


def _concatenate(paths: Sequence[Path], into: Path) -> None:
    with into.open("wb") as file:
        for path in paths:
            file.write(path.read_bytes())


def _candidates(column: Words) -> Iterator[tuple[int, int]]:
    """Yield (first, other) for every document that shares a band's hash with an earlier one."""
    order = np.argsort(column, kind="stable")
    ordered = column[order]
    same = np.flatnonzero((ordered[1:] == ordered[:-1]) & (ordered[1:] != NOTHING)) + 1
    first = -1
    before = -2
    for at in same:
        if at != before + 1:
            first = int(order[at - 1])
        before = int(at)
        yield first, int(order[at])


def _overlap(held: NDArray[Any], first: int, other: int) -> float:
    same = float(np.mean(held["hashes"][first] == held["hashes"][other]))
    return (same - 1 / 256) / (1 - 1 / 256)  # two different hashes share their last byte once in 256


def _root(parent: NDArray[np.int64], index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = int(parent[index])
    return index


def duplicate_findings(work: Path, stems: Sequence[str], threshold: float, path: Path) -> JsonDict:
    """Find near-duplicates and write one line for each document that repeats an earlier one; return the numbers.

    Args:
        work: the folder with the shards.
        stems: their names, in order.
        threshold: the least overlap.
        path: the file to write: id, of (the first one's id), source.

    Raises:
        StepFailedError: the disk is full or cannot be written.
    """
    first = groups(work, stems, threshold)
    repeats = np.flatnonzero(first != np.arange(len(first)))
    leaders = np.unique(first[repeats])
    named = _identities(work, stems, set(leaders.tolist()) | set(repeats.tolist()))
    rows = [{"id": named[i][0], "of": named[int(first[i])][0], "source": named[i][1]} for i in map(int, repeats)]
    write_jsonl(path, rows)
    by_source = Counter(row["source"] for row in rows)
    return {
        "documents": len(first), "threshold": threshold, "duplicates": len(rows), "groups": len(leaders),
        "share": len(rows) / len(first) if len(first) else None,
        "by_source": dict(sorted(by_source.items(), key=lambda one: (-one[1], one[0]))),
    }  # fmt: skip


def _identities(work: Path, stems: Sequence[str], wanted: set[int]) -> dict[int, tuple[str, str]]:
    """Return id and source of the documents with these numbers."""
    found: dict[int, tuple[str, str]] = {}
    number = 0
    for stem in stems:
        with (work / f"{stem}.jsonl").open(encoding="utf-8") as file:
            for line in file:
                if number in wanted:
                    row = json.loads(line)
                    found[number] = (row["id"], row["source"])
                number += 1
    return found
