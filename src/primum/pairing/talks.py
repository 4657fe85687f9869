"""Conversations that a strategy has with a model: it yields what is said, receives the answer, returns what came of it.

All of a stretch advance together, one engine batch a turn. What came of each is kept on disk, so that a run that was
stopped goes on there; a conversation that failed is had again by the next run.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, cast

from primum.core.progress import Advance, silent
from primum.core.records import JsonDict, Messages
from primum.core.store import Stage
from primum.models.sampling import Generated

STRETCH = 128
"""Conversations that are had together, and kept together."""
Talk = Generator[Messages, Generated, JsonDict]
Say = Callable[[Sequence[Messages]], Sequence[Generated]]
"""A batch of conversations to one answer each, in order."""


class Start(NamedTuple):
    """A conversation to have: `key` is the hash of all that it depends on, but for the model and its sampling."""

    key: str
    begin: Callable[[], Talk]


Converse = Callable[[Sequence[Start]], list[JsonDict]]
"""Has conversations; returns what came of each, in order. A row that holds `error` came to no end."""


def together(talks: Sequence[Talk], say: Say) -> list[JsonDict]:
    """Have conversations to their ends; return what each returns, in order.

    Raises:
        ValueError: more or fewer answers than were asked for.
    """
    found = dict[int, JsonDict]()
    live = [(i, asked) for i, talk in enumerate(talks) if (asked := _next(talk, None, i, found)) is not None]
    while live:
        answers = say([asked for _, asked in live])
        steps = zip(live, answers, strict=True)
        live = [(i, asked) for (i, _), got in steps if (asked := _next(talks[i], got, i, found)) is not None]
    return [found[i] for i in range(len(talks))]


def _next(talk: Talk, answer: Generated | None, place: int, found: dict[int, JsonDict]) -> Messages | None:
    """Return what is said next; None where the conversation has ended, with what came of it put down."""
    try:
        return next(talk) if answer is None else talk.send(answer)
    except StopIteration as end:
        found[place] = cast(JsonDict, end.value)
        return None


def kept(stage: Stage, starts: Sequence[Start], say: Say, advance: Advance = silent) -> list[JsonDict]:
    """Have the conversations that are not on disk, a stretch at a time; return what came of all, in order."""
    known: dict[str, JsonDict] = {row["key"]: row for row in stage.rows() if not row.get("error")}
    found: list[JsonDict] = []
    for index, first in enumerate(range(0, len(starts), STRETCH)):
        part = starts[first : first + STRETCH]
        due = [one for one in part if one.key not in known]
        made = together([one.begin() for one in due], say)
        new = {one.key: {"key": one.key, **row} for one, row in zip(due, made, strict=True)}
        rows = [new.get(one.key) or known[one.key] for one in part]
        if stage.shard(index) != rows:
            stage.write_shard(index, rows)
        found += rows
        advance(len(part))
    return found
