"""Certificates by language and modality: who gets which item, who gives certificates, and where they are taken back."""

import json

import pytest
from sqlalchemy import func, select

from primum.cli import main
from primum.core.errors import BadInputError
from primum.studio import accounts, annotate, incoming, outgoing
from primum.studio.annotate import Choice, ClosedError
from primum.studio.database import Database, sqlite_url
from primum.studio.tables import Account, Certificate, Item, LogLine, Task, Vote
from studio_kit import fill_at, rows_as, serving

KINDS = [("en", "text"), ("en", "audio"), ("de", "text"), ("de", "audio")]
ANNA = "/people/3/certify"
"""Who joins second, after the admin: the first account is that of a studio without accounts."""


@pytest.fixture
def server(tmp_path):
    with serving(tmp_path) as running:
        yield running


def lines(kinds=KINDS):
    """One item a language and modality; its prompt names both."""
    rows = [
        {"prompt": f"{language} {modality}", "replies": ["a", "b"], "language": language, "modality": modality,
         "intent": "benign"} for language, modality in kinds
    ]  # fmt: skip
    return "\n".join(map(json.dumps, rows)).encode()


def task_with(server, data, **settings):
    with server.studio.database.writing() as db:
        task = annotate.make_task(db, "t", "prefer", "test", overlap=9, **settings)
        annotate.add_items(db, task, incoming.read("x.jsonl", data), "test")


def asked(page):
    """What the work page asks about, empty where there is nothing for this person."""
    return page.text.partition('class="said veiled"')[2].partition(">")[2].partition("<")[0]


def work_through(browser):
    """Vote until nothing is left; return what was asked."""
    seen = []
    while found := asked(browser.get("/tasks/1/work")):
        seen.append(found)
        assert browser.post("/tasks/1/work", **browser.work_fields(), do="vote", outcome="tie").status == 303
    return seen


def test_the_queue_gives_an_item_only_to_who_is_certified_for_its_language_in_its_modality(server):
    """English text and German audio make neither English audio nor German text."""
    admin, anna = server.invite("admin", "root"), server.invite("annotator", "anna")
    task_with(server, lines(), certified=True)
    anna.get("/tasks/1")
    assert work_through(anna) == []
    assert "language or modality you are not certified for" in anna.get("/tasks/1/work").text
    admin.get("/people")
    for language, modality in (("EN", "text"), ("de", "audio")):
        assert admin.post(ANNA, do="certify", language=language, modality=modality).status == 303
    assert work_through(anna) == ["en text", "de audio"]
    assert "de (audio), en (text)" in anna.get("/profile").text


def test_a_task_that_asks_for_no_certificate_gives_everything(server):
    anna = server.invite("annotator", "anna")
    task_with(server, lines())
    anna.get("/tasks/1")
    assert work_through(anna) == ["en text", "en audio", "de text", "de audio"]


def test_an_admin_alone_gives_certificates_and_takes_them_back(server):
    admin, anna = server.invite("admin", "root"), server.invite("editor", "anna")
    admin.get("/people")
    anna.get("/profile")
    given = {"language": "pt-BR", "modality": "image"}
    assert anna.post(ANNA, do="certify", **given).status == 403
    assert admin.post(ANNA, do="certify", **given).status == 303
    assert admin.post(ANNA, do="certify", **given).status == 303, "twice is once"
    assert admin.post(ANNA, do="certify", language="en", modality="task").status == 400
    assert admin.post(ANNA, do="certify", language="e n", modality="text").status == 400
    assert "pt-br, image" in admin.get("/people").text
    with server.studio.database.reading() as db:
        assert [(row.language, row.modality, row.by) for row in db.scalars(select(Certificate))] == [
            ("pt-br", "image", "root")
        ]
    assert anna.post(ANNA, do="take back", **given).status == 403
    assert admin.post(ANNA, do="take back", **given).status == 303
    assert admin.post(ANNA, do="take back", **given).status == 404
    with server.studio.database.reading() as db:
        assert db.scalars(select(Certificate)).all() == []
        found = db.scalars(select(LogLine).where(LogLine.action.like("%certify")).order_by(LogLine.n)).all()
        details = {"language": "pt-br", "modality": "image"}
        assert [(one.action, one.object, one.details) for one in found] == [
            ("certify", "anna", details), ("uncertify", "anna", details)
        ]  # fmt: skip


def test_a_certificate_that_is_taken_back_closes_the_page_that_is_open(server):
    admin, anna = server.invite("admin", "root"), server.invite("annotator", "anna")
    task_with(server, lines([("en", "audio"), ("en", "text")]), certified=True)
    admin.get("/people")
    for modality in ("audio", "text"):
        admin.post(ANNA, do="certify", language="en", modality=modality)
    assert asked(anna.get("/tasks/1/work")) == "en audio"
    fields = anna.work_fields()
    reply = f"/text/{fields['assignment']}/0"
    assert anna.get(reply).status == 200
    anna.get("/tasks/1/work")
    admin.post(ANNA, do="take back", language="en", modality="audio")
    for do in ("vote", "skip"):
        answer = anna.post("/tasks/1/work", **fields, do=do, outcome="tie")
        assert (answer.status, "not certified for audio in" in answer.text) == (403, True)
    assert anna.get(reply).status == 404
    assert asked(anna.get("/tasks/1/work")) == "en text"
    with server.studio.database.reading() as db:
        assert db.scalar(select(func.count()).select_from(Vote)) == 0


