"""Signing in by a provider of identities, against one that is played here over real HTTP and is hostile, too."""

import base64
import contextlib
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from sqlalchemy import select

from primum.core.errors import StepFailedError, UsageError
from primum.studio import accounts, audit, oidc
from primum.studio.tables import Account, Flow, LogLine
from primum.studio.verb import StudioConfig, run_verb
from studio_kit import serving

CLIENT, SECRET = "studio-at-home", "s3cret/with+signs"
KEY = RSAKey.generate_key(2048, {"kid": "one"})
OTHER = RSAKey.generate_key(2048, {"kid": "one"})


class Played(BaseHTTPRequestHandler):
    """A provider: discovery, keys, and a token for a code, once, where the PKCE verifier and the secret fit."""

    def do_GET(self):
        play = self.server.play
        if self.path == "/.well-known/openid-configuration":
            base = play.issuer
            self.say({"issuer": base, "authorization_endpoint": f"{base}/enter", "token_endpoint": f"{base}/token",
                      "jwks_uri": f"{base}/keys"} | play.says)  # fmt: skip
        elif self.path == "/keys":
            play.asked_for_keys += 1
            self.say(KeySet(play.keys).as_dict(private=False))
        else:
            self.say({}, 404)

    def do_POST(self):
        play = self.server.play
        sent = {
            name: values[0]
            for name, values in parse_qs(self.rfile.read(int(self.headers["content-length"])).decode()).items()
        }
        asked = play.codes.pop(sent.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(sent.get("code_verifier", "").encode()).digest())
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        fits = (
            asked
            and challenge.rstrip(b"=").decode() == asked["code_challenge"]
            and sent.get("redirect_uri") == asked["redirect_uri"]
            and self.headers.get("authorization") == f"Basic {basic}"
        )
        if not fits:
            self.say({"error": "invalid_grant"}, 400)
        else:
            self.say({"access_token": "at", "token_type": "Bearer", "id_token": play.token(asked["nonce"])})

    def say(self, document, status=200):
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Play:
    """What the played provider says, and who is sitting before it."""

    def __init__(self, server):
        self.issuer = f"http://127.0.0.1:{server.server_port}"
        self.says, self.claims, self.codes = {}, {}, {}
        self.keys, self.key, self.header = [KEY], KEY, {"alg": "RS256", "kid": "one"}
        self.forge, self.asked_for_keys = None, 0

    def token(self, nonce):
        moment = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT, "sub": "u-1", "exp": moment + 300, "iat": moment, "nonce": nonce,
                  "preferred_username": "Ada Lovelace"}  # fmt: skip
        claims = {name: value for name, value in (claims | self.claims).items() if value is not None}
        if self.forge:
            return self.forge(claims)
        return jwt.encode(self.header, claims, self.key, algorithms=["RS256", "ES256"])

    def enter(self, address, **more):
        """Sign in on the provider's page; return the address to which it sends the browser."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert address.startswith(f"{self.issuer}/enter?")
        assert (asked["response_type"], asked["client_id"], asked["code_challenge_method"]) == ("code", CLIENT, "S256")
        code = f"code-{len(self.codes)}-{time.monotonic_ns()}"
        self.codes[code] = asked
        return oidc.BACK + "?" + urlencode({"code": code, "state": asked["state"], **more})


@pytest.fixture
def play():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Played)
    server.play = Play(server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.play
    server.shutdown()
    server.server_close()
    thread.join()


@contextlib.contextmanager
def house(folder, play, **settings):
    """A studio whose people sign in at the played provider."""
    with serving(folder, with_accounts=True) as running:
        base = f"http://127.0.0.1:{running.port}"
        running.studio.provider = oidc.provider(play.issuer, CLIENT, base, SECRET, **({"role": "annotator"} | settings))
        yield running


@pytest.fixture
def server(tmp_path, play):
    with house(tmp_path, play) as running:
        yield running


def sign_in(server, play, browser=None, start="/sign-in/oidc", **more):
    """Go the whole way in one browser; return it and the last answer."""
    browser = browser or server.browser()
    browser.get("/sign-in")
    sent = browser.get(start)
    assert sent.status == 303, sent.text
    return browser, browser.get(play.enter(sent.headers["location"], **more))


def people(server):
    with server.studio.database.reading() as db:
        return {row.name: row for row in db.scalars(select(Account)) if row.name != "local"}


# ---------------------------------------------------------------- the way in


def test_a_person_signs_in_by_the_provider_and_again_as_the_same(server, play):
    browser, answer = sign_in(server, play, iss=play.issuer)
    assert (answer.status, answer.location) == (303, "/")
    assert "ada-lovelace" in browser.get("/profile").text
    assert browser.get("/people").status == 403
    play.claims = {"preferred_username": "Ada King"}  # a new name is no new person
    again, _ = sign_in(server, play)
    assert again.get("/profile").status == 200
    account = people(server)
    assert list(account) == ["ada-lovelace"]
    assert (account["ada-lovelace"].role, account["ada-lovelace"].password) == ("annotator", "")
    with server.studio.database.reading() as db:
        lines = [(line.action, line.object) for line in db.scalars(select(LogLine))]
        assert ("join", "ada-lovelace") in lines
        assert lines.count(("sign-in", "ada-lovelace")) == 2
        assert not audit.verify(db).findings


def test_a_new_session_begins_at_sign_in(server, play):
    browser = server.browser()
    browser.get("/sign-in")
    before = dict(browser.cookies)
    sign_in(server, play, browser)
    assert browser.cookies != before
    old = server.browser()
    old.cookies = before
    assert old.get("/profile").location == "/sign-in"


def test_the_button_is_there_and_leads_on(server):
    browser = server.browser()
    assert 'href="/sign-in/oidc">Sign in by 127.0.0.1</a>' in browser.get("/sign-in").text


def test_an_invitation_gives_its_role_once(tmp_path, play):
    with house(tmp_path, play, role=None) as server:
        _, answer = sign_in(server, play)
        assert answer.status == 401
        assert "ask an admin for an invitation" in answer.text
        with server.studio.database.writing() as db:
            token = accounts.invite(db, "admin", "test")
        assert f'href="/join/{token}/oidc"' in server.browser().get(f"/join/{token}").text
        browser, answer = sign_in(server, play, start=f"/join/{token}/oidc")
        assert answer.status == 303
        assert browser.get("/people").status == 200
        play.claims = {"sub": "u-2"}
        _, answer = sign_in(server, play, start=f"/join/{token}/oidc")
        assert (answer.status, "has been used or is too old" in answer.text) == (401, True)
        assert list(people(server)) == ["ada-lovelace"]


def test_a_name_that_is_taken_gives_no_way_into_its_account(server, play):
    root = server.invite("admin", "ada-lovelace")
    browser, answer = sign_in(server, play)
    assert answer.status == 303
    assert browser.get("/people").status == 403
    assert sorted(people(server)) == ["ada-lovelace", "ada-lovelace-2"]
    assert root.get("/people").status == 200


def test_who_is_let_in_no_more_is_not(server, play):
    root = server.invite("admin", "root")
    sign_in(server, play)
    number = people(server)["ada-lovelace"].id
    page = root.get("/people").text
    assert f"Signs in by {play.issuer}" in page
    assert f"/people/{number}/reset" not in page
    assert root.post(f"/people/{number}/reset").status == 400
    assert root.post(f"/people/{number}", role="viewer").status == 303
    _, answer = sign_in(server, play)
    assert (answer.status, "this account is closed" in answer.text) == (401, True)


def test_nobody_signs_in_to_it_with_a_password(server, play):
    browser, _ = sign_in(server, play)
    assert "the password is there" in browser.get("/profile").text
    assert (
        browser.post("/profile/password", old="", password="a long enough one", again="a long enough one").status == 400
    )
    stranger = server.browser()
    stranger.get("/sign-in")
    assert stranger.post("/sign-in", name="ada-lovelace", password="").status == 401


# ---------------------------------------------------------------- what must not hold


def signed(key, alg, kid="one"):
    return lambda claims: jwt.encode({"alg": alg, "kid": kid}, claims, key, algorithms=[alg])


def unsigned(claims):
    parts = ({"alg": "none"}, claims)
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


def confused(claims):
    """Sign with the provider's public key as if it were a shared secret (the library refuses to make one of it)."""
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256"}, claims)]
    mark = hmac.new(KEY.as_pem(private=False), b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(mark).rstrip(b"=")]).decode()


