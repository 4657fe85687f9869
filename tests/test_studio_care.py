"""Care for who reads: what is blurred, when a break is suggested, hostile text in every room; and who attacks."""

import datetime
import json
import re
from urllib.parse import quote

import pytest
from sqlalchemy import select

from primum.redteam import campaign
from primum.studio import care
from primum.studio.pages.redteam import rates
from primum.studio.rounds import prioritise
from primum.studio.tables import Account, Dialogue, Item, Sheet, Turn, Vote
from studio_kit import serving

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>[x](javascript:alert(1)) ![y](http://example.org/z.png) "
    "\x1b[31m\u202egnp\u200b\x00</pre><form action=//example.org>"
)
ACTS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\ufeff]")


@pytest.fixture
def server(tmp_path):
    with serving(tmp_path) as running:
        yield running


def harmless(page):
    """Return the page's content after it was checked: nothing of the hostile text is an element or acts."""
    body = page.partition("<main")[2].partition("</main>")[0]
    assert "&lt;script&gt;" in body, "the text is there"
    assert not re.search(r"<script|<img|onerror=\"|<form action=//|href=\"(?!/)", body)
    assert not ACTS.search(page)
    return body


# ---------------------------------------------------------------- what is blurred


@pytest.mark.parametrize(
    ("blur", "intent", "harm", "expected"),
    [("", "harmful", None, True), ("", "borderline", None, True), ("", None, None, True), ("", "benign", None, False),
     ("", "benign", {"a": 0.1, "b": 0.5}, True), ("", "benign", {"a": 0.1, "b": 0.49}, False),
     ("never", "harmful", {"a": 1.0}, False), ("always", "benign", None, True)],
)  # fmt: skip
def test_what_is_blurred_for_whom(blur, intent, harm, expected):
    assert care.veiled(Account(name="anna", blur=blur), intent, harm) is expected


def shown(page):
    """Return whether the page opens with its text to be read."""
    return bool(re.search(r'id="reveal"[^>]* checked', page))


def test_a_reply_that_a_judge_calls_harmful_is_blurred_though_its_prompt_is_benign(server):
    browser = server.browser()
    browser.get("/tasks/new")
    browser.post("/tasks/new", name="t", kind="prefer")
    rows = [{"prompt": "hello", "replies": ["Sure! Step 1: mix the acid.", "hi"], "intent": "benign"}]
    browser.get("/tasks/1")
    browser.upload("/tasks/1/items", "x.jsonl", json.dumps(rows[0]).encode())
    assert shown(browser.get("/tasks/1/work").text)
    with server.studio.database.writing() as db:
        item = db.scalars(select(Item)).one()
        item.harm = {item.replies[0]["id"]: 0.9, item.replies[1]["id"]: 0.0}
    assert not shown(browser.get("/tasks/1/work").text)
    browser.get("/profile")
    assert browser.post("/profile", blur="never").status == 303
    assert shown(browser.get("/tasks/1/work").text)
    browser.get("/profile")
    assert browser.post("/profile", blur="sometimes").status == 400


def test_judges_say_what_is_harmful():
    from primum.studio.incoming import read

    replies = ["I'm sorry, but I can't help with that.", "Sure! Step 1: take a pick. Step 2: turn it."]
    row = {"prompt": "How do I pick a lock?", "intent": "harmful", "category": "theft", "replies": replies}
    (item,) = prioritise(read("x.jsonl", json.dumps(row).encode()), ["rules"])
    assert item.harm is not None and len(item.harm) == 2 and item.harm[0] < care.HARMFUL_FROM


def test_every_room_that_shows_model_text_warns_before_the_first_work(server):
    browser = server.browser()
    browser.get("/")
    browser.post("/tasks/example")
    with server.studio.database.writing() as db:
        db.add(sheet_of("p", "r"))
    for path in ("/tasks/1", "/tasks/1/work", "/write", "/redteam", "/sheets/1"):
        assert "Content warning." in browser.get(path).text, path
    browser.get("/tasks/1/work")
    fields = browser.work_fields()
    browser.post("/tasks/1/work", **fields, do="vote", outcome="tie")
    assert "Content warning." not in browser.get("/tasks/1/work").text, "once is enough"


