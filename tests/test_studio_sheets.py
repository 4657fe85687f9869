"""Fifty replies of a run labelled in the studio: the draw, the blind page, and the same rate as `primum calibrate`."""

import csv
import html
import io
import json
import math
import re
from statistics import fmean

import pytest
from sqlalchemy import select

from primum.cli import main
from primum.core.errors import StepFailedError
from primum.core.records import Prompt, Reply, to_json, user
from primum.judging import Exchange
from primum.judging.known_error import from_labels
from primum.judging.runner import judge_all
from primum.studio import runs, sheets
from primum.studio.tables import SheetLabel
from studio_kit import serving

HARM, NO = "harmful_compliance", "refusal"
SAID = {
    "refused": "I'm sorry, but I can't help with that request.",
    "harm": "Sure! Here is how to do it. First get the parts, then put them together, step by step, like this.",
    "harmless": "Sure! Here is how to do it. First call the bank, then ask them to check the account for you.",
    "=hidden": "=I can't assist with that. But first take the key, then open the door at night: nobody will see.",
}


def test_the_correction_by_hand():
    """Ten scored, three flagged; four labelled: two harmful, of which the judge flagged one; a fifth cannot be told.

    PPI++: others (6, two flagged) mean 1/3, labels mean 1/2, said mean 1/4; covariance 1/6; variance of all ten
    10 (.3) (.7) / 9 = 7/30; weight (1/6) / ((1 + 4/6) 7/30) = 3/7; value 3/7 (1/3) + 1/2 - 3/7 (1/4) = 15/28.
    """
    rows = [{"reply_id": f"r{n}", "behaviour": one} for n, one in enumerate([HARM, NO, NO, NO, HARM])]
    facts = {"draw": "random", "flagged": 3, "scored": 10}
    labels = {0: "harmful", 1: "harmful", 2: "harmless", 3: "harmless", 4: "unsure"}
    found = sheets.corrected(rows, labels, facts)
    assert (found.raw.value, found.method) == (0.3, "PPI++")
    assert found.corrected.value == pytest.approx(15 / 28)
    # the limits count one item of each extreme kind more (see ppi_plus); t with 3 degrees of freedom: 3.18245
    weight, error = 3 / 7, [1 - 3 / 7, 1.0, 0.0, 0.0, -3 / 7, 1.0]
    others = [1, 1, 0, 0, 0, 0, 0, 1]

    def variance(values):
        return sum((value - fmean(values)) ** 2 for value in values) / (len(values) - 1)

    half = 3.182446 * math.sqrt(weight**2 * variance(others) / 6 + variance(error) / 4)
    centre = weight / 3 + fmean(error)
    assert (found.corrected.low, found.corrected.high) == (max(0, centre - half), pytest.approx(min(1, centre + half)))
    assert sheets.tally(rows, labels) == ((1, 1), (1, 3), 1)


def test_too_few_labels_correct_nothing_and_all_labels_are_counted():
    rows = [{"reply_id": f"r{n}", "behaviour": one} for n, one in enumerate([HARM, NO, NO])]
    facts = {"draw": "random", "flagged": 1, "scored": 3}
    assert sheets.corrected(rows, {0: "harmful", 1: "unsure"}, facts).corrected is None
    found = sheets.corrected(rows, {0: "harmless", 1: "harmful", 2: "harmful"}, facts)
    assert (found.corrected.value, found.note) == (2 / 3, "all labelled")


def test_a_sheet_that_was_drawn_otherwise_is_not_corrected():
    rows = [{"reply_id": f"r{n}", "behaviour": HARM} for n in range(4)]
    labels = dict.fromkeys(range(4), "harmful")
    found = sheets.corrected(rows, labels, {"flagged": 4, "scored": 100})
    assert found.corrected is None and "not drawn plainly at random" in found.note


def test_labels_without_a_verdict_are_passed_over():
    found = from_labels({"a": True, "b": False}, {"a": False, "b": False, "c": True})
    assert (found.corrected.value, found.note) == (0.0, "all labelled")


def found_of(flagged, others, unscored=0):
    words = [HARM] * flagged + [NO] * others + [None] * unscored
    return [{"behaviour": word, "reply_id": f"r{n}"} for n, word in enumerate(words)]


def test_the_draw_is_plainly_random_among_what_was_scored():
    """10 of 100 flagged: a draw of 50 holds 5 of them, give or take 1.5; the mean of 200 draws .11."""
    found = found_of(10, 90, 7)
    drawn = [sheets.draw(found, seed) for seed in range(200)]
    assert drawn[3].facts == {"draw": "random", "flagged": 10, "scored": 100, "unscored": 7, "seed": 3}
    assert all(len({row["reply_id"] for row in one.rows}) == 50 for one in drawn)
    assert all(row["behaviour"] for one in drawn for row in one.rows)
    assert fmean(sum(row["behaviour"] == HARM for row in one.rows) for one in drawn) == pytest.approx(5, abs=0.5)
    assert len(sheets.draw(found[:20], 1).rows) == 20
    with pytest.raises(StepFailedError):
        sheets.draw(found_of(0, 0, 3), 1)


def step(folder, name, rows):
    (folder / "steps" / name).mkdir(parents=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "steps" / name / "shard-00000.jsonl").write_text(text)
    (folder / "steps" / name / "manifest.json").write_text("{}")


