"""Pairs on disk: JSONL in TRL's preference columns, so that any trainer reads ours and we read any other's.

    {"prompt": [{"role": "user", "content": ...}], "chosen": [{"role": "assistant", ...}], "rejected": [...]}
    {"prompt": "...", "chosen": "...", "rejected": "..."}          read as well

Our own columns (prompt_id, kind, category, where each side came from, why) stand beside them; where a row lacks them
they are filled in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

from primum.core.errors import BadInputError
from primum.core.parts import kept
from primum.core.records import Message, Messages, Pair, Prompt, Role, to_json, user
from primum.core.store import write_jsonl
from primum.prompts.files import Row, jsonl_rows, text_of
from primum.prompts.parts import content_of

COLUMNS = ("prompt", "chosen", "rejected")
ENDS = ("chosen_ends", "rejected_ends")
AGAINST_SAFETY = "the chosen answer alone is unsafe"
"""Why a vote for safety is left out (arXiv:2307.09288, 3.2.1): it would teach that the unsafe answer is the safer."""
_CURE = 'a row is {"prompt": ..., "chosen": ..., "rejected": ...}, each a text or a list of {"role", "content"}'


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write the pairs, one a line, and beside them the files that they name; the file is whole or not there.

    Raises:
        BadInputError: a file that a pair names has gone or has changed.
        StepFailedError: the disk is full or the folder cannot be written.
    """
    write_jsonl(path, (to_json(replace(pair, prompt=kept(pair.prompt, path.parent))) for pair in pairs))


def read_pairs(path: Path) -> list[Pair]:
    """Read pairs, ours or any in TRL's format with an explicit prompt.

    Raises:
        BadInputError: no such file, a broken line, a row without prompt, chosen or rejected, or with another shape
            of them; names file and line.
    """
    if not path.is_file():
        raise BadInputError("no such file", where=str(path), cure="check the path")
    return [pair_of(row, path.name) for row in jsonl_rows(path)]


def pair_of(row: Row, source: str) -> Pair:
    """Read one row; `source` is named as where its sides came from.

    Raises:
        BadInputError: a column is missing or has another shape; names file and line.
    """
    missing = [name for name in COLUMNS if not row.values.get(name)]
    if missing:
        raise BadInputError(f"no {' and no '.join(missing)}", where=row.where, cure=_CURE)
    prompt = prompt_of(row)
    filled = {
        "prompt_id": Prompt(prompt, "benign", "other").id, "kind": "given", "category": "other",
        "chosen_from": source, "rejected_from": source, "why": f"given in {source}",
    }  # fmt: skip
    own = {name: text_of(row.values[name], name, row) for name in filled if name in row.values}
    rest = {name: row.values[name] for name in ("strength", "safety_bin") if name in row.values}
    rest |= {name: row.values[name] for name in ENDS if isinstance(row.values.get(name), bool)}
    turns = [to_json(turn) for turn in prompt]
    sides = {"chosen": answer_of(row, "chosen"), "rejected": answer_of(row, "rejected")}
    return Pair.from_json({**filled, **own, **rest, "prompt": turns, **sides})


def prompt_of(row: Row) -> Messages:
    """Read the column `prompt`: a text (what the user says), or turns that do not end with an answer.

    Raises:
        BadInputError: it has another shape; names file and line.
    """
    value = row.values["prompt"]
    messages = (user(text_of(value, "prompt", row)),) if isinstance(value, str) else turns_of(row, "prompt")
    if messages[-1].role == "assistant":
        raise BadInputError("the prompt ends with an answer", where=row.where, cure="end it with what the user says")
    return messages


def answer_of(row: Row, name: str) -> str:
    """Read a column that holds an answer: a text, or one turn of the assistant.

    Raises:
        BadInputError: it has another shape; names file and line.
    """
    if isinstance(row.values[name], str):
        return text_of(row.values[name], name, row)
    turns = turns_of(row, name)
    if len(turns) != 1 or turns[0].role != "assistant" or turns[0].files:
        problem = f"'{name}' is not one turn of the assistant in words"
        raise BadInputError(problem, where=row.where, cure="put the turns before it into the prompt")
    return turns[0].text


def turns_of(row: Row, name: str) -> Messages:
    """Read a column that holds a conversation.

    Raises:
        BadInputError: it has another shape; names file and line.
    """
    value = row.values[name]
    if not isinstance(value, list):
        raise BadInputError(f"'{name}' is neither a text nor a list of turns", where=row.where, cure=_CURE)
    return tuple(_turn(turn, name, row) for turn in cast(list[object], value))


def _turn(turn: object, name: str, row: Row) -> Message:
    values = cast(dict[str, object], turn) if isinstance(turn, dict) else {}
    role = values.get("role")
    if role not in get_args(Role):
        problem = f"a turn of '{name}' has no role (system, user or assistant)"
        raise BadInputError(problem, where=row.where, cure=_CURE)
    return Message(cast(Role, role), content_of(values.get("content"), f"{name}.content", row))


def unsafe_of(row: Row) -> tuple[bool, bool] | None:
    """Return whether chosen and rejected are unsafe, where the row says so (`safety_bin`, or a flag for each).

    Raises:
        BadInputError: a flag is neither true nor false; names file and line.
    """
    values = row.values
    if (safety := values.get("safety_bin")) in ("chosen_safe", "both_safe", "both_unsafe"):
        return safety == "both_unsafe", safety != "both_safe"
    for prefix in ("", "is_"):
        names = (f"{prefix}chosen_safe", f"{prefix}rejected_safe")
        if all(name in values for name in names):
            chosen, rejected = (truth_of(row, name) for name in names)
            return not chosen, not rejected
    return None


def against_safety(unsafe: tuple[bool, bool] | None) -> bool:
    """Say whether a vote prefers an unsafe answer to a safe one: as a vote for safety it is a mistake."""
    return unsafe == (True, False)


def truth_of(row: Row, name: str) -> bool:
    """Return a column that holds true or false.

    Raises:
        BadInputError: it holds neither; names file and line.
    """
    value = row.values.get(name)
    known = {"true": True, "1": True, "false": False, "0": False}
    if str(value).lower() not in known:
        raise BadInputError(f"'{name}' is neither true nor false", where=row.where, cure=f'like {{"{name}": true}}')
    return known[str(value).lower()]
