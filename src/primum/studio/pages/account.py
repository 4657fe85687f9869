"""Signing in and out, joining by invitation, and one's own password and profile."""

from __future__ import annotations

from sqlalchemy import delete
from sqlalchemy.orm import Session
from starlette.responses import RedirectResponse, Response

from primum.studio import accounts, audit, care
from primum.studio.accounts import AccountError
from primum.studio.tables import Account, Invitation, SignIn
from primum.studio.web import Refused, Visit, give_cookie, route


def sign_in_page(visit: Visit) -> Response:
    """Show the form."""
    return visit.go("/") if visit.account else visit.page("sign_in.html", problem="")


def sign_in(visit: Visit) -> Response:
    """Check name and password; on success the browser gets a new session (the old one cannot be fixed upon it)."""
    name = visit.text("name", 200).strip().lower()
    where = visit.request.client.host if visit.request.client else ""
    if not (visit.studio.tries.take(f"name {name}") and visit.studio.tries.take(f"from {where}")):
        audit.record(visit.db, "nobody", "sign-in held back", name[:80])
        return visit.page("sign_in.html", 429, problem="Too many tries: wait half a minute and try again.")
    found = accounts.sign_in(visit.db, name, visit.text("password", 1000))
    if found is None:
        audit.record(visit.db, "nobody", "sign-in failed", name[:80])
        return visit.page("sign_in.html", 401, problem="Name or password is wrong.")
    audit.record(visit.db, found.name, "sign-in", found.name)
    return _signed_in(visit, found)


def sign_in_elsewhere(visit: Visit) -> Response:
    """Send the browser to the organisation's provider, with or without an invitation."""
    token = str(visit.request.path_params.get("token", ""))
    provider, where = visit.studio.provider, visit.request.client.host if visit.request.client else ""
    if provider is None:
        raise Refused(404, "This studio knows no provider of accounts.", "Sign in with name and password.")
    if visit.account:
        return visit.go("/")
    if not visit.studio.tries.take(f"from {where}"):
        return visit.page("sign_in.html", 429, problem="Too many tries: wait half a minute and try again.")
    from primum.studio import oidc

    try:
        with visit.studio.database.writing() as db:
            values = oidc.begin(db, visit.sign_in, token or None)
        return RedirectResponse(provider.address(*values), 303)
    except oidc.OidcError as error:
        return visit.page("sign_in.html", 502, problem=f"Nobody can sign in by {provider.label} now: {error}.")


def back_from_elsewhere(visit: Visit) -> Response:
    """Take what the provider says, check it, and sign the person in."""
    provider, given = visit.studio.provider, visit.request.query_params
    if provider is None:
        raise Refused(404, "This studio knows no provider of accounts.", "Sign in with name and password.")
    from primum.studio import oidc

    try:
        with visit.studio.database.writing() as db:
            flow = oidc.take(db, visit.sign_in, given.get("state", ""))
        if flow is None:
            raise oidc.OidcError("it was not begun in this browser, or more than ten minutes ago")
        if given.get("iss", provider.issuer) != provider.issuer:
            raise oidc.OidcError("the answer is another provider's")
        if given.get("error") or not given.get("code"):
            raise oidc.OidcError("the provider says: " + given.get("error", "no code")[:100])
        person = provider.person(given["code"], flow.nonce, flow.verifier)
        with visit.studio.database.writing() as db:
            account = accounts.vouched(db, person.subject, person.name, provider.role, flow.invitation)
            audit.record(db, account.name, "sign-in", account.name, by=provider.issuer)
            return _signed_in(visit, account, db)
    except (oidc.OidcError, AccountError) as error:
        with visit.studio.database.writing() as db:
            audit.record(db, "nobody", "sign-in failed", provider.issuer, why=str(error)[:200])
        return visit.page("sign_in.html", 401, problem=f"The sign-in did not come about: {error}.")


def _signed_in(visit: Visit, account: Account, db: Session | None = None) -> Response:
    db = db or visit.db
    db.execute(delete(SignIn).where(SignIn.key == visit.sign_in.key))
    secret, _ = accounts.begin(db, account.id)
    response = visit.go("/")
    give_cookie(visit.studio, response, secret)
    return response


