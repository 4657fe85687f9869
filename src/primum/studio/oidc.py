"""Signing in with an organisation's own accounts: OpenID Connect's code flow with PKCE, by Authlib.

The provider is asked for nothing but who the person is (`openid profile email`); its tokens are checked and forgotten.
Who may do what stays here: a role comes from an invitation, or from the one role that newcomers get. Source: OpenID
Connect Core 1.0, section 3.1; RFC 7636 (PKCE); RFC 9207 (the issuer in the answer).
"""

from __future__ import annotations

import datetime
import re
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy import delete
from sqlalchemy.orm import Session

from primum.core.errors import StepFailedError, UsageError
from primum.core.hosts import LOOPBACK
from primum.studio.accounts import hashed
from primum.studio.tables import Flow, SignIn, now

BACK = "/sign-in/oidc/back"
"""Where the provider sends the browser; `--url` and this path are the redirect URI to register there."""
SCOPE = "openid profile email"
SECONDS = 10
"""How long the provider may take for one answer."""
FLOW_MINUTES = 10
LEEWAY = 60
"""Seconds by which the two clocks may differ."""
KEYS_EVERY = 60
"""Seconds between two looks at the provider's keys, at least: a forged key id must not make us ask without end."""
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
"""Signatures that only the provider can make: never `none`, never a shared secret."""
SECRET = "PRIMUM_OIDC_SECRET"
"""Environment variable with the client's secret."""


class OidcError(ValueError):
    """The sign-in did not come about; the text says why, without any token."""


class Person(NamedTuple):
    """Who the provider says it is.

    Attributes:
        subject: the provider's issuer and its lasting name for the person.
        name: a name to propose, made of what the provider calls them; it identifies nobody.
    """

    subject: str
    name: str


