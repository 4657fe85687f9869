"""What became of a prompt that somebody wrote with its answer: who looked at it, by which checks, what they changed.

Knows nothing of requests and pages.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from primum.studio.library import Changed
from primum.studio.tables import Account, Demonstration, DemonstrationReview

CHECKS = {
    "consistent": "It fits what was said before.",
    "follows": "It does what the prompt asks, or says why not.",
    "language": "It has no fault of grammar or spelling.",
    "safe": "It promotes nothing on the policy's list of behaviours to avoid.",
}
"""The four checks of Llama 2's annotation (arXiv:2307.09288, appendix A.5.2): all hold, or it is not approved."""
MINE = 20
"""How many of their own a person's page lists."""
WORDS = 2000
"""Words up to which a difference is found word by word; longer texts are compared line by line."""


class Outcome(NamedTuple):
    """A demonstration and what its review said; `state` is waiting, approved, edited (and approved) or refused."""

    row: Demonstration
    state: str
    review: DemonstrationReview | None
    reviewer: str

    @property
    def failed(self) -> list[str]:
        """The checks that do not hold, in words; of what was approved none."""
        return [words for name, words in CHECKS.items() if self.review is not None and not self.review.checks.get(name)]


def outcome(db: Session, row: Demonstration) -> Outcome:
    """Return what became of a demonstration."""
    return _outcomes(db, [row])[0]


def written_by(db: Session, account: Account) -> list[Outcome]:
    """Return what became of a person's demonstrations, newest first."""
    query = select(Demonstration).where(Demonstration.account_id == account.id)
    return _outcomes(db, db.scalars(query.order_by(Demonstration.id.desc()).limit(MINE)).all())


def _outcomes(db: Session, rows: Sequence[Demonstration]) -> list[Outcome]:
    query = (
        select(DemonstrationReview, Account.name).join(Account, Account.id == DemonstrationReview.account_id)
        .where(DemonstrationReview.demonstration_id.in_([row.id for row in rows]))
    )  # fmt: skip
    held = {review.demonstration_id: (review, name) for review, name in db.execute(query)}
    return [_outcome(row, *held.get(row.id, (None, ""))) for row in rows]


def _outcome(row: Demonstration, review: DemonstrationReview | None, reviewer: str) -> Outcome:
    if review is None:
        return Outcome(row, "waiting", None, "")
    approved = "approved" if review.answer == row.answer else "edited"
    return Outcome(row, approved if review.approved else "refused", review, reviewer)


def changes(before: str, after: str) -> list[Changed]:
    """Return the text with what was cut from it and what was added, in order, as it reads."""
    first, second = (re.findall(r"\S+\s*|\s+", text) for text in (before, after))
    many = max(len(first), len(second)) > WORDS
    if many:
        first, second = (text.splitlines(keepends=True) for text in (before, after))
    found: list[Changed] = []
    # where there is much of it, what stands everywhere (an empty line) is no anchor: that would take minutes
    for tag, a, b, c, d in difflib.SequenceMatcher(None, first, second, autojunk=many).get_opcodes():
        cut, added = "".join(first[a:b]), "".join(second[c:d])
        if tag == "equal":
            found.append(Changed(" ", cut))
            continue
        found += [Changed(mark, text) for mark, text in (("-", cut), ("+", added)) if text]
    return found
