"""The policy's page: what it says, its versions, and who signed."""

from __future__ import annotations

from starlette.responses import Response

from primum.core import taxonomy
from primum.core.records import digest
from primum.studio import library, rulebook
from primum.studio.tables import PolicyVersion
from primum.studio.web import Refused, Visit, route


def show(visit: Visit) -> Response:
    """Show the policy in force: the file, or the one that ships with primum; and where the database says otherwise."""
    found = rulebook.state(visit.db, visit.studio.policy)
    newest, base = found.newest, found.newest.text if found.newest else rulebook.shipped()
    return visit.page(
        "policy.html", text=found.text, policy=rulebook.check(base if found.problem else found.text),
        hash=digest(found.text), newest=newest, history=rulebook.history(visit.db), problem=found.problem,
        functions=rulebook.FUNCTIONS, signed=rulebook.signatures(visit.db, newest) if newest else {},
        file=str(visit.studio.policy), named=taxonomy.named() is not None, there=visit.studio.policy.is_file(),
        changed=library.diff(base, found.text) if found.differs else [],
    )  # fmt: skip


def version(visit: Visit) -> Response:
    """Show a version: its words, and what it changed."""
    found = visit.get(PolicyVersion, visit.number("id"))
    held = rulebook.history(visit.db)
    older = [row for row in held if row.id < found.id]
    before = older[0].text if older else rulebook.shipped()
    return visit.page(
        "policy_version.html", version=found, changed=library.diff(before, found.text),
        signed=rulebook.signatures(visit.db, found), newest=held[0].id == found.id,
    )  # fmt: skip


def restore(visit: Visit) -> Response:
    """Bring an older version back, with a reason."""
    found = visit.get(PolicyVersion, visit.number("id"))
    reason = visit.text("reason", 500).strip()
    if not reason:
        raise Refused(400, "Say why it comes back.")
    rulebook.restore(visit.db, visit.studio.policy, found, reason, visit.person.name)
    return visit.go("/policy", "It is in force again. It needs its signatures anew.")


def save(visit: Visit) -> Response:
    """Keep a new version; one who had another version before them is told, and nothing is lost."""
    current = rulebook.state(visit.db, visit.studio.policy).text
    if visit.text("base", 64) != digest(current):
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
    rulebook.sign(visit.db, found, visit.choice("function", rulebook.FUNCTIONS), visit.person)
    return visit.go("/policy", "Signed.")


routes = [
    route("/policy", show),
    route("/policy", save, "admin", post=True),
    route("/policy/{id:int}", version),
    route("/policy/{id:int}/restore", restore, "admin", post=True),
    route("/policy/{id:int}/sign", sign, "review", post=True),
]
