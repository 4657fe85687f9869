"""Write: variants that answer a prompt live, and what becomes of a prompt with its answer."""

import json
import re

import pytest
from sqlalchemy import MetaData, Table, select, text
from sqlalchemy.exc import DBAPIError

from primum.cli import main
from primum.models.sampling import Generated
from primum.pairing.columns import read_pairs
from primum.studio import annotate, incoming, live, outgoing
from primum.studio.database import Database
from primum.studio.tables import Assignment, Item, Task, Vote
from primum.studio.talk import Talkers
from studio_kit import fill_at, rows_as, serving

ASKED = {"prompt": "why?", "category": "other", "intent": "benign"}


class Named:
    """An engine that says its name and temperature."""

    def __init__(self, name):
        self.model_name, self.asked = name, 0

    def __call__(self, batch, sampling, seed):
        self.asked += 1
        return [Generated(f"{self.model_name} at {sampling.temperature}", "stop", 1, 1) for _ in batch]


class Parrot(Named):
    """An engine that says the same whatever it is asked."""

    def __call__(self, batch, sampling, seed):
        self.asked += 1
        return [Generated("so it is", "stop", 1, 1) for _ in batch]


@pytest.fixture
def server(tmp_path):
    with serving(tmp_path) as running:
        running.studio.talkers = Talkers(("new", "old"), Named)
        yield running


def writing_task(server, count, name="t"):
    browser = server.browser()
    browser.get("/tasks/new")
    assert browser.post("/tasks/new", name=name, kind="prefer", variants=count).status == 303
    return browser


def replies_of(page):
    return re.findall(r'<pre class="said veiled" dir="auto" tabindex="0">([^<]*)</pre>', page)


def test_models_take_turns_and_temperatures_rise_evenly():
    assert live.variants(["a"], 2) == [("a", 0.4), ("a", 1.0)]
    assert live.variants(["a", "b"], 3) == [("a", 0.4), ("b", 0.7), ("a", 1.0)]
    assert live.variants(["a", "b", "c"], 2) == [("a", 0.4), ("b", 1.0)], "the newest and the one before it"
    assert [one.model for one in live.variants(["a", "b", "c"], 8)] == list("abcabcab")


@pytest.mark.parametrize("count", [2, 3, 8])
def test_as_many_variants_answer_as_the_task_says_with_hidden_names_in_a_drawn_order(server, count):
    browser = writing_task(server, count)
    browser.get("/write")
    assert browser.post("/write/ask", **ASKED, task="1").location == "/tasks/1/work"
    page = browser.get("/tasks/1/work").text
    with server.studio.database.reading() as db:
        item, given = db.scalars(select(Item)).one(), db.scalars(select(Assignment)).one()
    texts = [f"{one.model} at {one.temperature}" for one in live.variants(("new", "old"), count)]
    assert [reply["text"] for reply in item.replies] == texts
    assert sorted(given.shown) == list(range(count))
    assert replies_of(page) == [texts[at] for at in given.shown]
    assert not re.search(r"<h2[^>]*>[^<]*(new|old)", page), "names are hidden, but for what this engine says"
    keys = re.findall(r'data-key="([^"]*)"', page)
    assert len(keys) == len(set(keys)), "every key does one thing"
    letters = letters_of(page)
    assert letters == list("ABCDJKLN"[:count])
    answer = browser.post("/tasks/1/work", **browser.work_fields(), do="vote", outcome=letters[-1], strength="better",
                          unsafe="0")  # fmt: skip
    assert answer.status == 303
    with server.studio.database.reading() as db:
        record = db.scalars(select(Vote)).one().record
    ids = [item.replies[at]["id"] for at in given.shown]
    assert (record["reply_ids"], record["winner"], record["outcome"]) == (ids, count - 1, "winner")
    assert record["safety"] == [False] + [True] * (count - 1)


def letters_of(page):
    return re.findall(r'name="outcome" value="([A-Z])"', page)


