"""Runs: what ran and how far it is, two of them side by side, and sheets of replies to label."""

from __future__ import annotations

import secrets

from sqlalchemy import select
from starlette.responses import HTMLResponse, Response

from primum.core.errors import PrimumError, UsageError
from primum.studio import care, contrasts, reported, runs, sheets
from primum.studio.tables import Sheet, SheetLabel
from primum.studio.web import Refused, Visit, route


def overview(visit: Visit) -> Response:
    """Show all runs; the list fetches itself again while something runs."""
    newest = visit.db.scalars(select(Sheet).order_by(Sheet.id.desc()).limit(20)).all()
    return visit.page("runs.html", runs=runs.runs(visit.studio.runs), sheets=newest, folder=str(visit.studio.runs))


def listing(visit: Visit) -> Response:
    """Show the list of runs alone."""
    return visit.page("runs_list.html", runs=runs.runs(visit.studio.runs))


def _run(visit: Visit, name: str) -> runs.Run:
    try:
        return runs.run(visit.studio.runs, name)
    except UsageError as error:
        raise Refused(404, f"{error.problem.capitalize()}.", "The page of all runs shows those there are.") from error


def show(visit: Visit) -> Response:
    """Show a run: before and after."""
    found = _run(visit, str(visit.request.path_params["name"]))
    facts = runs.facts_of(found.folder)
    lines = runs.lines(runs.measured(facts, "before"), runs.measured(facts, "after"))
    return visit.page(
        "run.html", run=found, facts=facts, lines=lines, judges=runs.judges(found), heads=("before", "after"),
        sheets=sheets.of_run(visit.db, found.name), just_ended=False,
    )  # fmt: skip


def now(visit: Visit) -> Response:
    """Show the step that a run is at alone; it fetches itself again until the run has ended."""
    found = _run(visit, str(visit.request.path_params["name"]))
    return visit.page("run_now.html", run=found, just_ended=bool(found.kind))


def compare(visit: Visit) -> Response:
    """Show what two runs measured in the end, what differs on the same items, and their settings."""
    names = [visit.request.query_params.get(side, "") for side in ("first", "second")]
    both = [_run(visit, name) for name in names]
    sides = [runs.measured(runs.facts_of(one.folder), "after") for one in both]
    settings = [contrasts.settings(one.folder) for one in both]
    try:
        moved, problem = contrasts.moved(both[0].folder, both[1].folder), ""
    except PrimumError as error:
        moved, problem = [], f"{error.problem}: {error.where}" if error.where else error.problem
    return visit.page(
        "compare.html", both=both, lines=runs.lines(*sides), heads=[one.name for one in both], moved=moved,
        problem=problem, differing=contrasts.differing(*settings), same=len(settings[0].keys() & settings[1].keys()),
    )  # fmt: skip


def report(visit: Visit) -> Response:
    """Show the run's own report, made again from its facts."""
    found = _run(visit, str(visit.request.path_params["name"]))
    if not found.kind:
        raise Refused(404, "This run has no report yet.", "It is written when the run has ended.")
    text = reported.page(found.folder)
    return HTMLResponse(text.encode("utf-8", "replace"), headers={"content-security-policy": reported.policy(text)})


def draw(visit: Visit) -> Response:
    """Draw a sheet of replies to label."""
    found = _run(visit, visit.text("run", 200))
    when, judge = visit.choice("when", ("before", "after")), visit.text("judge", 80)
    drawn = sheets.draw(runs.replies(found.folder, when, judge), seed=secrets.randbelow(2**31))
    facts = {**drawn.facts, "when": when}
    made = Sheet(run=found.name, judge=judge, facts=facts, rows=drawn.rows, by=visit.person.name)
    visit.db.add(made)
    visit.db.flush()
    visit.log("draw sheet", str(made.id), run=found.name, judge=judge, when=when, rows=len(drawn.rows))
    return visit.go(f"/sheets/{made.id}")


def _next(sheet: Sheet, labels: dict[int, str]) -> int | None:
    return next((at for at in range(len(sheet.rows)) if at not in labels), None)


def sheet(visit: Visit) -> Response:
    """Show the next reply to label, or the corrected rate where none is left.

    Who labels is not shown what the judge said, nor which side it is, nor how the numbers stand, unless they ask.
    """
    found = visit.get(Sheet, visit.number("id"))
    labels = sheets.labels_of(visit.db, found)
    at = _next(found, labels)
    asked = at is None or visit.request.query_params.get("rate") == "yes"
    return visit.page(
        "sheet.html", sheet=found, at=at, row=found.rows[at] if at is not None else None, done=len(labels),
        rates=sheets.corrected(found.rows, labels, found.facts) if asked else None,
        tally=sheets.tally(found.rows, labels), veiled=care.veiled(visit.person),
        pause=care.tired(visit.db, visit.person),
    )  # fmt: skip


def label(visit: Visit) -> Response:
    """Keep a label; one for a row that has its label already is a second press of the key and changes nothing."""
    found = visit.get(Sheet, visit.number("id"))
    at = visit.whole("row", 0, len(found.rows) - 1)
    if at == _next(found, sheets.labels_of(visit.db, found)):
        word = visit.choice("label", sheets.LABELS)
        visit.db.add(SheetLabel(sheet_id=found.id, row=at, label=word, by=visit.person.name))
        visit.log("label", f"sheet {found.id} row {at}", label=word)
    return visit.go(f"/sheets/{found.id}")


def sheet_file(visit: Visit) -> Response:
    """Send a sheet with its labels, as `primum calibrate --labels` reads it."""
    found = visit.get(Sheet, visit.number("id"))
    text = sheets.as_csv(found, sheets.labels_of(visit.db, found))
    return _file(f"sheet-{found.id}.csv", text, "text/csv; charset=utf-8")


def replies_file(visit: Visit) -> Response:
    """Send all replies among which a sheet was drawn (and those that the judge could not score)."""
    found = visit.get(Sheet, visit.number("id"))
    rows = runs.exchanges(_run(visit, found.run).folder, found.facts["when"])
    return _file(f"sheet-{found.id}-replies.jsonl", sheets.as_lines(rows), "application/json")


def _file(name: str, text: str, kind: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(text.encode("utf-8", "replace"), media_type=kind, headers=headers)


routes = [
    route("/runs", overview),
    route("/runs/list", listing),
    route("/runs/compare", compare),
    route("/run/{name}", show),
    route("/run/{name}/now", now),
    route("/run/{name}/report", report),
    route("/runs/sheets", draw, "work", post=True),
    route("/sheets/{id:int}", sheet, "work"),
    route("/sheets/{id:int}", label, "work", post=True),
    route("/sheets/{id:int}/sheet.csv", sheet_file, "work"),
    route("/sheets/{id:int}/replies.jsonl", replies_file, "edit"),
]
