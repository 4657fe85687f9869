"""People: names, passwords (argon2id), roles, invitation links and browser sessions.

A secret (cookie, invitation) is 256 random bits, and only its SHA-256 is kept. Knows nothing of requests.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import secrets
import threading
from collections.abc import Sequence

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from primum.core.errors import UsageError
from primum.studio import audit
from primum.studio.tables import Account, Certificate, Invitation, SignIn, now

ROLES = ("viewer", "annotator", "editor", "reviewer", "admin")
"""Each may do what the ones before it may."""
RIGHTS = {
    "read": "viewer",
    "work": "annotator",
    "edit": "editor",
    "review": "reviewer",
    "admin": "admin",
}
"""What is asked for -> the least role that has it."""
MODALITIES = ("text", "image", "audio")
"""What an item's prompt or replies are; people are certified for a language in one of them."""
LOCAL = "local"
SHORTEST_PASSWORD, LONGEST_PASSWORD = 12, 128
INVITATION_DAYS = 7
SESSION_HOURS = 12
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,39}")
_HASHER = PasswordHasher()  # argon2id, the RFC 9106 low-memory profile
_HASHING = threading.BoundedSemaphore(2)
"""Each hash takes 64 MiB: many sign-ins at once must not take all memory."""


class AccountError(ValueError):
    """What a person typed cannot be used; the text says why."""


def may(account: Account | None, right: str) -> bool:
    """Return whether the account's role has the right."""
    return bool(account and account.active and ROLES.index(account.role) >= ROLES.index(RIGHTS[right]))


def has_accounts(session: Session) -> bool:
    """Return whether anybody can sign in: from then on everybody must."""
    return bool(session.scalar(select(func.count()).select_from(Account).where(signs_in())))


def signs_in() -> ColumnElement[bool]:
    """Return the condition that somebody can sign in as an account: by a password, or by a provider's word."""
    return or_(Account.password != "", Account.subject.is_not(None))


def local_account(session: Session) -> Account:
    """Return the one person of a studio without accounts (an admin); makes it the first time."""
    found = session.scalar(select(Account).where(Account.name == LOCAL))
    if found is None:
        found = Account(name=LOCAL, role="admin", password="")
        session.add(found)
        session.flush()
    return found


def check_name(name: str) -> str:
    """Return the name in lower case.

    Raises:
        AccountError: it is no name.
    """
    name = name.strip().lower()
    if not _NAME.fullmatch(name) or name == LOCAL:
        raise AccountError("a name is 2 to 40 letters, digits, dots, dashes or underscores, and not 'local'")
    return name


def check_password(password: str, name: str) -> None:
    """Refuse a password that is short, endless, of few characters, or holds the name.

    Raises:
        AccountError: it is one of these.
    """
    if len(password) < SHORTEST_PASSWORD:
        raise AccountError(f"a password has at least {SHORTEST_PASSWORD} characters; a sentence is a good one")
    if len(password) > LONGEST_PASSWORD:
        raise AccountError(f"a password has at most {LONGEST_PASSWORD} characters")
    if len(set(password)) < 5 or (name and name in password.lower()):
        raise AccountError("this password is easily guessed: few different characters, or the name in it")


def hash_password(password: str) -> str:
    """Return the argon2id hash."""
    with _HASHING:
        return _HASHER.hash(password)


_NOBODY = PasswordHasher().hash(secrets.token_hex(16))


def sign_in(session: Session, name: str, password: str) -> Account | None:
    """Return the account of that name and password, or None. Takes as long for a name that does not exist."""
    found = session.scalar(select(Account).where(Account.name == name.strip().lower()))
    held = found.password if found and found.password else _NOBODY
    try:
        with _HASHING:
            _HASHER.verify(held, password[:LONGEST_PASSWORD])
    except (VerificationError, InvalidHashError):
        return None
    return found if found and found.active and found.password else None


def hashed(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def invite(session: Session, role: str, by: str) -> str:
    """Make an invitation and return its token, which is kept nowhere.

    Raises:
        UsageError: no such role.
    """
    if role not in ROLES:
        raise UsageError(f"no role '{role}'", cure="one of: " + ", ".join(ROLES))
    token = secrets.token_urlsafe(32)
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=INVITATION_DAYS)
    session.add(Invitation(key=hashed(token), role=role, by=by, expires=expires.isoformat(timespec="milliseconds")))
    audit.record(session, by, "invite", role)
    return token


def reset(session: Session, account: Account, by: str) -> str:
    """Make a link on which a person sets a new password, and return its token, which is kept nowhere."""
    token = secrets.token_urlsafe(32)
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    session.add(Invitation(
        key=hashed(token), role=account.role, by=by, expires=expires.isoformat(timespec="milliseconds"),
        account_id=account.id,
    ))  # fmt: skip
    audit.record(session, by, "reset link", account.name)
    return token


def invitation(session: Session, token: str) -> Invitation | None:
    """Return the invitation if it can still be used."""
    found = session.get(Invitation, hashed(token))
    return found if found and found.used_by is None and found.expires > now() else None


