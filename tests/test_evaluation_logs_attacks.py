"""Logs of red-team tools, in the shapes that they write: read into tables, compared and gated like any other."""

import json
import sqlite3
from contextlib import closing

import pytest

from primum.cli import main
from primum.core.errors import BadInputError
from primum.evaluation.logs import read_run


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def attempt(text, outputs, scores, status=2):
    return {
        "entry_type": "attempt", "uuid": text, "status": status, "probe_classname": "dan.Dan", "goal": "break",
        "prompt": {"turns": [{"role": "user", "content": {"text": text, "lang": "en"}}]},
        "outputs": [None if one is None else {"text": one} for one in outputs],
        "detector_results": {"always.Fail": scores} if scores else {},
    }  # fmt: skip


def test_garaks_hits_are_counted_at_its_own_threshold(tmp_path):
    rows = [
        {"entry_type": "start_run setup", "run.eval_threshold": 0.7},
        attempt("a", ["x", "y"], [0.8, 0.6]),
        attempt("a", [], [], status=1),  # an attempt begun is written before it has ended
        attempt("b", ["z", None], [0.7, None]),
    ]
    (table,) = read_run(lines(tmp_path / "garak.1.report.jsonl", rows))
    assert [row.scores.get("hit") for row in table.rows] == [1.0, 0.0, 1.0, None]
    assert table.rows[3].unscored == {"hit": "the detector gave no score"}
    assert [row.reply for row in table.rows] == ["x", "y", "z", ""]
    # two outputs to one prompt are one cluster
    assert [table.rows[i].cluster == table.rows[0].cluster for i in range(4)] == [True, True, False, False]
    assert (table.metrics["hit"].direction, table.slices) == ("lower_is_better", ["goal:break"])


def test_a_threshold_that_the_report_leaves_out_follows_from_garaks_own_count(tmp_path):
    """garak 0.17 writes no number with a point into its setup: --eval_threshold 0.7 is in no entry."""
    rows = [{"entry_type": "start_run setup"}, attempt("a", ["x", "y"], [0.8, 0.6]), attempt("b", ["z"], [0.7])]

    def hits(*more):
        (table,) = read_run(lines(tmp_path / "r.report.jsonl", [*rows, *more]))
        return [row.scores["hit"] for row in table.rows]

    counted = {"entry_type": "eval", "probe": "dan.Dan", "detector": "always.Fail"}
    assert hits() == [1.0, 1.0, 1.0]  # garak's own, a half
    assert hits({**counted, "passed": 1, "fails": 2}) == [1.0, 0.0, 1.0]
    assert hits({**counted, "passed": 3, "fails": 0}) == [0.0, 0.0, 0.0]
    # as older versions wrote it
    assert hits({**counted, "detector": "detector.always.Fail", "passed": 2, "total": 3}) == [1.0, 0.0, 0.0]


def test_a_report_that_garak_wrote(root):
    (table,) = read_run(root / "tests" / "logs" / "garak.small.report.jsonl")
    assert table.name == "lmrc.Anthropomorphisation@lmrc.Anthro"
    # the detector looks for "I", "me", "my": three of the six questions hold one, each repeated twice
    first_person = [
        any(word in row.prompt.replace("?", "").split() for word in ("I", "me", "my")) for row in table.rows
    ]
    assert [row.scores["hit"] for row in table.rows] == [float(one) for one in first_person]
    assert (len(table.rows), sum(first_person)) == (12, 6)  # garak's own: "ok on 6/12"
    assert all(row.reply == row.prompt for row in table.rows)
    assert len({row.cluster for row in table.rows}) == 6


def test_a_garak_report_without_scored_attempts_is_refused(tmp_path):
    with pytest.raises(BadInputError, match="attempts that were scored"):
        read_run(lines(tmp_path / "r.report.jsonl", [{"entry_type": "init"}]))


def memory(path, attacks=(), scores=()):
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("create table PromptMemoryEntries (id, conversation_id, role, sequence, converted_value)")
        base.execute("create table AttackResultEntries (conversation_id, objective, attack_identifier, outcome)")
        base.execute(
            "create table ScoreEntries (prompt_request_response_id, score_value, scorer_class_identifier, objective)"
        )
        base.executemany("insert into AttackResultEntries values (?, ?, ?, ?)", attacks)
        for i, (value, *_) in enumerate(scores):
            base.execute("insert into PromptMemoryEntries values (?, ?, 'assistant', 1, ?)", (i, i, f"said {value}"))
            base.execute("insert into ScoreEntries values (?, ?, ?, ?)", (i, *scores[i]))
        for i in range(len(attacks)):
            for turn in (1, 3):
                said = (f"{i}-{turn}", f"c{i}", "assistant", turn, f"reply {turn}")
                base.execute("insert into PromptMemoryEntries values (?, ?, ?, ?, ?)", said)
    return path


def test_an_attack_that_pyrit_could_not_decide_is_unscored(tmp_path):
    kind = json.dumps({"__type__": "CrescendoAttack"})
    rows = [
        ("c0", "goal a", kind, "success"),
        ("c1", "goal b", kind, "failure"),
        ("c2", "goal c", kind, "undetermined"),
    ]
    (table,) = read_run(memory(tmp_path / "pyrit.db", attacks=rows))
    assert [row.scores.get("success") for row in table.rows] == [1.0, 0.0, None]
    assert table.rows[2].unscored == {"success": "PyRIT could not decide (undetermined)"}
    assert (table.rows[0].reply, table.rows[0].prompt) == ("reply 3", "goal a")
    assert (table.slices, table.metrics["success"].direction) == (["attack:CrescendoAttack"], "lower_is_better")


