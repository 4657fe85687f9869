"""What compare, gate, leaderboard and scorecard say: units, which way is better, one scale, and 80 columns."""

from pathlib import Path

import pytest

from primum.cli import main
from primum.core.store import write_json
from primum.evaluation.estimates import estimate
from primum.evaluation.items import Metric
from primum.evaluation.tables import FORMAT, RESULTS, ScoredItem, Table, table_facts, write_table
from primum.report import words
from primum.report.compared import verdict
from primum.report.results import summary

METRICS = {
    "harmful_compliance": Metric("share of harmful requests that the reply goes along with", "lower_is_better"),
    "length": Metric("described", "neither", "score", primary=False),
}


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(folder, harmful, name="held_out", of=20, model="tiny@abc"):
    """A run of which the first items are harmful; the length of a reply is its place."""
    rows = tuple(
        ScoredItem(f"i{i}", "", {"harmful_compliance": float(i < harmful), "length": float(i + harmful)}, {},
                   ("category:a_category_of_a_long_name",), f"ask {i}", "reply", finish="stop")
        for i in range(of)
    )  # fmt: skip
    one = Table(name, "rules", METRICS, rows, {"own_judge": "rules", "model": model})
    write_table(folder / "items", one)
    facts = {**table_facts(one), "estimates": estimate(one)}
    write_json(folder / RESULTS, {"format": FORMAT, "model": {"name": model.partition("@")[0]}, "tables": [facts]})
    return str(folder)


def said(capsys, *arguments, code=0):
    assert main(list(map(str, arguments))) == code
    text = capsys.readouterr().out
    # a folder's name is one word, however long the place of temporary files makes it
    assert all(len(line) <= 80 or len(line.split()) == 1 for line in text.splitlines())
    return text


def test_a_comparison_says_which_way_is_better_and_in_points(tmp_path, capsys):
    a, b = run(tmp_path / "a", 12), run(tmp_path / "b", 2, model="mended@def")
    text = said(capsys, "compare", a, b, "--changed", 3, "--page", "page.html")
    assert "(tiny)" in text and "(mended)" in text
    # 10 items turned of 20, all for the better: 2 * .5 ** 10 = .00195
    assert "held_out: Harmful compliance (lower is better)\n  better: 60% -> 10%, −50.0 points (−" in text
    assert "10 fixed, 0 broken of 20; p 0.002 (Holm 0.002)" in text
    # lengths are 9.5 + 12 and 9.5 + 2 on average: a description gets neither better nor worse
    assert "Length (described only)\n  21.50 -> 11.50, −10.00 (−10.00 to −10.00)\n  20 changed of 20" in text
    page = (tmp_path / "page.html").read_text()
    assert '<span class="tag good">better</span>' in page
    assert "3 of 10 items that changed, what got worse first" in page
    assert "−50.0 points" in page and "20 changed" in page


def test_a_run_that_is_laid_beside_itself_is_named(tmp_path, capsys):
    a, b = run(tmp_path / "a", 0, of=300), run(tmp_path / "b", 0, of=300)
    again = f"{a}/../a"
    assert "A and B are the same run" in said(capsys, "compare", a, again, "--draws", 200, "--page", "page.html")
    assert "A and B are the same run" in (tmp_path / "page.html").read_text()
    assert "A and B are the same run" not in said(capsys, "compare", a, b, "--draws", 200)
    text = said(capsys, "gate", a, "--baseline", again, "--markdown", "gate.md")
    assert "The run is its own baseline" in text and "The run is its own baseline" in (tmp_path / "gate.md").read_text()
    assert "its own baseline" not in said(capsys, "gate", a, "--baseline", b)


def test_what_is_not_certain_is_neither_better_nor_worse():
    row = {"direction": "lower_is_better", "p_holm": 0.04, "difference": -0.1}
    assert verdict(row, 0.95) == "better"
    assert verdict({**row, "difference": 0.1}, 0.95) == "worse"
    assert verdict({**row, "direction": "higher_is_better"}, 0.95) == "worse"
    assert verdict({**row, "p_holm": 0.05}, 0.95) == "not certain"
    assert verdict(row, 0.99) == "not certain"
    assert verdict({**row, "direction": "neither", "p_holm": None}, 0.95) == ""


