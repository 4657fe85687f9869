"""The policy's page: what it says, its versions, and who signed."""

from __future__ import annotations

from starlette.responses import Response

from primum.core.records import digest
from primum.studio import library, rulebook
from primum.studio.tables import PolicyVersion
from primum.studio.web import Refused, Visit, route


def show(visit: Visit) -> Response:
    """Show the policy in force: the newest version, or the one that ships with primum."""
    held = rulebook.history(visit.db)
    newest = held[0] if held else None
    text = newest.text if newest else rulebook.shipped()
    return visit.page(
        "policy.html", text=text, policy=rulebook.check(text), hash=digest(text), newest=newest, history=held,
        functions=rulebook.FUNCTIONS, signed=rulebook.signatures(visit.db, newest) if newest else {},
        file=str(visit.studio.policy),
    )  # fmt: skip


def version(visit: Visit) -> Response:
    """Show an older version, and what the one after the shipped changed."""
    found = visit.get(PolicyVersion, visit.number("id"))
    held = [row for row in rulebook.history(visit.db) if row.id < found.id]
    before = held[0].text if held else rulebook.shipped()
    signed = rulebook.signatures(visit.db, found)
    return visit.page("policy_version.html", version=found, changed=library.diff(before, found.text), signed=signed)


def save(visit: Visit) -> Response:
    """Keep a new version; one who had another version before them is told, and nothing is lost."""
    held = rulebook.history(visit.db)
    current = held[0].hash if held else digest(rulebook.shipped())
    if visit.text("base", 64) != current:
        raise Refused(409, "Somebody changed the policy while you did.", "Go back, copy your words, and load it again.")
    text = visit.text("text", 200_000).rstrip() + "\n"
    message = visit.text("message", 1000).strip()
    if not message:
        raise Refused(400, "Say what you changed, and why.")
    rulebook.save(visit.db, visit.studio.policy, text, message, visit.person.name)
    return visit.go("/policy", "The new version is in force. It needs its signatures again.")


def sign(visit: Visit) -> Response:
    """Sign a version for a function."""
    found = visit.get(PolicyVersion, visit.number("id"))
    rulebook.sign(visit.db, found, visit.choice("function", rulebook.FUNCTIONS), visit.person.name)
    return visit.go("/policy", "Signed.")


routes = [
    route("/policy", show),
    route("/policy", save, "admin", post=True),
    route("/policy/{id:int}", version),
    route("/policy/{id:int}/sign", sign, "review", post=True),
]
