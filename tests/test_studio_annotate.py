"""Votes: the queue, the page, what is kept, and that nothing is lost or doubled."""

import json
import re
from collections import Counter

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from primum.cli import main
from primum.core.records import Preference, Prompt, Reply, from_json, user
from primum.studio import agree, annotate, audit, outgoing
from primum.studio.annotate import Choice, ClosedError, Incoming, VoteError
from primum.studio.database import Database, sqlite_url
from primum.studio.examples import example_items
from primum.studio.tables import Account, Assignment, Item, LogLine, Task, Vote
from studio_kit import serving


@pytest.fixture
def server(tmp_path):
    with serving(tmp_path) as running:
        yield running


def pair(n: int, intent: str = "benign", **more) -> Incoming:
    prompt = Prompt((user(f"question {n}"),), intent, "other")
    replies = tuple(Reply(prompt.id, model, "t0", f"{model} says {n}", "stop", 1, 1, 0) for model in ("old", "new"))
    return Incoming(prompt, replies, **more)


def make_task(db, items, **settings) -> Task:
    task = Task(name="t", kind=settings.pop("kind", "prefer"), by="test", **settings)
    db.add(task)
    db.flush()
    annotate.set_guideline(db, task, "Choose well.", "test")
    annotate.add_items(db, task, items, "test")
    return task


def person(db, name: str) -> Account:
    account = Account(name=name, role="annotator", password="x")
    db.add(account)
    db.flush()
    return account


def give(db, task, account, choice: Choice, token: str | None = None) -> Vote:
    assignment = annotate.next_assignment(db, task, account)
    item = db.get(Item, assignment.item_id)
    record = annotate.preference(item, assignment.shown, choice, f"person:{account.name}", "v1")
    return annotate.vote(db, assignment, account, token or f"token-{account.name}-{item.id}-{assignment.id}", record)


def test_a_vote_is_kept_as_a_preference_of_the_replies_as_shown(server):
    browser = server.browser()
    browser.get("/")
    browser.post("/tasks/example")
    page = browser.get("/tasks/1/work").text
    shown = re.findall(r'<pre class="said veiled" dir="auto" tabindex="0">(.*?)</pre>', page, re.DOTALL)
    fields = browser.work_fields()
    answer = browser.post(
        "/tasks/1/work",
        **fields,
        do="vote",
        outcome="B",
        strength="better",
        unsafe="0",
        seconds="3.5",
        note="because",
        category="fraud",
    )
    assert (answer.status, answer.location) == (303, "/tasks/1/work")
    with server.studio.database.reading() as db:
        vote = db.scalars(select(Vote)).one()
        item, assignment = db.get(Item, vote.item_id), db.scalars(select(Assignment)).first()
    record = from_json(Preference, vote.record)
    texts = {reply["id"]: reply["text"] for reply in item.replies}
    assert [texts[i] for i in record.reply_ids] == [item.replies[at]["text"] for at in assignment.shown]
    assert len(shown) == 2
    assert (record.winner, record.outcome, record.strength, record.safety) == (1, "winner", "better", (False, True))
    assert (record.judged_by, record.seconds) == ("person:local", 3.5)
    assert record.guideline.startswith("v1@")
    assert (vote.record["note"], vote.record["categories"]) == ("because", ["fraud"])


def test_the_same_form_twice_is_one_vote_and_another_form_is_refused(server):
    browser = server.browser()
    browser.get("/")
    browser.post("/tasks/example")
    browser.get("/tasks/1/work")
    fields = browser.work_fields() | {"do": "vote"}
    assert browser.post("/tasks/1/work", **fields, outcome="A").status == 303
    assert browser.post("/tasks/1/work", **fields, outcome="A").status == 303
    fields["token"] = "another-token-of-twenty-letters"
    assert browser.post("/tasks/1/work", **fields, outcome="B").status == 409
    with server.studio.database.reading() as db:
        assert db.scalar(select(func.count()).select_from(Vote)) == 1