def test_the_gate_says_its_word_once_and_measures_in_points(tmp_path, capsys):
    a, b = run(tmp_path / "a", 12), run(tmp_path / "b", 2)
    (tmp_path / "limits.yaml").write_text("benchmarks: {held_out: {harmful_compliance: {max: 0.5}}}")
    text = said(capsys, "gate", b, "--baseline", a, "--markdown", "gate.md", "--limits", "limits.yaml")
    assert text.startswith("PASSED: 2 checks.\n")  # the one category is the whole, and is not asked again
    assert "60.0% -> 10.0%, 50.0 points better" in " ".join(text.split())
    rows = (tmp_path / "gate.md").read_text().splitlines()
    assert "| | check | before → after | change | limits (95%, one-sided) | allowed | n |" in rows
    (moved,) = [row for row in rows if "| 60.0% → 10.0% | 50.0 points better |" in row]
    assert moved.endswith("| 3.0 points worse | 20 |")
    (fixed,) = [row for row in rows if "(max)" in row]
    # a fixed limit is about the run alone: no change
    assert "| 10.0% |  | " in fixed and fixed.endswith("| at most 50.0% | 20 |")
    text = said(capsys, "gate", a, "--baseline", b, "--junit", "gate.xml", code=1)
    assert text.startswith("FAILED: held_out harmful_compliance.\n")
    assert "10.0% -&gt; 60.0%, 50.0 points worse" in (tmp_path / "gate.xml").read_text()


def test_an_evaluation_ends_in_80_columns():
    row = {"metric": "false_refusal", "slice": "all", "value": 0.1, "low": 0.05, "high": 0.2, "n": 40, "unit": "share",
           "left_out": {}}  # fmt: skip
    facts = {"comparable": "the rates that were published are labels of people, and these are a judge's"}
    table = {"benchmark": "set", "n": 40, "judge": "rules", "facts": facts, "estimates": [row]}
    text = summary({"tables": [table]}, Path("results.html"))
    assert max(map(len, text.splitlines())) <= 80
    assert "10%  [5–20%]  n 40" in text
    assert text.endswith("Brackets: 95% intervals.\n\nresults:\nresults.html")


def test_a_run_that_was_measured_alone_has_no_place(tmp_path, capsys):
    runs = [run(tmp_path / "a", 12), run(tmp_path / "b", 2), run(tmp_path / "c", 2, "other")]
    text = said(capsys, "leaderboard", *runs, "--page", "board.html")
    assert "held_out: Harmful compliance (lower is better)\n      1  b" in text
    assert "other: Harmful compliance (lower is better)\n      –  c" in text
    for name, folder in zip("abc", runs, strict=True):
        assert f"{name}: tiny, {folder}" in " ".join(text.split())
    page = (tmp_path / "board.html").read_text()
    assert page.count("no place: measured alone") == 1 and "<h3>b</h3><p>place 1<br>tiny" in page


def test_lines_of_a_card_share_one_scale(tmp_path, capsys):
    # 1 of 400 alone would be drawn on 0 to 20%, beside 12 of 20 on 0 to 100%
    runs = [run(tmp_path / "a", 12), run(tmp_path / "b", 1, "other", of=400)]
    text = said(capsys, "report", *runs, "--scorecard", "--page", "card.html")
    assert "Benchmarks (lower is better)" in text
    assert text.rstrip().endswith("Brackets: 95% intervals.\n\ncard.html")
    page = (tmp_path / "card.html").read_text()
    assert page.count("<span>100%</span>") == 2 and "<span>20%</span>" not in page
    assert page.count(runs[0]) == 1  # a line names its run once


def test_text_is_broken_at_80_columns_and_hangs():
    long = "  " + "word " * 20
    lines = words.wrapped([long.rstrip(), "", "short"]).split("\n")
    assert [len(line) for line in lines] == [76, 28, 0, 5]
    assert lines[1].startswith("    word")


def test_amounts_have_their_unit():
    assert (words.amount(0.0391), words.amount(-0.25, "nats"), words.amount(None)) == ("3.9 points", "0.250", "–")
    row = {"difference": -0.168, "low": None, "high": None}
    assert words.difference(row) == "−16.8 points"
    assert words.difference({"net": 0.5, "low": 0.4, "high": 0.6}, "score", "net") == "+0.50 (+0.40 to +0.60)"
