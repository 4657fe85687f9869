"""PyRIT's memory: its SQLite file (tables AttackResultEntries, PromptMemoryEntries, ScoreEntries), opened read-only.

Where attacks were run, an item is an objective and `success` says whether it was reached; an attack that PyRIT could
not decide, or that ended in an error, is unscored: PyRIT's own success rate leaves both out. Where only scores were
made, an item is a scored reply, and each true/false or numeric score is a metric of its scorer.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from primum.core.errors import BadInputError
from primum.core.records import JsonDict, digest
from primum.evaluation.logs.common import Gathered, grade, load_json, mapping, must
from primum.evaluation.tables import ScoredItem, Table

MAGIC = b"SQLite format 3\x00"
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OUTCOMES = {"success": 1.0, "failure": 0.0}


def reads(path: Path) -> bool:
    """Whether this is an SQLite file."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def read(path: Path) -> list[Table]:
    """Return a table of attacks, or one for each scorer."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as memory:
            memory.row_factory = sqlite3.Row
            tables = {row[0] for row in memory.execute("select name from sqlite_master where type = 'table'")}
            if "PromptMemoryEntries" not in tables:
                raise BadInputError(
                    "not PyRIT's memory", where=str(path), cure="give the .db file of PyRIT's SQLiteMemory"
                )
            attacks = list(_attacks(memory, path)) if "AttackResultEntries" in tables else []
            found = [_gathered("attacks", "objective", attacks).table()] if attacks else list(_scores(memory, path))
    except sqlite3.Error as error:
        raise BadInputError(
            f"cannot read the memory ({error})", where=str(path), cure="is PyRIT still writing to it?"
        ) from error
    must(found, path, "attacks or scores")
    return found


def _gathered(benchmark: str, judge: str, rows: list[ScoredItem]) -> Gathered:
    facts = {"tool": "pyrit", "own_judge": judge}
    better = "higher_is_better" if "refusal" in judge.lower() else "lower_is_better"  # True where the target declined
    return Gathered(f"pyrit {benchmark}", judge, rows, facts, {"success": "lower_is_better", judge: better})


def _attacks(memory: sqlite3.Connection, path: Path) -> Iterator[ScoredItem]:
    said = _replies(memory)
    for row in map(dict, memory.execute("select * from AttackResultEntries")):
        outcome = str(row.get("outcome") or "").lower()
        objective = str(row.get("objective") or "")
        known = {"success": OUTCOMES[outcome]} if outcome in OUTCOMES else {}
        why = {} if known else {"success": _undecided(outcome, row)}
        attack = _attack_name(row, path)
        yield ScoredItem(
            digest([objective, attack]), digest(objective), known, why, (f"attack:{attack}",), objective,
            said.get(str(row.get("conversation_id")), ""), outcome, "stop",
        )  # fmt: skip


def _undecided(outcome: str, row: JsonDict) -> str:
    message = ID.sub("...", str(row.get("error_message") or ""))  # so that the same error has one reason
    return f"error: {message}"[:120] if outcome == "error" else f"PyRIT could not decide ({outcome or 'no outcome'})"


def _attack_name(row: JsonDict, path: Path) -> str:
    """Return the attack's class: a column of JSON whose name and shape changed between versions."""
    for column in ("attack_identifier", "atomic_attack_identifier"):
        value = row.get(column)
        name = _innermost(_fields(value, f"{path}, {column}"))
        if name:
            return str(name)
    return "unknown"


def _fields(value: Any, where: str) -> JsonDict:
    """Return a column's JSON object; nothing where it holds none.

    Raises:
        BadInputError: it begins as an object and is none.
    """
    return mapping(load_json(value, where)) if isinstance(value, str) and value.startswith("{") else {}


def _innermost(fields: JsonDict) -> Any:
    """Return the class of the attack itself, which newer versions keep inside its technique, inside "children"."""
    inner = {**fields, **mapping(fields.get("children"))}
    for key in ("attack_technique", "attack"):
        if mapping(inner.get(key)):
            return _innermost(mapping(inner[key]))
    return fields.get("__type__") or fields.get("class_name") or fields.get("attack_type")


def _replies(memory: sqlite3.Connection) -> dict[str, str]:
    """Return the last reply of every conversation."""
    query = (
        "select conversation_id, converted_value from PromptMemoryEntries where role = 'assistant' order by sequence"
    )
    return {str(row[0]): str(row[1] or "") for row in memory.execute(query)}


def _scores(memory: sqlite3.Connection, path: Path) -> Iterator[Table]:
    query = "select s.*, p.converted_value as said from ScoreEntries s left join PromptMemoryEntries p on p.id = {key}"
    columns = {row[1] for row in memory.execute("pragma table_info(ScoreEntries)")}
    key = next((f"s.{name}" for name in ("prompt_request_response_id", "message_piece_id") if name in columns), None)
    if key is None:
        return
    found: dict[str, list[ScoredItem]] = {}
    for row in map(dict, memory.execute(query.format(key=key))):
        scorer = _scorer(row, path)
        number = _number(row.get("score_value"))
        known: dict[str, float] = {} if number is None else {scorer: number}
        why = {scorer: "no score"} if number is None else {}
        objective = str(row.get("objective") or row.get("task") or "")
        item = digest([objective, str(row.get("said") or "")]) if objective else str(row[key.removeprefix("s.")])
        found.setdefault(scorer, []).append(
            ScoredItem(
                item, item, known, why, (), objective, str(row.get("said") or ""), str(row.get("score_value")), "stop"
            )
        )
    yield from (_gathered("scores", scorer, rows).table() for scorer, rows in found.items())


def _number(value: Any) -> float | None:
    """Return a score, which is kept as text; None where it is no finite number and no truth value."""
    try:
        return grade(float(value))
    except (TypeError, ValueError):
        return grade(value)


def _scorer(row: JsonDict, path: Path) -> str:
    for column in ("scorer_class_identifier", "scorer_identifier"):
        fields = _fields(row.get(column), f"{path}, {column}")
        name = fields.get("__type__") or fields.get("class_name")
        if name:
            return str(name)
    return "score"