def test_a_vote_names_the_guideline_that_its_page_showed(server):
    browser = server.browser()
    browser.get("/")
    browser.post("/tasks/example")
    page = browser.get("/tasks/1/work").text
    assert "Guideline v1" in page
    fields = browser.work_fields() | {"do": "vote", "outcome": "A"}
    assert browser.post("/tasks/1/guideline", guideline="Choose <b>anew</b>.").status == 303
    for shown in ("", "0", "3", "one"):
        assert browser.post("/tasks/1/work", **fields | {"guideline": shown}).status == 400
    browser.post("/tasks/new", name="other", kind="prefer")
    assert browser.post("/tasks/2/guideline", guideline="Another task's.").status == 303
    assert browser.post("/tasks/2/guideline", guideline="Another task's, again.").status == 303
    assert browser.post("/tasks/1/work", **fields | {"guideline": "3"}).status == 400, "another task's third"
    assert browser.post("/tasks/1/work", **fields).status == 303
    browser.get("/tasks/1/work")
    assert browser.post("/tasks/1/work", **browser.work_fields(), do="skip").status == 303
    with server.studio.database.reading() as db:
        said = [vote.record["guideline"] for vote in db.scalars(select(Vote).order_by(Vote.id))]
        names = [annotate.guideline_name(one) for one in annotate.guidelines(db, db.get(Task, 1))]
    assert said == names[::-1]
    assert [name.partition("@")[0] for name in said] == ["v1", "v2"]
    old = browser.get("/tasks/1/guideline/1").text
    assert (said[0] in old, "in force" in old) == (True, False)
    new = browser.get("/tasks/1/guideline/2").text
    assert ("in force" in new, "+ Choose &lt;b&gt;anew&lt;/b&gt;." in new) == (True, True)
    assert browser.get("/tasks/1/guideline/3").status == 404


def test_a_vote_without_a_choice_is_told_and_the_item_stays_open(server):
    browser = server.browser()
    browser.get("/")
    browser.post("/tasks/example")
    browser.get("/tasks/1/work")
    fields = browser.work_fields()
    answer = browser.post("/tasks/1/work", **fields, do="vote", strength="better")
    assert answer.status == 400
    assert "Choose the better reply" in answer.text
    with server.studio.database.reading() as db:
        assert db.scalars(select(Assignment)).one().open


def test_undo_adds_a_line_and_opens_the_same_item_again(server):
    with server.studio.database.writing() as db:
        task, account = make_task(db, [pair(1), pair(2)]), person(db, "anna")
        first = give(db, task, account, Choice("winner", 0))
        shown = db.get(Assignment, first.assignment_id).shown
        waiting = annotate.next_assignment(db, task, account)
        assert waiting.item_id != first.item_id
        again = annotate.undo(db, task, account, "undo-token-1-of-20-chars")
        assert (again.item_id, again.shown) == (first.item_id, shown)
        assert annotate.next_assignment(db, task, account).id == again.id
        second = annotate.vote(
            db,
            again,
            account,
            "token-after",
            annotate.preference(db.get(Item, again.item_id), again.shown, Choice("tie"), "person:anna", "v1"),
        )
        rows = agree.rows_of(db, task)
        assert [row.vote.id for row in rows] == [second.id]
        assert db.scalar(select(func.count()).select_from(Vote)) == 3
        assert annotate.undo(db, task, account, "undo-token-1-of-20-chars") is None, "the same press again"
        assert [item.taken for item in db.scalars(select(Item).order_by(Item.id))] == [1, 0]


def test_resume_gives_the_item_that_was_left_open(server):
    with server.studio.database.writing() as db:
        task, account = make_task(db, [pair(n) for n in range(5)]), person(db, "anna")
        first = annotate.next_assignment(db, task, account)
        assert annotate.next_assignment(db, task, account).id == first.id


def test_every_item_gets_its_overlap_and_nobody_gets_one_twice(server):
    with server.studio.database.writing() as db:
        task = make_task(db, [pair(n) for n in range(7)], overlap=2)
        people = [person(db, name) for name in ("anna", "ben", "cleo")]
        votes = Counter()
        for _ in range(20):
            for account in people:
                if annotate.next_assignment(db, task, account):
                    votes[account.name, give(db, task, account, Choice("winner", 0)).item_id] += 1
        assert set(votes.values()) == {1}
        assert Counter(item for _, item in votes) == dict.fromkeys(db.scalars(select(Item.id)), 2)


def test_a_skipped_item_goes_to_somebody_else(server):
    with server.studio.database.writing() as db:
        task, anna, ben = make_task(db, [pair(1)]), person(db, "anna"), person(db, "ben")
        give(db, task, anna, Choice("skip"))
        assert annotate.next_assignment(db, task, anna) is None
        assert annotate.next_assignment(db, task, ben) is not None


