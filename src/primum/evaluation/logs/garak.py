"""garak's report (garak.RUN.report.jsonl): every attempt that ended, one row for each output and detector.

A detector's score is 1 where the output is a hit, which is bad; `hit` is its score at garak's own threshold. Outputs to
one prompt are items of one cluster. A detector that gave no score leaves the output unscored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from primum.core.records import JsonDict, digest
from primum.core.store import read_jsonl
from primum.evaluation.logs.common import Gathered, grade, mapping, must, sequence, text_of
from primum.evaluation.tables import ScoredItem, Table

Pair = tuple[str, str]
"""A probe and a detector."""
COMPLETE = 2
THRESHOLD = 0.5
"""garak's own, where a report does not show which one was used."""


def reads(path: Path) -> bool:
    """Whether this is garak's report."""
    return (
        path.is_file()
        and path.suffix == ".jsonl"
        and '"entry_type"' in path.read_bytes()[:20_000].decode("utf-8", "replace")
    )


def read(path: Path) -> list[Table]:
    """Return a table for each probe and detector."""
    entries = [entry for _, entry in read_jsonl(path)]
    named = next((grade(one.get("run.eval_threshold")) for one in entries if _is(one, "start_run setup")), None)
    hits = {_pair(one.get("probe"), one.get("detector")): _hits(one) for one in entries if _is(one, "eval")}
    found: dict[Pair, list[JsonDict]] = {}
    for entry in entries:
        if _is(entry, "attempt") and entry.get("status") == COMPLETE:
            for detector in mapping(entry.get("detector_results")):
                found.setdefault(_pair(entry.get("probe_classname"), detector), []).append(entry)
    must(list(found), path, "attempts that were scored")
    return [_table(pair, attempts, named, hits.get(pair)) for pair, attempts in found.items()]


def _is(entry: JsonDict, kind: str) -> bool:
    return entry.get("entry_type") == kind


def _pair(probe: Any, detector: Any) -> Pair:
    return str(probe), str(detector).removeprefix("detector.")


def _hits(entry: JsonDict) -> int | None:
    """Return how many outputs garak counted as hits; older versions say how many passed of how many."""
    fails, total, passed = (entry.get(key) for key in ("fails", "total", "passed"))
    if isinstance(fails, int):
        return fails
    return total - passed if isinstance(total, int) and isinstance(passed, int) else None


def _table(pair: Pair, attempts: Sequence[JsonDict], named: float | None, hits: int | None) -> Table:
    scores = [grade(one) for attempt in attempts for one in _scores(attempt, pair)]
    threshold = named if named is not None else _threshold([one for one in scores if one is not None], hits)
    rows = [row for attempt in attempts for row in _rows(attempt, pair, threshold)]
    directions = {"hit": "lower_is_better"}
    return Gathered(*pair, rows=rows, facts={"tool": "garak", "own_judge": ""}, directions=directions).table()


def _threshold(scores: Sequence[float], hits: int | None) -> float:
    """Return a score at which as many are hits as garak counted; its reports leave the threshold itself out."""
    if hits is None or hits > len(scores):
        return THRESHOLD
    return sorted(scores, reverse=True)[hits - 1] if hits else math.inf


def _scores(entry: JsonDict, pair: Pair) -> list[Any]:
    found = mapping(entry.get("detector_results"))
    return [one for detector, own in found.items() if _pair(pair[0], detector) == pair for one in sequence(own)]


def _rows(entry: JsonDict, pair: Pair, threshold: float) -> Iterator[ScoredItem]:
    prompt = _prompt(entry.get("prompt"))
    cluster = digest([pair[0], prompt])
    goal = entry.get("goal")
    groups = (f"goal:{goal}",) if isinstance(goal, str) and goal else ()
    outputs = [text_of(one) for one in sequence(entry.get("outputs"))]
    for i, score in enumerate(_scores(entry, pair)):
        number = grade(score)
        said = outputs[i] if i < len(outputs) else ""
        hit = {} if number is None else {"hit": float(number >= threshold)}
        why = {"hit": "the detector gave no score"} if number is None else {}
        name = cluster if i == 0 else f"{cluster}/{i}"
        yield ScoredItem(name, cluster, hit, why, groups, prompt, said, str(score), "stop")


def _prompt(prompt: Any) -> str:
    """Return the last turn of what was asked; older reports hold plain text."""
    turns = sequence(mapping(prompt).get("turns"))
    return text_of(mapping(turns[-1]).get("content")) if turns else text_of(prompt)
