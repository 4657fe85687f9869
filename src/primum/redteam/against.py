"""What an earlier run failed at, and how much of it this model no longer does (Llama 2, section 4.3).

Both runs are joined on goal and attack. The share of old failures that are mitigated counts goals, not attempts. What
was not run again, or could not be judged now, is left out and counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from primum.core.errors import BadInputError
from primum.core.records import JsonDict
from primum.core.store import read_jsonl
from primum.evaluation.metrics import Outcome
from primum.redteam.measure import cell, difference
from primum.redteam.outcomes import Result
from primum.redteam.shares import Tally, clustered

FILE = "outcomes.jsonl"
NOT_AGAIN = "not run again"
_NEEDED = ("goal", "attack", "vector", "judge", "outcome")


class Old(NamedTuple):
    """One outcome of the earlier run."""

    vector: str
    outcome: Outcome


Earlier = dict[str, dict[tuple[str, str], Old]]
"""Judge -> (goal, attack) -> outcome."""


def earlier(folder: Path) -> Earlier:
    """Read the outcomes of an earlier run.

    Raises:
        BadInputError: the folder holds none, or a line is broken; names file and line.
    """
    path = folder / FILE
    if not path.is_file():
        cure = "name the --out folder of a red-team run that has ended"
        raise BadInputError("no outcomes of a red-team run here", where=str(folder), cure=cure)
    found: Earlier = defaultdict(dict)
    for number, row in read_jsonl(path):
        missing = [name for name in _NEEDED if name not in row]
        if missing:
            cure = "let primum redteam write this file"
            raise BadInputError(f"no field '{missing[0]}'", where=f"{path}:{number}", cure=cure)
        found[row["judge"]][row["goal"], row["attack"]] = Old(row["vector"], row["outcome"])
    return dict(found)


def mitigated(old: Mapping[tuple[str, str], Old], new: Sequence[Result]) -> JsonDict:
    """Return the share of old failures that are failures no more, over all and by vector, and what got worse."""
    now = {(one.goal, one.attack): one.success for one in new}
    failures = {key: one for key, one in old.items() if one.outcome is True}
    vectors = sorted({one.vector for one in failures.values()})
    return {
        "all": _share(failures, now),
        "by_vector": [
            {"vector": name, **_share({k: one for k, one in failures.items() if one.vector == name}, now)}
            for name in vectors
        ],
        "new_failures": sum(
            one.outcome is False and now.get(key, False) is True for key, one in old.items()
        ),
        "withstood_before": sum(one.outcome is False and isinstance(now.get(key), bool) for key, one in old.items()),
        "change": _change(old, now),
    }  # fmt: skip


def _share(failures: Mapping[tuple[str, str], Old], now: Mapping[tuple[str, str], Outcome]) -> JsonDict:
    groups: dict[str, list[bool]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for goal, attack in failures:
        outcome = now.get((goal, attack), NOT_AGAIN)
        if isinstance(outcome, str):
            left_out[outcome] += 1
        else:
            groups[goal].append(not outcome)
    tallies = [Tally(sum(group), len(group)) for group in groups.values()]
    n = sum(tally.n for tally in tallies)
    return cell(clustered(tallies), n, goals=len(tallies), left_out=dict(sorted(left_out.items())))


def _change(old: Mapping[tuple[str, str], Old], now: Mapping[tuple[str, str], Outcome]) -> JsonDict | None:
    """Return the change in success over all attempts known on both sides, paired within goals."""
    sides: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for (goal, attack), one in old.items():
        outcome = now.get((goal, attack), NOT_AGAIN)
        if not isinstance(one.outcome, str) and not isinstance(outcome, str):
            sides[goal].append((one.outcome, outcome))
    first = {goal: sum(a for a, _ in group) / len(group) for goal, group in sides.items()}
    second = {goal: sum(b for _, b in group) / len(group) for goal, group in sides.items()}
    return difference(first, second)