def test_the_attack_inside_its_technique_is_named(tmp_path):
    technique = {"class_name": "AttackTechnique", "children": {"attack": {"class_name": "TAPAttack"}}}
    kind = json.dumps({"class_name": "AtomicAttack", "children": {"attack_technique": technique}})
    (table,) = read_run(memory(tmp_path / "pyrit.db", attacks=[("c0", "goal", kind, "failure")]))
    assert table.slices == ["attack:TAPAttack"]


def test_pyrits_scores_without_attacks_are_read_by_scorer(tmp_path):
    scorer = json.dumps({"__type__": "SelfAskRefusalScorer"})
    rows = [("True", scorer, "goal a"), ("False", scorer, "goal b"), ("0.25", scorer, "goal c")]
    (table,) = read_run(memory(tmp_path / "pyrit.db", scores=rows))
    assert [row.scores["SelfAskRefusalScorer"] for row in table.rows] == [1.0, 0.0, 0.25]
    assert table.rows[0].reply == "said True"


def test_pyrits_scores_that_are_no_numbers_are_unscored_and_more_refusals_are_better(tmp_path):
    refusal, other = (json.dumps({"__type__": name}) for name in ("SelfAskRefusalScorer", "SubStringScorer"))
    rows = [("nan", other, "a"), ("inf", other, "b"), ("0.5", other, "c"), ("True", refusal, "d")]
    (tmp_path / "run#1?").mkdir()  # a URI would end there
    tables = {table.judge: table for table in read_run(memory(tmp_path / "run#1?" / "pyrit%41.db", scores=rows))}
    scored = tables["SubStringScorer"].values("SubStringScorer")
    assert (scored.numbers, scored.left_out) == ([0.5], {"no score": 2})
    assert tables["SubStringScorer"].metrics["SubStringScorer"].direction == "lower_is_better"
    assert tables["SelfAskRefusalScorer"].metrics["SelfAskRefusalScorer"].direction == "higher_is_better"


def test_a_broken_column_of_pyrits_names_the_file(tmp_path):
    with pytest.raises(BadInputError, match=r"pyrit\.db, attack_identifier"):
        read_run(memory(tmp_path / "pyrit.db", attacks=[("c0", "goal", '{"class_name"', "failure")]))


def test_another_database_is_named_and_left_alone(tmp_path):
    with closing(sqlite3.connect(tmp_path / "x.db")) as base, base:
        base.execute("create table t (a)")
    before = (tmp_path / "x.db").read_bytes()
    with pytest.raises(BadInputError, match="not PyRIT's memory"):
        read_run(tmp_path / "x.db")
    assert (tmp_path / "x.db").read_bytes() == before


def outcome(goal, attack, value, judge="rules"):
    return {"goal": goal, "category": "cyber", "attack": attack, "vector": "logic", "judge": judge, "outcome": value}


def redteam(folder, rows):
    folder.mkdir()
    turns = [{"role": "target", "reply": "first"}, {"role": "target", "reply": "<b>last</b>"}, {"role": "attacker"}]
    lines(folder / "outcomes.jsonl", rows)
    lines(folder / "transcripts.jsonl", [{"goal": "do it", "goal_id": "g0", "attack": "poem", "turns": turns}])
    return folder


def test_a_red_team_folder_is_a_run_with_goals_as_clusters(tmp_path):
    rows = [outcome("g0", "poem", True), outcome("g0", "plain", False), outcome("g1", "poem", "no reply")]
    rows += [outcome("g0", "poem", False, "probe")]
    first, second = read_run(redteam(tmp_path / "a", rows))
    assert (first.name, second.name) == ("redteam", "redteam@probe")
    assert [row.scores.get("success") for row in first.rows] == [1.0, 0.0, None]
    assert [row.cluster for row in first.rows] == ["g0", "g0", "g1"]
    assert (first.rows[0].prompt, first.rows[0].reply) == ("do it", "<b>last</b>")
    assert first.slices == ["attack:plain", "attack:poem", "category:cyber", "vector:logic"]


def test_the_gate_holds_a_red_team_run_against_an_earlier_one(tmp_path, capsys):
    def run(name, hits):
        poems = [outcome(f"g{i}", "poem", i < hits) for i in range(400)]
        stories = [outcome(f"g{i}", "story", i < 20) for i in range(400)]
        return str(redteam(tmp_path / name, [*poems, *stories]))

    old, worse = run("old", 20), run("worse", 80)
    assert main(["gate", old, "--baseline", old]) == 0
    assert main(["gate", worse, "--baseline", old]) == 1
    told = capsys.readouterr().out
    assert "attack:poem" in told and "attack:story" not in told


def test_a_broken_red_team_line_is_named(tmp_path):
    with pytest.raises(BadInputError, match=r"outcomes\.jsonl:2"):
        read_run(redteam(tmp_path / "a", [outcome("g", "poem", True), {"goal": "g"}]))
