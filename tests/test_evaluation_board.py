"""Runs side by side: what is certain parts them, what is not leaves them a range of places."""

import hashlib
import json

from primum.cli import main
from primum.core.store import write_json
from primum.evaluation.board import rankings
from primum.evaluation.items import Metric
from primum.evaluation.tables import FORMAT, RESULTS, ScoredItem, Table, table_facts, write_table
from primum.evaluation.versus import Settings

METRICS = {"harm": Metric("share that is harmful", "lower_is_better"), "words": Metric("", "neither", "score")}
FAST = Settings(draws=200)


def run(values, name="set", start=0):
    rows = tuple(ScoredItem(f"i{start + i}", "", {"harm": float(v), "words": 3.0}) for i, v in enumerate(values))
    return [Table(name, "rules", METRICS, rows, {"own_judge": "rules"})]


def test_certain_differences_part_runs_and_chance_does_not():
    low, near, high = [i < 20 for i in range(200)], [i < 22 for i in range(200)], [i < 90 for i in range(200)]
    (one,) = rankings({"high": run(high), "near": run(near), "low": run(low)}, FAST)
    assert [(place.run, place.first, place.last) for place in one.places] == [
        ("low", 1, 2), ("near", 1, 2), ("high", 3, 3),
    ]  # fmt: skip
    assert (one.metric, one.missing, one.apart) == ("harm", (), 0)


def test_many_runs_do_not_hide_a_certain_difference():
    def clustered(values):
        rows = tuple(ScoredItem(f"i{i}", f"c{i // 2}", {"harm": float(v)}) for i, v in enumerate(values))
        return [Table("set", "rules", METRICS, rows, {"own_judge": "rules"})]

    # 66 pairs of runs: with 200 flips the least adjusted p is 66 / 201
    runs = {f"r{i}": clustered([0] * 40) for i in range(11)} | {"bad": clustered([1] * 40)}
    (one,) = rankings(runs, FAST)
    assert (one.places[-1].run, one.places[-1].first) == ("bad", 12)


def test_runs_without_common_items_are_not_parted_and_what_was_not_measured_is_named():
    runs = {"a": run([0] * 50), "b": run([1] * 50, start=50), "c": run([0] * 50, "other")}
    first, second = rankings(runs, FAST)
    assert [(place.run, place.first, place.last) for place in first.places] == [("a", 1, 2), ("b", 1, 2)]
    assert (first.apart, first.missing, second.missing) == (1, ("c",), ("a", "b"))


def write(folder, values, **facts):
    (one,) = run(values)
    one.facts.update(facts)
    write_table(folder / "items", one)
    write_json(folder / RESULTS, {"format": FORMAT, "tables": [table_facts(one)]})
    return str(folder)


def test_the_leaderboard_on_the_command_line(tmp_path, capsys):
    a, b = write(tmp_path / "x" / "a", [0] * 60), write(tmp_path / "y" / "a", [1] * 60)
    page = tmp_path / "board.html"
    assert main(["leaderboard", a, f"<i>bad</i>={b}", "--page", str(page), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["runs"] == ["a", "<i>bad</i>"]
    assert [row["first"] for row in document["rankings"][0]["places"]] == [1, 2]
    assert "&lt;i&gt;bad" in page.read_text()
    assert "<i>bad" not in page.read_text()
    assert main(["leaderboard", a, b]) == 0  # two folders of one name are told apart by their whole path
    assert b in capsys.readouterr().out
    assert main(["leaderboard", a]) == 2
    assert main(["leaderboard", a, a]) == 2
    assert main(["leaderboard", a, b, "--benchmark", "sets"]) == 2
    assert "no run has a benchmark 'sets'\n  cure: did you mean 'set'?" in capsys.readouterr().err


def test_the_leaderboard_says_how_the_runs_were_asked_and_what_they_differ_in(tmp_path, capsys):
    way = {"sampling": "t0-n128", "seed": 0, "engine": "hf", "judge_revision": "7", "model": "tiny@1"}
    folders = {
        "plain": write(tmp_path / "plain", [0] * 60, system=None, **way),
        "again": write(tmp_path / "again", [0] * 60, system=None, **way),
        "kind": write(tmp_path / "kind", [1] * 60, system="Be kind to <b>all</b>.", **way | {"sampling": "t1-n16"}),
    }
    page = tmp_path / "board.html"
    assert main(["leaderboard", *folders.values(), "--page", str(page)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    version = hashlib.sha256(b'"Be kind to <b>all</b>."').hexdigest()[:8]  # of the text as JSON
    prompt = f'system prompt {version} "Be kind to <b>all</b>."'
    assert f"kind: tiny, {folders['kind']}" in said
    assert (
        "plain, again: judge rules; system prompt none; sampling t0-n128; seed 0; engine hf; judge's revision 7" in said
    )
    assert f"kind: judge rules; {prompt}; sampling t1-n16; seed 0" in said
    differ = (
        "the runs also differ in: sampling t0-n128 (plain, again) / t1-n16 (kind); system prompt none (plain, again)"
    )
    assert f"{differ} / {prompt.removeprefix('system prompt ')} (kind)" in said
    assert "<b>all" not in page.read_text() and "Be kind to &lt;b&gt;all" in page.read_text()
    assert "the runs also differ in: sampling t0-n128 (plain, again)" in page.read_text()

    assert main(["leaderboard", *folders.values(), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["differs"]["set"]["sampling"] == [["t0-n128", ["plain", "again"]], ["t1-n16", ["kind"]]]
    assert document["asked"]["set"]["kind"]["system"] == "Be kind to <b>all</b>."
    assert document["places"] == folders

    assert main(["leaderboard", folders["plain"], folders["again"]]) == 0
    said = capsys.readouterr().out
    assert "all runs: judge rules" in said and "differ in" not in said
