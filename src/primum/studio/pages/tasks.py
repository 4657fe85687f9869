"""Tasks: begin one, bring items in, see its numbers, take votes out."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select
from starlette.responses import Response

from primum.studio import agree, annotate, incoming, library, live, outgoing, rounds
from primum.studio.accounts import MODALITIES
from primum.studio.examples import example_items
from primum.studio.guidelines import EXAMPLE_GUIDELINE
from primum.studio.tables import Item, Task
from primum.studio.web import Refused, Visit, route


def new_page(visit: Visit) -> Response:
    """Show the form of a new task."""
    return visit.page("task_new.html", kinds=annotate.KINDS, guideline=EXAMPLE_GUIDELINE, modalities=MODALITIES)


def new(visit: Visit) -> Response:
    """Make a task."""
    name = visit.text("name", 120).strip()
    if not name:
        raise Refused(400, "A task has a name.")
    if visit.db.scalar(select(Task).where(Task.name == name)):
        raise Refused(400, f"There is a task '{name}' already.", "Give another name.")
    kind, words = visit.choice("kind", annotate.KINDS), visit.text("guideline").strip()
    made = annotate.make_task(visit.db, name, kind, visit.person.name, words, **_settings(visit, kind))
    return visit.go(f"/tasks/{made.id}", "The task is there. Bring items in.")


def _settings(visit: Visit, kind: str) -> dict[str, Any]:
    """Return the settings that the form names; a number left empty is not among them."""
    bounds = {"overlap": (1, 50), "qualify": (0, 100), "pass_mark": (1, 100),
              "variants": (0, live.MOST)}  # fmt: skip
    found: dict[str, Any] = {
        name: visit.whole(name, *both) for name, both in bounds.items() if visit.text(name, 20).strip()
    }
    if "pass_mark" in found:
        found["pass_mark"] /= 100
    if found.get("variants") == 1:
        raise Refused(400, "One variant leaves nothing to compare.", "Give 2 to 8, or 0: nobody writes prompts here.")
    if found.get("variants") and kind != "prefer":
        raise Refused(400, "Replies to a written prompt are compared, not rated.", "Make a task that compares replies.")
    if visit.text("modality", 20):
        found["modality"] = visit.choice("modality", MODALITIES)
    return {**found, "certified": visit.text("certified") == "yes"}


def change(visit: Visit) -> Response:
    """Change a task's settings."""
    task = visit.get(Task, visit.number("id"))
    changed = annotate.change_task(visit.db, task, visit.person.name, **_settings(visit, task.kind))
    said = "Changed: " + ", ".join(name.replace("_", " ") for name in changed) if changed else "Nothing changed"
    return visit.go(f"/tasks/{task.id}", f"{said}.")


def example(visit: Visit) -> Response:
    """Make the example task, to try the pages with."""
    held = visit.db.scalar(select(Task).where(Task.name == "Example"))
    if held:
        return visit.go(f"/tasks/{held.id}")
    made = annotate.make_task(visit.db, "Example", "prefer", visit.person.name, overlap=3)
    annotate.add_items(visit.db, made, example_items(), visit.person.name)
    return visit.go(f"/tasks/{made.id}", "An example task with twelve prompts.")


def show(visit: Visit) -> Response:
    """Show a task: the way in, the numbers, the files."""
    task = visit.get(Task, visit.number("id"))
    items = visit.db.scalar(select(func.count()).select_from(Item).where(Item.task_id == task.id)) or 0
    gold = visit.db.scalar(select(func.count()).select_from(Item).where(Item.task_id == task.id, Item.has_gold)) or 0
    return visit.page(
        "task.html", task=task, items=items, gold=gold, **_numbers(visit, task),
        progress=annotate.progress(visit.db, task, visit.person),
        standing=annotate.standing(visit.db, task, visit.person), formats=outgoing.FORMATS,
        guideline=annotate.guideline(visit.db, task), guidelines=annotate.guidelines(visit.db, task),
        kinds=annotate.KINDS, modalities=MODALITIES,
    )  # fmt: skip