LIES = {
    "another issuer": {"claims": {"iss": "https://evil.example"}},
    "another client": {"claims": {"aud": "somebody-else"}},
    "many audiences, another party": {"claims": {"aud": [CLIENT, "x"], "azp": "x"}},
    "many audiences, no party": {"claims": {"aud": [CLIENT, "x"]}},
    "too old": {"claims": {"exp": 1_000_000_000}},
    "no end": {"claims": {"exp": None}},
    "from the future": {"claims": {"iat": 9_000_000_000, "exp": 9_000_000_300}},
    "another nonce": {"claims": {"nonce": "of another sign-in"}},
    "no nonce": {"claims": {"nonce": None}},
    "nobody": {"claims": {"sub": None}},
    "an empty subject": {"claims": {"sub": ""}},
    "a subject that is no text": {"claims": {"sub": {"$ne": 1}}},
    "another key": {"forge": signed(OTHER, "RS256")},
    "an unknown key": {"forge": signed(OTHER, "RS256", kid="nine")},
    "no signature": {"forge": unsigned},
    "the public key as a secret": {"forge": confused},
    "no token": {"forge": lambda claims: "x.y.z"},
    "a wrong hash of the access token": {"claims": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}},
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_a_token_that_does_not_hold_lets_nobody_in(server, play, lie):
    play.claims, play.forge = LIES[lie].get("claims", {}), LIES[lie].get("forge")
    browser, answer = sign_in(server, play)
    assert answer.status == 401
    assert "did not come about" in answer.text
    assert browser.get("/profile").location == "/sign-in"
    assert people(server) == {}


