"""People and the audit log: for admins."""

from __future__ import annotations

from sqlalchemy import func, select
from starlette.responses import Response

from primum.studio import accounts, audit
from primum.studio.accounts import MODALITIES, ROLES
from primum.studio.tables import Account, Invitation, LogLine, now
from primum.studio.web import Refused, Visit, route

LINES = 100


def people(visit: Visit) -> Response:
    """Show who there is, what they may do, and which invitations are open."""
    return visit.page("people.html", **_view(visit), link="")


def _view(visit: Visit) -> dict[str, object]:
    people = visit.db.scalars(select(Account).order_by(Account.name)).all()
    held = accounts.certificates(visit.db, people)
    everybody = [(row, held[row.id]) for row in people]
    open_ = visit.db.scalars(
        select(Invitation).where(
            Invitation.used_by.is_(None), Invitation.account_id.is_(None), Invitation.expires > now()
        )
    ).all()
    return {"everybody": everybody, "open": open_, "roles": ROLES, "modalities": MODALITIES}


def invite(visit: Visit) -> Response:
    """Make an invitation link and show it, once."""
    role = visit.choice("role", ROLES)
    first = not accounts.has_accounts(visit.db)
    if first and role != "admin":
        raise Refused(400, "The first account must be an admin's.", "With it, everybody must sign in.")
    token = accounts.invite(visit.db, role, visit.person.name)
    link = str(visit.request.base_url).rstrip("/") + f"/join/{token}"
    return visit.page("people.html", **_view(visit), link=link)


def reset(visit: Visit) -> Response:
    """Make a link on which a person sets a new password, and show it, once."""
    account = visit.get(Account, visit.number("id"))
    if not account.password or not account.active:
        raise Refused(400, "This account has no password to set anew.")
    token = accounts.reset(visit.db, account, visit.person.name)
    link = str(visit.request.base_url).rstrip("/") + f"/join/{token}"
    return visit.page("people.html", **_view(visit), link=link)


def change(visit: Visit) -> Response:
    """Change a person's role, or let them in no more; their sessions end."""
    account = visit.get(Account, visit.number("id"))
    role, active = visit.choice("role", ROLES), visit.text("active") == "yes"
    if account.name == accounts.LOCAL:
        raise Refused(400, "The account 'local' is of a studio without accounts and cannot be changed.")
    _keep_an_admin(visit, account, role, active)
    account.role, account.active = role, active
    accounts.end_all(visit.db, account.id)
    visit.log("change account", account.name, role=role, active=active)
    return visit.go("/people", f"{account.name} is {role}{'' if active else ', and cannot sign in'}.")


def _keep_an_admin(visit: Visit, account: Account, role: str, active: bool) -> None:
    if account.role != "admin" or (role == "admin" and active):
        return
    others = (
        select(func.count())
        .select_from(Account)
        .where(Account.role == "admin", Account.active, accounts.signs_in(), Account.id != account.id)
    )
    if not visit.db.scalar(others):
        raise Refused(400, "This is the last admin.", "Make somebody else an admin first.")


def certify(visit: Visit) -> Response:
    """Certify a person for a language in a modality by hand, or take that back."""
    account = visit.get(Account, visit.number("id"))
    language = visit.text("language", 20).strip().lower()
    if not language.replace("-", "").isalnum():
        raise Refused(400, "A language is a code like en, de or pt-br.")
    modality = visit.choice("modality", MODALITIES)
    if visit.choice("do", ("certify", "take back"), "certify") == "certify":
        accounts.certify(visit.db, account, language, visit.person.name, modality)
        return visit.go("/people", f"{account.name} is certified for {modality} in '{language}'.")
    if not accounts.uncertify(visit.db, account, language, modality, visit.person.name):
        raise Refused(404, f"{account.name} has no certificate for {modality} in '{language}'.")
    return visit.go("/people", f"{account.name} is no more certified for {modality} in '{language}'.")


def log(visit: Visit) -> Response:
    """Show the newest lines of the audit log, and whether its chain holds."""
    before = visit.request.query_params.get("before", "")
    query = select(LogLine).order_by(LogLine.n.desc()).limit(LINES)
    if before.isdecimal():
        query = query.where(LogLine.n < int(before[:12]))
    return visit.page("log.html", lines=visit.db.scalars(query).all(), found=audit.verify(visit.db))


routes = [
    route("/people", people, "admin"),
    route("/people/invite", invite, "admin", post=True),
    route("/people/{id:int}", change, "admin", post=True),
    route("/people/{id:int}/reset", reset, "admin", post=True),
    route("/people/{id:int}/certify", certify, "admin", post=True),
    route("/log", log, "admin"),
]
