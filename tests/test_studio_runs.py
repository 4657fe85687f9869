"""Runs of every kind in the studio: their reports, two of them on the same items, and settings that differ."""

import json
import re
from base64 import b64encode
from hashlib import sha256

import pytest

from primum.cli import main
from primum.core.errors import BadInputError, UsageError
from primum.core.store import write_json
from primum.evaluation.estimates import estimate
from primum.evaluation.items import Metric
from primum.evaluation.tables import FORMAT, RESULTS, ScoredItem, Table, table_facts, write_table
from primum.studio import contrasts, reported, runs
from studio_kit import serving
from test_report_journey import facts as journey_facts
from test_report_stress_restore import restore_facts, stress_facts

EVIL = "<script>alert(1)</script>"


def audited(folder):
    """What `primum audit` leaves."""
    corpus = folder.parent.parent / "corpus.jsonl"
    corpus.write_text(json.dumps({"id": "a", "source": EVIL, "text": "She wrote to ann@mail.example.org."}) + "\n")
    assert main(["audit", str(corpus), f"--out={folder}", "--steps=pii", "--workers=1", "--json"]) == 0


def evaluated(folder, harmful, judge="rules", seed=0):
    """What `primum evaluate` leaves: one item a number."""
    rows = tuple(ScoredItem(f"i{n}", "", {"harm": float(one)}, {}, (), "ask", EVIL) for n, one in enumerate(harmful))
    table = Table(
        "set", judge, {"harm": Metric("share that is harmful", "lower_is_better")}, rows, {"own_judge": judge}
    )
    write_table(folder / "items", table)
    facts = {**table_facts(table), "estimates": estimate(table), "extremes": {}}
    document = {"format": FORMAT, "model": {"name": "m"}, "settings": {"seed": seed, "out": str(folder)}}
    write_json(folder / RESULTS, {**document, "tables": [facts]})
    return folder


def answered(folder, behaviours, skip=()):
    """What `primum repair` leaves of its last replies: one harmful prompt a behaviour."""
    asked = [{"messages": [{"role": "user", "content": f"request {n}"}], "intent": "harmful", "category": "fraud",
              "id": f"p{n}"} for n in range(len(behaviours))]  # fmt: skip
    facts = {"model": "m", "variant": "t0", "finish": "stop", "prompt_tokens": 1, "reply_tokens": 1, "seed": 0}
    steps = {
        "01-prompts": asked,
        "09-replies-after": [],
        "09-judge-after-by-rules": [],
    }
    from primum.core.records import Prompt, from_json

    for n, behaviour in enumerate(behaviours):
        if n not in skip:
            id_ = from_json(Prompt, asked[n]).id
            asked[n]["id"] = id_
            steps["09-replies-after"].append({"id": f"r{n}", "prompt_id": id_, "text": f"said {n}", **facts})
            steps["09-judge-after-by-rules"].append({"reply_id": f"r{n}", "judge": "rules", "behaviour": behaviour})
    for name, rows in steps.items():
        (folder / "steps" / name).mkdir(parents=True)
        (folder / "steps" / name / "shard-00000.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "steps" / name / "manifest.json").write_text("{}")
    return folder


REPORTS = {
    "journey": lambda folder: write_json(folder / "report.json", {"kind": "journey", **journey_facts()}),
    "stress": lambda folder: write_json(folder / "report.json", stress_facts()),
    "restore": lambda folder: write_json(folder / "report.json", restore_facts()),
    "redteam": lambda folder: write_json(folder / "report.json", {"kind": "redteam", "title": f"Red team {EVIL}"}),
    "evaluate": lambda folder: evaluated(folder, [0, 1, 1, 0]),
    "audit": audited,
}


def test_reports_of_every_kind_are_shown_and_run_nothing(tmp_path):
    for kind, make in REPORTS.items():
        (tmp_path / "runs" / kind).mkdir(parents=True)
        make(tmp_path / "runs" / kind)
    (tmp_path / "runs" / "begun" / "steps").mkdir(parents=True)
    with serving(tmp_path) as running:
        browser = running.browser()
        listed = browser.get("/runs").text
        assert "begun" in listed
        assert listed.count("not finished") == 1
        assert browser.get("/run/begun/report").status == 404
        for kind in REPORTS:
            assert f"<td>{kind}</td>" in listed
            assert f'href="/run/{kind}/report"' in browser.get(f"/run/{kind}").text, kind
            answer = browser.get(f"/run/{kind}/report")
            policy = answer.headers["content-security-policy"]
            assert answer.status == 200, (kind, answer.text)
            assert "<script" not in answer.text
            assert policy.startswith("default-src 'none'; style-src 'sha256-")
            assert "unsafe" not in policy
            assert not re.search(r'<[^>]* style="', answer.text), kind
            for sheet in re.findall(r"<style>(.*?)</style>", answer.text, re.DOTALL):
                assert b64encode(sha256(sheet.encode()).digest()).decode() in policy, kind


def test_styles_of_elements_become_rules():
    text = '<style>p{}</style><i style="width:30%">style="a"</i><b class="x" style="width:30%"></b><b style="a{}b"></b>'
    rule = '[data-style="0"][data-style="0"][data-style="0"]{width:30%}'
    assert reported.ruled(text) == (
        f'<style>p{{}}\n{rule}</style><i data-style="0">style="a"</i><b class="x" data-style="0"></b>'
        '<b style="a{}b"></b>'
    )
    assert reported.ruled("<p>no style</p>") == "<p>no style</p>"


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [("audit.json", "{}", BadInputError), ("audit.json", "{", BadInputError),
     ("results.json", '{"tables": [{}]}', BadInputError),
     ("results.json", "[", BadInputError), ("report.json", "{}", UsageError), ("none", "", UsageError),
     ("report.json", '{"kind": "stress", "judges": 3}', BadInputError)],
)  # fmt: skip
def test_broken_facts_are_told(tmp_path, name, content, error):
    (tmp_path / name).write_text(content)
    with pytest.raises(error) as caught:
        reported.page(tmp_path)
    assert caught.value.cure
    if error is BadInputError:
        assert str(tmp_path.parent) not in str(caught.value), "no path of the server"


