"""Multiple-choice sets: one declaration makes all that a benchmark's file needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from primum.evaluation import choices
from primum.evaluation.data import asked, field, rows_of
from primum.evaluation.items import Gold, Item
from primum.evaluation.requests import Items
from primum.prompts.files import Row


class Question(NamedTuple):
    """A context, its options, and the index of the right one."""

    context: str
    options: tuple[str, ...]
    right: int


@dataclass(frozen=True)
class Source:
    """Where questions lie and how a row is read.

    Args:
        name: the benchmark.
        file: its usual place under the data folder.
        hub: the hub id where it is published, with the split; fetched only where the user names it.
        read: a row to a question.
        licence: of the rows.
        group: a column to report apart by.
    """

    name: str
    file: str
    hub: str
    read: Callable[[Row], Question]
    licence: str
    group: str | None = None


def questions(source: Source) -> Items:
    """Return a benchmark's `items`."""
    return partial(_items, source)


def _items(source: Source, place: Path | None = None) -> Iterator[Item]:
    for row in rows_of(place, source.hub, source.file, f"{source.name} questions"):
        context, options, right = source.read(row)
        value = row.values.get(source.group) if source.group else None
        groups = (f"{source.group}:{value}",) if value else ()
        prompt = asked(context, "benign", str(value or "general"), source.name, source.licence)
        yield choices.item(prompt, options, right, "", groups)


def by_letter(
    question: str, answer: str = "answer", options: str = "options", head: str = "Question: "
) -> Callable[[Row], Question]:
    """Return a reader of questions whose options are listed and chosen by letter (MedQA, MMLU)."""

    def read(row: Row) -> Question:
        found = choices.options_of(row, options)
        context = choices.lettered(f"{head}{field(row, question)}", found)
        return Question(context, tuple(choices.LETTERS[: len(found)]), choices.right_of(row, answer, found))

    return read


def by_text(*question: str, head: str = "Question: {}\nAnswer:") -> Callable[[Row], Question]:
    """Return a reader of questions whose options are texts, published as ARC's are ({"text": [], "label": []})."""

    def read(row: Row) -> Question:
        options = choices.options_of(row, "choices")
        right = choices.right_of(row, "answerKey", options, choices.labels_of(row, "choices"))
        return Question(head.format(field(row, *question)), options, right)

    return read


def gold() -> tuple[Gold, ...]:
    """Return the cases that every set of questions must get right."""
    return choices.gold(asked("Q: which?\nA:", "benign", "general", "gold", "none"))