def sign_out(visit: Visit) -> Response:
    """End the session on the server and in the browser."""
    if visit.account:
        visit.log("sign-out", visit.account.name)
    visit.db.execute(delete(SignIn).where(SignIn.key == visit.sign_in.key))
    response = visit.go("/sign-in")
    secret, _ = accounts.begin(visit.db, None)
    give_cookie(visit.studio, response, secret)
    return response


def join_page(visit: Visit) -> Response:
    """Show the form of an invitation link."""
    token = visit.request.path_params["token"]
    found = accounts.invitation(visit.db, token)
    if found is None:
        raise Refused(404, "This invitation has been used or is too old.", "Ask for another.")
    return visit.page("join.html", token=token, role=found.role, problem="", **_whose(visit, found, ""))


def _whose(visit: Visit, found: Invitation | None, name: str) -> dict[str, object]:
    """Return the name on the form, which stands fast where the link sets a password anew."""
    account = visit.db.get(Account, found.account_id) if found and found.account_id else None
    return {"name": account.name if account else name, "reset": account is not None}


def join(visit: Visit) -> Response:
    """Make the account and sign in."""
    token, name = visit.request.path_params["token"], visit.text("name", 200)
    found = accounts.invitation(visit.db, token)
    try:
        if visit.text("password", 1000) != visit.text("again", 1000):
            raise AccountError("the two passwords differ")
        account = accounts.join(visit.db, token, name, visit.text("password", 1000))
    except AccountError as error:
        role = found.role if found else ""
        return visit.page("join.html", 400, token=token, role=role, problem=str(error), **_whose(visit, found, name))
    return _signed_in(visit, account)


def profile(visit: Visit) -> Response:
    """Show one's own page."""
    return _profile(visit)


def _profile(visit: Visit, status: int = 200, problem: str = "") -> Response:
    held = accounts.certificates(visit.db, [visit.person])[visit.person.id]
    return visit.page("profile.html", status, problem=problem, blurs=care.CHOICES, certificates=held)


def save_profile(visit: Visit) -> Response:
    """Keep expertise and sub-team, which red-team dialogues carry, and what is blurred."""
    visit.person.expertise = visit.text("expertise", 200)
    visit.person.team = visit.text("team", 200)
    visit.person.blur = visit.choice("blur", care.CHOICES, "")
    visit.log("profile", visit.person.name)
    return visit.go("/profile", "Saved.")


def change_password(visit: Visit) -> Response:
    """Change the password, which ends every other session of the account."""
    person = visit.person
    if not visit.studio.tries.take(f"name {person.name}"):
        return _profile(visit, 429, "Too many tries: wait half a minute.")
    try:
        if not person.password or accounts.sign_in(visit.db, person.name, visit.text("old", 1000)) is None:
            raise AccountError("the old password is wrong")
        accounts.check_password(visit.text("password", 1000), person.name)
        if visit.text("password", 1000) != visit.text("again", 1000):
            raise AccountError("the two new passwords differ")
    except AccountError as error:
        return _profile(visit, 400, str(error))
    person.password = accounts.hash_password(visit.text("password", 1000))
    accounts.end_all(visit.db, person.id)
    visit.db.flush()
    visit.log("password", person.name)
    secret, _ = accounts.begin(visit.db, person.id)
    response = visit.go("/profile", "The password is changed; every other session has ended.")
    give_cookie(visit.studio, response, secret)
    return response


def sign_out_everywhere(visit: Visit) -> Response:
    """End every session of the account, this one too."""
    visit.log("sign-out everywhere", visit.person.name)
    accounts.end_all(visit.db, visit.person.id)
    visit.db.flush()
    response = visit.go("/sign-in")
    secret, _ = accounts.begin(visit.db, None)
    give_cookie(visit.studio, response, secret)
    return response


routes = [
    route("/sign-in", sign_in_page, None),
    route("/sign-in", sign_in, None, post=True),
    route("/sign-out", sign_out, None, post=True),
    route("/sign-in/oidc", sign_in_elsewhere, None, slow=True),
    route("/sign-in/oidc/back", back_from_elsewhere, None, slow=True),
    route("/join/{token:str}/oidc", sign_in_elsewhere, None, slow=True),
    route("/join/{token:str}", join_page, None),
    route("/join/{token:str}", join, None, post=True),
    route("/profile", profile),
    route("/profile", save_profile, post=True),
    route("/profile/password", change_password, post=True),
    route("/profile/sign-out", sign_out_everywhere, post=True),
]
