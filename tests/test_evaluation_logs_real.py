"""Logs that the tools themselves wrote (tests/logs/README.md): read as the tools count them."""

import json
import sqlite3
from contextlib import closing

import pytest

from primum.cli import main
from primum.evaluation.logs import read_run


@pytest.fixture
def logs(root):
    return root / "tests" / "logs"


def test_promptfoos_passes_failures_and_errors(logs):
    path = logs / "promptfoo.small.json"
    own = json.loads(path.read_text())["results"]
    tables = read_run(path)
    assert [table.name for table in tables] == [
        "promptfoo echo prompt 0", "promptfoo echo prompt 1", "promptfoo counts prompt 0", "promptfoo counts prompt 1",
    ]  # fmt: skip
    for table, prompt in zip(tables, own["prompts"], strict=True):
        passed, metrics = table.values("pass"), prompt["metrics"]
        assert sum(passed.numbers) == metrics["testPassCount"]
        assert passed.numbers.count(0.0) == metrics["testFailCount"]
        assert sum(passed.left_out.values()) == metrics["testErrorCount"]
        assert sum(table.values("score").numbers) == metrics["score"]
    total = [table.values("pass") for table in tables]
    assert sum(sum(one.numbers) for one in total) == own["stats"]["successes"] == 14
    assert sum(one.numbers.count(0.0) for one in total) == own["stats"]["failures"] == 8
    assert sum(sum(one.left_out.values()) for one in total) == own["stats"]["errors"] == 2
    assert total[2].left_out == {"error: the provider stumbled": 1}

    # promptfoo's rows stand as they ended, the error first; here they are in the order of the tests, in all tables
    assert [row.prompt for row in tables[2].rows][2:4] == ["Repeat after me: green", "Repeat after me: broken"]
    assert len({tuple(row.item for row in table.rows) for table in tables}) == 1
    # 3 of 4 by weight: "green" is in the reply, "red" is not
    assert [tables[0].rows[2].scores[name] for name in ("score", "named named", "named other")] == [0.75, 1.0, 0.0]
    assert "kind:fruit" in tables[0].slices


def test_a_provider_of_promptfoo_has_the_same_tables_in_a_run_without_the_others(logs, tmp_path):
    document = json.loads((logs / "promptfoo.small.json").read_text())
    rows = document["results"]["results"]
    document["results"]["results"] = [row for row in rows if row["provider"]["id"] == "counts"]
    (tmp_path / "alone.json").write_text(json.dumps(document))
    assert [table.name for table in read_run(tmp_path / "alone.json")] == [
        "promptfoo counts prompt 0", "promptfoo counts prompt 1",
    ]  # fmt: skip


def test_lm_evals_folder(logs):
    own = json.loads(next((logs / "lm-eval" / "dummy").glob("results_*.json")).read_text())["results"]
    said, small = read_run(logs / "lm-eval")
    assert (said.name, small.name) == ("said", "small")
    for table, metric, key in ((small, "acc", "none"), (small, "acc_norm", "none"), (said, "exact_match", "whole")):
        numbers = table.values(metric).numbers
        assert sum(numbers) / len(numbers) == own[table.name][f"{metric},{key}"]
    assert len(small.rows) == len(said.rows) == 6  # two filters read the same six replies
    assert {row.reply for row in said.rows} == {"lol"}
    assert said.rows[0].prompt == "Question: Which of these is a fruit?\nAnswer:"
    assert small.slices == ["category:animals", "category:food", "category:words"]


def test_inspects_packed_log(logs):
    """Expected values: the means that Inspect's own results hold, over the samples that were scored."""
    tables = {table.judge: table for table in read_run(logs / "inspect.small.eval")}
    means = {
        (judge, metric): sum(values.numbers) / len(values.numbers)
        for judge, table in tables.items()
        for metric in table.metrics
        for values in [table.values(metric)]
    }
    assert means == {
        ("includes", "includes"): 0.6, ("exact", "exact"): 0.4, ("words", "short"): 0.25, ("words", "letters"): 7.6,
    }  # fmt: skip
    # one of six samples failed in both epochs; at another one number is NaN
    stumbled = {"error: ValueError('stumbled')": 2}
    assert all(len(table.rows) == 12 for table in tables.values())
    assert tables["exact"].values("exact").left_out == stumbled
    assert tables["words"].values("short").left_out == stumbled | {"not a number: nan": 2}
    assert len({row.cluster for row in tables["exact"].rows}) == 6
    first = tables["includes"].rows[0]
    assert (first.prompt, first.reply, first.tokens) == ("What is two plus two?", "4", 3)


@pytest.fixture
def memory(logs, tmp_path):
    """PyRIT's SQLite file, made again of what was kept of it."""
    path = tmp_path / "pyrit.db"
    with closing(sqlite3.connect(path)) as base, base:
        base.executescript((logs / "pyrit.small.sql").read_text())
    return path


def test_pyrits_attacks(memory):
    """Expected values: what PyRIT's own analysis counts (2 successes, 2 failures, 2 undetermined, 1 error)."""
    (table,) = read_run(memory)
    success = table.values("success")
    assert (success.numbers.count(1.0), success.numbers.count(0.0)) == (2, 2)
    assert success.left_out == {
        "PyRIT could not decide (undetermined)": 2, "error: Error sending prompt with conversation ID: ...": 1,
    }  # fmt: skip
    said = {row.prompt.split()[-1]: row.reply for row in table.rows}
    assert said["apple"] == "Sure: apple" and said["eagle"] == "I would rather not."
    assert table.slices == ["attack:PromptSendingAttack", "attack:unknown"]  # of one that crashed PyRIT notes no attack


def test_pyrits_scores(memory):
    with closing(sqlite3.connect(memory)) as base, base:
        base.execute("delete from AttackResultEntries")
    (table,) = read_run(memory)
    scored = {row.prompt.split()[-1]: row.scores["SubStringScorer"] for row in table.rows}
    assert scored == {"apple": 1.0, "eagle": 0.0, "river": 1.0, "broken": 0.0}


@pytest.mark.parametrize("name", ["promptfoo.small.json", "lm-eval", "inspect.small.eval", "garak.small.report.jsonl"])
def test_a_log_is_compared_with_itself(name, logs, capsys):
    path = str(logs / name)
    assert main(["compare", path, path, "--json"]) == 0
    changes = json.loads(capsys.readouterr().out)["changes"]
    whole = [row for row in changes if row["slice"] == "all"]
    assert whole and all(row["n"] for row in whole)
    assert {(row["difference"], row["fixed"], row["broken"]) for row in changes} == {(0, 0, 0)}
