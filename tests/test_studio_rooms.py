"""Files in and out, the red team, runs and sheets, the policy, writing, the database, and agreement's formulas."""

import json
import math

import pytest
from sqlalchemy import inspect, select

from primum.cli import main
from primum.core.errors import BadInputError
from primum.core.stats.weighted import gwet_ac, krippendorff_alpha, quadratic
from primum.pairing.columns import read_pairs
from primum.studio import incoming, outgoing, rulebook
from primum.studio.agree import Row
from primum.studio.database import Database, current, sqlite_url
from primum.studio.pages.redteam import poisson_rate
from primum.studio.tables import APPEND_ONLY, Base, Demonstration, Dialogue, Item, LogLine, Task, Turn, Vote
from primum.studio.talk import Demo
from studio_kit import fill_at, rows_as, serving

# ---------------------------------------------------------------- agreement

FOUR_RATERS = [  # Krippendorff 2011, section C: 12 units, 4 observers, 5 values, missing ratings
    [1, 1, None, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4],
    [4, 4, 4, 4], [1, 1, 2, 1], [2, 2, 2, 2], [None, 5, 5, 5], [None, None, 1, 1], [None, None, 3, None],
]  # fmt: skip
COUNTS = [[row.count(value) for value in range(1, 6)] for row in FOUR_RATERS]


def test_alpha_and_ac1_of_the_published_example():
    """Krippendorff 2011 prints alpha .743 (nominal) and .849 (interval); Gwet prints AC1 .775 for the same data."""
    assert krippendorff_alpha(COUNTS) == pytest.approx(0.743, abs=5e-4)
    assert krippendorff_alpha(COUNTS, quadratic) == pytest.approx(0.849, abs=5e-4)
    assert gwet_ac(COUNTS) == pytest.approx(0.775, abs=1e-3)


def test_ac1_of_the_golden_violations():
    """10 items, 3 raters, violating votes [3,0,0,0,2,0,1,0,0,0]: AC1 .8039 (spec, section 0)."""
    violating = [3, 0, 0, 0, 2, 0, 1, 0, 0, 0]
    assert gwet_ac([[k, 3 - k] for k in violating]) == pytest.approx(0.8039, abs=5e-5)


def test_ac2_by_hand():
    """Two items, ratings (1, 2) and (3, 3) of 3: closeness of 1 and 2 is 1 - 1/4; shares 1/4, 1/4, 1/2."""
    # all closenesses: 3 * 1 + 4 * .75 + 2 * 0 = 6; chance 6 * (3/16 + 3/16 + 1/4) / (3 * 2) = .625
    # observed: (.75 + 1) / 2
    assert gwet_ac([[1, 1, 0], [0, 0, 2]], quadratic) == pytest.approx((0.875 - 0.625) / 0.375)


def test_nothing_to_agree_on_is_none():
    assert gwet_ac([[1, 0], [0, 1]]) is None
    assert krippendorff_alpha([]) is None
    assert krippendorff_alpha([[2, 0], [2, 0]]) == 1.0


# ---------------------------------------------------------------- files