def test_an_answer_counts_once_and_in_its_own_browser(server, play):
    victim, thief = server.browser(), server.browser()
    for browser in (victim, thief):
        browser.get("/sign-in")
    back = play.enter(victim.get("/sign-in/oidc").headers["location"])
    assert thief.get(back).status == 401  # a stolen or a planted answer: not begun in this browser
    assert victim.get(back).status == 303
    assert server.browser().get(back).status == 401
    assert victim.get(back).status == 401


def test_an_old_answer_a_refusal_and_another_provider_s_are_told(server, play):
    browser = server.browser()
    browser.get("/sign-in")
    back = play.enter(browser.get("/sign-in/oidc").headers["location"])
    with server.studio.database.writing() as db:
        db.scalars(select(Flow)).one().at = "2020-01-01T00:00:00.000+00:00"
    assert "more than ten minutes ago" in browser.get(back).text
    _, answer = sign_in(server, play, iss="https://evil.example")
    assert (answer.status, "another provider" in answer.text) == (401, True)
    browser = server.browser()
    browser.get("/sign-in")
    asked = parse_qs(urlsplit(browser.get("/sign-in/oidc").headers["location"]).query)
    answer = browser.get(oidc.BACK + "?" + urlencode({"state": asked["state"][0], "error": "<b>access_denied</b>"}))
    assert (answer.status, "&lt;b&gt;access_denied" in answer.text) == (401, True)


def test_a_code_that_the_provider_does_not_know_is_told(server, play):
    browser = server.browser()
    browser.get("/sign-in")
    back = play.enter(browser.get("/sign-in/oidc").headers["location"])
    play.codes.clear()
    answer = browser.get(back)
    assert (answer.status, "did not take the code" in answer.text) == (401, True)


