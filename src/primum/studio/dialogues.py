"""Red-team dialogues as a campaign's file, which `primum redteam --campaign` reads (docs/redteam.md).

A session is one person's dialogues with one model on one day (UTC).
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from primum.core.taxonomy import Policy, policy
from primum.redteam.talk import VECTORS
from primum.studio.outgoing import guarded
from primum.studio.tables import Account, Dialogue, Turn

HEADER = (
    "session", "person", "hours", "violations", "category", "vector", "degree", "turns", "expertise", "sub_team",
    "model", "note",
)  # fmt: skip
LEAST_HOURS = 1 / 3600


class Campaign(NamedTuple):
    """A CSV file's text, its rows, and how many dialogues were left out because they are still open."""

    text: str
    rows: int
    open: int


def campaign(db: Session, known: Policy | None = None) -> Campaign:
    """Return all dialogues that were ended; a category that the policy does not know is `other`."""
    categories = (known or policy()).categories
    held = db.execute(
        select(Dialogue, Account).join(Account, Account.id == Dialogue.account_id).order_by(Dialogue.id)
    ).all()
    ended = [(one, who) for one, who in held if one.closed]
    turns = {one.id: db.scalars(select(Turn).where(Turn.dialogue_id == one.id)).all() for one, _ in ended}
    hours: dict[tuple[str, int], float] = defaultdict(float)
    for one, _ in ended:
        hours[_session(one), one.account_id] += sum(t.seconds for t in turns[one.id] if t.role == "user") / 3600
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEADER)
    for one, who in ended:
        worked = max(LEAST_HOURS, round(hours[_session(one), one.account_id], 6))
        asked = sum(turn.role == "user" for turn in turns[one.id])
        cells = (
            _session(one), who.name, worked, sum(turn.broke for turn in turns[one.id]),
            one.category if one.category in categories else "other",
            one.vector if one.vector in VECTORS else "other", one.degree or "", asked or 1, one.expertise, one.team,
            one.model, one.note,
        )  # fmt: skip
        writer.writerow([guarded(cell) for cell in cells])
    return Campaign(file.getvalue(), len(ended), len(held) - len(ended))


def _session(one: Dialogue) -> str:
    return f"{one.at[:10]} {one.model}"