def numbers(visit: Visit) -> Response:
    """Show the numbers alone: the task's page fetches them again while people work."""
    task = visit.get(Task, visit.number("id"))
    return visit.page("task_numbers.html", task=task, **_numbers(visit, task))


def _numbers(visit: Visit, task: Task) -> dict[str, object]:
    made, age = visit.studio.fresh.get(("numbers", task.id), lambda: _made(visit, task))
    return {**made, "age": age}


def _made(visit: Visit, task: Task) -> dict[str, object]:
    rows = agree.rows_of(visit.db, task)
    found = rounds.numbers(visit.db, task, rows) if task.kind == "prefer" else []
    return {"summary": agree.summary(visit.db, task, rows), "rounds": found, "trend": rounds.trend(found)}


def bring(visit: Visit) -> Response:
    """Add the items of an uploaded file; all of them, or none where a row is broken."""
    task = visit.get(Task, visit.number("id"))
    name, data = visit.file("file")
    found = incoming.read(name, data, single=task.kind == "rate")
    added = annotate.add_items(visit.db, task, found, visit.person.name)
    said = f"{added.items} items came in, {added.known} were there already, {added.votes} votes came with them."
    return visit.go(f"/tasks/{task.id}", said)


def set_guideline(visit: Visit) -> Response:
    """Add a version of the guideline."""
    task = visit.get(Task, visit.number("id"))
    text = visit.text("guideline").strip()
    if not text:
        raise Refused(400, "The guideline is empty.")
    row = annotate.set_guideline(visit.db, task, text, visit.person.name)
    return visit.go(f"/tasks/{task.id}", f"The guideline is version {row.version}; votes from now on carry it.")


def old_guideline(visit: Visit) -> Response:
    """Show one version of the guideline: a vote names the one that its page showed."""
    task = visit.get(Task, visit.number("id"))
    held = annotate.guidelines(visit.db, task)
    shown = next((one for one in held if one.version == visit.number("version")), None)
    if shown is None:
        raise Refused(404, "There is no such version of this guideline.")
    before = next((one for one in held if one.version == shown.version - 1), None)
    changed = library.diff(before.text, shown.text) if before else []
    return visit.page(
        "guideline.html", task=task, shown=shown, held=held, changed=changed, name=annotate.guideline_name(shown)
    )


def take_out(visit: Visit) -> Response:
    """Send a file of votes. What was left out of it is said in a header and on the page."""
    task = visit.get(Task, visit.number("id"))
    format_ = visit.request.path_params["format"]
    if format_ not in outgoing.FORMATS:
        raise Refused(404, f"There is no format '{format_}'.", "One of: " + ", ".join(outgoing.FORMATS))
    made = outgoing.of_task(visit.db, task, format_)
    visit.log("export", task.name, format=format_, rows=made.rows)
    headers = {
        "content-disposition": f'attachment; filename="task-{task.id}-{made.name}"',
        "x-left-out": "; ".join(f"{reason}: {count}" for reason, count in made.left_out.items()) or "nothing",
    }
    kind = "text/csv; charset=utf-8" if format_ == "csv" else "application/json"
    return Response(made.text.encode("utf-8", "replace"), media_type=kind, headers=headers)


routes = [
    route("/tasks/new", new_page, "edit"),
    route("/tasks/new", new, "edit", post=True),
    route("/tasks/example", example, "edit", post=True),
    route("/tasks/{id:int}", show),
    route("/tasks/{id:int}/numbers", numbers),
    route("/tasks/{id:int}/settings", change, "edit", post=True),
    route("/tasks/{id:int}/items", bring, "edit", post=True),
    route("/tasks/{id:int}/guideline", set_guideline, "edit", post=True),
    route("/tasks/{id:int}/guideline/{version:int}", old_guideline),
    route("/tasks/{id:int}/files/{format}", take_out, "edit", writes=True),
]