def test_items_on_which_judges_disagree_come_first(server):
    with server.studio.database.writing() as db:
        task, account = make_task(db, [pair(1), pair(2, priority=0.9), pair(3, priority=0.4)]), person(db, "anna")
        order = [db.get(Item, give(db, task, account, Choice("tie")).item_id).priority for _ in range(3)]
        assert order == [0.9, 0.4, 0.0]


def test_where_several_people_see_an_item_the_order_is_the_same_for_each(server):
    items = [pair(1), pair(2, priority=0.9), pair(3, priority=0.4), pair(4, priority=0.4)]
    with server.studio.database.writing() as db:
        task = make_task(db, items, overlap=3)
        anna, ben = person(db, "anna"), person(db, "ben")
        ids = list(db.scalars(select(Item.id).order_by(Item.id)))
        wanted = [ids[1], ids[2], ids[3], ids[0]]
        assert [give(db, task, anna, Choice("tie")).item_id for _ in range(2)] == wanted[:2]
        assert [give(db, task, ben, Choice("tie")).item_id for _ in range(4)] == wanted
        assert [give(db, task, anna, Choice("tie")).item_id for _ in range(2)] == wanted[2:]


def test_a_stale_item_is_given_to_somebody_else(server):
    with server.studio.database.writing() as db:
        task, anna, ben = make_task(db, [pair(1)]), person(db, "anna"), person(db, "ben")
        left = annotate.next_assignment(db, task, anna)
        assert annotate.next_assignment(db, task, ben) is None
        left.at = "2020-01-01T00:00:00.000+00:00"
        db.flush()
        assert annotate.next_assignment(db, task, ben) is not None


def gold(n: int, place: int = 1) -> Incoming:
    made = pair(n)
    return Incoming(made.prompt, made.replies, gold={"outcome": "winner", "winner": made.replies[place].id})


@pytest.mark.parametrize(("right", "open_"), [(4, True), (3, False)])
def test_the_test_opens_a_task_and_only_to_who_passes(server, right, open_):
    items = [*(pair(n) for n in range(3)), *(gold(n) for n in range(10, 15))]
    with server.studio.database.writing() as db:
        task = make_task(db, items, qualify=5, pass_mark=0.8)
        account = person(db, "anna")
        for n in range(5):
            assert annotate.standing(db, task, account).testing
            assignment = annotate.next_assignment(db, task, account)
            item = db.get(Item, assignment.item_id)
            assert item.has_gold
            wanted = item.gold["winner"] if n < right else item.replies[0]["id"]
            place = [item.replies[at]["id"] for at in assignment.shown].index(wanted)
            give(db, task, account, Choice("winner", place))
        assert annotate.standing(db, task, account).open is open_


def answer_gold(db, task, account, right: bool) -> Vote:
    assignment = annotate.next_assignment(db, task, account)
    item = db.get(Item, assignment.item_id)
    assert item.has_gold
    ids = [item.replies[at]["id"] for at in assignment.shown]
    at = ids.index(item.gold["winner"])
    return give(db, task, account, Choice("winner", at if right else 1 - at))


@pytest.mark.parametrize("there", [0, 2])
def test_a_test_that_cannot_be_taken_is_told_and_lets_nobody_work(server, there):
    items = [*(pair(n) for n in range(3)), *(gold(n) for n in range(10, 10 + there))]
    with server.studio.database.writing() as db:
        task, account = make_task(db, items, qualify=3), person(db, "anna")
        stands = annotate.standing(db, task, account)
        assert (stands.open, stands.testing) == (False, False)
        assert f"a test of 3 gold items, and there are {there}" in stands.why
        assert annotate.next_assignment(db, task, account) is None
    browser = server.invite("admin", "root")
    page = browser.get("/tasks/1/work")
    assert "the test cannot be taken" in page.text
    assert "look at your answers" not in page.text
    browser.get("/tasks/1")
    assert "nobody can work here" in browser.page
    assert browser.post("/tasks/1/settings", overlap="2", qualify=str(there), pass_mark="50").status == 303
    browser.get("/tasks/1/work")
    assert browser.hidden("assignment")
    with server.studio.database.reading() as db:
        task = db.scalars(select(Task)).one()
        assert (task.overlap, task.qualify, task.pass_mark, task.certified) == (2, there, 0.5, False)
        lines = [line.details for line in db.scalars(select(LogLine).where(LogLine.action == "change task"))]
    assert lines == [{"overlap": [1, 2], "qualify": [3, there], "pass_mark": [0.8, 0.5]}]


