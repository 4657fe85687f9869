"""Rows to prompts: which field holds the request, what else a row may say, and what a row must not lack.

A row may be a plain request (`prompt`, `instruction`, `question`, `text`, `goal`), a chat (`messages`, or a list of
turns in `prompt`; a turn may hold pictures beside its words, `parts`), a twin pair (`harmful` and `benign`), or a
prompt record of our own. Beside the request it may carry `intent`, `category`, `language`, `licence`, `tags`, `twin`
and `answer`, and in `original` the English words of which it is a translation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from primum.core.errors import BadInputError, UsageError, did_you_mean
from primum.core.languages import ENGLISH
from primum.core.records import Intent, Message, Messages, Prompt, id_of, user
from primum.core.taxonomy import policy
from primum.prompts.files import Row, text_of
from primum.prompts.parts import content_of

FIELDS = ("prompt", "instruction", "question", "text", "goal", "messages")
GENERAL, OTHER = "general", "other"
LEARNED = "only learned from"
"""Tag of general prompts that neither the development split nor the test split gets."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for a row that does not say otherwise. `category` is the user's word and wins over the row's."""

    intent: Intent
    source: str
    category: str | None = None
    field: str | None = None
    licence: str = "unknown"
    tags: tuple[str, ...] = ()


def known_category(name: str) -> str:
    """Return the category if it is one of the policy's, `general` or `other`.

    Raises:
        UsageError: it is none of them; names the nearest.
    """
    known = {*policy().categories, GENERAL, OTHER}
    if name not in known:
        raise UsageError(f"no category '{name}'", cure=did_you_mean(name, known))
    return name


def to_prompts(rows: Iterable[Row], defaults: Defaults) -> list[Prompt]:
    """Return the rows' prompts, in order; a twin pair gives two.

    Raises:
        BadInputError: a row lacks the field, or holds no text in it; names file, line and the fields there are.
    """
    prompts: list[Prompt] = []
    name = defaults.field
    for row in rows:
        if name is None and {"harmful", "benign"} <= row.values.keys():
            prompts += _pair(row, defaults)
            continue
        name = name or _find_field(row)
        prompts.append(_prompt(row, name, defaults))
    return prompts


def twins(harmful: Prompt, benign: Prompt) -> tuple[Prompt, Prompt]:
    """Return both with their twin links."""
    return replace(harmful, twin=benign.id), replace(benign, twin=harmful.id)


def _pair(row: Row, defaults: Defaults) -> tuple[Prompt, Prompt]:
    category = defaults.category or _category(row, "harmful")
    harmful, benign = (
        Prompt(
            (user(text_of(row.values[side], side, row)),),
            side,
            category,
            language=_string(row.values, "language", ENGLISH),
            source=defaults.source,
            licence=defaults.licence,
            tags=defaults.tags,
        )
        for side in ("harmful", "benign")
    )
    return twins(harmful, benign)


def _find_field(row: Row) -> str:
    by_lower = {key.lower(): key for key in reversed(row.values)}
    found = next((by_lower[name] for name in FIELDS if name in by_lower), None)
    if found is None:
        problem = f"no field that holds a prompt (sought: {', '.join(FIELDS)})"
        raise BadInputError(problem, where=row.where, cure=f"name one of its fields: {_there(row)}")
    return found


def _there(row: Row) -> str:
    return ", ".join(str(key) for key in row.values) or "it has none"


def _prompt(row: Row, name: str, defaults: Defaults) -> Prompt:
    if name not in row.values:
        raise BadInputError(f"no field '{name}'", where=row.where, cure=f"fields there: {_there(row)}")
    values = row.values
    intent = cast(Intent, values["intent"]) if values.get("intent") in get_args(Intent) else defaults.intent
    unknown = values.get("category") if isinstance(values.get("category"), str) else None
    category = defaults.category or _category(row, intent)
    listed = values.get("tags")
    tags = tuple(tag for tag in listed if isinstance(tag, str)) if isinstance(listed, list) else ()
    if unknown and category == OTHER != unknown:
        tags += (f"category:{unknown}",)
    return Prompt(
        _messages(values[name], name, row),
        intent,
        category,
        language=_string(values, "language", ENGLISH),
        source=_string(values, "source", defaults.source),
        licence=_string(values, "licence", _string(values, "license", defaults.licence)),
        tags=tuple(dict.fromkeys(defaults.tags + tags)),
        twin=_string(values, "twin", "") or None,
        answer=text_of(values["answer"], "answer", row) if _string(values, "answer", "") else None,
        translation_of=_original(values),
    )


def _original(values: Mapping[str, Any]) -> str | None:
    """Return the id of the English prompt of which a row is a translation: given itself, or by its words."""
    words = _string(values, "original", "")
    return id_of((user(words),)) if words else _string(values, "translation_of", "") or None


def _string(values: Mapping[str, Any], key: str, otherwise: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) and value else otherwise


def _category(row: Row, intent: Intent) -> str:
    name = row.values.get("category")
    if name in (*policy().categories, GENERAL, OTHER):
        return str(name)
    return OTHER if intent != "benign" or name or row.values.get("twin") else GENERAL


def _messages(value: Any, name: str, row: Row) -> Messages:
    if isinstance(value, list):
        return _chat(value, name, row)
    text = text_of(value, name, row)
    more = row.values.get("input") if name.lower() == "instruction" else None
    return (user(f"{text}\n\n{more}" if isinstance(more, str) and more.strip() else text),)


def _chat(turns: list[Any], name: str, row: Row) -> Messages:
    """Read a list of turns; answers after the last user turn are no part of the prompt."""
    messages: list[Message] = []
    for turn in turns:
        role = turn.get("role") if isinstance(turn, dict) else None
        if role not in ("system", "user", "assistant"):
            problem = f"field '{name}' holds a turn whose role is not system, user or assistant"
            raise BadInputError(problem, where=row.where, cure='like [{"role": "user", "content": "..."}]')
        messages.append(Message(role, content_of(turn.get("content"), f"{name}.content", row)))
    while messages and messages[-1].role == "assistant":
        messages.pop()
    if not any(message.role == "user" for message in messages):
        raise BadInputError(f"field '{name}' holds no user turn", where=row.where, cure="a prompt asks something")
    return tuple(messages)
