"""The test that opens a task: who has passed it, who is in it, and who cannot take it. And what counts as a vote.

A test is the first `qualify` gold items that a person votes on; a skip among them is no right answer. Where a task
holds fewer gold items than its test asks for (among those a person is certified for), the test cannot be taken,
and the task is open to nobody until somebody brings gold items in or asks for fewer: a certificate earned on one item
would say nothing. Who has passed stays in, whatever becomes of the settings.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, exists, func, select, true
from sqlalchemy.orm import Session

from primum.core.records import JsonDict
from primum.studio import accounts
from primum.studio.tables import Account, Certificate, Item, Task, Vote


class Standing(NamedTuple):
    """Where a person stands with a task: may they work, and if not, why; and the test they are in."""

    open: bool
    why: str = ""
    testing: bool = False
    done: int = 0
    right: int = 0


def standing(db: Session, task: Task, account: Account) -> Standing:
    """Return whether the task is open to a person: its test passed, none asked for, or one that can be taken."""
    if not task.qualify or accounts.certified(db, account, _test_name(task), "task"):
        return Standing(True)
    given = answers(db, task, account)
    done, right = len(given), sum(agrees(item, vote.record) for item, vote in given)
    if done < task.qualify:
        return _testing(db, task, account, done, right)
    if right >= task.pass_mark * done:
        return Standing(True, done=done, right=right)
    why = f"The test of this task asks for {task.pass_mark:.0%} right; you had {right} of {done}."
    return Standing(False, why, False, done, right)


def _testing(db: Session, task: Task, account: Account, done: int, right: int) -> Standing:
    mine = exists().where(Vote.item_id == Item.id, Vote.account_id == account.id, *counting())
    left = db.scalar(
        select(func.count()).select_from(Item)
        .where(Item.task_id == task.id, Item.has_gold.is_(True), ~mine, allowed(task, account))
    ) or 0  # fmt: skip
    if done + left >= task.qualify:
        return Standing(True, testing=True, done=done, right=right)
    where = " in the languages and modalities you are certified for" if task.certified else ""
    why = (
        f"This task opens after a test of {task.qualify} gold items, and there are {done + left}{where}: the test "
        "cannot be taken. An editor brings gold items in, or asks for fewer on the task's page."
    )
    return Standing(False, why, False, done, right)


def allowed(task: Task, account: Account) -> ColumnElement[bool]:
    """Return the condition that a person is certified for an item's language in its modality, if the task asks for it.

    One certificate holds both: English text and German audio do not make English audio. `de` is not `de-at`.
    """
    if not task.certified:
        return true()
    return exists().where(
        Certificate.account_id == account.id, Certificate.language == func.lower(Item.language),
        Certificate.modality == Item.modality,
    )  # fmt: skip


def may_have(db: Session, task: Task, account: Account, item: Item) -> bool:
    """Return whether the person is certified for an item, where its task asks for it."""
    return db.scalar(select(Item.id).where(Item.id == item.id, allowed(task, account))) is not None


def settle(db: Session, task: Task, account: Account) -> None:
    """Certify who has passed, so that gold items met later cannot close the task again."""
    stands = standing(db, task, account)
    if task.qualify and stands.open and not stands.testing:
        accounts.certify(db, account, _test_name(task), "the test", "task")


def _test_name(task: Task) -> str:
    return f"task-{task.id}"


def answers(db: Session, task: Task, account: Account) -> list[tuple[Item, Vote]]:
    """Return the person's answers of the test: their first votes on gold items; none where there is no test."""
    if not task.qualify:
        return []
    rows = db.execute(
        select(Item, Vote).join(Vote, Vote.item_id == Item.id)
        .where(Item.task_id == task.id, Item.has_gold.is_(True), Vote.account_id == account.id, *counting())
        .order_by(Vote.id).limit(task.qualify)
    )  # fmt: skip
    return [(item, vote) for item, vote in rows]


def agrees(item: Item, record: JsonDict) -> bool:
    """Return whether a vote is what the gold says: the same outcome, and the same reply where one wins."""
    gold = item.gold or {}
    if "rating" in gold:
        return (record.get("rating") or 0) <= 2 if gold["rating"] <= 2 else (record.get("rating") or 0) >= 3
    if record.get("outcome") != gold.get("outcome"):
        return False
    return record.get("outcome") != "winner" or winner_id(record) == gold.get("winner")


def winner_id(record: JsonDict) -> str | None:
    """Return the id of the reply that won, or None."""
    at = record.get("winner")
    return record["reply_ids"][at] if at is not None else None


def counting() -> tuple[Any, ...]:
    """Return the conditions under which a row of `vote` counts: it is a vote, and was not taken back."""
    undo = Vote.__table__.alias("undo")
    return (Vote.undoes.is_(None), ~exists().where(undo.c.undoes == Vote.id))
