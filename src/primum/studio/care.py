"""Care for who reads: what is blurred for whom, and when a break is suggested.

Text is blurred unless it is known to be harmless: the prompt's intent says benign, and no judge called a reply harmful.
What a person chose for themselves comes before both.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from primum.studio.tables import (
    Account,
    Demonstration,
    DemonstrationReview,
    Dialogue,
    SheetLabel,
    Turn,
    Vote,
)

CHOICES = {"": "what may be harmful", "always": "everything", "never": "nothing"}
"""What a person may want blurred."""
HARMFUL_FROM = 0.5
BREAK_AFTER = 45
"""Minutes of work without a pause after which a break is suggested."""
GAP = 10
"""Minutes without a sign of work that make a pause."""
MOST = 1000
"""Votes that are looked at: more than anybody gives in three quarters of an hour."""
LOOKED_BACK = datetime.timedelta(hours=4)


def veiled(person: Account, intent: str | None = None, harm: Mapping[str, float] | None = None) -> bool:
    """Return whether text is blurred for a person when its page opens.

    Args:
        person: who reads.
        intent: of the prompt; None where nobody said.
        harm: p(harmful) of replies by judges, where one has seen them.
    """
    if person.blur:
        return person.blur == "always"
    return intent != "benign" or any(p >= HARMFUL_FROM for p in (harm or {}).values())


def working_since(db: Session, account: Account) -> float:
    """Return for how many minutes a person has worked without a pause of ten: votes, attacks, writing and labels."""
    newest = datetime.datetime.now(datetime.UTC)
    limit = (newest - LOOKED_BACK).isoformat(timespec="milliseconds")
    begun = newest
    for moment in sorted(_signs(db, account, limit), reverse=True):
        if begun - moment > datetime.timedelta(minutes=GAP):
            break
        begun = moment
    return (newest - begun).total_seconds() / 60


def _signs(db: Session, account: Account, limit: str) -> set[datetime.datetime]:
    asked: list[Any] = [
        select(table.at).where(table.account_id == account.id, table.at >= limit)
        for table in (Demonstration, DemonstrationReview)
    ]
    # by the index over people, the newest first: somebody may have given tens of thousands
    votes = select(Vote.at).where(Vote.account_id == account.id).order_by(Vote.id.desc()).limit(MOST).subquery()
    # the ends of each minute say as much of pauses as all votes in it, and this is asked for every page
    asked += [select(end(votes.c.at)).group_by(func.substr(votes.c.at, 1, 16)) for end in (func.min, func.max)]
    mine = Dialogue.account_id == account.id
    asked.append(
        select(Turn.at).join(Dialogue, Dialogue.id == Turn.dialogue_id)
        .where(mine, Turn.role == "user", Turn.at >= limit)
    )  # fmt: skip
    asked.append(select(SheetLabel.at).where(SheetLabel.by == account.name, SheetLabel.at >= limit))
    return {datetime.datetime.fromisoformat(text) for query in asked for text in db.scalars(query)}


def tired(db: Session, account: Account) -> bool:
    """Return whether a break is suggested."""
    return working_since(db, account) > BREAK_AFTER
