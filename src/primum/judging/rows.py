"""Rows of a user's file to exchanges: `id`, `prompt` and `reply` (text or messages), and what else a row may say.

    {"id": "a1", "prompt": "How do I ...?", "reply": "Sure ..."}
    {"id": 7, "prompt": [{"role": "user", "content": "..."}], "reply": [{"role": "assistant", "content": "..."}],
     "intent": "harmful", "category": "fraud", "language": "en", "style": "story", "label": "refusal"}

A row that does not say its intent gets `borderline`: nobody knows. Labels are read by calibrate alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from primum.core.errors import BadInputError
from primum.core.records import Intent, JsonDict, Message, Prompt, Reply, Role, user
from primum.judging import Exchange
from primum.prompts.files import Row, read_rows, text_of
from primum.prompts.parts import content_of

NO_REPLY = "no reply in the row"
_CURE = 'a row is {"id": ..., "prompt": ..., "reply": ...}; prompt and reply are text or a list of {"role", "content"}'


class Asked(NamedTuple):
    """One row: its id as given, its exchange, whether it has a reply at all, and all that it said."""

    id: str | int
    exchange: Exchange
    answered: bool
    values: JsonDict


def read_exchanges(path: Path) -> list[Asked]:
    """Return the rows of a JSONL, CSV or Parquet file, in order.

    Raises:
        BadInputError: a broken line, a row without id, prompt or reply, an id that stands twice, a turn without a role;
            names file and line.
    """
    found: list[Asked] = []
    seen: dict[str, str] = {}
    for row in read_rows(path):
        one = to_exchange(row)
        if str(one.id) in seen:
            cure = "give every reply an id of its own"
            raise BadInputError(f"the id {one.id!r} stands in {seen[str(one.id)]} too", where=row.where, cure=cure)
        seen[str(one.id)] = row.where
        found.append(one)
    if not found:
        raise BadInputError("no rows", where=str(path), cure=_CURE)
    return found


def to_exchange(row: Row) -> Asked:
    """Return one row as an exchange.

    Raises:
        BadInputError: see `read_exchanges`.
    """
    missing = [name for name in ("id", "prompt", "reply") if name not in row.values]
    if missing:
        raise BadInputError(f"no {' and no '.join(f'{name!r}' for name in missing)}", where=row.where, cure=_CURE)
    own = row.values["id"]
    if isinstance(own, bool) or not isinstance(own, str | int) or own == "":
        raise BadInputError("'id' is neither text nor a whole number", where=row.where, cure=_CURE)
    intent = row.values.get("intent") or "borderline"
    if intent not in get_args(Intent):
        raise BadInputError(f"intent {intent!r}", where=row.where, cure="harmful, borderline or benign")
    category, language = (
        str(row.values.get(key) or other) for key, other in (("category", "other"), ("language", "en"))
    )
    prompt = Prompt(_prompt(row), cast(Intent, intent), category, language)
    given = row.values["reply"]
    text = "" if given is None else _text(given, "reply", row)
    reply = Reply(prompt.id, str(row.values.get("model") or ""), str(own), text, _finish(row), 0, 0, 0)
    return Asked(own, Exchange(prompt, reply), given is not None, row.values)


def _finish(row: Row) -> Any:
    value = row.values.get("finish")
    return value if value in ("stop", "length", "error") else "stop"


def _prompt(row: Row) -> tuple[Message, ...]:
    value = row.values["prompt"]
    if isinstance(value, str):
        return (user(text_of(value, "prompt", row)),)
    turns = _turns(value, "prompt", row)
    if not any(turn.role == "user" for turn in turns):
        raise BadInputError("the prompt has no turn of the user", where=row.where, cure=_CURE)
    return turns


def _text(value: Any, name: str, row: Row) -> str:
    if isinstance(value, str):
        return text_of(value, name, row)
    spoken = [turn.text for turn in _turns(value, name, row) if turn.role == "assistant"]
    if not spoken:
        raise BadInputError(f"'{name}' has no turn of the assistant", where=row.where, cure=_CURE)
    return spoken[-1]


def _turns(value: Any, name: str, row: Row) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise BadInputError(f"'{name}' is neither a text nor a list of turns", where=row.where, cure=_CURE)
    return tuple(_turn(turn, name, row) for turn in cast(list[object], value))


def _turn(turn: object, name: str, row: Row) -> Message:
    values = cast(dict[str, Any], turn) if isinstance(turn, dict) else {}
    role = values.get("role")
    if role not in get_args(Role):
        problem = f"a turn of '{name}' has no role (system, user or assistant)"
        raise BadInputError(problem, where=row.where, cure=_CURE)
    return Message(cast(Role, role), content_of(values.get("content"), f"{name}.content", row))


def exchanges(rows: Sequence[Asked]) -> list[Exchange]:
    """Return the rows' exchanges."""
    return [row.exchange for row in rows]