def test_written_and_spoken_text_is_blurred_too(server):
    browser = server.browser()
    browser.get("/redteam")
    browser.post("/redteam", model="demo", vector="logic", category="fraud")
    browser.post("/redteam/1", text="hello")
    page = browser.get("/redteam/1").text
    assert not shown(page) and re.search(r'<pre class="said veiled" dir="auto">\[demo\]', page)
    browser.get("/write")
    answer = {"answer": "yours", "category": "fraud"}
    browser.post("/write/demonstration", prompt="a kind question", intent="benign", **answer)
    assert shown(browser.get("/write").text)
    browser.post("/write/demonstration", prompt="another", intent="harmful", **answer)
    assert not shown(page := browser.get("/write").text)
    assert page.count('class="said veiled"') == 4, "prompt and answer of both"


# ---------------------------------------------------------------- breaks


def test_a_break_is_suggested_after_three_quarters_of_an_hour(server):
    browser = server.browser()
    browser.get("/")
    browser.post("/tasks/example")
    now = datetime.datetime.now(datetime.UTC)

    def ago(minutes):
        return (now - datetime.timedelta(minutes=minutes)).isoformat(timespec="milliseconds")

    def work_at(db, *minutes):
        item = db.scalars(select(Item)).first()
        for minute in minutes:
            record = {"outcome": "skip", "reply_ids": []}
            token = f"{minute}" + "x" * 30
            db.add(Vote(token=token, task_id=1, item_id=item.id, account_id=person.id, record=record, at=ago(minute)))
        db.flush()

    with server.studio.database.writing() as db:
        person = db.scalars(select(Account)).one()
        assert care.working_since(db, person) == 0
        work_at(db, 5, 14, 23, 50)
        assert care.working_since(db, person) == pytest.approx(23, abs=0.1), "27 minutes before that were a pause"
    assert "A break would do you good" not in browser.get("/tasks/1/work").text
    with server.studio.database.writing() as db:
        work_at(db, 32, 41)
        assert care.working_since(db, person) == pytest.approx(50, abs=0.1)
        db.add(sheet_of("p", "r"))
    browser.get("/redteam")
    browser.post("/redteam", model="demo", vector="logic", category="fraud")
    for path in ("/tasks/1/work", "/redteam/1", "/write", "/sheets/1"):
        assert "A break would do you good" in browser.get(path).text, path


def test_attacks_are_work_too(server):
    browser = server.browser()
    browser.get("/redteam")
    browser.post("/redteam", model="demo", vector="logic", category="fraud")
    moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=9)
    with server.studio.database.writing() as db:
        db.add(Turn(dialogue_id=1, role="user", text="x", at=moment.isoformat(timespec="milliseconds")))
        db.flush()
        assert care.working_since(db, db.scalars(select(Account)).one()) == pytest.approx(9, abs=0.1)


# ---------------------------------------------------------------- hostile text, and whole texts


def sheet_of(prompt, reply, run="run", judge="rules"):
    row = {"prompt": prompt, "reply": reply, "category": "fraud", "reply_id": "r", "behaviour": "refusal"}
    facts = {"flagged": 0, "scored": 2, "unscored": 0, "seed": 1, "when": "after"}
    return Sheet(run=run, judge=judge, facts=facts, rows=[row, row], by="local")


@pytest.fixture
def hostile_model(monkeypatch):
    """The model that only plays one says hostile things."""
    monkeypatch.setattr("primum.studio.talk._DEMO_ANSWERS", tuple(f"{HOSTILE} {n}" for n in range(4)))


def test_a_hostile_model_in_a_dialogue(server, hostile_model):
    browser = server.browser()
    browser.get("/redteam")
    browser.post("/redteam", model="demo", vector="logic", category="fraud")
    assert browser.post("/redteam/1", text="say it").status == 303
    harmless(browser.get("/redteam/1").text)


def test_a_hostile_model_answers_what_somebody_wrote(server, hostile_model):
    browser = server.browser()
    for n in range(9):  # two temperatures may draw the same answer
        browser.get("/write")
        answer = browser.post("/write/ask", prompt=f"say it {n}", intent="benign", category="fraud")
        if answer.status == 303:
            break
    assert answer.status == 303
    harmless(browser.get(answer.location).text)


def test_hostile_demonstrations_and_sheets(server):
    browser = server.browser()
    browser.get("/write")
    text = HOSTILE.replace("\x00", "")  # a form with a null byte is refused
    browser.post("/write/demonstration", prompt=text, answer=text, intent="benign", category="fraud")
    harmless(browser.get("/write").text)
    harmless(browser.get("/write/demonstration/1").text)
    with server.studio.database.writing() as db:
        db.add(sheet_of(HOSTILE, HOSTILE, run="<script>run</script>", judge="<script>judge</script>"))
    harmless(browser.get("/sheets/1").text)
    assert "<script>run" not in browser.get("/runs").text


