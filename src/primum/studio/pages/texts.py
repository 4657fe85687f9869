"""A text that is too long for its page, whole: on a page of its own, blurred like everywhere."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from primum.studio import care, qualify
from primum.studio.accounts import may
from primum.studio.tables import Assignment, Demonstration, Dialogue, Item, Sheet, Task, Turn
from primum.studio.web import Refused, Visit, route

SIDES = ("prompt", "answer", "reply")


def _page(visit: Visit, text: str, back: str, intent: str | None = None, harm: Any = None) -> Response:
    return visit.page("text.html", text=text, back=back, veiled=care.veiled(visit.person, intent, harm))


def _missing() -> Refused:
    return Refused(404, "There is no such text.")


def _assignment(visit: Visit) -> tuple[Assignment, Item]:
    assignment = visit.get(Assignment, visit.number("assignment"))
    item = visit.get(Item, assignment.item_id)
    allowed = qualify.may_have(visit.db, visit.get(Task, item.task_id), visit.person, item)
    if assignment.account_id != visit.person.id or not allowed:
        raise _missing()
    return assignment, item


def of_reply(visit: Visit) -> Response:
    """Show a reply of the person's item."""
    assignment, item = _assignment(visit)
    place = visit.number("place")
    if place >= len(assignment.shown):
        raise _missing()
    text = item.replies[assignment.shown[place]]["text"]
    return _page(visit, text, f"/tasks/{assignment.task_id}/work", item.prompt["intent"], item.harm)


def of_turn(visit: Visit) -> Response:
    """Show a turn of the prompt of the person's item."""
    assignment, item = _assignment(visit)
    turns, place = item.prompt["messages"], visit.number("place")
    if place >= len(turns):
        raise _missing()
    return _page(visit, turns[place]["content"], f"/tasks/{assignment.task_id}/work", item.prompt["intent"], item.harm)


def of_dialogue(visit: Visit) -> Response:
    """Show a turn of a dialogue, to who led it and to reviewers."""
    turn = visit.get(Turn, visit.number("id"))
    dialogue = visit.get(Dialogue, turn.dialogue_id)
    if dialogue.account_id != visit.person.id and not may(visit.account, "review"):
        raise _missing()
    return _page(visit, turn.text, f"/redteam/{dialogue.id}")


def of_demonstration(visit: Visit) -> Response:
    """Show the prompt or the answer of a demonstration."""
    row = visit.get(Demonstration, visit.number("id"))
    side = _side(visit)
    text = row.answer if side == "answer" else row.prompt["messages"][-1]["content"]
    return _page(visit, text, "/write", row.prompt["intent"])


def of_sheet(visit: Visit) -> Response:
    """Show the prompt or the reply of a sheet's row."""
    sheet, place, side = visit.get(Sheet, visit.number("id")), visit.number("place"), _side(visit)
    if place >= len(sheet.rows) or side not in sheet.rows[place]:
        raise _missing()
    return _page(visit, sheet.rows[place][side], f"/sheets/{sheet.id}")


def _side(visit: Visit) -> str:
    side = str(visit.request.path_params["side"])
    if side not in SIDES:
        raise _missing()
    return side


routes = [
    route("/text/{assignment:int}/{place:int}", of_reply, "work"),
    route("/text/{assignment:int}/prompt/{place:int}", of_turn, "work"),
    route("/text/turn/{id:int}", of_dialogue, "work"),
    route("/text/demonstration/{id:int}/{side}", of_demonstration, "work"),
    route("/text/sheet/{id:int}/{place:int}/{side}", of_sheet, "work"),
]
