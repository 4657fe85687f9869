"""One vote, one reply or one event a line: what the other commands read, and all that ever happened.

primum studio export --task T --format replies      --file replies.jsonl
primum studio export --task T --format preferences  --file votes.jsonl
primum pair replies.jsonl --strategy llama2 --preferences votes.jsonl
primum judge replies.jsonl --judge human --votes votes.jsonl          (of a task that rates)
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from primum.core.records import JsonDict
from primum.studio.agree import Row
from primum.studio.tables import Account, Item, Task, Vote

PROMPT = ("intent", "category", "language", "source", "licence")


def replies(items: Sequence[Item]) -> list[JsonDict]:
    """Return every reply, by the id by which votes name it; one that two items show stands once."""
    found: dict[str, JsonDict] = {}
    for item in items:
        known = {key: item.prompt[key] for key in PROMPT}
        for reply in item.replies:
            said = {key: reply[key] for key in ("model", "variant", "finish")}
            row = {"id": reply["id"], "prompt": item.prompt["messages"], "reply": reply["text"], **known, **said}
            found.setdefault(reply["id"], row)
    return list(found.values())


def preferences(rows: Sequence[Row]) -> tuple[list[JsonDict], dict[str, int]]:
    """Return every vote that counts as it was given (a `Preference`; of a rating a `Verdict`), and what is left out.

    A rating that was skipped says nothing of its reply and is left out; a skipped comparison is a vote like others.
    """
    found = [row.record for row in rows if "reply_ids" in row.record or row.record.get("behaviour")]
    skipped = len(rows) - len(found)
    return found, {"skipped ratings": skipped} if skipped else {}


def events(db: Session, task: Task) -> list[JsonDict]:
    """Return every line of a task's votes in the order they came: those taken back too, and the taking back."""
    query = (
        select(Vote, Item.key, Account.name).join(Item, Item.id == Vote.item_id)
        .outerjoin(Account, Account.id == Vote.account_id).where(Vote.task_id == task.id).order_by(Vote.id)
    )  # fmt: skip
    held = db.execute(query).all()
    undone = {vote.undoes for vote, _, _ in held}
    return [
        {"event": vote.id, "at": vote.at, "by": name, "item": key, "undoes": vote.undoes,
         "counts": vote.undoes is None and vote.id not in undone, "record": vote.record}
        for vote, key, name in held
    ]  # fmt: skip
