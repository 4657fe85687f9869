"""After the pass: the ranking by risk, and the clean set beside what was dropped. Memory does not grow with the corpus.

Scores have four digits, so there are few different ones: they are counted, and the count says where a share ends.
"""

from __future__ import annotations

import heapq
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from primum.audit.risk.step import ROWS
from primum.core.records import JsonDict
from primum.core.store import disk_error, read_jsonl

RUN = 50_000
"""Rows that are sorted in memory at a time."""


@dataclass
class Cut:
    """Which rows lie above a line: all over `over`, and of those at it the first `ties` that are asked about."""

    over: float
    ties: int

    def __call__(self, score: float) -> bool:
        """Return whether a row is above the line; to be asked once of each row, in order."""
        if score == self.over and self.ties > 0:
            self.ties -= 1
            return True
        return score > self.over


def cut(scores: Counter[float], most: int) -> Cut:
    """Return the line above which the `most` riskiest rows lie, fewer where fewer have a score above zero."""
    left = most
    for score in sorted((one for one in scores if one > 0), reverse=True):
        if scores[score] >= left:
            return Cut(score, left)
        left -= scores[score]
    return Cut(0.0, 0)


def scores_of(work: Path, stems: Sequence[str]) -> Counter[float]:
    """Return how many documents have each score."""
    return Counter(row["score"] for row in _scored(work, stems))


def write_ranking(work: Path, stems: Sequence[str], share: float, least: int, path: Path) -> list[JsonDict]:
    """Write the riskiest documents, the worst first; equal scores stay in their order. Return the first few.

    Args:
        work: the folder with the shards; it also takes sorted runs for a while.
        stems: their names, in order.
        share: of the documents, how many are written.
        least: but at least so many.
        path: the file.

    Raises:
        StepFailedError: the disk is full or cannot be written.
    """
    scores = scores_of(work, stems)
    above = cut(scores, max(math.ceil(share * scores.total()), least))
    runs: list[Path] = []
    found = (row for row in _scored(work, stems) if above(row["score"]))
    while rows := list(islice(found, RUN)):
        runs.append(work / f"ranked-{len(runs):05d}.run")
        write_lines(runs[-1], sorted(rows, key=_worst))
    write_lines(path, heapq.merge(*map(_lines, runs), key=_worst))
    for run in runs:
        run.unlink()
    return list(islice(_lines(path), SHOWN))


SHOWN = 20


def _worst(row: JsonDict) -> float:
    return -row["score"]


def _lines(path: Path) -> Iterator[JsonDict]:
    for _, row in read_jsonl(path):
        yield row


def _scored(work: Path, stems: Sequence[str]) -> Iterator[JsonDict]:
    for stem in stems:
        for row in _lines(work / f"{stem}.jsonl"):
            marks = {name.rpartition("__")[2]: spans[0][2] for name, spans in row["attributes"].items()
                     if "__risk__" in name}  # fmt: skip
            if "score" in marks:
                reasons = sorted(set(marks) - {"score", "deviation"})
                yield {"id": row["id"], "source": row["source"], "score": marks["score"],
                       "deviation": marks.get("deviation"), "rules": reasons}  # fmt: skip


def drop(work: Path, stems: Sequence[str], least: float, share: float, out: Path) -> dict[str, int]:
    """Write clean.jsonl and dropped.jsonl (each dropped row with place, score and reasons); return how many of each.

    Args:
        work: the folder with the shards.
        stems: their names, in order.
        least: rows with at least this score are dropped.
        share: and the riskiest, until this share of all rows is dropped.
        out: the folder to write to.

    Raises:
        StepFailedError: the disk is full or cannot be written.
    """
    scores = scores_of(work, stems)
    most = math.ceil(share * scores.total())
    numbers = {"kept": 0, "dropped": 0}

    def rows(kept: bool) -> Iterator[JsonDict]:
        above = cut(scores, most)
        for stem in stems:
            for one in _lines(work / (stem + ROWS)):
                by_rank = above(one["score"])
                by_score = one["score"] >= least
                if (by_rank or by_score) is not kept:
                    numbers["kept" if kept else "dropped"] += 1
                    yield one["row"] if kept else one | {"reasons": one["reasons"] or ["rank"]}

    write_lines(out / "clean.jsonl", rows(True))
    write_lines(out / "dropped.jsonl", rows(False))
    return numbers


def write_lines(path: Path, rows: Iterable[JsonDict]) -> None:
    """Write rows one at a time, whole or not at all.

    Raises:
        StepFailedError: the disk is full or cannot be written.
    """
    temporary = path.with_name(path.name + ".partial")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        temporary.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error