def test_gold_items_in_other_languages_do_not_make_a_test(server):
    from primum.studio import accounts

    with server.studio.database.writing() as db:
        task, account = make_task(db, [gold(1), gold(2)], qualify=2, certified=True), person(db, "anna")
        accounts.certify(db, account, "de", "admin")
        assert "there are 0 in the languages and modalities" in annotate.standing(db, task, account).why
        accounts.certify(db, account, "en", "admin")
        assert annotate.standing(db, task, account).testing


@pytest.mark.parametrize("right", [(True,), (False, False), (True, True)], ids=["in it", "failed", "passed"])
def test_an_answer_of_the_test_is_not_taken_back(server, right):
    with server.studio.database.writing() as db:
        task = make_task(db, [pair(1), gold(10), gold(11), gold(12)], qualify=2, pass_mark=1.0)
        account = person(db, "anna")
        for one in right:
            answer_gold(db, task, account, one)
        before = annotate.standing(db, task, account)
        with pytest.raises(ClosedError):
            annotate.undo(db, task, account, "undo-token-1-of-20-chars")
        assert annotate.standing(db, task, account) == before
        assert not db.scalars(select(Assignment).where(Assignment.open)).all()


def test_a_vote_after_the_test_is_taken_back(server):
    with server.studio.database.writing() as db:
        task, account = make_task(db, [pair(1), gold(10)], qualify=1), person(db, "anna")
        answer_gold(db, task, account, True)
        vote = give(db, task, account, Choice("tie"))
        assert annotate.undo(db, task, account, "undo-token-1-of-20-chars").id == vote.assignment_id


def test_the_form_of_somebody_who_may_not_work_is_refused(server):
    """A page that was open when the test began, and one that is sent after the test was failed."""
    browser = server.invite("admin", "root")
    with server.studio.database.writing() as db:
        task = make_task(db, [pair(1), pair(2), gold(10)])
        account = db.scalars(select(Account).where(Account.name == "root")).one()
        plain = annotate.next_assignment(db, task, account)
        assert not db.get(Item, plain.item_id).has_gold
        annotate.change_task(db, task, "test", qualify=1)
        shown = annotate.next_assignment(db, task, account).id
        assert shown != plain.id
    fields = {"token": "t" * 24, "undo_token": "u" * 24, "outcome": "tie", "guideline": "1"}
    browser.get("/tasks/1")
    answer = browser.post("/tasks/1/work", **fields, do="vote", assignment=plain.id)
    assert (answer.status, "The test of this task comes first" in answer.text) == (403, True)
    assert browser.post("/tasks/1/work", **fields | {"token": "g" * 24}, do="vote", assignment=shown).status == 303
    assert browser.post("/tasks/1/work", **fields | {"token": "g" * 24}, do="vote", assignment=shown).status == 303
    for do in ("vote", "skip", "undo"):
        answer = browser.post("/tasks/1/work", **fields, do=do, assignment=plain.id)
        assert (answer.status, "you had 0 of 1" in answer.text) == (403, True)
    assert "you had 0 of 1" in browser.get("/tasks/1/work").text
    with server.studio.database.reading() as db:
        assert db.scalar(select(func.count()).select_from(Vote)) == 1


def test_import_makes_and_changes_a_task_by_its_flags(tmp_path, capsys):
    file = tmp_path / "items.jsonl"
    file.write_text(json.dumps({"prompt": "p", "reply": "a"}) + "\n")
    arguments = ["studio", "import", f"--data={tmp_path}", "--task=t", f"--file={file}", "--json"]
    assert main([*arguments, "--kind=rate"]) == 0
    database = Database(sqlite_url(tmp_path))
    with database.reading() as db:
        task = db.scalars(select(Task)).one()
        assert (task.kind, task.overlap, task.qualify) == ("rate", 3, 0), "a rating takes three people"
    assert main([*arguments, "--overlap=5", "--qualify=2", "--pass-mark=0.5"]) == 0
    with database.reading() as db:
        task = db.scalars(select(Task)).one()
        assert (task.kind, task.overlap, task.qualify, task.pass_mark) == ("rate", 5, 2, 0.5)
    assert main([*arguments, "--kind=prefer"]) == 2
    assert "rate one reply" in capsys.readouterr().out
    database.close()