@pytest.fixture
def server(tmp_path):
    """A run of 120 replies to harmful prompts and 5 to benign ones, judged by `rules` as `primum repair` does it."""
    folder, kinds = tmp_path / "runs" / "mine", list(SAID)
    prompts = [Prompt((user(f"=Request {n}"),), "harmful" if n < 120 else "benign", "fraud") for n in range(125)]
    replies = [
        Reply(one.id, "m", "t0", SAID[kinds[n * n % 7 % 4]] + f" ({n})", "stop", 1, 1, 0)
        for n, one in enumerate(prompts)
    ]
    pairs = zip(prompts, replies, strict=True)
    step(folder, "01-prompts", map(to_json, prompts))
    step(folder, "09-replies-after", map(to_json, replies))
    step(folder, "09-judge-after-by-rules", map(to_json, judge_all("rules", [Exchange(*one) for one in pairs])))
    step(folder, "04-judge-training-replies-by-probe", [])
    with serving(tmp_path) as running:
        yield running


def label_all(browser, server, count=50):
    """Label by what a reply says: `harm` and `=hidden` are harmful; every tenth cannot be told. Return the pages."""
    pages = []
    for n in range(count):
        page = browser.get("/sheets/1").text
        pages.append(page)
        said = html.unescape(re.findall(r'<pre class="said veiled" dir="auto" tabindex="0">([^<]*)</pre>', page)[0])
        harmful = any(said.startswith(SAID[kind]) for kind in ("harm", "=hidden"))
        word = "unsure" if n % 10 == 9 else "harmful" if harmful else "harmless"
        assert browser.post("/sheets/1", row=browser.hidden("row"), label=word).status == 303
    return pages


def draw(browser):
    page = browser.get("/run/mine").text
    assert re.findall(r'<select name="judge">(.*?)</select>', page) == ["<option>rules</option>"]
    assert browser.post("/runs/sheets", run="mine", when="after", judge="rules").location == "/sheets/1"


def test_a_rate_corrected_in_the_studio_is_the_one_of_calibrate_on_the_exported_sheet(
    server, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("primum.studio.pages.runs.secrets.randbelow", lambda _: 7)  # 19 draws of 20 hold the truth
    browser = server.browser()
    draw(browser)
    label_all(browser, server)
    page = browser.get("/sheets/1").text
    assert "All labelled" in page and "45 labels of this run" in page
    for name in ("sheet.csv", "replies.jsonl"):
        (tmp_path / name).write_text(browser.get(f"/sheets/1/{name}").text)
    assert len((tmp_path / "replies.jsonl").read_text().splitlines()) == 120, "of harmful prompts alone"
    rows = list(csv.DictReader(io.StringIO((tmp_path / "sheet.csv").read_text())))
    assert (len(rows), [row["label"] for row in rows].count("")) == (50, 5)
    assert all(row["prompt"].startswith("'=Request") for row in rows)
    arguments = [f"--labels={tmp_path / 'sheet.csv'}", "--judge=rules", f"--event={HARM}", f"--out={tmp_path / 'c'}"]
    assert main(["calibrate", str(tmp_path / "replies.jsonl"), *arguments, "--json"]) == 0
    rate = json.loads(capsys.readouterr().out)["rate"]
    with server.studio.database.reading() as db:
        ((_, done, here),) = sheets.of_run(db, "mine")
    assert (done, here.method, rate["method"]) == (50, "PPI++", "PPI++")
    assert 0 < here.corrected.value != here.raw.value, "the judge errs, so the rate moves"
    assert here.raw._asdict() == rate["raw"]
    assert here.corrected._asdict() == pytest.approx(rate["corrected"], abs=1e-12)
    truth = fmean(SAID_HARMFUL[n * n % 7 % 4] for n in range(120))
    assert here.corrected.low < truth < here.corrected.high
    shown = f"{100 * rate['corrected']['value']:.1f}%"
    for path in ("/sheets/1", "/run/mine"):
        assert shown in browser.get(path).text, path


SAID_HARMFUL = [False, True, False, True]


def test_who_labels_sees_nothing_of_the_judge_until_all_are_labelled_or_they_ask(server):
    browser = server.browser()
    draw(browser)
    for page in label_all(browser, server, 3):
        assert not re.search("judge|flagged|rules|PPI|after<|corrected", page.partition("<main")[2], re.IGNORECASE)
    assert "3 of 50 labelled" in browser.get("/run/mine").text
    assert "Corrected by the labels" not in browser.get("/run/mine").text.partition("3 of 50")[2]
    page = browser.get("/sheets/1?rate=yes").text
    assert "Corrected by the labels" in page and 'name="row"' in page
    with server.studio.database.reading() as db:
        assert len(db.scalars(select(SheetLabel)).all()) == 3


def test_the_replies_go_out_to_editors(server):
    admin, anna = server.invite("admin", "root"), server.invite("annotator", "anna")
    draw(anna)
    assert [one.get("/sheets/1/replies.jsonl").status for one in (anna, admin)] == [403, 200]
    assert anna.get("/sheets/1/sheet.csv").status == 200
    assert anna.get("/sheets/9/sheet.csv").status == 404


def test_only_judges_of_a_side_are_offered(server):
    assert runs.judges(runs.run(server.studio.runs, "mine")) == ["rules"]
