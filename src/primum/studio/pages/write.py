"""Write: a prompt, to which models answer at once and the writer votes; or a prompt with the answer it should have."""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import select
from starlette.responses import Response

from primum.core.records import Prompt, to_json, user
from primum.studio import accounts, annotate, care, demonstrations, live
from primum.studio.annotate import Incoming
from primum.studio.database import lock
from primum.studio.demonstrations import CHECKS
from primum.studio.tables import Account, Demonstration, DemonstrationReview, Item, Task
from primum.studio.web import Refused, Visit, route

INTENTS = ("harmful", "borderline", "benign")
CLIPPED = 4000
"""Characters of a demonstration that the list shows."""


def write(visit: Visit) -> Response:
    """Show both forms, and what waits for a reviewer."""
    reviewed = select(DemonstrationReview.demonstration_id)
    waiting = visit.db.execute(
        select(Demonstration, Account.name).join(Account, Account.id == Demonstration.account_id)
        .where(Demonstration.id.not_in(reviewed)).order_by(Demonstration.id).limit(50)
    ).all()  # fmt: skip
    any_approved = visit.db.scalar(select(DemonstrationReview.id).where(DemonstrationReview.approved).limit(1))
    return visit.page(
        "write.html", models=visit.studio.talkers.names, categories=visit.policy.categories, waiting=waiting,
        approved=any_approved is not None, mine=demonstrations.written_by(visit.db, visit.person), checks=CHECKS,
        tasks=_places(visit), coolest=live.COOLEST, warmest=live.WARMEST, intents=INTENTS,
        veiled=any(care.veiled(visit.person, row.prompt["intent"]) for row, _ in waiting),
        pause=care.tired(visit.db, visit.person), clipped=CLIPPED,
    )  # fmt: skip


class _Place(NamedTuple):
    """A task in which prompts may be written; without a number it is made with the first of them."""

    id: int | None
    name: str
    variants: int


def _places(visit: Visit) -> list[_Place]:
    rows = visit.db.scalars(select(Task).where(Task.kind == "prefer").order_by(Task.id)).all()
    found = [_Place(row.id, row.name, row.variants) for row in rows if row.variants]
    there = visit.db.scalar(select(Task.id).where(Task.name == live.TASK)) is not None
    return found if there else [_Place(None, live.TASK, live.FEWEST), *found]


def _prompt(visit: Visit) -> Prompt:
    text = visit.text("prompt").strip()
    if not text:
        raise Refused(400, "The prompt is empty.")
    category = visit.choice("category", (*visit.policy.categories, "general", "other"))
    intent = visit.choice("intent", INTENTS)
    language = visit.text("language", 20, "en").strip().lower() or "en"
    return Prompt((user(text),), intent, category, language, source="studio")  # type: ignore[arg-type]


def ask(visit: Visit) -> Response:
    """Let variants answer, as many as the task says, and open the vote on their replies for the writer.

    A variant that only repeats another is left out: a vote between the same words says nothing.
    """
    prompt = _prompt(visit)
    task = _task(visit)
    _need_open(visit, task, prompt)
    if not visit.studio.talkers.names:
        raise Refused(409, "No model answers here.", "Start the studio with --model NAME.")
    count = task.variants if task else live.FEWEST
    replies = live.answers(visit.studio.talkers, prompt, count)
    if len(replies) < live.FEWEST:
        raise Refused(409, "Every variant gave the same reply, word for word.", "Send the prompt again, or another.")
    with visit.studio.database.writing() as db:
        held = db.get(Task, task.id) if task else db.scalar(select(Task).where(Task.name == live.TASK))
        if held is None:
            held = annotate.make_task(db, live.TASK, "prefer", visit.person.name, variants=live.FEWEST)
        incoming = Incoming(prompt, replies)
        annotate.add_items(db, held, [incoming], visit.person.name)
        item = db.scalar(select(Item).where(Item.task_id == held.id, Item.key == incoming.key))
        if item is not None:
            annotate.assign(db, item, visit.person)
        place = held.id
    missing = count - len(replies)
    return visit.go(f"/tasks/{place}/work", f"{missing} of {count} variants only repeated others." if missing else "")


def _task(visit: Visit) -> Task | None:
    """Return the task that the form names; None where it is the one that the first written prompt makes."""
    number = visit.whole("task", 1, 2**31 - 1) if visit.text("task", 12) else None
    task = visit.db.scalar(select(Task).where(Task.name == live.TASK)) if number is None else visit.get(Task, number)
    if task is not None and (task.kind != "prefer" or not task.variants):
        raise Refused(409, f"Nobody writes prompts in the task '{task.name}'.", "Choose another, or ask an editor.")
    return task