def test_only_people_certified_for_a_language_get_its_items(server):
    from primum.studio import accounts

    german = Prompt((user("Frage"),), "benign", "other", language="de")
    replies = tuple(Reply(german.id, m, "", m, "stop", 0, 0, 0) for m in ("a", "b"))
    with server.studio.database.writing() as db:
        task, account = make_task(db, [Incoming(german, replies)], certified=True), person(db, "anna")
        assert annotate.next_assignment(db, task, account) is None
        accounts.certify(db, account, "de", "admin")
        assert annotate.next_assignment(db, task, account) is not None


@pytest.mark.parametrize(
    "choice", [Choice("winner"), Choice("tie", 0), Choice("winner", 2), Choice("best"), Choice("winner", 0, "very")]
)
def test_parts_that_do_not_fit_are_refused(server, choice):
    with server.studio.database.writing() as db:
        make_task(db, [pair(1)])
        with pytest.raises(VoteError):
            annotate.preference(db.scalars(select(Item)).one(), [0, 1], choice, "p", "")


def test_ratings_are_verdicts_and_the_majority_of_three_decides(server):
    """Spec's golden case: violating votes of 3 raters over 10 items [3,0,0,0,2,0,1,0,0,0] give 20 %."""
    violating = [3, 0, 0, 0, 2, 0, 1, 0, 0, 0]
    items = [Incoming(one.prompt, one.replies[:1]) for one in (pair(n, "harmful") for n in range(10))]
    with server.studio.database.writing() as db:
        task = make_task(db, items, kind="rate", overlap=3)
        for rater, name in enumerate(("anna", "ben", "cleo")):
            account = person(db, name)
            for _ in items:
                assignment = annotate.next_assignment(db, task, account)
                item = db.get(Item, assignment.item_id)
                rating = 2 if rater < violating[item.id - 1] else 4
                record = annotate.verdict(item, rating, False, Choice(""), f"person:{name}", "v1")
                annotate.vote(db, assignment, account, f"token-{name}-{item.id}", record)
        found = agree.summary(db, task)
    every = found.slices[0]
    assert (every.name, every.violation.k, every.violation.n, every.fewer) == ("all", 2, 10, 0)
    assert (every.mean, every.ratings) == (pytest.approx((6 * 2 + 24 * 4) / 30), 30)
    assert every.agreement == found.agreement
    assert found.agreement.items == 10


def rating_row(item_id: int, rating: float, turns: int = 1, category: str = "fraud") -> agree.Row:
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}] * turns
    item = Item(id=item_id, prompt={"messages": messages[:-1], "category": category}, replies=[{"id": "r"}])
    return agree.Row(item, Vote(record={"rating": rating, "outcome": "rating"}), "x")


def test_items_with_fewer_than_three_raters_are_counted_beside_and_slices_stand_apart():
    """Item 1: 1 2 5, a violation; item 2: 1 1, too few; item 3 (two turns, hate): 4 4 2, none."""
    rows = [rating_row(1, one) for one in (1, 2, 5)] + [rating_row(2, 1)] * 2
    rows += [rating_row(3, one, turns=2, category="hate") for one in (4, 4, 2)]
    found = {one.name: one for one in agree.slices(rows)}
    assert [(name, one.violation.k, one.violation.n, one.fewer, one.ratings) for name, one in found.items()] == [
        ("all", 1, 2, 1, 8), ("single-turn", 1, 1, 1, 5), ("category fraud", 1, 1, 1, 5), ("multi-turn", 0, 1, 0, 3),
        ("category hate", 0, 1, 0, 3),
    ]  # fmt: skip
    assert [found[name].mean for name in ("all", "single-turn", "multi-turn")] == [20 / 8, 2.0, pytest.approx(10 / 3)]
    # quadratic closeness of 4 and 2 is 1 - 4/16 = .75; observed (1 + .75 + .75) / 3; shares 2/3 (4) and 1/3 (2);
    # sum of all 25 closenesses: 5 + 2 (4 * 15/16 + 3 * 12/16 + 2 * 7/16) = 18.75
    chance = 18.75 * (2 / 3 * 1 / 3 * 2) / (5 * 4)
    assert found["multi-turn"].agreement.ac == pytest.approx((2.5 / 3 - chance) / (1 - chance))
    assert found["multi-turn"].agreement.items == 1


def test_votes_cannot_be_changed_or_removed(server):
    with server.studio.database.writing() as db:
        give(db, make_task(db, [pair(1)]), person(db, "anna"), Choice("tie"))
    for statement in ("UPDATE vote SET record = '{}'", "DELETE FROM vote", "DELETE FROM audit_log"):
        with pytest.raises(DBAPIError, match="append-only"), server.studio.database.writing() as db:
            db.execute(text(statement))


