"""garak's report (garak.RUN.report.jsonl): every attempt that ended, one row for each output and detector.

A detector's score is 1 where the output is a hit, which is bad; `hit` is its score at garak's own threshold. Outputs to
one prompt are items of one cluster. A detector that gave no score leaves the output unscored.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from primum.core.records import JsonDict, digest
from primum.core.store import read_jsonl
from primum.evaluation.logs.common import Gathered, grade, mapping, must, sequence, text_of
from primum.evaluation.tables import ScoredItem, Table

COMPLETE = 2
THRESHOLD = 0.5


def reads(path: Path) -> bool:
    """Whether this is garak's report."""
    return (
        path.is_file()
        and path.suffix == ".jsonl"
        and '"entry_type"' in path.read_bytes()[:20_000].decode("utf-8", "replace")
    )


def read(path: Path) -> list[Table]:
    """Return a table for each probe and detector."""
    found: dict[tuple[str, str], Gathered] = {}
    threshold = THRESHOLD
    for _, entry in read_jsonl(path):
        if entry.get("entry_type") == "start_run setup":
            threshold = grade(entry.get("run.eval_threshold")) or THRESHOLD
        if entry.get("entry_type") == "attempt" and entry.get("status") == COMPLETE:
            for detector, row in _rows(entry, threshold):
                key = (str(entry.get("probe_classname")), detector)
                facts = {"tool": "garak", "own_judge": ""}
                gathered = Gathered(*key, facts=facts, directions={"hit": "lower_is_better"})
                found.setdefault(key, gathered).rows.append(row)
    must(list(found), path, "attempts that were scored")
    return [gathered.table() for gathered in found.values()]


def _rows(entry: JsonDict, threshold: float) -> Iterator[tuple[str, ScoredItem]]:
    prompt = _prompt(entry.get("prompt"))
    cluster = digest([entry.get("probe_classname"), prompt])
    goal = entry.get("goal")
    groups = (f"goal:{goal}",) if isinstance(goal, str) and goal else ()
    outputs = [text_of(one) for one in sequence(entry.get("outputs"))]
    for detector, scores in mapping(entry.get("detector_results")).items():
        for i, score in enumerate(sequence(scores)):
            number = grade(score)
            said = outputs[i] if i < len(outputs) else ""
            hit = {} if number is None else {"hit": float(number >= threshold)}
            why = {"hit": "the detector gave no score"} if number is None else {}
            name = cluster if i == 0 else f"{cluster}/{i}"
            yield detector, ScoredItem(name, cluster, hit, why, groups, prompt, said, str(score), "stop")


def _prompt(prompt: Any) -> str:
    """Return the last turn of what was asked; older reports hold plain text."""
    turns = sequence(mapping(prompt).get("turns"))
    return text_of(mapping(turns[-1]).get("content")) if turns else text_of(prompt)
