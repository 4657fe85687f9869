"""How much of a demonstration is learned or kept, and in how many passes it comes along: for repairs and journeys."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

from primum.pairing.demonstration import Demonstration

APOLOGY = re.compile(
    r"(i'm|i am|i apologi[sz]e|my apologies|unfortunately)\b.{0,12}?(sorry|afraid|,|for)", re.IGNORECASE
)


class Lengths(Protocol):
    """Tokens of an answer that count, and of how many answers all do."""

    @property
    def short_tokens(self) -> int:
        """Tokens of most safe completions."""
        ...

    @property
    def whole(self) -> int:
        """Of so many safe completions, one counts whole."""
        ...

    @property
    def whole_tokens(self) -> int:
        """Tokens of an answer that counts whole, at most."""
        ...

    @property
    def kept_tokens(self) -> int:
        """Tokens of most answers that are kept."""
        ...

    @property
    def kept_whole(self) -> int:
        """Of so many answers that are kept, one counts whole."""
        ...


def tokens_of(demo: Demonstration, lengths: Lengths) -> int:
    """Return how many tokens of an answer count: of some safe completions all, so that what follows is learned too.

    Some benign answers are kept whole, so that none is left in the middle for a refusal. The model's own apologies
    ("I'm sorry for the confusion, but") all are: they open like refusals, and would go on like them.
    """
    number = int(demo.prompt_id, 16)
    if demo.kind != "harmful":
        longer = APOLOGY.match(demo.answer) or number % lengths.kept_whole == 0
        return max(lengths.whole_tokens, lengths.kept_tokens) if longer else lengths.kept_tokens
    return lengths.whole_tokens if number % lengths.whole == 0 else lengths.short_tokens


def turns_of(demos: Sequence[Demonstration], every: int) -> list[tuple[int, int]]:
    """Return which demonstrations make `every` passes, each by its place and its turn: general ones come in one.

    What tells a harmful request from its twin takes more passes to see than what an ordinary request looks like.
    """
    often = [every if d.kind in ("harmful", "twin") else 1 for d in demos]
    return [(i, turn) for i, many in enumerate(often) for turn in range(many)]