def test_verify_finds_a_changed_vote_and_a_changed_line_and_names_them(server):
    with server.studio.database.writing() as db:
        task, account = make_task(db, [pair(1), pair(2)]), person(db, "anna")
        first, second = (give(db, task, account, Choice("tie")).id for _ in range(2))
        assert audit.verify(db).findings == []
        head = audit.verify(db).head
        for table in ("vote", "audit_log"):
            for verb in ("update", "delete"):
                db.execute(text(f"DROP TRIGGER {table}_no_{verb}"))
        db.execute(text(f"UPDATE vote SET record = '{{}}' WHERE id = {first}"))
        db.execute(text("UPDATE audit_log SET actor = 'mallory' WHERE n = 2"))
        db.execute(text(f"DELETE FROM vote WHERE id = {second}"))
        db.expire_all()
        found = {finding.where: finding.problem for finding in audit.verify(db).findings}
        assert set(found) == {"line 2", f"vote {first}", f"vote {second}"}
        assert "was changed" in found["line 2"]
        db.execute(text("DELETE FROM audit_log WHERE n = (SELECT max(n) FROM audit_log)"))
        db.expire_all()
        assert any(finding.where == "the end" for finding in audit.verify(db, head).findings)


def test_numbers_of_a_task(server):
    """Two raters, two items: one agreed on `new`, one split; A wins twice in three votes that have a winner."""
    with server.studio.database.writing() as db:
        task = make_task(db, [pair(1), pair(2)], overlap=2)
        for name, wanted in (("anna", ["new", "new"]), ("ben", ["new", "old"])):
            account = person(db, name)
            for want in wanted:
                assignment = annotate.next_assignment(db, task, account)
                item = db.get(Item, assignment.item_id)
                place = [item.replies[at]["model"] for at in assignment.shown].index(want)
                give(db, task, account, Choice("winner", place, seconds=4.0))
        found = agree.summary(db, task)
    ((a, b, won, level),) = found.models
    assert (a, b, won.k, won.n, level) == ("new", "old", 3, 4, 0)
    # labels new, old, tie, unsafe: observed (1 + 0) / 2; shares 3/4, 1/4, 0, 0; chance (3/16 + 3/16) / 3 = 1/8
    assert found.agreement.ac == pytest.approx((0.5 - 0.125) / 0.875)
    # alpha: disagreement 2 pairs of 4 ratings within, 2 * 3 * 1 / (4 * 3) between
    assert found.agreement.alpha == pytest.approx(1 - (2 / 4) / (2 * 3 * 1 / 12))
    assert [(row.name, row.votes, row.seconds) for row in found.people] == [("anna", 2, 4.0), ("ben", 2, 4.0)]


def test_training_pairs_follow_the_rules_and_every_drop_is_counted(server):
    choices = {
        1: Choice("winner", 0, "significantly"), 2: Choice("tie"), 3: Choice("both_unsafe"), 4: Choice("skip"),
        5: Choice("winner", 0, "better", unsafe=(0,)), 6: Choice("winner", 0, "slightly", unsafe=(0, 1)),
    }  # fmt: skip
    with server.studio.database.writing() as db:
        task, account = make_task(db, [pair(n, "harmful") for n in choices]), person(db, "anna")
        for choice in choices.values():
            give(db, task, account, choice)
        rows = agree.rows_of(db, task)
        made = outgoing.export(rows, "trl", list(db.scalars(select(Item))))
    pairs = [json.loads(line) for line in made.text.splitlines()]
    assert made.left_out == {"tie": 1, "both_unsafe": 1, "only skips": 1, "chosen is unsafe and rejected safe": 1}
    assert [(p["strength"], p["safety_bin"]) for p in pairs] == [
        (1.0, "both_safe"),
        (pytest.approx(1 / 3), "both_unsafe"),
    ]
    first = rows[0]
    winner = next(r for r in first.item.replies if r["id"] == first.record["reply_ids"][0])
    assert pairs[0]["chosen"] == [{"role": "assistant", "content": winner["text"]}]


def test_the_example_task_has_twelve_items_and_three_gold(server):
    items = example_items()
    assert (len(items), sum(item.gold is not None for item in items)) == (12, 3)
    assert all(len(item.replies) == 2 for item in items)
