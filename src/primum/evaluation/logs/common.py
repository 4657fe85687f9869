"""What the readers share: JSON of others, read with care; rows gathered into tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from primum.core.errors import BadInputError
from primum.core.records import JsonDict
from primum.evaluation.items import Metric
from primum.evaluation.tables import ScoredItem, Table, unique

WORDS = {
    "c": 1.0, "correct": 1.0, "yes": 1.0, "true": 1.0, "pass": 1.0, "i": 0.0, "incorrect": 0.0, "no": 0.0,
    "false": 0.0, "fail": 0.0, "n": 0.0, "noanswer": 0.0, "p": 0.5, "partial": 0.5,
}  # fmt: skip
"""Grades in words, as Inspect's own metrics count them."""


def load_json(text: str, where: str) -> Any:
    """Parse JSON.

    Raises:
        BadInputError: it is none; names the place.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"broken JSON ({error})", where=where, cure="is the log whole?") from error


def read_text(path: Path) -> str:
    """Return a log's text; bytes that are no UTF-8 are replaced, since replies may hold anything."""
    return path.read_bytes().decode("utf-8-sig", "replace")


def mapping(value: Any) -> JsonDict:
    """Return the value where it is an object, else an empty one."""
    return cast(JsonDict, value) if isinstance(value, dict) else {}


def sequence(value: Any) -> list[Any]:
    """Return the value where it is a list, else an empty one."""
    return cast(list[Any], value) if isinstance(value, list) else []


def grade(value: Any) -> float | None:
    """Return a score as a number: a truth value, a number, or a grade in words; None where it is none."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int | float):
        return float(value) if math.isfinite(value) else None
    return WORDS.get(value.strip().lower()) if isinstance(value, str) else None


def text_of(value: Any) -> str:
    """Return a message's content as text: a string, parts with "text", or messages."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(part for part in map(text_of, cast(list[Any], value)) if part)
    fields = mapping(value)
    return text_of(fields.get("text") or fields.get("content") or "")


@dataclass
class Gathered:
    """Rows of one table while a log is read."""

    benchmark: str
    judge: str
    rows: list[ScoredItem] = field(default_factory=list[ScoredItem])
    facts: JsonDict = field(default_factory=dict[str, Any])
    directions: Mapping[str, Any] = field(default_factory=dict[str, Any])
    described: Mapping[str, Metric] = field(default_factory=dict[str, Metric])
    """What the log itself says of its metrics."""

    def table(self) -> Table:
        """Return the table; a metric's unit follows from its numbers."""
        names = dict.fromkeys(name for row in self.rows for name in (*row.scores, *row.unscored))
        metrics = {name: self._metric(name) for name in names}
        return Table(self.benchmark, self.judge, metrics, unique(self.rows), self.facts)

    def _metric(self, name: str) -> Metric:
        if name in self.described:
            return self.described[name]
        inside = all(0 <= row.scores[name] <= 1 for row in self.rows if name in row.scores)
        direction = self.directions.get(name, "higher_is_better")
        return Metric(
            f"{name}, as {self.facts.get('tool', 'the tool')} scored it", direction, "share" if inside else "score"
        )


def numbers(values: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Part grades from what is none."""
    scores: dict[str, float] = {}
    unscored: dict[str, str] = {}
    for name, value in values.items():
        number = grade(value)
        if number is None:
            unscored[name] = "no score" if value is None else f"not a number: {str(value)[:40]}"
        else:
            scores[name] = number
    return scores, unscored


def must(rows: Sequence[Any], path: Path, what: str) -> None:
    """Refuse a log without rows.

    Raises:
        BadInputError: there are none.
    """
    if not rows:
        raise BadInputError(f"holds no {what}", where=str(path), cure="did the run end?")
