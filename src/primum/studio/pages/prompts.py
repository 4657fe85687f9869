"""The prompt library's pages: templates, versions, differences, review, labels and scores."""

from __future__ import annotations

from sqlalchemy import select
from starlette.responses import Response

from primum.core.errors import PrimumError
from primum.studio import library, rights
from primum.studio.review import LABELS
from primum.studio.tables import Template, Version
from primum.studio.validate import KINDS, parse_variables
from primum.studio.web import Refused, Visit, route

STEPS = ("propose", "approve", "reject", "withdraw", "merge", "comment")
NEEDS_REVIEWER = ("approve", "reject", "merge")


def overview(visit: Visit) -> Response:
    """Show all templates with their labels and what waits for a review."""
    rows = []
    for one in visit.db.scalars(select(Template).order_by(Template.name)):
        held = library.versions(visit.db, one)
        by_id = {version.id: version.number for version in held}
        marks = {label: by_id[at] for label, at in library.labels(visit.db, one).items()}
        rows.append((one, len(held), marks, library.waiting(visit.db, one)))
    return visit.page(
        "prompts.html", rows=rows, kinds=KINDS, agree=library.reviewers_agree(visit.db),
        settled=library.settled(visit.db),
    )  # fmt: skip


def create(visit: Visit) -> Response:
    """Make a template with its first version."""
    made = library.create(visit.db, visit.text("name", 80).strip(), visit.choice("kind", KINDS), visit.person.name)
    _add(visit, made)
    return visit.go(f"/prompts/{made.name}", "The template is there, as a draft.")


def _add(visit: Visit, template: Template, parent: Version | None = None) -> Version:
    try:
        variables = parse_variables(visit.text("variables", 500))
    except ValueError as error:
        raise Refused(400, f"{error}.") from error
    text, message = visit.text("text", 30_000).rstrip(), visit.text("message", 1000).strip()
    if not text:
        raise Refused(400, "The template is empty.")
    return library.add_version(visit.db, template, text, variables, message, visit.person.name, parent)


def _template(visit: Visit) -> Template:
    try:
        return library.template(visit.db, str(visit.request.path_params["name"]))
    except PrimumError as error:
        raise Refused(404, f"{error.problem.capitalize()}.", error.cure or "") from error


def _version(visit: Visit, template: Template) -> Version:
    try:
        return library.version(visit.db, template, visit.number("number"))
    except PrimumError as error:
        raise Refused(404, f"{error.problem.capitalize()}.", error.cure or "") from error


def show(visit: Visit) -> Response:
    """Show a template: its versions, labels and their moves, and the form of a new version."""
    one = _template(visit)
    held = library.versions(visit.db, one)
    rows = [(version, library.state(visit.db, one, version)) for version in held]
    marks: dict[int, list[str]] = {}
    by_label = library.labels(visit.db, one)
    for label, at in by_label.items():
        marks.setdefault(at, []).append(label)
    numbers = {version.id: version.number for version in held}
    return visit.page(
        "template.html", template=one, rows=rows, marks=marks, moves=library.moves(visit.db, one), numbers=numbers,
        kinds=KINDS, granted={right: rights.granted(visit.db, one, right) for right in rights.TABLES},
        **_rights(visit, one),
        base=held[0] if held else None, measured=library.score_table(visit.db, one),
        back=[(label, version) for label in LABELS if label in by_label
              for version in library.earlier(visit.db, one, label)], variables=_line(held[0]) if held else "",
    )  # fmt: skip


def _line(version: Version) -> str:
    return ", ".join(name + (":trusted" if trusted else "") for name, trusted in version.variables.items())


def add(visit: Visit) -> Response:
    """Add a version."""
    one = _template(visit)
    _need(visit, one, "edit")
    made = _add(visit, one)
    return visit.go(f"/prompts/{one.name}/{made.number}", f"Version {made.number} is there, as a draft.")


def _rights(visit: Visit, template: Template) -> dict[str, bool]:
    return {f"may_{right}": rights.has(visit.db, template, right, visit.person) for right in rights.TABLES}


def _need(visit: Visit, template: Template, right: str) -> None:
    if not rights.has(visit.db, template, right, visit.person):
        raise Refused(403, f"You may not {right} '{template.name}'.", "Who may is named on its page.")