def test_the_order_is_drawn_for_each_vote(server):
    """Of 8! orders, twenty draws are alike only if none is drawn."""
    writing_task(server, 8)
    with server.studio.database.writing() as db:
        task = db.scalars(select(Task)).one()
        rows = [{"prompt": f"p {n}", "replies": [f"{n} {at}" for at in range(8)]} for n in range(20)]
        annotate.add_items(db, task, incoming.read("x.jsonl", "\n".join(map(json.dumps, rows)).encode()), "test")
        person = annotate.Account(name="anna", role="annotator")
        db.add(person)
        db.flush()
        orders = {tuple(annotate.assign(db, item, person).shown) for item in db.scalars(select(Item))}
    assert len(orders) > 1


def test_a_vote_over_four_variants_trains_three_pairs_and_comes_in_again(server, tmp_path, capsys):
    """The best one against each of the others; the unsafe winner of a second vote is left out against safe ones."""
    browser = writing_task(server, 4)
    for prompt, best, unsafe in (("why?", 2, []), ("how?", 0, ["0"])):
        browser.get("/write")
        browser.post("/write/ask", **{**ASKED, "prompt": prompt}, task="1")
        browser.get("/tasks/1/work")
        fields = browser.work_fields()
        browser.post(
            "/tasks/1/work", **fields, do="vote", outcome="ABCD"[best], strength="significantly", unsafe=unsafe
        )
    with server.studio.database.reading() as db:
        first = db.scalars(select(Item).order_by(Item.id)).first()
        vote = db.scalars(select(Vote).order_by(Vote.id)).first().record
    texts = {reply["id"]: reply["text"] for reply in first.replies}
    won = texts[vote["reply_ids"][2]]
    answer = browser.get("/tasks/1/files/trl")
    assert answer.headers["x-left-out"] == "chosen is unsafe and rejected safe: 3"
    (tmp_path / "pairs.jsonl").write_text(answer.text)
    pairs = read_pairs(tmp_path / "pairs.jsonl")
    assert sorted((pair.chosen, pair.rejected) for pair in pairs) == sorted(
        (won, text) for text in texts.values() if text != won
    )
    for format_ in ("replies", "preferences"):
        (tmp_path / f"{format_}.jsonl").write_text(browser.get(f"/tasks/1/files/{format_}").text)
    arguments = ["--strategy=llama2", f"--preferences={tmp_path / 'preferences.jsonl'}", f"--out={tmp_path / 'made'}"]
    assert main(["pair", str(tmp_path / "replies.jsonl"), *arguments, "--json"]) in (0, 1)
    made = read_pairs(tmp_path / "made" / "pairs.jsonl")
    assert {(pair.chosen, pair.rejected) for pair in made} == {(pair.chosen, pair.rejected) for pair in pairs}
    for format_ in ("records", "argilla", "csv"):
        text = browser.get(f"/tasks/1/files/{format_}").text
        again = {one.prompt.text: one for one in incoming.read(outgoing.FORMATS[format_][0], text.encode())}["why?"]
        (record,) = again.votes
        here = {reply.id: reply.text for reply in again.replies}
        assert (len(here), here[record["reply_ids"][record["winner"]]]) == (4, won), format_


def test_a_variant_that_only_repeats_is_asked_thrice_and_left_out(server):
    engines = {"new": Named("new"), "old": Parrot("old")}
    server.studio.talkers = Talkers(("new", "old"), engines.__getitem__)
    browser = writing_task(server, 6)
    browser.get("/write")
    answer = browser.post("/write/ask", **ASKED, task="1")
    assert "said=2+of+6+variants+only+repeated+others." in answer.headers["location"]
    assert (engines["new"].asked, engines["old"].asked) == (3, 1 + 3 + 3)
    with server.studio.database.reading() as db:
        assert len(db.scalars(select(Item)).one().replies) == 4