def join(session: Session, token: str, name: str, password: str) -> Account:
    """Make the account that an invitation stands for, or set its password anew, which ends its sessions.

    Raises:
        AccountError: the link is used up or too old, the name is taken, or name or password cannot be used.
    """
    found = invitation(session, token)
    if found is None:
        raise AccountError("this invitation has been used or is too old: ask for another")
    if found.account_id is not None:
        return _set_anew(session, found, password)
    name = check_name(name)
    check_password(password, name)
    if session.scalar(select(Account).where(Account.name == name)):
        raise AccountError(f"the name '{name}' is taken")
    account = Account(name=name, role=found.role, password=hash_password(password))
    session.add(account)
    session.flush()
    found.used_by = account.id
    audit.record(session, name, "join", name, role=found.role, invited_by=found.by)
    return account


def vouched(session: Session, subject: str, name: str, role: str | None, key: str | None) -> Account:
    """Return the account of somebody that a provider of identities vouches for; made the first time.

    Args:
        session: a writing session.
        subject: the provider and its lasting name for the person. Nothing else identifies them: a name or an address
            that equals an account's gives no way into it.
        name: what to call a newcomer, changed where it is taken.
        role: of a newcomer without an invitation; None: nobody comes without one.
        key: hash of the invitation's token.

    Raises:
        AccountError: the account is closed, or there is none and nothing lets one be made.
    """
    account = session.scalar(select(Account).where(Account.subject == subject))
    if account is not None:
        if not account.active:
            raise AccountError("this account is closed")
        return account
    found = session.get(Invitation, key) if key else None
    usable = found is not None and found.used_by is None and found.expires > now() and found.account_id is None
    if key and not usable:
        raise AccountError("this invitation has been used or is too old: ask for another")
    given = found.role if found else role
    if given is None:
        raise AccountError("you have no account here yet: ask an admin for an invitation and open its link")
    account = Account(name=_free_name(session, name), role=given, subject=subject)
    session.add(account)
    session.flush()
    if found:
        found.used_by = account.id
    audit.record(session, account.name, "join", account.name, role=given, invited_by=found.by if found else "provider")
    return account


def _free_name(session: Session, name: str) -> str:
    taken = set(session.scalars(select(Account.name).where(Account.name.startswith(name[:36], autoescape=True))))
    numbered = (f"{name[:36]}-{number}" for number in range(2, len(taken) + 3))
    return check_name(next(one for one in (name, *numbered) if one not in taken))


def _set_anew(session: Session, found: Invitation, password: str) -> Account:
    account = session.get(Account, found.account_id)
    if account is None or not account.active:
        raise AccountError("this account is closed")
    check_password(password, account.name)
    account.password, found.used_by = hash_password(password), account.id
    end_all(session, account.id)
    session.flush()
    audit.record(session, account.name, "password", account.name, link_by=found.by)
    return account


def begin(session: Session, account_id: int | None) -> tuple[str, SignIn]:
    """Begin a browser session; return the cookie's value and the row."""
    secret = secrets.token_urlsafe(32)
    row = SignIn(key=hashed(secret), account_id=account_id, csrf=secrets.token_urlsafe(24))
    session.add(row)
    session.flush()
    return secret, row


def live(session: Session, secret: str, idle_minutes: int) -> SignIn | None:
    """Return the session of a cookie, unless it is older than 12 hours or was idle too long."""
    row = session.get(SignIn, hashed(secret)) if secret else None
    if row is None:
        return None
    moment = datetime.datetime.now(datetime.UTC)
    age = moment - datetime.datetime.fromisoformat(row.at)
    idle = moment - datetime.datetime.fromisoformat(row.seen)
    over = age > datetime.timedelta(hours=SESSION_HOURS) or idle > datetime.timedelta(minutes=idle_minutes)
    return None if over else row


def end_all(session: Session, account_id: int) -> None:
    """End every session of an account (its password, role or state was changed)."""
    for row in session.scalars(select(SignIn).where(SignIn.account_id == account_id)):
        session.delete(row)


def certified(session: Session, account: Account, language: str, modality: str = "text") -> bool:
    """Return whether the person may work in this language and modality."""
    wanted = (Certificate.account_id == account.id, Certificate.language == language, Certificate.modality == modality)
    return session.scalar(select(Certificate.id).where(*wanted)) is not None


def certify(session: Session, account: Account, language: str, by: str, modality: str = "text") -> None:
    """Certify the person for a language and a modality, once."""
    if not certified(session, account, language, modality):
        session.add(Certificate(account_id=account.id, language=language, modality=modality, by=by))
        audit.record(session, by, "certify", account.name, language=language, modality=modality)


def uncertify(session: Session, account: Account, language: str, modality: str, by: str) -> bool:
    """Take a certificate back; return whether there was one. Votes that were given with it stay."""
    wanted = (Certificate.account_id == account.id, Certificate.language == language, Certificate.modality == modality)
    found = session.scalar(select(Certificate).where(*wanted))
    if found is None:
        return False
    session.delete(found)
    audit.record(session, by, "uncertify", account.name, language=language, modality=modality)
    return True


def certificates(session: Session, accounts: Sequence[Account]) -> dict[int, list[tuple[str, str]]]:
    """Return account -> the languages and modalities that each of these people is certified for, in order."""
    ids = [account.id for account in accounts]
    held: dict[int, list[tuple[str, str]]] = {id_: [] for id_ in ids}
    query = select(Certificate).where(Certificate.account_id.in_(ids), Certificate.modality.in_(MODALITIES))
    for row in session.scalars(query.order_by(Certificate.language, Certificate.modality)):
        held[row.account_id].append((row.language, row.modality))
    return held
