"""Requests to pages: who asks, may they, is the form theirs; then a page's handler, in one transaction.

A handler is a plain function `(visit) -> Response` that runs in a thread. A page is a Jinja2 template in which every
value is escaped and every acting character is named (shown.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlencode, urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from sqlalchemy.orm import Session
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from primum import __version__
from primum.core.errors import PrimumError
from primum.core.taxonomy import Policy
from primum.report import words
from primum.studio import accounts, audit, rulebook
from primum.studio.database import Database
from primum.studio.fresh import Fresh
from primum.studio.security import Rate
from primum.studio.shown import LONGEST, clip, refused, visible
from primum.studio.tables import Account, SignIn, now
from primum.studio.talk import Talkers

COOKIE = "primum_studio"
Handler = Callable[["Visit"], Response]


class Refused(Exception):
    """A request that is answered with a page that says why, and what to do.

    Args:
        status: HTTP status.
        problem: what is wrong, in one sentence.
        cure: what the person can do.
    """

    def __init__(self, status: int, problem: str, cure: str = "") -> None:
        self.status, self.problem, self.cure = status, problem, cure
        super().__init__(problem)


@dataclass
class Studio:
    """What all requests share.

    Attributes:
        database: the tables.
        talkers: the models that answer here.
        runs: folder of the runs that the run pages show.
        policy: the project's policy file.
        secure: whether browsers come by HTTPS.
        with_accounts: whether everybody must sign in, also where there is no account yet.
        idle_minutes: after how long without a request a person is signed out.
        provider: who vouches for people, where the organisation's accounts are used (oidc.Provider).
    """

    database: Database
    talkers: Talkers
    runs: Any
    policy: Any
    secure: bool = False
    with_accounts: bool = False
    idle_minutes: int = 30
    provider: Any = None
    requests: Rate = field(default_factory=lambda: Rate(per_second=20, burst=120))
    tries: Rate = field(default_factory=lambda: Rate(per_second=1 / 30, burst=8))
    fresh: Fresh = field(default_factory=Fresh)

    @property
    def cookie(self) -> str:
        """The cookie's name; `__Host-` binds it to this host where browsers come by HTTPS."""
        return f"__Host-{COOKIE}" if self.secure else COOKIE

    @cached_property
    def pages(self) -> Environment:
        """The templates."""
        made = Environment(
            loader=PackageLoader("primum.studio", "templates"), autoescape=True, undefined=StrictUndefined,
            finalize=_shown, trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        names = (
            "percent",
            "number",
            "interval",
            "change",
            "seconds",
            "figure",
            "words",
            "category",
            "moment",
            "metric",
            "p_value",
            "rate",
            "reason",
            "spread",
        )
        made.filters |= {name: getattr(words, name) for name in names} | {"clip": clip}
        made.globals |= {"release": __version__, "longest": LONGEST}
        return made


def _shown(value: Any) -> Any:
    return value if isinstance(value, Markup) else visible("" if value is None else str(value))


@dataclass
class Visit:
    """One request: who asks, what they sent, and the transaction in which it is answered."""

    studio: Studio
    request: Request
    db: Session
    sign_in: SignIn
    account: Account | None
    form: FormData

    @property
    def person(self) -> Account:
        """Who is signed in."""
        if self.account is None:
            raise Refused(401, "You are not signed in.")
        return self.account

    @cached_property
    def policy(self) -> Policy:
        """The project's policy, as it is now."""
        return rulebook.in_force(self.studio.policy)

    def may(self, right: str) -> bool:
        """Whether the person has a right."""
        return accounts.may(self.account, right)

    def text(self, name: str, longest: int = 20_000, default: str = "") -> str:
        """Return a field of the form as text, lines ending in a plain newline.

        Raises:
            Refused: it is too long, or holds what no text holds.
        """
        value = self.form.get(name, default)
        if not isinstance(value, str):
            raise Refused(400, f"The field '{name}' is a file.")
        value = value.replace("\r\n", "\n")
        if len(value) > longest:
            raise Refused(400, f"The field '{name}' holds {len(value):,} characters; at most {longest:,} are taken.")
        bad = refused(value)
        if bad:
            raise Refused(400, f"The field '{name}' holds {bad}.", "Remove it and send the form again.")
        return value

    def choice(self, name: str, known: Any, default: str | None = None) -> str:
        """Return a field that must be one of the known words.

        Raises:
            Refused: it is none of them.
        """
        value = self.text(name, 200, default or "")
        if value not in known:
            raise Refused(400, f"The field '{name}' is '{value}', none of: {', '.join(known)}.")
        return value

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """Return a field that must be a whole number between two bounds.

        Raises:
            Refused: it is not.
        """
        value = self.text(name, 20, "" if default is None else str(default)).strip()
        if not value.lstrip("-").isdecimal() or not low <= int(value) <= high:
            raise Refused(400, f"The field '{name}' must be a whole number from {low} to {high}.")
        return int(value)

    def file(self, name: str) -> tuple[str, bytes]:
        """Return the name and the bytes of an uploaded file.

        Raises:
            Refused: none was sent.
        """
        value = self.form.get(name)
        if not isinstance(value, UploadFile) or not value.filename:
            raise Refused(400, "No file was chosen.")
        return value.filename, value.file.read()

    def number(self, name: str) -> int:
        """Return a number of the address."""
        return int(self.request.path_params[name])

    def page(self, file: str, status: int = 200, /, **values: Any) -> HTMLResponse:
        """Answer with a page."""
        shared = {
            "person": self.account, "may": self.may, "csrf": self.sign_in.csrf, "path": self.request.url.path,
            "alone": self.account is not None and self.account.name == accounts.LOCAL,
            "provider": self.studio.provider.label if self.studio.provider else "",
            "said": self.request.query_params.get("said", "")[:300],
        }  # fmt: skip
        made = self.studio.pages.get_template(file).render(shared | values)
        return HTMLResponse(made.encode("utf-8", "replace"), status)

    def go(self, path: str, said: str = "") -> RedirectResponse:
        """Answer a form: on to a page, which says what was done."""
        return RedirectResponse(path + ("?" + urlencode({"said": said}) if said else ""), 303)

    def log(self, action: str, object_: str = "", **details: Any) -> None:
        """Append to the audit log, in this request's transaction."""
        audit.record(self.db, self.person.name, action, object_, **details)

    def get(self, table: type[Any], key: int) -> Any:
        """Return a row by its number.

        Raises:
            Refused: there is none.
        """
        row = self.db.get(table, key)
        if row is None:
            raise Refused(404, "There is no such page.", "It may have been removed, or the address is wrong.")
        return row


def route(
    path: str,
    handler: Handler,
    right: str | None = "read",
    *,
    post: bool = False,
    writes: bool = False,
    slow: bool = False,
) -> Route:
    """Return a route to a handler.

    Args:
        path: the address.
        handler: what answers.
        right: what the person must be allowed (accounts.RIGHTS); None: anybody.
        post: whether it takes a form (its CSRF token is checked, and it writes).
        writes: whether it writes although it takes no form.
        slow: whether it waits for a model: it gets a session that reads, and opens its own to write, so that nobody
            else waits for it.
    """

    async def endpoint(request: Request) -> Response:
        form = await _form(request) if post else FormData()
        response = await run_in_threadpool(_answer, request, form, handler, right, (post or writes) and not slow)
        await form.close()
        return response

    return Route(path, endpoint, methods=["POST"] if post else ["GET"], name=f"{'post' if post else 'get'} {path}")


async def _form(request: Request) -> FormData:
    try:
        return await request.form(max_files=4, max_fields=2000, max_part_size=4 * 1024 * 1024)
    except (HTTPException, ClientDisconnect) as error:
        raise HTTPException(400, "The form could not be read: it is broken or too large.") from error


def _answer(request: Request, form: FormData, handler: Handler, right: str | None, writes: bool) -> Response:
    studio: Studio = request.app.state.studio
    secret, begun = _session(studio, request)
    key = secret or (request.client.host if request.client else "")
    try:
        if not studio.requests.take(accounts.hashed(key)):
            raise Refused(429, "Too many requests.", "Wait a few seconds and load the page again.")
        response = _guarded(studio, request, form, handler, right, writes, begun)
    except Refused as refusal:
        response = _refusal(studio, request, begun, refusal)
    except PrimumError as error:
        response = _refusal(studio, request, begun, Refused(400, error.problem, error.cure or ""))
    if begun:
        _set_cookie(studio, response, begun)
    return response


def _session(studio: Studio, request: Request) -> tuple[str, str]:
    """Return the cookie of the browser's session, and the same again where it was begun just now."""
    secret = request.cookies.get(studio.cookie, "")
    with studio.database.reading() as db:
        row = accounts.live(db, secret, studio.idle_minutes)
        fresh = row is not None and row.seen[:15] == now()[:15]  # written down every ten minutes at most
    if row is None:
        with studio.database.writing() as db:
            if not accounts.has_accounts(db):
                accounts.local_account(db)  # here and not while a page is made: pages may not write
            begun, _ = accounts.begin(db, None)
        return "", begun
    if not fresh:
        with studio.database.writing() as db:
            held = db.get(SignIn, row.key)
            if held:
                held.seen = now()
    return secret, ""


def _guarded(
    studio: Studio, request: Request, form: FormData, handler: Handler, right: str | None, writes: bool, begun: str
) -> Response:
    with studio.database.writing() if writes else studio.database.reading() as db:
        visit = _visit(studio, request, db, form, begun)
        if request.method == "POST":
            _check_form(visit)
        _check_right(visit, right)
        return handler(visit)


def _visit(studio: Studio, request: Request, db: Session, form: FormData, begun: str) -> Visit:
    row = accounts.live(db, begun or request.cookies.get(studio.cookie, ""), studio.idle_minutes)
    if row is None:
        raise Refused(401, "Your session has ended.", "Sign in again.")
    account = db.get(Account, row.account_id) if row.account_id else None
    alone = not studio.with_accounts and not accounts.has_accounts(db)
    if alone:
        account = accounts.local_account(db)
    elif account is not None and (account.name == accounts.LOCAL or not account.active):
        account = None
    return Visit(studio, request, db, row, account, form)


def _check_form(visit: Visit) -> None:
    """Refuse a form that was not sent from one of our own pages of this session (CSRF)."""
    import hmac

    headers = visit.request.headers
    origin = headers.get("origin")
    foreign = origin is not None and urlsplit(origin).netloc != headers.get("host")
    if foreign or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refused(403, "This form was sent from another site.")
    token = visit.form.get("csrf") or headers.get("x-csrf", "")
    if not isinstance(token, str) or not hmac.compare_digest(token.encode(), visit.sign_in.csrf.encode()):
        raise Refused(403, "This form is out of date.", "Load the page again and repeat what you did.")


def _check_right(visit: Visit, right: str | None) -> None:
    if right is None or visit.may(right):
        return
    if visit.account is None:
        raise Refused(401, "You are not signed in.")
    raise Refused(403, f"This needs the role {accounts.RIGHTS[right]}; yours is {visit.person.role}.", "Ask an admin.")


def _refusal(studio: Studio, request: Request, begun: str, refusal: Refused) -> Response:
    """Say why; keep a line of what was denied."""
    with studio.database.reading() as db:
        try:
            visit = _visit(studio, request, db, FormData(), begun)
        except Refused:
            return PlainTextResponse(refusal.problem + "\n", refusal.status)
        if refusal.status == 401 and request.method == "GET":
            return visit.go("/sign-in")
        response = visit.page("refused.html", refusal.status, refusal=refusal)
        actor = visit.account.name if visit.account else "nobody"
    if refusal.status == 403:
        with studio.database.writing() as db:
            audit.record(db, actor, "denied", f"{request.method} {request.url.path}", why=refusal.problem)
    return response


def _set_cookie(studio: Studio, response: Response, secret: str) -> None:
    if studio.cookie not in response.headers.get("set-cookie", ""):
        give_cookie(studio, response, secret)


def give_cookie(studio: Studio, response: Response, secret: str) -> None:
    """Give the browser its session."""
    response.set_cookie(studio.cookie, secret, httponly=True, secure=studio.secure, samesite="lax", path="/")


async def _not_found(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    texts = {404: "There is no such page.", 405: "This address takes no such request."}
    text = texts.get(status) or (error.detail if isinstance(error, HTTPException) else "")
    begun = (await run_in_threadpool(_session, request.app.state.studio, request))[1]
    refusal = Refused(status, text, "The address may be wrong; the start page leads everywhere.")
    response = await run_in_threadpool(_refusal, request.app.state.studio, request, begun, refusal)
    if begun:
        _set_cookie(request.app.state.studio, response, begun)
    return response


def site(studio: Studio, routes: list[BaseRoute], handlers: Mapping[Any, Any] | None = None) -> Starlette:
    """Return the site with its static files."""
    static = Mount("/static", StaticFiles(packages=[("primum.studio", "static")]), name="static")
    errors = {404: _not_found, 405: _not_found, 400: _not_found, **(handlers or {})}
    app = Starlette(routes=[*routes, static], exception_handlers=errors)
    app.state.studio = studio
    return app
