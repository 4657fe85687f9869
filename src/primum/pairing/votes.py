"""Votes taken apart into comparisons of two replies, which is what any two voters can agree on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from primum.core.records import Preference

TIE = "tie"
Two = tuple[str, str]
"""The ids of two replies, in order of their ids."""


class Label(NamedTuple):
    """What one voter says of two replies: the id of the better one, or that neither is better."""

    two: Two
    better: str
    by: str


def two_of(one: str, other: str) -> Two:
    """Return the name of a comparison, whichever reply was shown first."""
    return (one, other) if one < other else (other, one)


def labels_of(vote: Preference) -> Iterator[Label]:
    """Yield what a vote says of two replies at a time: the winner against each other one.

    A tie (or "both unsafe") of two replies says that neither is better; of more than two it does not say which two are
    alike, and counts for nothing. Nor does a skip.
    """
    if vote.outcome == "winner" and vote.winner is not None:
        best = vote.reply_ids[vote.winner]
        for other in vote.reply_ids:
            if other != best:
                yield Label(two_of(best, other), best, vote.judged_by)
    elif vote.outcome in ("tie", "both_unsafe") and len(set(vote.reply_ids)) == 2:
        yield Label(two_of(vote.reply_ids[0], vote.reply_ids[1]), TIE, vote.judged_by)


def by_two(votes: Sequence[Preference]) -> dict[Two, dict[str, str]]:
    """Return what each voter said of each two replies, in order of first appearance; who votes again means the last."""
    found: dict[Two, dict[str, str]] = {}
    for vote in votes:
        for label in labels_of(vote):
            found.setdefault(label.two, {})[label.by] = label.better
    return found