def test_a_vote_is_not_taken_back_by_who_may_not_have_its_item_any_more(server):
    with server.studio.database.writing() as db:
        task = annotate.make_task(db, "t", "prefer", "test", certified=True)
        annotate.add_items(db, task, incoming.read("x.jsonl", lines([("de", "image")])), "test")
        account = Account(name="anna", role="annotator")
        db.add(account)
        db.flush()
        accounts.certify(db, account, "de", "root", "image")
        given = annotate.next_assignment(db, task, account)
        item = db.get(Item, given.item_id)
        record = annotate.preference(item, given.shown, Choice("tie"), "person:anna", "v1")
        annotate.vote(db, given, account, "token" * 5, record)
        accounts.uncertify(db, account, "de", "image", "root")
        with pytest.raises(ClosedError, match="not certified for image in 'de'"):
            annotate.undo(db, task, account, "undo" * 6)
        assert not given.open


def test_the_test_of_a_task_counts_gold_items_of_the_right_modality(server):
    gold = [{"prompt": f"{name} {n}", "replies": ["a", "b"], "gold": 0, "modality": name}
            for name in ("text", "audio") for n in range(2)]  # fmt: skip
    task_with(server, "\n".join(map(json.dumps, gold)).encode(), certified=True, qualify=3)
    with server.studio.database.writing() as db:
        task, account = db.scalars(select(Task)).one(), Account(name="anna", role="annotator")
        db.add(account)
        db.flush()
        accounts.certify(db, account, "en", "root", "audio")
        assert "there are 2 in the languages and modalities" in annotate.standing(db, task, account).why
        accounts.certify(db, account, "en", "root", "text")
        assert annotate.standing(db, task, account).testing


def test_items_that_name_no_modality_take_the_task_s_and_exports_keep_it(server):
    admin = server.invite("admin", "root")
    admin.get("/tasks/new")
    admin.post("/tasks/new", name="t", kind="prefer", modality="audio")
    rows = [{"prompt": "heard", "replies": ["a", "b"]}, {"prompt": "seen", "replies": ["a", "b"], "modality": "image"}]
    admin.get("/tasks/1")
    admin.upload("/tasks/1/items", "x.jsonl", "\n".join(map(json.dumps, rows)).encode())
    assert admin.post("/tasks/1/settings", modality="text", overlap="1").status == 303
    assert admin.post("/tasks/1/settings", modality="smell").status == 400
    assert "audio · " in admin.get("/tasks/1/work").text
    admin.post("/tasks/1/work", **admin.work_fields(), do="vote", outcome="A")
    for format_, held in (("records", {"heard": "audio", "seen": "image"}), ("csv", {"heard": "audio"})):
        text = admin.get(f"/tasks/1/files/{format_}").text.encode()
        again = incoming.read(outgoing.FORMATS[format_][0], text)
        assert {one.prompt.text: one.modality for one in again} == held, format_
    admin.get("/tasks/1")
    rows[0]["modality"] = "text"
    admin.upload("/tasks/1/items", "x.jsonl", json.dumps(rows[0]).encode())
    with server.studio.database.reading() as db:
        task = db.scalars(select(Task)).one()
        assert task.modality == "text", "changed later: items stay as they came"
        assert db.scalars(select(Item.modality).order_by(Item.id)).all() == ["text", "image"], "put right by the file"


@pytest.mark.parametrize("value", ["smell", "task", 3, ["text"]])
def test_an_unknown_modality_is_told_with_its_line(value):
    row = {"prompt": "p", "replies": ["a", "b"], "modality": value}
    with pytest.raises(BadInputError) as caught:
        incoming.read("x.jsonl", json.dumps(row).encode())
    assert (caught.value.where, "text, image, audio" in (caught.value.cure or "")) == ("x.jsonl:1", True)


def test_import_takes_a_modality(tmp_path, capsys):
    file = tmp_path / "items.jsonl"
    file.write_text(json.dumps({"prompt": "p", "reply": "a"}) + "\n")
    arguments = ["studio", "import", f"--data={tmp_path}", "--task=t", f"--file={file}", "--kind=rate", "--json"]
    assert main([*arguments, "--modality=image"]) == 0
    database = Database(sqlite_url(tmp_path))
    with database.reading() as db:
        assert (db.scalars(select(Item.modality)).all(), db.scalars(select(Task.modality)).all()) == (
            ["image"], ["image"]
        )  # fmt: skip
    database.close()
    assert main([*arguments, "--modality=smell"]) == 2
    assert "modality" in capsys.readouterr().out


def test_who_may_not_vote_on_a_written_prompt_gets_no_answers(server):
    admin, anna = server.invite("admin", "root"), server.invite("annotator", "anna")
    with server.studio.database.writing() as db:
        annotate.make_task(db, "Written here", "prefer", "test", certified=True, variants=2)
    anna.get("/write")
    prompt = {"prompt": "hallo", "category": "other", "intent": "benign", "language": "de"}
    answer = anna.post("/write/ask", **prompt)
    assert (answer.status, "not certified for text in" in answer.text) == (403, True)
    with server.studio.database.reading() as db:
        assert db.scalars(select(Item)).all() == []
    admin.get("/people")
    admin.post(ANNA, do="certify", language="de", modality="text")
    assert anna.post("/write/ask", **prompt).location == "/tasks/1/work"


def test_modalities_come_and_go_with_the_migration(tmp_path):
    database = Database(sqlite_url(tmp_path))
    filled = fill_at(database, "0009")
    database.migrate()
    found = rows_as(database, {"item": [{"modality": 0}], "task": [{"modality": 0}]})
    assert found == {"item": [{"modality": "text"}], "task": [{"modality": "text"}]}
    assert rows_as(database, filled) == filled
    database.migrate("0009")
    assert rows_as(database, filled) == filled
    database.close()