def _need_open(visit: Visit, task: Task | None, prompt: Prompt) -> None:
    """Refuse a prompt on whose replies its writer may not vote, before a model answers it."""
    if task is None:
        return
    stands = annotate.standing(visit.db, task, visit.person)
    if not stands.open or stands.testing:
        raise Refused(
            403, stands.why or "The test of this task comes first.", f"It opens on the page of '{task.name}'."
        )
    if task.certified and not accounts.certified(visit.db, visit.person, prompt.language.lower(), task.modality):
        raise Refused(403, f"You are not certified for {task.modality} in '{prompt.language}'.", "Ask an admin.")


def demonstrate(visit: Visit) -> Response:
    """Keep a prompt with its answer, for a reviewer."""
    prompt, answer = _prompt(visit), visit.text("answer").strip()
    if not answer:
        raise Refused(400, "The answer is empty.")
    row = Demonstration(prompt=to_json(prompt), answer=answer, account_id=visit.person.id)
    visit.db.add(row)
    visit.db.flush()
    visit.log("demonstration", str(row.id), prompt=prompt.id)
    return visit.go("/write", "Thank you. A reviewer will look at it.")


def review(visit: Visit) -> Response:
    """Approve a demonstration, as it is or edited, or turn it down; nobody reviews their own."""
    row = visit.get(Demonstration, visit.number("id"))
    if row.account_id == visit.person.id:
        raise Refused(403, "Nobody reviews what they wrote.", "Ask another reviewer.")
    lock(visit.db)
    if visit.db.scalar(select(DemonstrationReview.id).where(DemonstrationReview.demonstration_id == row.id)):
        raise Refused(409, "Somebody has reviewed it already.")
    approved = visit.choice("do", ("approve", "turn down")) == "approve"
    ticked = {name: visit.text(name) == "yes" for name in CHECKS}
    if approved and not all(ticked.values()):
        missing = ", ".join(CHECKS[name] for name, held in ticked.items() if not held)
        raise Refused(400, f"It cannot be approved: {missing}", "Edit it until every check holds, or turn it down.")
    note = visit.text("note", 2000).strip()
    if not approved and all(ticked.values()) and not note:
        raise Refused(400, "A refusal has a reason.", "Leave the check that does not hold unticked, or write why.")
    answer = visit.text("answer").strip() or row.answer
    visit.db.add(DemonstrationReview(
        demonstration_id=row.id, approved=approved, checks=ticked, answer=answer, note=note,
        account_id=visit.person.id,
    ))  # fmt: skip
    visit.log("review demonstration", str(row.id), approved=approved, edited=answer != row.answer)
    return visit.go("/write", "Approved." if approved else "Turned down.")


def outcome(visit: Visit) -> Response:
    """Show what became of a demonstration, to who wrote it and to reviewers."""
    row = visit.get(Demonstration, visit.number("id"))
    if row.account_id != visit.person.id and not visit.may("review"):
        raise Refused(403, "Somebody else wrote this.", "Your own are listed on the page 'Write'.")
    found = demonstrations.outcome(visit.db, row)
    edited = found.review is not None and found.review.answer != row.answer
    return visit.page(
        "demonstration.html", found=found, checks=CHECKS, clipped=CLIPPED, asked=row.prompt["messages"][-1]["content"],
        changed=demonstrations.changes(row.answer, found.review.answer) if edited and found.review else [],
        author=visit.get(Account, row.account_id).name, veiled=care.veiled(visit.person, row.prompt["intent"]),
    )  # fmt: skip


def approved(visit: Visit) -> Response:
    """Send the approved demonstrations as prompt records with answers, one JSON object a line."""
    import json

    rows = visit.db.execute(
        select(Demonstration, DemonstrationReview)
        .join(DemonstrationReview, DemonstrationReview.demonstration_id == Demonstration.id)
        .where(DemonstrationReview.approved).order_by(Demonstration.id)
    )  # fmt: skip
    lines = [json.dumps({**made.prompt, "answer": found.answer}) + "\n" for made, found in rows]
    headers = {"content-disposition": 'attachment; filename="demonstrations.jsonl"'}
    return Response("".join(lines), media_type="application/json", headers=headers)


routes = [
    route("/write", write, "work"),
    route("/write/ask", ask, "work", post=True, slow=True),
    route("/write/demonstration", demonstrate, "work", post=True),
    route("/write/demonstrations", approved, "edit"),
    route("/write/demonstration/{id:int}", outcome, "work"),
    route("/write/demonstration/{id:int}", review, "review", post=True),
]
