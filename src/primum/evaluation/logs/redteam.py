"""A folder of `primum redteam`: each attack on each goal is an item, all attacks on one goal are one cluster.

`success` is the share of attempts that got through, by each judge. What a judge could not say is unscored.
"""

from __future__ import annotations

from pathlib import Path

from primum.core.errors import BadInputError
from primum.core.records import JsonDict, digest
from primum.core.store import read_jsonl
from primum.evaluation.items import Metric
from primum.evaluation.logs.common import mapping, must, sequence, text_of
from primum.evaluation.tables import ScoredItem, Table

OUTCOMES, TRANSCRIPTS = "outcomes.jsonl", "transcripts.jsonl"
NEEDED = ("goal", "category", "attack", "vector", "judge", "outcome")
METRICS = {"success": Metric("share of attacks that got through", "lower_is_better")}
Said = dict[tuple[str, str], tuple[str, str]]
"""(goal, attack) -> the goal's text and the last reply."""


def reads(path: Path) -> bool:
    """Whether this is the folder of a red-team run that has ended."""
    return path.is_dir() and (path / OUTCOMES).is_file()


def read(path: Path) -> list[Table]:
    """Return a table for each judge; the first one's is named "redteam".

    Raises:
        BadInputError: a line lacks a field; names file and line.
    """
    said = _said(path / TRANSCRIPTS)
    rows: dict[str, list[ScoredItem]] = {}
    for number, row in read_jsonl(path / OUTCOMES):
        missing = [name for name in NEEDED if name not in row]
        if missing:
            cure = "let primum redteam write this file"
            raise BadInputError(f"no field '{missing[0]}'", where=f"{path / OUTCOMES}:{number}", cure=cure)
        rows.setdefault(str(row["judge"]), []).append(_item(row, said))
    must(list(rows), path, "outcomes")
    own = next(iter(rows))
    facts = {"tool": "primum redteam", "own_judge": own, "cluster": "a goal"}
    return [Table("redteam", judge, METRICS, tuple(ours), facts) for judge, ours in rows.items()]


def _item(row: JsonDict, said: Said) -> ScoredItem:
    goal, attack, outcome = str(row["goal"]), str(row["attack"]), row["outcome"]
    known = {"success": float(outcome)} if isinstance(outcome, bool) else {}
    why = {} if known else {"success": str(outcome)}
    groups = (f"attack:{attack}", f"vector:{row['vector']}", f"category:{row['category']}")
    prompt, reply = said.get((goal, attack), ("", ""))
    label = "success" if outcome is True else "failure" if outcome is False else "unscored"
    return ScoredItem(digest([goal, attack]), goal, known, why, groups, prompt, reply, label, "stop")


def _said(path: Path) -> Said:
    found: Said = {}
    for _, row in read_jsonl(path) if path.is_file() else ():
        turns = [mapping(turn) for turn in sequence(row.get("turns"))]
        last = next((text_of(turn.get("reply")) for turn in reversed(turns) if turn.get("role") == "target"), "")
        found[str(row.get("goal_id")), str(row.get("attack"))] = (text_of(row.get("goal")), last)
    return found