def version(visit: Visit) -> Response:
    """Show one version: text, what changed, what validation says, its review and its scores."""
    one = _template(visit)
    shown = _version(visit, one)
    parent = visit.db.get(Version, shown.parent_id) if shown.parent_id else None
    return visit.page(
        "version.html", template=one, version=shown, parent=parent, state=library.state(visit.db, one, shown),
        changed=library.diff(parent.text, shown.text) if parent else [], findings=library.findings(one, shown),
        events=library.events(visit.db, shown), scores=library.scores(visit.db, shown), variables=_line(shown),
        labels=[label for label, at in library.labels(visit.db, one).items() if at == shown.id], all_labels=LABELS,
        least=library.LEAST,
        is_author=shown.by == visit.person.name, **_rights(visit, one),
    )  # fmt: skip


def step(visit: Visit) -> Response:
    """Take a step of the review."""
    one = _template(visit)
    at, kind = _version(visit, one), visit.choice("do", STEPS)
    if kind in NEEDS_REVIEWER and not visit.may("review"):
        raise Refused(403, f"To {kind} needs the role reviewer; yours is {visit.person.role}.", "Ask a reviewer.")
    if kind != "comment":
        _need(visit, one, "review" if kind in NEEDS_REVIEWER else "edit")
    text = visit.text("text", 5000).strip()
    if kind == "comment" and not text:
        raise Refused(400, "The comment is empty.")
    rating = {"rating": visit.whole("rating", 1, 5)} if visit.text("rating") and kind in NEEDS_REVIEWER else {}
    try:
        library.do(visit.db, one, at, kind, visit.person.name, **({"text": text} if text else {}), **rating)
    except library.LibraryError as error:
        raise Refused(409, f"{error.problem}.", error.cure or "") from error
    return visit.go(f"/prompts/{one.name}/{at.number}", "Done.")


def audit(visit: Visit) -> Response:
    """Say whether validation was right to stop a version: the error of what is settled without a person."""
    one = _template(visit)
    _need(visit, one, "review")
    at, word = _version(visit, one), visit.choice("audit", ("right", "wrong"))
    try:
        library.audit_validation(visit.db, one, at, visit.person.name, word)
    except library.LibraryError as error:
        raise Refused(403 if at.by == visit.person.name else 409, f"{error.problem}.", error.cure or "") from error
    return visit.go("/prompts", "Noted.")


def label(visit: Visit) -> Response:
    """Put a label on a version."""
    one = _template(visit)
    _need(visit, one, "review")
    at, name = _version(visit, one), visit.choice("label", LABELS)
    try:
        library.set_label(visit.db, one, at, name, visit.person.name)
    except library.LibraryError as error:
        raise Refused(409, f"{error.problem}.", error.cure or "") from error
    return visit.go(f"/prompts/{one.name}", f"Version {at.number} is {name}.")


def roll_back(visit: Visit) -> Response:
    """Put a label back to where it was."""
    one = _template(visit)
    _need(visit, one, "review")
    name, _, number = visit.text("to", 40).partition(" ")
    if name not in LABELS or not number.isdecimal():
        raise Refused(400, "Choose a label and the version that it goes back to.")
    found = library.roll_back(visit.db, one, name, visit.person.name, int(number))
    return visit.go(f"/prompts/{one.name}", f"{name.capitalize()} is version {found.number} again.")


def grant(visit: Visit) -> Response:
    """Set who may edit a template, and who may review it."""
    one = _template(visit)
    for right, field in (("edit", "editors"), ("review", "reviewers")):
        names = [name.strip() for name in visit.text(field, 2000).split(",") if name.strip()]
        if names != rights.granted(visit.db, one, right):
            rights.grant(visit.db, one, right, names, visit.person.name)
    return visit.go(f"/prompts/{one.name}", "Saved.")


routes = [
    route("/prompts", overview),
    route("/prompts", create, "edit", post=True),
    route("/prompts/{name}", show),
    route("/prompts/{name}", add, "edit", post=True),
    route("/prompts/{name}/rights", grant, "admin", post=True),
    route("/prompts/{name}/rollback", roll_back, "review", post=True),
    route("/prompts/{name}/{number:int}", version),
    route("/prompts/{name}/{number:int}", step, "work", post=True),
    route("/prompts/{name}/{number:int}/audit", audit, "review", post=True),
    route("/prompts/{name}/{number:int}/label", label, "review", post=True),
]