def test_new_keys_are_taken_up_and_forged_ones_do_not_make_us_ask_on(server, play, monkeypatch):
    sign_in(server, play)
    fresh = ECKey.generate_key("P-256", {"kid": "two"})
    play.keys, play.key, play.header = [fresh], fresh, {"alg": "ES256", "kid": "two"}
    assert sign_in(server, play)[1].status == 401  # looked a moment ago
    assert play.asked_for_keys == 1
    monkeypatch.setattr(oidc, "KEYS_EVERY", 0)
    assert sign_in(server, play)[1].status == 303
    assert play.asked_for_keys == 2


def test_a_studio_without_a_provider_has_no_such_pages(tmp_path):
    with serving(tmp_path) as running:
        for path in ("/sign-in/oidc", "/sign-in/oidc/back", "/join/x/oidc"):
            assert running.browser().get(path).status == 404


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("issuer", "client", "where"),
    [("https://login.example", None, "--oidc-client"), ("http://login.example", "x", "https://"),
     ("javascript:alert(1)", "x", "https://"), ("https://", "x", "https://")],
)  # fmt: skip
def test_settings_that_cannot_be_name_the_cure(issuer, client, where):
    with pytest.raises(UsageError, match=where):
        oidc.provider(issuer, client, "http://127.0.0.1:1", "", None)


def test_a_provider_that_is_none_is_told_at_the_start(play):
    play.says = {"issuer": "https://evil.example"}
    with pytest.raises(StepFailedError, match=r"calls itself 'https://evil\.example'"):
        oidc.provider(play.issuer, CLIENT, "http://127.0.0.1:1", "", None)
    play.says = {"token_endpoint": "http://elsewhere.example/token"}
    with pytest.raises(StepFailedError, match="token_endpoint"):
        oidc.provider(play.issuer, CLIENT, "http://127.0.0.1:1", "", None)
    with pytest.raises(StepFailedError, match="does not answer"):
        oidc.provider("http://127.0.0.1:9", CLIENT, "http://127.0.0.1:1", "", None)


def test_the_command_takes_a_provider_and_then_everybody_must_sign_in(tmp_path, play, monkeypatch):
    monkeypatch.setenv(oidc.SECRET, SECRET)
    served = {}

    def run(server, sockets):
        served["app"], served["socket"] = server.config.app, sockets[0]

    monkeypatch.setattr("uvicorn.Server.run", run)
    config = StudioConfig(
        action="serve", data=str(tmp_path / "s"), port=0, model=("demo",), oidc_issuer=play.issuer, oidc_client=CLIENT,
        oidc_label="the clinic",
    )  # fmt: skip
    assert run_verb(config, json_output=True)[0] == 0
    studio = served["app"].app.state.studio
    port = served["socket"].getsockname()[1]
    served["socket"].close()
    assert studio.with_accounts
    assert studio.provider.label == "the clinic"
    assert studio.provider.back == f"http://127.0.0.1:{port}/sign-in/oidc/back"
    assert studio.provider.secret == SECRET
    assert SECRET not in repr(studio.provider)


@pytest.mark.parametrize(
    ("claims", "name"),
    [({"preferred_username": "Ada Lovelace"}, "ada-lovelace"), ({"email": "ada@example.org"}, "ada"),
     ({"preferred_username": "local", "name": "Ada"}, "ada"), ({"preferred_username": "\u202e<script>"}, "script"),
     ({"name": "阿达"}, "person"), ({"name": "x" * 90}, "x" * 40), ({}, "person"), ({"name": 7}, "person"),
     ({"preferred_username": "../../etc"}, "etc")],
)  # fmt: skip
def test_a_proposed_name_is_one_of_the_studio_s(claims, name):
    assert oidc.proposed_name(claims) == name
    assert accounts.check_name(name) == name