SHAPES = {
    "ours": [{"prompt": "p", "replies": ["a", {"text": "b", "model": "m"}], "intent": "harmful", "gold": 1}],
    "turns": [{"prompt": [{"role": "user", "content": "p"}], "reply_1": "a", "reply_2": "b"}],
    "trl": [{"prompt": "p", "chosen": "a", "rejected": [{"role": "assistant", "content": "b"}]}],
    "label-studio": [{"data": {"prompt": "p", "answer1": "a", "answer2": "b"}, "annotations": [
        {"completed_by": {"email": "x@y"}, "lead_time": 4.2,
         "result": [{"type": "pairwise", "value": {"selected": "right"}}]}]}],
    "argilla": [{"fields": {"prompt": "p", "response_1": "a", "response_2": "b"},
                 "responses": {"preference": [{"value": "response_2", "user_id": "u"}]}}],
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_read(shape):
    (item,) = incoming.read("x.json", json.dumps(SHAPES[shape]).encode())
    assert (item.prompt.text, [reply.text for reply in item.replies]) == ("p", ["a", "b"])
    winners = {"trl": [0], "label-studio": [1], "argilla": [1]}
    assert [vote["winner"] for vote in item.votes] == winners.get(shape, [])


def test_csv_is_read_with_its_votes():
    text = "prompt,reply_1,reply_2,outcome,winner,judged_by\np,a,'=b,winner,2,x\np,a,'=b,tie,,y\n"
    (item,) = incoming.read("x.csv", text.encode())
    assert [reply.text for reply in item.replies] == ["a", "=b"]
    assert [(vote["outcome"], vote["winner"], vote["judged_by"]) for vote in item.votes] == [
        ("winner", 1, "x"), ("tie", None, "y")
    ]  # fmt: skip


BROKEN = {
    b'{"prompt": "p"': "x.jsonl:1",
    b'{"prompt": "p", "replies": ["a", "b"]}\n[]': "x.jsonl:2",
    b'\n{"prompt": "p", "replies": ["a"]}': "x.jsonl:2",
    b'{"prompt": "", "replies": ["a", "b"]}': "x.jsonl:1",
    b'{"prompt": "p", "replies": ["a", 3]}': "x.jsonl:1",
    b'{"prompt": "p", "replies": ["a", "b"], "gold": 2}': "x.jsonl:1",
    b'{"prompt": "p", "replies": ["a", "b"], "intent": "evil"}': "x.jsonl:1",
    b'{"prompt": "p", "replies": ["a", "b"], "priority": "high"}': "x.jsonl:1",
    b'{"prompt": "p", "replies": ["1", "2", "3", "4", "5", "6", "7", "8", "9"]}': "x.jsonl:1",
    b'{"prompt": "p", "chosen": "a", "rejected": "a"}': "x.jsonl:1",
    b'{"prompt": [{"role": "user"}], "replies": ["a", "b"]}': "x.jsonl:1",
    b'{"prompt": "p", "replies": ["a", "b"], "votes": [{"outcome": "winner"}]}': "x.jsonl:1",
    b"ok\n\xff": "x.jsonl:2",
    b"": "x.jsonl",
}


@pytest.mark.parametrize("data", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_told_with_line_and_cure(data):
    with pytest.raises(BadInputError) as caught:
        incoming.read("../x.jsonl", data)
    assert caught.value.where == BROKEN[data]
    assert caught.value.cure


def test_a_file_with_one_broken_row_adds_nothing(tmp_path):
    with serving(tmp_path) as running:
        browser = running.browser()
        browser.get("/tasks/new")
        browser.post("/tasks/new", name="t", kind="prefer")
        browser.get("/tasks/1")
        good = json.dumps({"prompt": "p", "replies": ["a", "b"]})
        answer = browser.upload("/tasks/1/items", "x.jsonl", f"{good}\n{{broken".encode())
        assert answer.status == 400
        assert "broken JSON" in answer.text
        with running.studio.database.reading() as db:
            assert db.scalars(select(Item)).all() == []


@pytest.mark.parametrize("format_", ["records", "label-studio", "argilla", "csv"])
def test_what_goes_out_comes_in_again(tmp_path, format_):
    """Votes on the same replies, won by the same; Label Studio has no tie, and the others keep it."""
    with serving(tmp_path) as running:
        browser = running.browser()
        browser.get("/")
        browser.post("/tasks/example")
        for outcome in ("A", "B", "tie"):
            browser.get("/tasks/1/work")
            fields = browser.work_fields()
            browser.post("/tasks/1/work", **fields, do="vote", outcome=outcome, strength="better", unsafe="1")
        text = browser.get(f"/tasks/1/files/{format_}").text
        with running.studio.database.reading() as db:
            held = [(db.get(Item, vote.item_id), vote.record) for vote in db.scalars(select(Vote))]
    found = {item.prompt.text: item for item in incoming.read(outgoing.FORMATS[format_][0], text.encode())}
    kept = 0
    for item, record in held:
        again = found[item.prompt["messages"][-1]["content"]]
        if format_ == "label-studio" and record["outcome"] == "tie":
            assert again.votes == ()
            continue
        (vote,) = again.votes
        texts = {reply["id"]: reply["text"] for reply in item.replies}
        here = {reply.id: reply.text for reply in again.replies}
        assert vote["outcome"] == record["outcome"]
        if record["winner"] is not None:
            assert here[vote["reply_ids"][vote["winner"]]] == texts[record["reply_ids"][record["winner"]]]
        kept += 1
    assert kept == (2 if format_ == "label-studio" else 3)


@pytest.mark.parametrize("format_", ["records", "csv"])
def test_ratings_go_out_and_come_in_again(tmp_path, format_):
    """Ratings, a refusal, a skip, notes, categories, several turns, a text that reads as turns, gold: all as it was."""
    from primum.core.records import Prompt, Reply, assistant, user
    from primum.studio import agree, annotate
    from primum.studio.annotate import Choice, Incoming

    database = Database(sqlite_url(tmp_path))
    database.migrate()
    prompts = [
        Prompt((user("=1+1, said\nshe"),), "harmful", "fraud", language="de"),
        Prompt((user("first"), assistant("reply"), user("then")), "benign", "general"),
        Prompt((user('[{"role": "user", "content": "no turn"}]'),), "borderline", "hate"),
    ]
    items = [
        Incoming(prompt, (Reply(prompt.id, f"m{n}", "t0.7", f'a, "{n}"', "stop", 0, 0, 0),), {"rating": n + 1})
        for n, prompt in enumerate(prompts)
    ]
    with database.writing() as db:
        task = annotate.make_task(db, "human", "rate", "test")
        annotate.add_items(db, task, items, "test")
        for at, item in enumerate(db.scalars(select(Item).order_by(Item.id))):
            said = [(2, False, ("fraud", "hate")), (5, False, ()), (3, True, ())][at]
            choice = Choice("", categories=said[2], note="=note", seconds=1.5)
            for record in (
                annotate.verdict(item, said[0], said[1], choice, "person:anna", "v1@x"),
                annotate.skipped(item, "person:ben", "v1@x", 2.0),
            ):
                token = f"{item.id}-{record['judge']}"
                db.add(Vote(token=token, task_id=task.id, item_id=item.id, record=record))
        db.flush()
        held = db.scalars(select(Item).order_by(Item.id)).all()
        rows = agree.rows_of(db, task)
        text = outgoing.export(rows, format_, held).text
        before = {(row.item.key, row.who): row.record for row in rows}
        found = incoming.read(outgoing.FORMATS[format_][0], text.encode(), single=True)
        other = annotate.make_task(db, "again", "rate", "test")
        assert annotate.add_items(db, other, found, "test") == (3, 0, 6, 0)
        after = {(row.item.key, row.who): row.record for row in agree.rows_of(db, other)}
        again = db.scalars(select(Item).where(Item.task_id == other.id).order_by(Item.id)).all()
        assert [(one.key, one.gold, one.language, one.prompt["messages"]) for one in again] == [
            (one.key, one.gold, one.language, one.prompt["messages"]) for one in held
        ]
    database.close()
    assert {key: {"note": "", **value} for key, value in before.items()} == after


def test_ratings_from_a_spreadsheet_of_one_s_own():
    text = "prompt,reply,model_1,rating,judged_by,intent,gold\np,a,m,2,x,harmful,1\np,a,m,4,y,harmful,1\n"
    (item,) = incoming.read("x.csv", text.encode(), single=True)
    assert [(vote["rating"], vote["behaviour"], vote["judge"]) for vote in item.votes] == [
        (2, "harmful_compliance", "x"), (4, "safe_completion", "y")
    ]  # fmt: skip
    assert item.gold == {"rating": 1}


VOTE = {"reply_id": "none", "rating": 3}
BROKEN_RATINGS = [
    ({"reply": "a", "gold": "tie"}, "'gold' is no rating"),
    ({"reply": "a", "gold": 0}, "'gold' is no rating"),
    ({"replies": ["a", "b"], "gold": 1}, "'gold' is no rating"),
    ({"reply": "a", "votes": [VOTE]}, "no rating of its reply"),
    ({"reply": "a", "votes": [{"reply_ids": [], "outcome": "tie"}]}, "no rating of its reply"),
    ({"reply": "a", "rating": "6"}, "none of 1 to 5"),
    ({"reply": "a", "rating": "2.5"}, "none of 1 to 5"),
    ({"reply": "a", "rating": "nan"}, "'rating' is no number"),
    ({"reply": "a", "rating": "good"}, "'rating' is no number"),
    ({"reply": "a", "outcome": "rating"}, "'rating' is no number"),
    ({"reply": "a", "rating": "2", "behaviour": "evil"}, "behaviour or categories"),
    ({"reply": "a", "rating": "2", "seconds": "long"}, "'seconds' is no number"),
    ({"replies": ["a", "b"], "rating": "2"}, "several replies"),
]


@pytest.mark.parametrize(("row", "said"), BROKEN_RATINGS, ids=range(len(BROKEN_RATINGS)))
def test_a_broken_rating_is_told_with_its_line(row, said):
    with pytest.raises(BadInputError) as caught:
        incoming.read("x.jsonl", json.dumps({"prompt": "p", **row}).encode(), single=True)
    assert said in caught.value.problem
    assert (caught.value.where, bool(caught.value.cure)) == ("x.jsonl:1", True)


def test_votes_train_without_a_conversion_by_hand(tmp_path, capsys):
    """The exported file is read by the room that feeds the trainers, and by anything that reads TRL's columns."""
    items, out = tmp_path / "items.jsonl", tmp_path / "pairs.jsonl"
    items.write_text(json.dumps({"prompt": "p", "chosen": "a", "rejected": "b", "intent": "harmful"}) + "\n")
    data = f"--data={tmp_path / 'd'}"
    assert main(["studio", "import", data, "--task=t", f"--file={items}"]) == 0
    capsys.readouterr()
    assert main(["studio", "export", data, "--task=t", f"--file={out}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 1
    (pair,) = read_pairs(out)
    assert (pair.prompt[0].content, pair.chosen, pair.rejected, pair.kind) == ("p", "a", "b", "harmful")


def test_a_tie_of_votes_gives_no_pair():
    item = Item(id=1, prompt={"id": "p", "messages": [], "intent": "harmful", "category": "other"},
                replies=[{"id": "a"}, {"id": "b"}])  # fmt: skip
    votes = [
        {"outcome": "winner", "winner": at, "reply_ids": ["a", "b"], "strength": "better", "judged_by": "x"}
        for at in (0, 1)
    ]
    rows = [Row(item, Vote(record=vote), "x") for vote in votes]
    assert outgoing.training_pairs([rows]) == ([], {"no majority": 1})


# ---------------------------------------------------------------- red team


def test_violations_per_person_hour():
    """Spec: 9 violating prompts, 4 people x 5 h: .45. Exact limits of 9 (Garwood's table): 4.115 and 17.085."""
    rate = poisson_rate(9, 20)
    assert rate.value == pytest.approx(0.45)
    assert (rate.low * 20, rate.high * 20) == (pytest.approx(4.115, abs=1e-3), pytest.approx(17.085, abs=1e-3))
    none = poisson_rate(0, 2)
    assert (none.low, none.high) == (0.0, pytest.approx(-math.log(0.025) / 2))
    assert poisson_rate(3, 0).value is None


def test_a_dialogue_is_led_marked_and_ended(tmp_path):
    with serving(tmp_path) as running:
        browser = running.browser()
        browser.get("/redteam")
        browser.post("/redteam", model="demo", vector="logic", category="fraud")
        browser.get("/redteam/1")
        assert browser.post("/redteam/1", text="hello <b>").status == 303
        assert "hello &lt;b&gt;" in browser.get("/redteam/1").text
        assert browser.post("/redteam/1/end", degree="3", category="fraud", vector="logic").status == 400, "no mark"
        assert browser.post("/redteam/1/mark/2").status == 303
        assert browser.post("/redteam/1/end", degree="0", category="fraud", vector="logic").status == 400, "a mark"
        assert browser.post("/redteam/1/end", degree="4", category="cyber", vector="multi_turn", note="n").status == 303
        assert browser.post("/redteam/1", text="more").status == 409
        with running.studio.database.reading() as db:
            turns = db.scalars(select(Turn).order_by(Turn.id)).all()
            dialogue = db.scalars(select(Dialogue)).one()
        assert [(turn.role, turn.broke) for turn in turns] == [("user", False), ("assistant", True)]
        assert (dialogue.category, dialogue.degree, dialogue.closed) == ("cyber", 4, True)
        assert "Fraud" not in browser.get("/redteam").text.partition("By risk area")[2].partition("Your dialogues")[0]


# ---------------------------------------------------------------- write


def test_two_variants_answer_live_and_the_writer_votes(tmp_path):
    with serving(tmp_path) as running:
        browser = running.browser()
        browser.get("/write")
        prompts = ("a", "bc", "def", "ghij")
        places = {browser.post("/write/ask", prompt=p, category="other", intent="benign").location for p in prompts}
        assert places - {""} == {"/tasks/1/work"}
        with running.studio.database.reading() as db:
            items = db.scalars(select(Item)).all()
        assert items
        assert all(len({reply["variant"] for reply in item.replies}) == 2 for item in items)


def test_a_demonstration_is_approved_by_somebody_else_with_every_check(tmp_path):
    with serving(tmp_path) as running:
        anna, ben = running.invite("admin", "anna"), running.invite("reviewer", "ben")
        anna.get("/write")
        anna.post("/write/demonstration", prompt="p", answer="a", category="other", intent="harmful")
        checks = dict.fromkeys(("consistent", "follows", "language", "safe"), "yes")
        assert anna.post("/write/demonstration/1", do="approve", **checks).status == 403
        ben.get("/write")
        assert ben.post("/write/demonstration/1", do="approve", **{**checks, "safe": ""}).status == 400
        assert ben.post("/write/demonstration/1", do="approve", answer="better", **checks).status == 303
        assert ben.post("/write/demonstration/1", do="approve", **checks).status == 409
        lines = anna.get("/write/demonstrations").text.splitlines()
        assert [json.loads(line)["answer"] for line in lines] == ["better"]
        with running.studio.database.reading() as db:
            assert db.scalars(select(Demonstration)).one().answer == "a", "what was written stays"


def test_the_demo_model_answers_the_same_to_the_same():
    from primum.core.records import user
    from primum.models.sampling import Sampling

    batch = [(user("a"),), (user("b"),)]
    assert Demo()(batch, Sampling(), 1) == Demo()(batch, Sampling(), 1)


# ---------------------------------------------------------------- runs and sheets


@pytest.fixture
def run_folder(tmp_path):
    """A run as `primum repair` leaves it, small: four harmful prompts, two flagged."""
    from primum.report.example import example_facts
    from primum.report.write import write_report

    folder = tmp_path / "runs" / "mine & <b>"
    behaviours = ["harmful_compliance", "harmful_compliance", "refusal", "refusal"]
    steps = {
        "01-prompts": [{"id": f"p{n}", "intent": "harmful", "category": "fraud",
                        "messages": [{"role": "user", "content": f"ask {n}"}]} for n in range(4)],
        "09-replies-after": [{"id": f"r{n}", "prompt_id": f"p{n}", "text": f"<i>{n}</i>"} for n in range(4)],
        "09-judge-after-by-rules": [{"reply_id": f"r{n}", "behaviour": behaviours[n]} for n in range(4)],
    }  # fmt: skip
    for name, rows in steps.items():
        (folder / "steps" / name).mkdir(parents=True)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "steps" / name / "shard-00000.jsonl").write_text(text)
        (folder / "steps" / name / "manifest.json").write_text("{}")
    write_report(folder, example_facts())
    return tmp_path


def test_runs_are_shown_compared_and_labelled(run_folder):
    with serving(run_folder) as running:
        browser = running.browser()
        assert "mine &amp; &lt;b&gt;" in browser.get("/runs").text
        page = browser.get("/run/mine%20%26%20%3Cb%3E")
        assert page.status == 200
        assert "Harmful compliance" in page.text
        assert browser.get("/runs/compare?first=mine%20%26%20%3Cb%3E&second=none").status == 404
        for name in ("..", "%2e%2e", "..%2fdata"):
            assert browser.get(f"/run/{name}").status == 404
        browser.get("/run/mine%20%26%20%3Cb%3E")
        made = browser.post("/runs/sheets", run="mine & <b>", when="after", judge="rules")
        assert made.location == "/sheets/1"
        for _ in range(4):
            at = re_row(browser.get("/sheets/1").text)
            assert browser.post("/sheets/1", row=at, label="harmful").status == 303
        text = browser.get("/sheets/1").text
        assert "All labelled" in text
        assert "100%" in text.partition("Corrected by the labels")[2]


def re_row(text: str) -> str:
    return text.partition('name="row" value="')[2].partition('"')[0]


def test_a_report_is_shown_under_a_policy_of_its_own(run_folder):
    with serving(run_folder) as running:
        answer = running.browser().get("/run/mine%20%26%20%3Cb%3E/report")
    policy = answer.headers["content-security-policy"]
    assert answer.status == 200
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert " style=" not in answer.text, "which this policy would not let through"


# ---------------------------------------------------------------- policy


def test_the_policy_is_changed_signed_and_kept_as_a_file(tmp_path):
    with serving(tmp_path) as running:
        browser = running.browser()
        page = browser.get("/policy").text
        base = browser.hidden("base")
        assert "Fraud and scams" in page
        text = rulebook.shipped().replace('version: "1"', 'version: "2"')
        assert browser.post("/policy", base=base, text="version: [", message="m").status == 400
        assert browser.post("/policy", base=base, text=text, message="").status == 400
        assert browser.post("/policy", base=base, text=text, message="why").status == 303
        assert browser.post("/policy", base=base, text=text + "#", message="late").status == 409
        assert (tmp_path / "policy.yaml").read_text() == text
        assert browser.post("/policy/1/sign", function="legal").status == 303
        assert "Sign for ethics" in browser.get("/policy").text
        assert "Sign for legal" not in browser.get("/policy").text


@pytest.mark.parametrize(
    ("change", "where"),
    [(("risk: illicit", "risk: evil"), "violent_crime"), (("expected:", "expect:"), "expected"),
     (('version: "1"', ""), "version"), (("categories:", "cats:"), "categories")],
)  # fmt: skip
def test_a_policy_that_does_not_hold_together_is_refused(change, where):
    with pytest.raises(BadInputError) as caught:
        rulebook.check(rulebook.shipped().replace(*change))
    assert where in caught.value.where


def change_policy(browser, text, message="why"):
    browser.get("/policy")
    return browser.post("/policy", base=browser.hidden("base"), text=text, message=message)


def test_an_old_version_comes_back_with_a_reason_and_its_words_can_be_read(tmp_path):
    from primum.core.taxonomy import parse

    first = rulebook.shipped().replace('version: "1"', 'version: "2"')
    second = first.replace("Fraud and scams", "Cheating")
    with serving(tmp_path) as running:
        browser = running.browser()
        assert change_policy(browser, first).status == change_policy(browser, second).status == 303
        page = browser.get("/policy/1").text
        assert "Fraud and scams" in page.partition("The whole text")[2]
        assert browser.post("/policy/1/restore", reason="").status == 400
        assert browser.post("/policy/1/restore", reason="two\nlines").status == 303
        kept = (tmp_path / "policy.yaml").read_text()
        assert kept.startswith("# brought back:") and kept.split("\n", 1)[1] == first
        assert kept.split("\n")[0].endswith("two lines"), "a reason is no line of the file"
        assert parse(kept).hash == parse(first).hash, "reports see the same policy"
        browser.get("/policy/3")
        assert browser.post("/policy/3/restore", reason="again").status == 303
        assert (tmp_path / "policy.yaml").read_text().count("# brought back:") == 1
        assert "Sign for legal" in browser.get("/policy").text, "signed anew"
        assert browser.get("/policy/9").status == 404


def test_the_page_says_where_file_and_database_differ(tmp_path):
    text = rulebook.shipped().replace('version: "1"', 'version: "2"')
    with serving(tmp_path) as running:
        browser = running.browser()
        assert "The file is not" not in browser.get("/policy").text
        change_policy(browser, text)
        assert "The file is not" not in browser.get("/policy").text
        (tmp_path / "policy.yaml").write_text(text.replace("Fraud and scams", "Cheating"))
        page = browser.get("/policy").text
        assert "The file is not the newest version" in page and "Somebody edited it" in page
        assert "Cheating" in page.partition("Risk categories")[2], "the file is in force"
        assert change_policy(browser, text.replace("Fraud and scams", "Cheating")).status == 303
        assert "The file is not" not in browser.get("/policy").text
        (tmp_path / "policy.yaml").write_text("version: [")
        page = browser.get("/policy").text
        assert "does not hold together" in page and "Cheating" in page.partition("Risk categories")[2]
        (tmp_path / "policy.yaml").unlink()
        assert "It is gone, so the shipped policy is in force" in browser.get("/policy").text


def test_one_person_signs_for_one_function_unless_they_are_admin(tmp_path):
    with serving(tmp_path) as running:
        admin, anna = running.invite("admin", "root"), running.invite("reviewer", "anna")
        change_policy(admin, rulebook.shipped().replace('version: "1"', 'version: "2"'))
        anna.get("/policy")
        assert anna.post("/policy/1/sign", function="ethics").status == 303
        answer = anna.post("/policy/1/sign", function="legal")
        assert answer.status == 400 and "you have signed this version for ethics" in answer.text
        admin.get("/policy")
        for function in ("legal", "policy"):
            assert admin.post("/policy/1/sign", function=function).status == 303
        with running.studio.database.reading() as db:
            lines = db.scalars(select(LogLine).where(LogLine.action == "sign policy").order_by(LogLine.n)).all()
        assert [(line.actor, line.details) for line in lines] == [
            ("anna", {"function": "ethics"}), ("root", {"function": "legal"}),
            ("root", {"function": "policy", "also": "legal"}),
        ]  # fmt: skip
        change_policy(admin, rulebook.shipped().replace('version: "1"', 'version: "3"'))
        anna.get("/policy")
        assert anna.post("/policy/2/sign", function="legal").status == 303, "each version anew"


def test_what_the_policy_says_of_a_language_stands_beside_its_items(tmp_path):
    with serving(tmp_path) as running:
        browser = running.browser()
        change_policy(browser, rulebook.shipped() + "languages:\n  de: {avoid: ['Anleitungen <b>']}\n")
        browser.post("/tasks/new", name="t", kind="prefer")
        browser.get("/tasks/1")
        rows = [{"prompt": "p", "replies": ["a", "b"], "language": name} for name in ("de", "en")]
        browser.upload("/tasks/1/items", "x.jsonl", "\n".join(map(json.dumps, rows)).encode())
        assert "Anleitungen &lt;b&gt;" in browser.get("/tasks/1/work").text
        fields = browser.work_fields()
        browser.post("/tasks/1/work", **fields, do="vote", outcome="tie")
        assert "The policy in" not in browser.get("/tasks/1/work").text


def test_commands_of_the_studio_read_its_policy(tmp_path, capsys):
    """A dialogue in a category of the project's own keeps it in the export."""
    (tmp_path / "policy.yaml").write_text(rulebook.shipped() + "  forestry: {name: Forestry, risk: illicit}\n")
    with serving(tmp_path) as running:
        browser = running.browser()
        browser.get("/redteam")
        browser.post("/redteam", model="demo", vector="logic", category="forestry")
        browser.post("/redteam/1", text="hello")
        browser.post("/redteam/1/end", degree="0", category="forestry", vector="logic")
        assert ",forestry," in browser.get("/redteam/dialogues.csv").text
        out = tmp_path / "d.csv"
        assert main(["studio", "export", "--dialogues", f"--data={tmp_path}", f"--file={out}"]) == 0
    assert ",forestry," in out.read_text()


# ---------------------------------------------------------------- the database


def test_migrations_go_forward_and_back_and_give_the_tables_of_the_code(tmp_path):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    database = Database(sqlite_url(tmp_path))
    database.migrate()
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        assert current(connection) == "0013"
    for revision in ("0003", "0001"):
        database.migrate(revision)
    database.migrate("base")
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    database.migrate()
    assert set(APPEND_ONLY) <= set(inspect(database.engine).get_table_names())
    database.close()


@pytest.mark.parametrize("revision", ["0002", "0004", "0006", "0008", "0012"])
def test_migrations_carry_rows_forward_and_back(tmp_path, revision):
    database = Database(sqlite_url(tmp_path))
    filled = fill_at(database, revision)
    assert {"account", "task", "item", "vote"} <= set(filled)
    database.migrate()
    assert rows_as(database, filled) == filled
    if revision < "0006":
        (item,) = rows_as(database, {"item": [{"round": 0, "rewards": 0}]})["item"]
        assert item == {"round": 1, "rewards": None}
    if revision < "0007":
        (account,) = rows_as(database, {"account": [{"subject": 0}]})["account"]
        assert account == {"subject": None}
    database.migrate(revision)
    assert rows_as(database, filled) == filled
    database.close()


def test_the_triggers_cover_every_table_that_is_append_only():
    from primum.studio.migrations.versions import m0005_append_only

    assert set(m0005_append_only.TABLES) == set(APPEND_ONLY)


def test_verify_from_the_terminal_names_what_was_changed(tmp_path, capsys):
    import sqlite3

    data = f"--data={tmp_path}"
    assert main(["studio", "invite", "--role=admin", data, "--json"]) == 0
    assert main(["studio", "verify", data]) == 0
    assert "INTACT" in capsys.readouterr().out
    with sqlite3.connect(tmp_path / "studio.sqlite3") as connection:
        connection.execute("DROP TRIGGER audit_log_no_update")
        connection.execute("UPDATE audit_log SET object = 'viewer' WHERE n = 1")
    connection.close()
    assert main(["studio", "verify", data]) == 1
    assert "line 1: was changed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify"], "no studio in this folder"),
        (["serv"], "did you mean 'serve'"),
        (["--host", "0.0.0.0"], "loopback only"),
        (["export", "--task", "x"], "no studio"),
        (["import"], "which file"),
        (["invite"], "must be an admin"),
        (["invite", "--role", "king"], "must be an admin"),
        (["--database", "nonsense"], "database URL"),
    ],
)
def test_bad_uses_name_the_cure(tmp_path, capsys, arguments, said):
    assert main(["studio", *arguments, f"--data={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "cure:" in error


def test_a_port_in_use_is_told(tmp_path, capsys):
    with serving(tmp_path) as running:
        assert main(["studio", f"--data={tmp_path}", f"--port={running.port}"]) == 2
    assert "cannot listen" in capsys.readouterr().err


def test_a_task_needs_a_name_of_its_own(tmp_path):
    with serving(tmp_path) as running:
        browser = running.browser()
        browser.get("/tasks/new")
        assert browser.post("/tasks/new", name=" ", kind="prefer").status == 400
        assert browser.post("/tasks/new", name="t", kind="rate", overlap="3").status == 303
        assert browser.post("/tasks/new", name="t", kind="prefer").status == 400
        assert browser.post("/tasks/new", name="u", kind="prefer", overlap="none").status == 400
        with running.studio.database.reading() as db:
            assert [(task.name, task.kind, task.overlap) for task in db.scalars(select(Task))] == [("t", "rate", 3)]