def test_variants_that_all_say_the_same_leave_nothing_to_vote_on(server):
    server.studio.talkers = Talkers(("old",), Parrot)
    browser = writing_task(server, 3)
    browser.get("/write")
    answer = browser.post("/write/ask", **ASKED, task="1")
    assert (answer.status, "the same reply, word for word" in answer.text) == (409, True)
    with server.studio.database.reading() as db:
        assert db.scalars(select(Item)).all() == []


def test_only_tasks_that_say_so_take_prompts(server):
    browser = writing_task(server, 0)
    browser.get("/tasks/new")
    assert browser.post("/tasks/new", name="rating", kind="rate", variants="2").status == 400
    for count in ("1", "9", "-2"):
        assert browser.post("/tasks/new", name="u", kind="prefer", variants=count).status == 400, count
    page = browser.get("/write").text
    assert "2 variants answer." in page, "in the task that the first prompt makes"
    assert browser.post("/write/ask", **ASKED, task="1").status == 409
    assert browser.post("/write/ask", **ASKED, task="77").status == 404
    assert browser.post("/write/ask", **ASKED, task="").location == "/tasks/2/work"
    browser.get("/tasks/1")
    assert browser.post("/tasks/1/settings", variants="5", overlap="1").status == 303
    page = browser.get("/write").text
    assert "t: 5 variants" in page and "Written here: 2 variants" in page
    browser.get("/tasks/2")
    assert browser.post("/tasks/2/settings", variants="0").status == 303
    browser.get("/write")
    assert browser.post("/write/ask", **ASKED, task="").status == 409
    assert "5 variants answer." in browser.page


def test_two_answered_where_prompts_were_written_before(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'a.sqlite3'}")
    filled = fill_at(database, "0010")
    with database.engine.execution_options(writes=True).begin() as connection:
        columns = {**filled["task"][0], "id": 2, "name": "Written here", "kind": "prefer"}
        connection.execute(Table("task", MetaData(), autoload_with=connection).insert().values(columns))
    database.migrate()
    assert rows_as(database, {"task": [{"variants": 0}]})["task"] == [{"variants": 0}, {"variants": 2}]
    database.migrate("0010")
    assert rows_as(database, {"item": filled["item"]}) == {"item": filled["item"]}
    database.close()


# ---------------------------------------------------------------- what becomes of a prompt with its answer

CHECKS = ("consistent", "follows", "language", "safe")
WRITTEN = {"prompt": "Roast <b>me</b>.", "category": "harassment", "intent": "borderline"}


@pytest.fixture
def people(server):
    """An annotator, another, and a reviewer; the annotator wrote an answer."""
    admin = server.invite("admin", "root")
    anna, ben, rita = (server.invite(*who) for who in (("annotator", "anna"), ("annotator", "ben"),
                                                         ("reviewer", "rita")))  # fmt: skip
    for browser in (anna, ben, rita):
        browser.get("/write")
    anna.post("/write/demonstration", answer="You is like a <i>cloud</i>.\nNice.", **WRITTEN)
    return admin, anna, ben, rita


def state_of(page):
    return re.findall(r'<span class="tag [a-z]+">([^<]*)</span>', page)[0]


def test_who_wrote_an_answer_sees_that_it_waits_and_then_that_it_was_approved(people):
    _, anna, ben, rita = people
    assert "waits for a reviewer" in anna.get("/write").text.partition("What you wrote")[2]
    assert "What you wrote" not in ben.get("/write").text
    page = anna.get("/write/demonstration/1").text
    assert (state_of(page), "has not looked at it yet" in page) == ("waits for a reviewer", True)
    rita.post("/write/demonstration/1", do="approve", **dict.fromkeys(CHECKS, "yes"))
    page = anna.get("/write/demonstration/1").text
    assert (state_of(page), page.count("✓ holds"), "does not hold" in page) == ("approved", 4, False)
    assert "reviewed by rita" in page and "What was changed" not in page