@dataclass
class Provider:
    """Who vouches for people.

    Args:
        issuer: its address, as it names itself.
        client: the id under which this studio is registered there.
        back: the address to which it sends the browser.
        secret: of a confidential client; empty: PKCE alone.
        label: what the button says.
        role: what a newcomer without an invitation may do; None: nobody comes without one.
    """

    issuer: str
    client: str
    back: str
    secret: str = field(default="", repr=False)
    label: str = "single sign-on"
    role: str | None = None
    _known: dict[str, Any] = field(default_factory=dict, repr=False)
    _keys: tuple[float, KeySet] | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def discover(self) -> dict[str, Any]:
        """Return what the provider says of itself; asked once.

        Raises:
            OidcError: it cannot be reached, or does not say what is needed.
        """
        with self._lock:
            if not self._known:
                self._known = self._checked(self._fetch(self.issuer.rstrip("/") + "/.well-known/openid-configuration"))
            return self._known

    def _checked(self, found: dict[str, Any]) -> dict[str, Any]:
        if found.get("issuer") != self.issuer:
            raise OidcError(f"the provider calls itself '{str(found.get('issuer'))[:200]}' and not '{self.issuer}'")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not is_safe(str(found.get(name, ""))):
                raise OidcError(f"the provider names no '{name}' that begins with https://")
        return found

    def _fetch(self, url: str) -> dict[str, Any]:
        try:
            answer = requests.get(url, timeout=SECONDS, allow_redirects=False)
            answer.raise_for_status()
            found = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise OidcError(f"the provider does not answer ({type(error).__name__})") from error
        if not isinstance(found, dict):
            raise OidcError("the provider's answer is no JSON object")
        return found

    def keys(self, *, anew: bool = False) -> KeySet:
        """Return the provider's signing keys; `anew`: look again, once a minute at most (keys are rotated)."""
        url = str(self.discover()["jwks_uri"])
        with self._lock:
            old = self._keys is not None and time.monotonic() - self._keys[0] > KEYS_EVERY
            if self._keys is None or (anew and old):
                try:
                    self._keys = (time.monotonic(), KeySet.import_key_set(self._fetch(url)))  # type: ignore[arg-type]
                except (JoseError, KeyError, TypeError, ValueError) as error:
                    raise error if isinstance(error, OidcError) else OidcError("its keys cannot be read") from error
            return self._keys[1]

    def _client(self) -> OAuth2Session:
        return OAuth2Session(
            self.client, self.secret or None, scope=SCOPE, redirect_uri=self.back, code_challenge_method="S256",
            default_timeout=SECONDS,
        )  # fmt: skip

    def address(self, state: str, nonce: str, verifier: str) -> str:
        """Return the page of the provider on which the person signs in."""
        url = self.discover()["authorization_endpoint"]
        return self._client().create_authorization_url(url, state=state, code_verifier=verifier, nonce=nonce)[0]

    def person(self, code: str, nonce: str, verifier: str) -> Person:
        """Change the code for an ID token, check it, and return who it names.

        Raises:
            OidcError: the provider refuses the code, or the token is not its own, not for us, not of this sign-in,
                or too old.
        """
        try:
            held = self._client().fetch_token(
                self.discover()["token_endpoint"], grant_type="authorization_code", code=code, code_verifier=verifier
            )
        except (AuthlibBaseError, requests.RequestException, ValueError) as error:
            raise OidcError(f"the provider did not take the code ({type(error).__name__})") from error
        token = held.get("id_token")
        if not isinstance(token, str):
            raise OidcError("the provider sent no ID token")
        claims = self._claims(token, nonce, held.get("access_token"))
        return Person(f"{self.issuer}#{claims['sub']}", proposed_name(claims))

    def _claims(self, token: str, nonce: str, access_token: Any) -> CodeIDToken:
        options: Any = {
            "iss": {"essential": True, "value": self.issuer},
            "aud": {"essential": True, "value": self.client},
            "sub": {"essential": True},
        }
        try:
            decoded = self._decode(token)
            params = {"nonce": nonce, "client_id": self.client, "access_token": access_token}
            claims = CodeIDToken(decoded.claims, decoded.header, options, params)
            claims.validate(leeway=LEEWAY)
        except (JoseError, AuthlibBaseError, ValueError, TypeError) as error:
            raise (
                error
                if isinstance(error, OidcError)
                else OidcError(f"the provider's ID token does not hold ({type(error).__name__}: {str(error)[:100]})")
            ) from error
        if not isinstance(claims["sub"], str) or not claims["sub"]:
            raise OidcError("the provider's ID token names nobody")
        return claims

    def _decode(self, token: str) -> jwt.Token:
        try:
            return jwt.decode(token, self.keys(), algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            return jwt.decode(token, self.keys(anew=True), algorithms=ALGORITHMS)  # its keys may be new


def is_safe(url: str) -> bool:
    """Return whether an address is HTTPS, or on this machine."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (
            parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        )
    except ValueError:
        return False


def provider(
    issuer: str, client: str | None, base: str, secret: str, role: str | None, label: str | None = None
) -> Provider:
    """Return the provider of these settings, having asked it who it is.

    Raises:
        UsageError: something is missing, or an address is not HTTPS.
        StepFailedError: the provider does not answer as one.
    """
    if not client:
        raise UsageError("which client is this studio at the provider?", where="--oidc-issuer", cure="--oidc-client ID")
    if not is_safe(issuer):
        raise UsageError("a provider is reached by https://", where="--oidc-issuer", cure="give its https:// address")
    name = label or urlsplit(issuer).hostname or "single sign-on"
    made = Provider(issuer, client, base.rstrip("/") + BACK, secret, name, role)
    try:
        made.discover()
    except OidcError as error:
        raise StepFailedError(str(error), where=issuer, cure="check --oidc-issuer and the network") from error
    return made


def proposed_name(claims: Mapping[str, Any]) -> str:
    """Return a name of the studio's kind, made of what the provider calls the person."""
    for key in ("preferred_username", "email", "name"):
        value = claims.get(key)
        text = re.sub(r"[^a-z0-9._-]+", "-", str(value or "").lower().partition("@")[0]).strip("-._")[:40]
        if len(text) > 1 and text != "local":
            return text
    return "person"


# ---------------------------------------------------------------- a sign-in under way


def begin(db: Session, sign_in: SignIn, invitation: str | None) -> tuple[str, str, str]:
    """Note a sign-in that this browser begins; return its state, nonce and PKCE verifier.

    Args:
        db: a writing session.
        sign_in: the browser's session; only it can end what it began.
        invitation: the token of the link by which the person came.
    """
    oldest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=FLOW_MINUTES)
    db.execute(delete(Flow).where(Flow.at < oldest.isoformat(timespec="milliseconds")))
    db.execute(delete(Flow).where(Flow.sign_in == sign_in.key))
    state, nonce, verifier = (secrets.token_urlsafe(size) for size in (32, 32, 48))
    db.add(Flow(
        state=hashed(state), sign_in=sign_in.key, nonce=nonce, verifier=verifier,
        invitation=hashed(invitation) if invitation else None, at=now(),
    ))  # fmt: skip
    return state, nonce, verifier


def take(db: Session, sign_in: SignIn, state: str) -> Flow | None:
    """Return the sign-in of a state and forget it, where this browser began it within ten minutes."""
    found = db.get(Flow, hashed(state))
    if found is None or found.sign_in != sign_in.key:
        return None
    db.delete(found)
    db.flush()
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(found.at)
    return found if age <= datetime.timedelta(minutes=FLOW_MINUTES) else None
