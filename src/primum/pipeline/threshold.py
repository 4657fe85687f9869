"""The gate's threshold for a reward model: found on replies whose safety is known, and found again for another aim.

Journeys and `primum train reward` leave these replies' scores as `labelled.jsonl`; nothing is learned to tune again.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from primum.core.errors import BadInputError, UsageError
from primum.core.records import JsonDict
from primum.core.stats import wilson
from primum.core.store import read_json, read_jsonl, write_jsonl

PUBLISHED = 0.89
"""The precision of Llama 2's threshold (arXiv:2307.09288, section 3.2.3)."""
LABELLED = "labelled.jsonl"
"""A row a reply: {"safety": score in (0, 1), "unsafe": whether it is}."""


class Labelled(NamedTuple):
    """Safety scores of replies, and which of them are unsafe."""

    scores: list[float]
    unsafe: list[bool]


def facts(labelled: Labelled, precision: float) -> JsonDict:
    """Return the threshold with that precision of calling a reply unsafe (None: none has it), beside the published one.

    Each has its precision and recall with 95% Wilson intervals and their n. They are those of the replies it was tuned
    on: on others the precision may be lower.
    """
    from primum.training.rewards import THRESHOLD, tune_threshold

    scores, unsafe = labelled
    tuned = tune_threshold(scores, unsafe, precision) if scores else None
    return {
        "wanted_precision": precision, "labelled": {"replies": len(scores), "unsafe": sum(unsafe)},
        "threshold": at(tuned.threshold, labelled) if tuned else None, "published_threshold": at(THRESHOLD, labelled),
    }  # fmt: skip


def at(threshold: float, labelled: Labelled) -> JsonDict:
    """Return precision and recall of calling replies with scores strictly below a threshold unsafe; None: of none."""
    called = [bad for score, bad in zip(*labelled, strict=True) if score < threshold]
    found: JsonDict = {"threshold": threshold, "n": len(called)}
    for name, of in (("precision", len(called)), ("recall", sum(labelled.unsafe))):
        value, low, high = wilson(sum(called), of) if of else (None, None, None)
        found |= {name: value, f"{name}_interval": [low, high]}
    return found


def write(folder: Path, labelled: Labelled) -> None:
    """Write scores and labels beside a reward model."""
    rows = ({"safety": score, "unsafe": bad} for score, bad in zip(*labelled, strict=True))
    write_jsonl(folder / LABELLED, rows)


def read(folder: Path) -> Labelled:
    """Read what `write` wrote.

    Raises:
        BadInputError: a row without a score or a label; names file and line.
    """
    scores, unsafe, path = list[float](), list[bool](), folder / LABELLED
    for line, row in read_jsonl(path):
        score, bad = row.get("safety"), row.get("unsafe")
        if not isinstance(score, int | float) or not isinstance(bad, bool):
            cure = 'a row is {"safety": 0.31, "unsafe": true}'
            raise BadInputError("no score or no label", where=f"{path}:{line}", cure=cure)
        scores.append(float(score))
        unsafe.append(bad)
    return Labelled(scores, unsafe)


class Place(NamedTuple):
    """Where a reward model lies: its stage of a journey (None: it is one of `primum train reward`), and its folder."""

    stage: str | None
    folder: Path


def place(run: Path) -> Place:
    """Find the reward model of a journey's run folder, or of `primum train reward` (OUT or OUT/checkpoint).

    Raises:
        UsageError: there is none.
    """
    from primum.models.reward import is_reward

    for folder in (run, run / "checkpoint"):
        if is_reward(str(folder)):
            return Place(None, folder)
    report = run / "report.json"
    found = read_json(report)["found"] if report.is_file() else {}
    own = (key for key, one in found.items() if one.get("kind") == "reward" and not one.get("watches"))
    name = next(own, None)
    folder = run / "steps" / f"stage-{name}"
    if name is None or not (folder / "weights.safetensors").is_file():
        cure = "primum run llama2 --out RUN, to its end, or primum train reward FILE --out RUN"
        raise UsageError("no reward model in this folder", where=str(run), cure=cure)
    return Place(name, folder)


def lines(document: JsonDict) -> list[str]:
    """Return the facts in lines of at most 80 columns."""
    labelled = document["labelled"]
    said = [f"{labelled['replies']:,} labelled replies, {labelled['unsafe']:,} of them unsafe"]
    rows = {"tuned": document["threshold"], "published": document["published_threshold"]}
    said += [_line(name, row) for name, row in rows.items() if row]
    if document["threshold"] is None:
        said.append(f"no threshold calls replies unsafe with a precision of {document['wanted_precision']:g}")
    return said


def _line(name: str, row: JsonDict) -> str:
    from primum.report import words

    shares = [f"{key} {words.percent(row[key])} ({words.interval(*row[f'{key}_interval'])})" for key in
              ("precision", "recall")]  # fmt: skip
    return f"{name:<9} < {row['threshold']:.3f}: {', '.join(shares)}, n {row['n']}"
