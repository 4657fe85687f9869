"""The embedded set: requests written for primum, each harmful one beside a benign twin that deserves an answer.

    sets/embedded/twins/<category>.jsonl   {"id", "harmful", "benign"}
    sets/embedded/general.jsonl            {"id", "topic", "prompt"}, some with an "answer"
    sets/embedded/ordinary.jsonl           {"id", "topic", "prompt"}: general requests that are only learned from, many
                                           with alarming words in innocent senses
    sets/embedded/advice.jsonl             {"id", "category", "prompt"}: answer with a disclaimer

The ids in the files are for people who edit them; a record's id is the hash of its words.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from primum.core.records import Prompt, user
from primum.prompts.files import Row, jsonl_rows, text_of
from primum.prompts.rows import GENERAL, LEARNED, known_category, twins

SOURCE, LICENCE = "primum-embedded", "Apache-2.0"


def embedded() -> list[Prompt]:
    """Return the embedded prompts: twin pairs by category in order of name, general ones, then advice."""
    folder = Path(str(resources.files("primum.prompts"))) / "sets" / "embedded"
    prompts: list[Prompt] = []
    for path in sorted((folder / "twins").glob("*.jsonl")):
        category = known_category(path.stem)
        prompts += [prompt for row in jsonl_rows(path) for prompt in _pair(row, category)]
    prompts += [_general(row) for row in jsonl_rows(folder / "general.jsonl")]
    prompts += [_general(row, LEARNED) for row in jsonl_rows(folder / "ordinary.jsonl")]
    return prompts + [_advice(row) for row in jsonl_rows(folder / "advice.jsonl")]


def _pair(row: Row, category: str) -> tuple[Prompt, Prompt]:
    harmful, benign = (
        Prompt((user(_text(row, side)),), side, category, source=SOURCE, licence=LICENCE, tags=("embedded",))
        for side in ("harmful", "benign")
    )
    return twins(harmful, benign)


def _general(row: Row, *more: str) -> Prompt:
    answer = _text(row, "answer") if row.values.get("answer") else None
    tags = (_text(row, "topic"), *more)
    messages = (user(_text(row, "prompt")),)
    return Prompt(messages, "benign", GENERAL, source=SOURCE, licence=LICENCE, tags=tags, answer=answer)


def _advice(row: Row) -> Prompt:
    category = known_category(_text(row, "category"))
    messages = (user(_text(row, "prompt")),)
    return Prompt(messages, "benign", category, source=SOURCE, licence=LICENCE, tags=("advice",))


def _text(row: Row, name: str) -> str:
    return text_of(row.values.get(name), name, row)