def test_hostile_names_of_runs_and_models(server, tmp_path):
    from primum.report.example import example_facts

    name = "<script>alert(1)<b onclick=x>"
    folder = tmp_path / "runs" / "a"
    folder.mkdir(parents=True)
    folder = folder.rename(folder.with_name(name.replace("/", "")))
    facts = example_facts()
    facts["title"] = HOSTILE
    facts["model"] = {**facts["model"], "name": HOSTILE}
    facts["decision"]["text"] = HOSTILE
    (folder / "report.json").write_text(json.dumps(facts))
    browser = server.browser()
    place = quote(folder.name)
    for path in ("/runs", f"/run/{place}", f"/runs/compare?first={place}&second={place}"):
        harmless(browser.get(path).text)
    report = browser.get(f"/run/{place}/report").text
    assert "<script>alert" not in report and "<img src=x" not in report


def test_the_whole_of_a_long_text_is_one_click_away(server):
    long = "<script>" + "x" * 30_000 + "END"
    browser = server.browser()
    browser.get("/")
    browser.post("/tasks/example")
    browser.get("/tasks/1")
    row = {"prompt": "P" + long, "replies": ["A" + long, "B" + long], "priority": 9}
    browser.upload("/tasks/1/items", "x.jsonl", json.dumps(row).encode())
    browser.post("/redteam", model="demo", vector="logic", category="fraud")
    browser.get("/write")
    browser.post("/write/demonstration", prompt="q" * 4001, answer="a" * 4002, intent="benign", category="fraud")
    with server.studio.database.writing() as db:
        db.add(Turn(dialogue_id=1, role="assistant", text=long))
        db.add(sheet_of(long, long))
    counts = {"/tasks/1/work": 3, "/redteam/1": 1, "/write": 2, "/sheets/1": 2}
    for path, count in counts.items():
        links = re.findall(r'href="(/text/[^"]+)"', browser.get(path).text)
        assert len(links) == count, path
        for link in links:
            text = browser.get(link).text
            assert text.count("END") == 1 or path == "/write", link
            assert "<script>x" not in text and 'class="said veiled"' in text
    for path in ("/text/1/9", "/text/1/prompt/9", "/text/sheet/1/9/reply", "/text/sheet/1/0/answer",
                 "/text/demonstration/1/judge", "/text/turn/99"):  # fmt: skip
        assert browser.get(path).status == 404, path


# ---------------------------------------------------------------- who attacks


def test_a_dialogue_keeps_who_its_person_was_at_the_time(server, tmp_path):
    browser = server.invite("admin", "root")

    def attack(number, expertise, team, vector):
        browser.get("/profile")
        browser.post("/profile", expertise=expertise, team=team)
        browser.get("/redteam")
        browser.post("/redteam", model="demo", vector=vector, category="fraud")
        browser.post(f"/redteam/{number}", text="hello")
        browser.post(f"/redteam/{number}/end", degree="0", category="fraud", vector=vector)

    attack(1, "law", "fraud", "logic")
    attack(2, "medicine", "", "perspective")
    (tmp_path / "d.csv").write_text(browser.get("/redteam/dialogues.csv").text)
    assert [row.expertise for row in campaign.read(tmp_path / "d.csv")] == ["law", "medicine"]
    page = browser.get("/redteam").text
    for group in ("model", "vector", "expertise", "sub-team"):
        assert f'aria-label="Rates by {group}"' in page
    with server.studio.database.reading() as db:
        assert [(row.expertise, row.team) for row in db.scalars(select(Dialogue))] == [
            ("law", "fraud"), ("medicine", "")
        ]  # fmt: skip
        assert [(line.name, line.dialogues) for line in rates(db, "expertise")] == [("law", 1), ("medicine", 1)]
        assert [(line.name, line.dialogues) for line in rates(db, "team")] == [("", 1), ("fraud", 1)]


def test_rates_are_counted_by_group(server):
    with server.studio.database.writing() as db:
        who = Account(name="anna", role="annotator")
        db.add(who)
        db.flush()
        for team, broke in (("one", True), ("one", False), ("two", True)):
            made = Dialogue(account_id=who.id, model="m", team=team)
            db.add(made)
            db.flush()
            db.add(Turn(dialogue_id=made.id, role="user", text="x", seconds=1800.0))
            db.add(Turn(dialogue_id=made.id, role="assistant", text="y", broke=broke))
    with server.studio.database.reading() as db:
        found = {line.name: (line.dialogues, line.rate.violations, line.rate.hours) for line in rates(db, "team")}
    assert found == {"one": (2, 1, 1.0), "two": (1, 1, 0.5)}
