"""The page on which votes and ratings are given, by keyboard or by hand."""

from __future__ import annotations

import secrets
from typing import Any

from starlette.responses import Response

from primum.studio import annotate, care
from primum.studio.annotate import RATINGS, STRENGTHS, Choice, ClosedError, VoteError
from primum.studio.tables import Assignment, Guideline, Item, Task
from primum.studio.web import Refused, Visit, route

LETTERS = "ABCDJKLN"
"""What replies are called: the key of each. E to I have other work."""
UNSAFE, WHY = "567890-=", "qweryiop"
"""The keys that say that a reply is unsafe, and that open its categories, in the order shown."""


def work(visit: Visit) -> Response:
    """Show the person's open item, or give them the next one."""
    task = visit.get(Task, visit.number("id"))
    stands = annotate.standing(visit.db, task, visit.person)
    if not stands.open:
        return visit.page(
            "work_done.html", task=task, why=stands.why, failed=stands.done >= task.qualify, undo_token=""
        )
    assignment = annotate.next_assignment(visit.db, task, visit.person)
    if assignment is None:
        return visit.page("work_done.html", task=task, why="", failed=False, undo_token=secrets.token_urlsafe(24))
    return _page(visit, task, assignment)


def _page(visit: Visit, task: Task, assignment: Assignment, problem: str = "") -> Response:
    item = visit.get(Item, assignment.item_id)
    shown = [
        {"letter": LETTERS[place], "unsafe": UNSAFE[place], "why": WHY[place], "place": place,
         "text": item.replies[at]["text"]}
        for place, at in enumerate(assignment.shown)
    ]  # fmt: skip
    return visit.page(
        "work.html", 400 if problem else 200, task=task, item=item, shown=shown, assignment=assignment,
        token=secrets.token_urlsafe(24), undo_token=secrets.token_urlsafe(24), problem=problem,
        strengths=STRENGTHS, ratings=RATINGS, categories=visit.policy.categories,
        guideline=annotate.guideline(visit.db, task), progress=annotate.progress(visit.db, task, visit.person),
        standing=annotate.standing(visit.db, task, visit.person),
        pause=care.tired(visit.db, visit.person),
        veiled=care.veiled(visit.person, item.prompt["intent"], item.harm),
        overlay=visit.policy.overlay(item.language),
    )  # fmt: skip


def vote(visit: Visit) -> Response:
    """Keep a vote, a rating or a skip, or take the last one back."""
    task = visit.get(Task, visit.number("id"))
    if visit.choice("do", ("vote", "skip", "undo")) == "undo":
        return _undo(visit, task)
    assignment = visit.get(Assignment, visit.whole("assignment", 1, 2**31 - 1))
    if assignment.account_id != visit.person.id or assignment.task_id != task.id:
        raise Refused(403, "This item was given to somebody else.")
    try:
        annotate.vote(visit.db, assignment, visit.person, _token(visit, "token"), _record(visit, task, assignment))
    except ClosedError as error:
        raise Refused(403, str(error)) from error
    except VoteError as error:
        if assignment.open:
            return _page(visit, task, assignment, str(error))
        raise Refused(409, f"{str(error).capitalize()}.") from error
    return visit.go(f"/tasks/{task.id}/work")


def _undo(visit: Visit, task: Task) -> Response:
    try:
        undone = annotate.undo(visit.db, task, visit.person, _token(visit, "undo_token"))
    except ClosedError as error:
        raise Refused(403, str(error)) from error
    return visit.go(f"/tasks/{task.id}/work", "Your last vote is taken back." if undone else "Nothing to take back.")


def _token(visit: Visit, name: str) -> str:
    token = visit.text(name, 64)
    if len(token) < 20:
        raise Refused(400, "This form is incomplete.", "Load the page again.")
    return token


def _record(visit: Visit, task: Task, assignment: Assignment) -> dict[str, Any]:
    item: Item = visit.get(Item, assignment.item_id)
    judge = f"person:{visit.person.name}"
    version = annotate.guideline_name(_guideline_shown(visit, task))
    skip = visit.text("do") == "skip"
    choice = _choice(visit, len(assignment.shown), skip)
    if task.kind == "prefer":
        return annotate.preference(item, assignment.shown, choice, judge, version)
    if skip:
        return annotate.skipped(item, judge, version, choice.seconds)
    rating = visit.text("rating", 1)
    refuses = visit.text("refuses") == "yes"
    return annotate.verdict(item, int(rating) if rating.isdecimal() else 0, refuses, choice, judge, version)


def _guideline_shown(visit: Visit, task: Task) -> Guideline | None:
    """Return the guideline that stood on the page: it may have been changed since, and the vote names what was seen."""
    if not visit.text("guideline", 10):
        raise Refused(400, "This form is incomplete.", "Load the page again.")
    version = visit.whole("guideline", 0, 1_000_000)
    found = annotate.guideline(visit.db, task, version or None)
    if (found.version if found else 0) != version:
        raise Refused(400, f"The guideline of this task has no version {version}.", "Load the page again.")
    return found


def _choice(visit: Visit, count: int, skip: bool) -> Choice:
    said = "skip" if skip else visit.text("outcome", 20)
    winner = LETTERS.index(said) if len(said) == 1 and said in LETTERS[:count] else None
    unsafe = {str(value) for value in visit.form.getlist("unsafe")}
    seconds = visit.text("seconds", 12)
    taken = float(seconds) if seconds.replace(".", "", 1).isdecimal() else None
    return Choice(
        "winner" if winner is not None else said, winner, visit.text("strength", 20) or "unsure",
        tuple(place for place in range(count) if str(place) in unsafe),
        _named(visit, "category"), visit.text("note", 2000), min(taken, 86_400.0) if taken is not None else None,
        tuple(_named(visit, f"category-{place}") for place in range(count)),
    )  # fmt: skip


def _named(visit: Visit, field: str) -> tuple[str, ...]:
    """Return the categories that were ticked and that the policy knows."""
    return tuple(str(name) for name in visit.form.getlist(field) if name in visit.policy.categories)


routes = [
    route("/tasks/{id:int}/work", work, "work", writes=True),
    route("/tasks/{id:int}/work", vote, "work", post=True),
]
