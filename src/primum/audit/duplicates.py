"""Near-duplicates by MinHash and banding (Broder 1997; Leskovec et al., Mining of Massive Datasets, chapter 3).

Words are lower-cased runs of letters and digits; a document's features are its runs of 5 words. The pass writes a
small signature of every document; afterwards bands are compared one at a time, so memory is some 50 bytes a document.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from primum.audit.hashing import MIX, Words, cut_short, hashed, runs, slices
from primum.audit.minhash import BINS, minhashes
from primum.audit.notes import Note
from primum.core.records import JsonDict
from primum.core.store import disk_error

RUN = 5
"""Words of a feature, as datatrove takes them."""
BANDS = 16
ROWS = BINS // BANDS
"""A pair of overlap J shares a band with probability 1 - (1 - J^8)^16: 95% at .8, 6% at .5."""
THRESHOLD = 0.8
PAIRS = 1 << 16
"""Pairs that are confirmed together."""
SUFFIX = ".signatures"
NOTHING = 0
"""The bands of a text without a word: it repeats nothing."""
SIGNATURE = np.dtype([("bands", np.uint64, (BANDS,)), ("hashes", np.uint8, (BINS,))])
"""What is kept of a document: a hash of each band, and the last byte of each MinHash to confirm a pair by."""
_ID, _SOURCE, _ATTRIBUTES = b'{"id": ', b', "source": ', b', "attributes": '
"""What stands before each value of a shard's line; inside a value its quotes would have backslashes.

So a line is cut without being parsed, and what is written of it is as it was.
"""
_WEIGHTS = np.cumprod(np.full(ROWS // 2, MIX), dtype=np.uint64)


class Features(NamedTuple):
    """Hashed features of documents, one after the other, and where each document's begin (and the last one's end)."""

    hashes: Words
    offsets: NDArray[np.int64]


def features(texts: Sequence[str]) -> Features:
    """Return the hashed 5-word runs of each text; a shorter text is one feature, one without words has none."""
    held = hashed(texts)
    counts = np.diff(held.first)
    kept = np.ones(len(held.words), bool)
    kept[cut_short(held, RUN)[0]] = False
    kept[held.first[:-1][counts > 0]] = True  # all of a shorter text is one feature
    sizes = np.where(counts >= RUN, counts - RUN + 1, np.minimum(counts, 1))
    return Features(runs(held, RUN)[kept], np.concatenate([[0], np.cumsum(sizes)]))


def signatures(texts: Sequence[str]) -> NDArray[Any]:
    """Return the signature of each text, dtype SIGNATURE."""
    parts = [_signed(features(some)) for some in slices(texts)]
    return np.concatenate(parts) if parts else np.zeros(0, SIGNATURE)


def _signed(found: Features) -> NDArray[Any]:
    out = np.zeros(len(found.offsets) - 1, SIGNATURE)
    numbers = minhashes(*found)
    bands = (numbers.view(np.uint64).reshape(-1, BANDS, ROWS // 2) * _WEIGHTS).sum(axis=2)  # two hashes a number
    bands ^= bands >> np.uint64(31)
    out["bands"] = np.where(np.diff(found.offsets)[:, None] > 0, np.maximum(bands, 1), NOTHING)
    out["hashes"] = numbers.astype(np.uint8)
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
    leaders = np.arange(total, dtype=np.int64)
    if not total:
        return leaders
    joined = work / "all.signatures"
    _concatenate(paths, joined)
    held = np.memmap(joined, SIGNATURE, "r")
    for band in range(BANDS):
        first, other = _candidates(np.array(held["bands"][:, band]))
        apart = leaders[first] != leaders[other]
        first, other = _confirmed(held, first[apart], other[apart], threshold)
        leaders = _together(leaders, leaders[first], leaders[other])
    del held
    joined.unlink()
    return leaders


def _concatenate(paths: Sequence[Path], into: Path) -> None:
    with into.open("wb") as file:
        for path in paths:
            file.write(path.read_bytes())


def _candidates(column: Words) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (first, other) for every document that shares a band's hash with an earlier one."""
    order = np.argsort(column, kind="stable")
    ordered = column[order]
    begins = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(begins, append=len(column))
    many = (sizes > 1) & (ordered[begins] != NOTHING)
    begins, sizes = begins[many], sizes[many]
    first = np.repeat(order[begins], sizes - 1)
    behind = np.arange(len(first)) - np.repeat(np.cumsum(sizes - 1) - (sizes - 1), sizes - 1)
    return first, order[np.repeat(begins + 1, sizes - 1) + behind]


def _confirmed(
    held: NDArray[Any], first: NDArray[np.int64], other: NDArray[np.int64], threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs whose estimated overlap reaches the threshold."""
    hashes, kept = held["hashes"], np.zeros(len(first), bool)
    for at in range(0, len(first), PAIRS):
        some = slice(at, at + PAIRS)
        same = np.mean(hashes[first[some]] == hashes[other[some]], axis=1)
        kept[some] = (same - 1 / 256) / (1 - 1 / 256) >= threshold  # different hashes share a byte once in 256
    return first[kept], other[kept]


def _together(leaders: NDArray[np.int64], one: NDArray[np.int64], two: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the leaders when these pairs of leaders belong together: of all that are joined the first one leads."""
    if not len(one):
        return leaders
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    known, places = np.unique(np.concatenate([one, two]), return_inverse=True)
    ends = (places[: len(one)], places[len(one) :])
    graph = coo_array((np.ones(len(one), np.int8), ends), shape=(len(known), len(known)))
    _, part = connected_components(graph, directed=False)
    _, smallest = np.unique(part, return_index=True)  # `known` ascends: the first of a part is its smallest
    renamed = np.arange(len(leaders))
    renamed[known] = known[smallest[part]]
    return renamed[leaders]


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
    repeated = np.zeros(len(first), bool)
    repeated[first[first != np.arange(len(first))]] = True
    by_source = _write(work, stems, first, repeated, path)
    duplicates = by_source.total()
    return {
        "documents": len(first), "threshold": threshold, "duplicates": duplicates, "groups": int(repeated.sum()),
        "share": duplicates / len(first) if len(first) else None,
        "by_source": dict(sorted(by_source.items(), key=lambda one: (-one[1], one[0]))),
    }  # fmt: skip


def _write(
    work: Path, stems: Sequence[str], first: NDArray[np.int64], repeated: NDArray[np.bool_], path: Path
) -> Counter[str]:
    """Write the repeats in one reading of the shards; return how many there are by source.

    Only the ids of documents that are repeated are held: a first one comes before its repeats.
    """
    ids: dict[int, bytes] = {}
    by_source: Counter[bytes] = Counter()
    temporary = path.with_name(path.name + ".partial")
    try:
        with temporary.open("wb") as file:
            for number, line in enumerate(_lines(work, stems)):
                leader = int(first[number])
                if leader == number and not repeated[number]:
                    continue
                own, _, source = line.partition(_ATTRIBUTES)[0].removeprefix(_ID).partition(_SOURCE)
                if leader == number:
                    ids[number] = own
                    continue
                by_source[source] += 1
                file.write(b"".join([_ID, own, b', "of": ', ids[leader], _SOURCE, source, b"}\n"]))
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(error, path) from error
    return Counter({json.loads(source): number for source, number in by_source.items()})


def _lines(work: Path, stems: Sequence[str]) -> Iterator[bytes]:
    for stem in stems:
        with (work / f"{stem}.jsonl").open("rb") as file:
            yield from file