def test_what_a_reviewer_changed_is_shown_word_by_word(people):
    _, anna, _, rita = people
    better = "You are like a <i>cloud</i>.\nVery nice."
    rita.post("/write/demonstration/1", do="approve", answer=better, note="Grammar <u>", **dict.fromkeys(CHECKS, "yes"))
    page = anna.get("/write/demonstration/1").text
    assert state_of(page) == "approved, edited"
    shown = page.partition("What was changed")[2].partition("</section>")[0]
    assert re.findall(r"<(ins|del)>([^<]*)</", shown) == [
        ("del", "is "), ("ins", "are "), ("del", "Nice."), ("ins", "Very nice.")
    ]  # fmt: skip
    assert "&lt;i&gt;cloud&lt;/i&gt;" in shown and "Grammar &lt;u&gt;" in page
    assert "approved, edited" in anna.get("/write").text


def test_a_refusal_tells_which_checks_do_not_hold_and_why(people):
    _, anna, _, rita = people
    held = {"consistent": "yes", "follows": "yes"}
    rita.post("/write/demonstration/1", do="turn down", note="It hurts.", **held)
    for path in ("/write", "/write/demonstration/1"):
        page = anna.get(path).text
        assert "refused" in page and "It hurts." in page
        assert "It promotes nothing on the policy" in page and "It has no fault of grammar" in page
    page = anna.get("/write/demonstration/1").text
    assert re.findall(r"(holds|does not hold)</span> (It \w+)", page) == [
        ("holds", "It fits"), ("holds", "It does"), ("does not hold", "It has"), ("does not hold", "It promotes")
    ]  # fmt: skip
    mine = anna.get("/write").text.partition("What you wrote")[2].partition("</section>")[0]
    assert re.findall(r"Does not hold: (It \w+)", mine) == ["It has", "It promotes"]


def test_a_refusal_has_a_reason(people):
    _, anna, _, rita = people
    every = dict.fromkeys(CHECKS, "yes")
    assert rita.post("/write/demonstration/1", do="turn down", note=" ", **every).status == 400
    assert rita.post("/write/demonstration/1", do="turn down", note="We have enough.", **every).status == 303
    page = anna.get("/write/demonstration/1").text
    assert ("We have enough." in page, "does not hold" in page) == (True, False)


def test_what_became_of_an_answer_is_for_who_wrote_it_and_for_reviewers(people):
    admin, anna, ben, rita = people
    found = [browser.get("/write/demonstration/1").status for browser in (anna, rita, admin, ben)]
    assert found == [200, 200, 200, 403]
    assert anna.get("/write/demonstration/2").status == 404


CHANGES = [
    ("a b c", "a b c", [(" ", "a b c")]),
    ("a b c", "a c", [(" ", "a "), ("-", "b "), (" ", "c")]),
    ("", "a", [("+", "a")]),
    ("a", "", [("-", "a")]),
    ("a b", "c d", [("-", "a b"), ("+", "c d")]),
    ("one\n" * 3000, "one\n" * 2999 + "two\n", [(" ", "one\n" * 2999), ("-", "one\n"), ("+", "two\n")]),
]


@pytest.mark.parametrize(("before", "after", "expected"), CHANGES, ids=range(len(CHANGES)))
def test_changes_are_told_in_the_order_of_the_text(before, after, expected):
    from primum.studio.demonstrations import changes

    assert changes(before, after) == expected


def test_reasons_come_and_go_with_the_migration(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'a.sqlite3'}")
    filled = fill_at(database, "0011")
    database.migrate()
    assert rows_as(database, {"demonstration_review": [{"note": 0}]})["demonstration_review"] == [{"note": ""}]
    database.migrate("0011")
    assert rows_as(database, filled) == filled
    with pytest.raises(DBAPIError, match="append-only"), database.writing() as db:
        db.execute(text("UPDATE demonstration_review SET approved = true"))
    database.close()
