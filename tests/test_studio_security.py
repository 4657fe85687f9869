"""Who may do what, what a page may load, and hostile input. docs/security.md names these tests line by line."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from primum.studio import accounts, audit
from primum.studio.accounts import AccountError
from primum.studio.app import routes
from primum.studio.security import CSP, Rate
from primum.studio.shown import visible
from primum.studio.tables import Account, LogLine, SignIn, Task
from primum.studio.web import COOKIE
from studio_kit import HOST, serving

PAGES = ["/", "/tasks/new", "/write", "/redteam", "/prompts", "/runs", "/policy", "/people", "/log", "/profile"]
HOSTILE = [
    "<script>document.title='owned'</script>",
    '<img src=x onerror="document.title=1">',
    "[click](javascript:alert(1)) ![x](http://example.org/leak.png)",
    "\x1b[31mred\x1b[0m \u202etxt.exe\u202c \u200b\ufeff",
    "null \x00 byte and \x07 bell",
    "half \ud83d a character",
    "</pre></form><form action=//evil>",
    "{{7*7}} {% raw %} ${7*7}",
    "a" * 1_000_000,
]


@pytest.fixture
def server(tmp_path):
    with serving(tmp_path) as running:
        yield running


@pytest.fixture
def guarded(tmp_path):
    """A studio in which everybody must sign in, with an admin."""
    with serving(tmp_path) as running:
        running.invite("admin", "root")
        yield running


# ---------------------------------------------------------------- every answer


@pytest.mark.parametrize("path", [*PAGES, "/nothing", "/tasks/99", "/static/studio.css", "/static/none"])
def test_every_answer_has_the_policy_and_its_companions(server, path):
    answer = server.browser().get(path)
    assert answer.headers["content-security-policy"] == CSP
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert "server" not in answer.headers


def test_the_policy_allows_nothing_inline_and_nothing_foreign():
    rules = dict(part.strip().split(" ", 1) for part in CSP.split(";"))
    assert rules["default-src"] == "'none'"
    assert "unsafe" not in CSP
    assert set(" ".join(rules.values()).split()) == {"'none'", "'self'"}


@pytest.mark.parametrize("path", PAGES)
def test_no_page_holds_inline_script_style_or_a_foreign_address(server, path):
    text = server.browser().get(path).text
    assert not re.search(r"<script(?![^>]*src=\"/static/)|<style|\sstyle=|\son\w+=|javascript:", text)
    assert not re.search(r"(?:src|href|action|hx-\w+)=\"(?:https?:)?//", text)


def test_another_host_name_is_refused(server):
    browser = server.browser()
    for host, status in (
        ("evil.example", 421),
        (f"{HOST}.evil.example", 421),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
    ):
        browser.host = host
        assert browser.get("/").status == status


def test_a_request_that_is_too_large_is_refused(server):
    assert server.browser().send("POST", "/sign-in", b"x", Content_Length=str(10**9)).status == 413


def test_an_unknown_method_and_a_broken_form_get_pages(server):
    browser = server.browser()
    assert browser.send("DELETE", "/").status == 405
    answer = browser.send("POST", "/sign-in", b"--x", Content_Type="multipart/form-data; boundary=y")
    assert answer.status in (400, 403)
    assert "Traceback" not in answer.text


# ---------------------------------------------------------------- accounts and sessions


def test_without_accounts_whoever_is_here_is_the_admin_and_with_them_nobody(server):
    stranger = server.browser()
    assert stranger.get("/people").status == 200
    server.invite("admin", "root")
    for path in PAGES:
        answer = stranger.get(path)
        assert (answer.status, answer.location) == (303, "/sign-in")
    assert stranger.post("/tasks/example").status in (401, 403)


def test_every_form_needs_its_right(guarded):
    """A viewer gets 403 from every form that changes anything but their own account, and so does a stranger."""
    viewer, stranger = guarded.invite("viewer", "vera"), guarded.browser()
    viewer.get("/")
    stranger.get("/sign-in")
    own = {"/profile", "/profile/password", "/profile/sign-out", "/sign-in", "/sign-out", "/join/{token:str}"}
    forms = [one.path for one in routes() if "POST" in one.methods and one.path not in own]
    assert len(forms) > 20
    for path in forms:
        address = re.sub(r"\{\w+(?::int)?\}", "1", path)
        assert viewer.post(address).status == 403, path
        assert stranger.post(address).status == 401, path


@pytest.mark.parametrize(
    ("role", "allowed"),
    [("viewer", set()), ("annotator", {"/write"}), ("editor", {"/write", "/tasks/new"}),
     ("reviewer", {"/write", "/tasks/new"}), ("admin", {"/write", "/tasks/new", "/people", "/log"})],
)  # fmt: skip
def test_pages_by_role(guarded, role, allowed):
    browser = guarded.invite(role, "somebody")
    seen = {path for path in ("/write", "/tasks/new", "/people", "/log") if browser.get(path).status == 200}
    assert seen == allowed
    assert browser.get("/").status == 200


def test_a_denied_edit_leaves_a_line_in_the_log_and_nothing_else(guarded):
    viewer = guarded.invite("viewer", "vera")
    viewer.get("/")
    assert viewer.post("/tasks/new", name="mine", kind="prefer").status == 403
    with guarded.studio.database.reading() as db:
        last = db.scalars(select(LogLine).order_by(LogLine.n.desc())).first()
        assert (last.actor, last.action, last.object) == ("vera", "denied", "POST /tasks/new")
        assert audit.verify(db).findings == []


def test_sign_in_gives_a_new_session_and_sign_out_ends_it(guarded):
    guarded.invite("viewer", "vera")
    browser = guarded.browser()
    browser.get("/sign-in")
    before = browser.cookies[COOKIE]
    assert browser.post("/sign-in", name="Vera", password="a long enough password").status == 303
    after = browser.cookies[COOKIE]
    assert after != before
    assert browser.get("/").status == 200
    assert browser.post("/sign-out").location == "/sign-in"
    browser.cookies[COOKIE] = after
    assert browser.get("/").location == "/sign-in"
    browser.cookies[COOKIE] = before
    assert browser.get("/").location == "/sign-in"


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(tmp_path):
    with serving(tmp_path, secure=True) as running:
        answer = running.browser().get("/")
    assert answer.headers["set-cookie"].startswith(f"__Host-{COOKIE}=")
    assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= set(answer.headers["set-cookie"].split("; "))
    assert answer.headers["strict-transport-security"].startswith("max-age=")


def test_secrets_are_kept_as_hashes_only(guarded):
    browser = guarded.invite("viewer", "vera")
    with guarded.studio.database.reading() as db:
        account = db.scalar(select(Account).where(Account.name == "vera"))
        assert account.password.startswith("$argon2id$")
        assert browser.cookies[COOKIE] not in {row.key for row in db.scalars(select(SignIn))}
        everything = json.dumps([line.details for line in db.scalars(select(LogLine))])
    assert "long enough" not in everything


@pytest.mark.parametrize(("column", "age"), [("at", "2020"), ("seen", "2020")])
def test_old_and_idle_sessions_end(guarded, column, age):
    browser = guarded.invite("viewer", "vera")
    with guarded.studio.database.writing() as db:
        for row in db.scalars(select(SignIn)):
            setattr(row, column, f"{age}-01-01T00:00:00.000+00:00")
    assert browser.get("/").location == "/sign-in"


def test_changing_a_password_ends_the_other_sessions(guarded):
    here, there = guarded.invite("viewer", "vera"), guarded.browser()
    there.get("/sign-in")
    there.post("/sign-in", name="vera", password="a long enough password")
    here.get("/profile")
    new = {"password": "another good sentence", "again": "another good sentence"}
    assert here.post("/profile/password", old="wrong wrong wrong", **new).status == 400
    assert here.post("/profile/password", old="a long enough password", **new).status == 303
    assert here.get("/").status == 200
    assert there.get("/").location == "/sign-in"


def test_who_is_let_in_no_more_is_out_at_once_and_the_last_admin_stays(guarded):
    vera, root = guarded.invite("viewer", "vera"), guarded.invite("admin", "second")
    root.get("/people")
    with guarded.studio.database.reading() as db:
        ids = {account.name: account.id for account in db.scalars(select(Account))}
    assert root.post(f"/people/{ids['vera']}", role="viewer").status == 303
    assert vera.get("/").location == "/sign-in"
    assert root.post(f"/people/{ids['root']}", role="viewer", active="yes").status == 303
    assert "last admin" in root.post(f"/people/{ids['second']}", role="viewer", active="yes").text


def test_an_invitation_works_once_and_not_after_its_time(guarded):
    with guarded.studio.database.writing() as db:
        token = accounts.invite(db, "viewer", "root")
    browser = guarded.browser()
    assert browser.join(f"/join/{token}", "vera", "short").status == 400
    assert browser.join(f"/join/{token}", "vera").status == 303
    assert guarded.browser().get(f"/join/{token}").status == 404
    with guarded.studio.database.writing() as db:
        late = accounts.invite(db, "viewer", "root")
        db.get(accounts.Invitation, accounts.hashed(late)).expires = "2020-01-01T00:00:00.000+00:00"
    assert guarded.browser().get(f"/join/{late}").status == 404


@pytest.mark.parametrize("password", ["short", "x" * 129, "aaaaaaaaaaaaaaaa", "my name is vera!"])
def test_weak_passwords_are_refused(password):
    with pytest.raises(AccountError):
        accounts.check_password(password, "vera")


def test_guessing_passwords_is_slowed_down(guarded):
    guarded.invite("viewer", "vera")
    browser = guarded.browser()
    browser.get("/sign-in")
    statuses = [browser.post("/sign-in", name="vera", password="wrong").status for _ in range(12)]
    assert statuses[0] == 401
    assert statuses[-1] == 429
    assert browser.post("/sign-in", name="vera", password="a long enough password").status == 429


def test_a_bucket_fills_at_its_rate():
    rate = Rate(per_second=2, burst=3)
    assert [rate.take("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert rate.take("b", 0.0)
    assert [rate.take("a", 0.5), rate.take("a", 0.5)] == [True, False]


def test_too_many_requests_are_held_back(server):
    server.studio.requests = Rate(per_second=0.001, burst=5)
    browser = server.browser()
    assert [browser.get("/").status for _ in range(8)][-1] == 429


# ---------------------------------------------------------------- forms of other sites


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "null"},
    ],
)
def test_a_form_from_another_site_is_refused(server, headers):
    browser = server.browser()
    browser.get("/")
    assert browser.post("/tasks/example", headers).status == 403
    assert browser.post("/tasks/example", {"Origin": f"http://{HOST}:{server.port}"}).status == 303


@pytest.mark.parametrize("token", ["", "wrong", "é"])
def test_a_form_without_its_token_is_refused(server, token):
    browser = server.browser()
    browser.get("/")
    assert (
        browser.send(
            "POST", "/tasks/example", f"csrf={token}".encode(), Content_Type="application/x-www-form-urlencoded"
        ).status
        == 403
    )


def test_another_session_s_token_is_refused(server):
    one, other = server.browser(), server.browser()
    one.get("/")
    other.get("/")
    other.page = one.page
    assert other.post("/tasks/example").status == 403


# ---------------------------------------------------------------- hostile text


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_output_of_a_model_is_shown_as_text(server, text):
    row = {"prompt": text[:9000], "replies": [text, text + "!"], "intent": "benign"}
    browser = server.browser()
    browser.get("/")
    browser.post("/tasks/example")
    browser.get("/tasks/1")
    assert browser.upload("/tasks/1/items", "x.jsonl", json.dumps({**row, "priority": 9}).encode()).status == 303
    page = browser.get("/tasks/1/work").text
    body = page.partition("<main")[2]
    assert not re.search(r"<(?:script|img|a href=\"(?!/)|form action)", body)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\ufeff]", page)
    assert len(page) < 200_000
    fields = browser.work_fields()
    assert browser.post("/tasks/1/work", **fields, do="vote", outcome="A").status == 303
    for format_ in ("trl", "records", "csv", "argilla", "label-studio"):
        assert browser.get(f"/tasks/1/files/{format_}").status == 200


def test_the_rest_of_a_long_reply_is_one_click_away(server):
    browser = server.browser()
    browser.get("/")
    browser.post("/tasks/example")
    row = {"prompt": "p", "replies": ["<b>" + "x" * 50_000 + "END", "y" * 60_000], "priority": 9}
    browser.get("/tasks/1")
    browser.upload("/tasks/1/items", "x.jsonl", json.dumps(row).encode())
    page = browser.get("/tasks/1/work").text
    links = re.findall(r'href="(/text/\d+/\d)"', page)
    whole = [browser.send("GET", link) for link in links]
    assert len(whole) == 2
    assert all("&lt;b&gt;" in answer.text or "y" * 60_000 in answer.text for answer in whole)
    assert sum("xEND" in answer.text for answer in whole) == 1
    assert "more characters" in page


def test_a_form_with_a_null_byte_is_refused_with_a_reason(server):
    browser = server.browser()
    browser.get("/")
    answer = browser.post("/tasks/new", name="a\x00b", kind="prefer")
    assert answer.status == 400
    assert "null byte" in answer.text


@given(st.text())
def test_visible_leaves_no_character_that_acts_and_changes_nothing_else(text):
    shown = visible(text)
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]", shown
    )
    if text.isascii() and text.replace("\n", "").isprintable():
        assert shown == text


def test_a_formula_in_a_cell_is_not_run_by_a_spreadsheet():
    from primum.studio.incoming import unguarded
    from primum.studio.outgoing import guarded

    for text in ("=1+1", "+1", "-1", "@x", "\tx", "'=1", "''=1", "plain", "'quoted'"):
        assert guarded(text)[:1] not in tuple("=+-@\t")
        assert unguarded(guarded(text)) == text


def test_nobody_opens_what_is_somebody_else_s(guarded):
    anna, ben = guarded.invite("editor", "anna"), guarded.invite("annotator", "ben")
    anna.get("/")
    anna.post("/tasks/example")
    anna.get("/tasks/1/work")
    fields = anna.work_fields()
    ben.get("/")
    assert ben.post("/tasks/1/work", **{**fields, "do": "vote", "outcome": "A"}).status == 403
    assert ben.get(f"/text/{fields['assignment']}/0").status == 404
    anna.get("/redteam")
    assert anna.post("/redteam", model="demo", vector="logic", category="fraud").location == "/redteam/1"
    assert ben.get("/redteam/1").status == 403
    assert ben.post("/redteam/1", text="hello").status == 403


def test_the_data_folder_is_for_its_owner(tmp_path):
    from primum.cli import main

    folder = tmp_path / "data"
    assert main(["studio", "invite", "--role", "admin", "--data", str(folder)]) == 0
    assert folder.stat().st_mode & 0o077 == 0
    assert (folder / "studio.sqlite3").stat().st_mode & 0o077 == 0


# ---------------------------------------------------------------- passwords that were forgotten, sessions elsewhere


def test_a_reset_link_sets_a_new_password_once_and_ends_the_sessions(guarded):
    anna = guarded.invite("annotator", "anna")
    with guarded.studio.database.writing() as db:
        account = db.scalars(select(Account).where(Account.name == "anna")).one()
        token = accounts.reset(db, account, "root")
    other = guarded.browser()
    assert other.join(f"/join/{token}", "somebody-else", "another long password").status == 303
    assert "anna" in other.get("/").text
    assert anna.get("/").location == "/sign-in", "the old session has ended"
    assert guarded.browser().get(f"/join/{token}").status == 404, "it works once"
    with guarded.studio.database.reading() as db:
        names = set(db.scalars(select(Account.name)))
        assert accounts.sign_in(db, "anna", "another long password")
        assert accounts.sign_in(db, "anna", "a long enough password") is None
    assert "somebody-else" not in names


def test_only_an_admin_makes_a_reset_link(guarded):
    guarded.invite("annotator", "anna")
    ben = guarded.invite("reviewer", "ben")
    ben.get("/")
    assert ben.post("/people/2/reset").status == 403


def test_signing_out_everywhere_ends_every_session(guarded):
    anna = guarded.invite("annotator", "anna")
    again = guarded.browser()
    again.get("/sign-in")
    again.post("/sign-in", name="anna", password="a long enough password")
    anna.get("/profile")
    assert anna.post("/profile/sign-out").location == "/sign-in"
    assert [one.get("/").location for one in (anna, again)] == ["/sign-in", "/sign-in"]


def test_an_error_of_ours_tells_nothing_of_the_inside(server, monkeypatch):
    from primum.studio import runs

    def fails(folder):
        raise RuntimeError("a secret of the inside")

    monkeypatch.setattr(runs, "runs", fails)
    answer = server.browser().get("/runs")
    assert answer.status == 500
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.headers["content-security-policy"] == CSP


def test_nothing_in_an_address_leads_away(server):
    browser = server.browser()
    browser.get("/")
    for path in ("/?next=http://example.org", "//example.org", "/tasks/example?said=x&next=//example.org"):
        answer = browser.get(path)
        assert not answer.headers.get("location", "/").startswith(("http", "//")), path


def test_what_a_link_says_is_shown_as_text_and_clipped(server):
    text = server.browser().get("/?said=<script>x</script>" + "y" * 1000).text
    assert "<script>x" not in text
    assert "y" * 301 not in text


# ---------------------------------------------------------------- what docs/security.md says


def test_every_test_that_the_page_on_security_names_exists():
    from pathlib import Path

    root = Path(__file__).parents[1]
    named = set(re.findall(r"`(test_\w+)`", (root / "docs/security.md").read_text(encoding="utf-8")))
    code = "\n".join(path.read_text(encoding="utf-8") for path in (root / "tests").glob("test_studio_*.py"))
    assert named - set(re.findall(r"^def (test_\w+)\(", code, re.MULTILINE)) == set()
    assert len(named) > 40


@pytest.mark.parametrize("text", ["x'; DROP TABLE vote; --", '" OR 1=1 --', "%", "\\"])
def test_nothing_typed_becomes_sql(guarded, text):
    browser = guarded.browser()
    browser.get("/sign-in")
    assert browser.post("/sign-in", name=text, password=text).status in (401, 429)
    root = guarded.invite("admin", "second")
    root.get("/tasks/new")
    root.post("/tasks/new", name=text, kind="prefer")
    with guarded.studio.database.reading() as db:
        assert db.scalars(select(Task.name)).all() == [text]


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2f..%2fetc", "%00", "/etc/passwd", "~"])
def test_a_name_in_an_address_is_never_a_path(server, tmp_path, name):
    (tmp_path / "report.json").write_text('{"decision": {}, "title": "outside"}')
    (tmp_path / "runs").mkdir()
    for path in (f"/run/{name}", f"/run/{name}/report", f"/static/{name}", f"/prompts/{name}"):
        answer = server.browser().get(path)
        assert answer.status in (404, 400), path
        assert "outside" not in answer.text


def test_the_version_is_told_to_who_is_signed_in_alone(guarded):
    from primum import __version__

    assert __version__ not in guarded.browser().get("/sign-in").text
    assert __version__ in guarded.invite("viewer", "vera").get("/").text