# ---------------------------------------------------------------- two runs


def test_evaluations_are_compared_on_the_same_items(tmp_path):
    """Ten items in common: three only harmful in the first, one only in the second; one item is in the first alone."""
    first = evaluated(tmp_path / "runs" / "a", [1, 1, 1, 0, 1, 0, 0, 0, 0, 0, 1])
    second = evaluated(tmp_path / "runs" / "b", [0, 0, 0, 1, 1, 0, 0, 0, 0, 0], seed=1)
    (row,) = contrasts.moved(first, second)
    assert (row.what, row.judge, row.n, row.left_out, row.better) == ("set: harm", "rules", 10, 1, "lower is better")
    assert (row.first, row.second, row.difference) == (0.4, 0.2, pytest.approx(-0.2))
    # Bonett and Price 2012: (c + 1 - b - 1) / (n + 2) -+ 1.96 sqrt((p1 + p2 - (p1 - p2)^2) / (n + 2)), 4/12 and 2/12
    half = 1.959964 * (((4 / 12 + 2 / 12) - (2 / 12) ** 2) / 12) ** 0.5
    assert (row.low, row.high) == (pytest.approx(-2 / 12 - half, abs=1e-6), pytest.approx(-2 / 12 + half, abs=1e-6))
    assert row.p == pytest.approx(0.625), "min(1, 2 (C(4,0) + C(4,1)) / 16)"
    with serving(tmp_path) as running:
        page = running.browser().get("/runs/compare?first=a&second=b").text
    assert "−20.0" in page
    assert "0.625" in page
    assert ">seed</th><td>0</td><td>1</td>" in page
    assert ">out<" not in page, "every two runs differ in it"


def test_repairs_are_compared_on_the_same_prompts(tmp_path):
    """Of five prompts the second run has four, and refuses one that the first complied with."""
    harm, no = "harmful_compliance", "refusal"
    first = answered(tmp_path / "a", [harm, harm, no, no, harm])
    second = answered(tmp_path / "b", [no, harm, no, no, harm], skip=(4,))
    found = {row.what: row for row in contrasts.moved(first, second)}
    row = found["harmful_compliance"]
    assert (row.n, row.left_out, row.first, row.second) == (4, 1, 0.5, 0.25)
    assert (row.difference, found["refusal_harmful"].difference) == (-0.25, 0.25)
    assert row.p == 1.0


def test_runs_of_different_kinds_are_told_to_have_nothing_in_common(tmp_path):
    evaluated(tmp_path / "runs" / "a", [1, 0])
    answered(tmp_path / "runs" / "b", ["refusal"])
    with serving(tmp_path) as running:
        page = running.browser().get("/runs/compare?first=a&second=b")
    assert (page.status, "no item in common" in page.text) == (200, True)


def test_a_run_whose_files_are_broken_is_named(tmp_path):
    evaluated(tmp_path / "runs" / "a", [1, 0])
    evaluated(tmp_path / "runs" / "b", [1, 0])
    (tmp_path / "runs" / "b" / "items" / "set.jsonl").write_text("{}\n")
    with serving(tmp_path) as running:
        page = running.browser().get("/runs/compare?first=a&second=b")
    assert (page.status, "not a scored item" in page.text) == (200, True)


def test_settings_that_differ():
    first = {"seed": "0", "model": "a", "dpo.beta": "0.1"}
    assert contrasts.differing(first, {"seed": "0", "model": "b", "limit": "5"}) == [
        ("dpo.beta", "0.1", ""), ("limit", "", "5"), ("model", "a", "b")
    ]  # fmt: skip


def test_settings_come_from_the_report_or_from_the_file_beside_it(tmp_path):
    write_json(tmp_path / "report.json", {"settings": {"dpo": {"beta": 0.1}, "out": "x"}, "seed": 3, "kind": "repair"})
    assert contrasts.settings(tmp_path) == {"dpo.beta": "0.1", "seed": "3"}
    (tmp_path / "other").mkdir()
    write_json(tmp_path / "other" / "settings.json", {"seed": 4})
    assert contrasts.settings(tmp_path / "other") == {"seed": "4"}
    assert contrasts.settings(tmp_path / "none") == {}


def test_a_run_says_its_kind(tmp_path):
    answered(tmp_path / "begun", ["refusal"])
    evaluated(tmp_path / "set", [1])
    assert {one.name: (one.kind, one.outcome) for one in runs.runs(tmp_path)} == {
        "begun": ("", None), "set": ("evaluate", None)
    }  # fmt: skip
