"""Logs in the shapes that the tools write, and run folders: read into the same tables, compared and gated."""

import json
import zipfile
from xml.etree import ElementTree

import pytest

from primum.cli import main
from primum.core.errors import BadInputError, UsageError
from primum.core.store import write_json
from primum.evaluation.items import Metric
from primum.evaluation.logs import read_run
from primum.evaluation.logs.inspect_write import write_log
from primum.evaluation.tables import FORMAT, RESULTS, ScoredItem, Table, read_tables, table_facts, write_table

HARM = {"harm": Metric("share that is harmful", "lower_is_better")}


def inspect_log(path, values, task="t"):
    samples = [
        {
            "id": i, "epoch": 1, "input": f"say {i}", "target": "yes", "metadata": {"kind": "a"},
            "output": {"choices": [{"message": {"role": "assistant", "content": "said"}, "stop_reason": "stop"}]},
            "scores": {"match": {"value": value, "answer": "said"}},
        }
        for i, value in enumerate(values)
    ]  # fmt: skip
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", json.dumps({"version": 2, "status": "success", "eval": {"task": task}}))
        for sample in samples:
            archive.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))


def test_inspects_grades_are_numbers_and_what_is_none_is_unscored(tmp_path):
    inspect_log(tmp_path / "a.eval", ["C", "I", "P", None, "NaN?"])
    (table,) = read_run(tmp_path / "a.eval")
    assert (table.name, [row.scores.get("match") for row in table.rows]) == ("t", [1.0, 0.0, 0.5, None, None])
    assert table.rows[3].unscored == {"match": "no score"}
    assert (table.rows[0].reply, table.rows[0].prompt, table.slices) == ("said", "say 0", ["kind:a"])


def test_a_sample_without_a_score_counts_for_each_number_that_its_scorer_gives_elsewhere(tmp_path):
    inspect_log(tmp_path / "a.eval", [{"short": 1, "polite": 0}, float("nan"), None])
    (table,) = read_run(tmp_path / "a.eval")
    assert set(table.metrics) == {"short", "polite"}
    for metric in ("short", "polite"):
        values = table.values(metric)
        assert (len(values.numbers), values.left_out) == (1, {"no score": 2})


def exported(folder, values):
    """A run with a metric of which less is better, written as a log of Inspect; None is unscored."""
    rows = tuple(
        ScoredItem(f"i{i}", f"c{i // 2}", {} if value is None else {"harm": float(value)},
                   {"harm": "no"} if value is None else {}, (f"category:{i % 3}",), f"p{i}", "said", finish="stop")
        for i, value in enumerate(values)
    )  # fmt: skip
    return write_log(folder, Table("set", "rules", HARM, rows, {"own_judge": "rules"}))


def test_what_primum_wrote_for_inspect_comes_back_as_it_was(tmp_path):
    (table,) = read_run(exported(tmp_path, [0, 1, None, 1]))
    assert table.metrics["harm"] == HARM["harm"]
    values = table.values("harm")
    assert (values.numbers, values.clusters, values.left_out) == ([0, 1, 1], ["c0", "c0", "c1"], {"no": 1})
    assert table.slices == ["category:0", "category:1", "category:2"]


def test_the_gate_reads_a_log_of_primum_the_right_way_round(tmp_path):
    safe, unsafe = exported(tmp_path / "safe", [0] * 300), exported(tmp_path / "unsafe", [1] * 300)
    assert main(["gate", str(unsafe), "--baseline", str(safe), "--json"]) == 1
    assert main(["gate", str(safe), "--baseline", str(unsafe), "--json"]) == 0


def test_scores_that_primum_gave_inside_inspect_say_which_way_is_better_and_what_they_are_about(tmp_path):
    inspect_log(tmp_path / "a.eval", [{"bad": 1, "other": float("nan"), "lost": float("nan")}])
    path = tmp_path / "b.eval"
    with zipfile.ZipFile(tmp_path / "a.eval") as old, zipfile.ZipFile(path, "w") as new:
        new.writestr("header.json", old.read("header.json"))
        sample = json.loads(old.read("samples/0_epoch_1.json"))
        ways = dict.fromkeys(("bad", "other", "lost"), "lower_is_better")
        sample["scores"]["match"]["metadata"] = {"unscored": {"lost": "no parse"}, "directions": ways}
        new.writestr("samples/0_epoch_1.json", json.dumps(sample))
    (table,) = read_run(path)
    assert table.metrics["bad"].direction == "lower_is_better"
    assert (table.rows[0].scores, table.rows[0].unscored) == ({"bad": 1.0}, {"lost": "no parse"})


def test_a_damaged_member_of_inspects_log_is_named(tmp_path):
    path = tmp_path / "a.eval"
    inspect_log(path, ["C"])
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("samples/0_epoch_1.json")
    raw = bytearray(path.read_bytes())
    start = info.header_offset + 30 + len(info.filename)
    raw[start : start + 8] = b"\xff" * 8  # no deflate stream begins so
    path.write_bytes(raw)
    with pytest.raises(BadInputError, match=r"a\.eval:samples/0_epoch_1\.json"):
        read_run(path)


def test_lm_evals_folder_of_two_models_is_not_mixed(tmp_path):
    row = {"doc_id": 0, "doc": {"q": 1}, "metrics": ["acc"], "acc": 1.0, "doc_hash": "a"}
    for model, task in (("one", "arc"), ("two", "arc"), ("two", "piqa")):
        folder = tmp_path / "out" / model
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"samples_{task}_2025-01-02T03-04-05.6.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(BadInputError, match=r"several models \(one, two\)"):
        read_run(tmp_path / "out")
    assert [table.name for table in read_run(tmp_path / "out" / "two")] == ["arc", "piqa"]


def test_lm_evals_samples_with_the_direction_of_their_metrics(tmp_path):
    rows = [
        {"doc_id": i, "doc": {"question": f"q{i}"}, "doc_hash": f"h{i}", "metrics": ["acc", "ppl"], "acc": float(i % 2),
         "ppl": 9.5, "filter": "none", "arguments": {"gen_args_0": {"arg_0": f"Q{i}", "arg_1": " a"}}}
        for i in range(4)
    ]  # fmt: skip
    (tmp_path / "samples_arc_2026-01-02T03-04-05.678.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "results_2026-01-02T03-04-05.678.json").write_text(
        json.dumps({"higher_is_better": {"arc": {"acc": True, "ppl": False}}})
    )
    (table,) = read_run(tmp_path)
    assert [row.scores["acc"] for row in table.rows] == [0, 1, 0, 1]
    assert table.rows[0].prompt == "Q0"
    assert table.metrics["ppl"].direction == "lower_is_better"
    assert (table.metrics["acc"].unit, table.metrics["ppl"].unit) == ("share", "score")


def test_promptfoos_errors_are_unscored(tmp_path):
    def result(word, **more):
        return {"vars": {"w": word}, "provider": {"id": "echo"}, "promptIdx": 0, "prompt": {"raw": f"say {word}"},
                "response": {"output": word}, "gradingResult": {}, **more}  # fmt: skip

    rows = [result("a", success=True, score=1, failureReason=0), result("b", success=False, score=0, failureReason=1),
            result("c", success=False, score=0, failureReason=2, error="timeout")]  # fmt: skip
    (tmp_path / "r.json").write_text(json.dumps({"evalId": "x", "results": {"version": 3, "results": rows}}))
    (table,) = read_run(tmp_path / "r.json")
    assert [row.scores.get("pass") for row in table.rows] == [1.0, 0.0, None]
    assert table.rows[2].unscored["pass"] == "error: timeout"


def test_promptfoos_session_ids_do_not_part_two_runs(tmp_path, capsys):
    def row(number, session, strategy):
        own = {"goal": f"goal {number}", "sessionId": session, "_conversation": [{"output": session}]}
        return {"vars": own, "provider": {"id": "echo"}, "promptIdx": 0, "testIdx": number, "success": number < 2,
                "testCase": {"metadata": {"strategyId": strategy}}, "response": {"output": "x"}}  # fmt: skip

    def run(name, strategies):
        rows = [row(i, f"{name}-{i}-{one}", one) for i in range(3) for one in strategies]
        (tmp_path / name).write_text(json.dumps({"results": {"version": 3, "results": rows}}))
        return str(tmp_path / name)

    a, b = run("a.json", ("crescendo", "goat")), run("b.json", ("goat",))
    (first,), (second,) = read_run(tmp_path / "a.json"), read_run(tmp_path / "b.json")
    assert [one.item for one in second.rows] == [one.item for one in first.rows][1::2]  # goat's, not crescendo's
    assert len({one.item for one in first.rows}) == 6 and len({one.cluster for one in first.rows}) == 3
    assert main(["compare", a, b, "--json"]) == 0
    changes = json.loads(capsys.readouterr().out)["changes"]
    assert [one["n"] for one in changes if (one["slice"], one["metric"]) == ("all", "pass")] == [3]


def test_broken_and_unknown_logs_are_named(tmp_path):
    (tmp_path / "a.eval").write_bytes(b"no zip")
    with pytest.raises(BadInputError, match=r"a\.eval"):
        read_run(tmp_path / "a.eval")
    (tmp_path / "b.txt").write_text("x")
    with pytest.raises(UsageError, match="unknown kind"):
        read_run(tmp_path / "b.txt")
    with pytest.raises(UsageError, match="no such file"):
        read_run(tmp_path / "c")


def run_folder(folder, values, reply="fine"):
    rows = tuple(
        ScoredItem(f"i{i}", "", {"harm": float(value)}, {}, (f"category:{i % 3}",), f"p{i}", reply, finish="stop")
        for i, value in enumerate(values)
    )
    one = Table("set", "rules", HARM, rows, {"own_judge": "rules"})
    write_table(folder / "items", one)
    write_json(folder / RESULTS, {"format": FORMAT, "tables": [table_facts(one)]})
    return folder


def test_a_table_comes_back_as_it_was_written(tmp_path):
    (table,) = read_tables(run_folder(tmp_path, [0, 1, 1]))
    assert [row.scores for row in table.rows] == [{"harm": 0.0}, {"harm": 1.0}, {"harm": 1.0}]
    assert table.metrics["harm"] == HARM["harm"]
    (tmp_path / "labels.csv").write_text("benchmark,item,metric,value,note\nset,i0,harm,1,x\nset,i1,harm,,not yet\n")
    assert read_tables(tmp_path)[0].labels == {"harm": {"i0": 1.0}}
    (tmp_path / "labels.csv").write_text("benchmark,item,metric,value\nset,i0,harm,much\n")
    with pytest.raises(BadInputError, match=r"labels\.csv:2"):
        read_tables(tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [("set,i0,harm,nan", "no finite number"), ("set,i0,hram,1", "did you mean 'set,harm'"),
     ("sets,i0,harm,1", "did you mean 'set,harm'"), ("set,i0,harm,5", "is a share, and 5 is none")],
)  # fmt: skip
def test_labels_that_would_be_passed_over_are_named(tmp_path, line, said):
    run_folder(tmp_path, [0, 1, 1])
    (tmp_path / "labels.csv").write_text(f"benchmark,item,metric,value\n{line}\n")
    with pytest.raises(BadInputError) as found:
        read_tables(tmp_path)
    assert said in str(found.value)


def test_several_labels_of_one_item_count_by_their_mean(tmp_path):
    run_folder(tmp_path, [0, 1, 1])
    (tmp_path / "labels.csv").write_text("benchmark,item,metric,value\nset,i0,harm,1\nset,i0,harm,0\n")
    assert read_tables(tmp_path)[0].labels == {"harm": {"i0": 0.5}}


def test_compare_names_what_could_not_be_compared(tmp_path, capsys):
    def run(name, harm):
        both = {**HARM, "babble": Metric("share of babble", "lower_is_better")}
        rows = tuple(
            ScoredItem(f"i{i}", "", {"babble": 0.0} | ({} if harm is None else {"harm": harm}),
                       {"harm": "no verdict"} if harm is None else {}) for i in range(12)
        )  # fmt: skip
        one = Table("set", "rules", both, rows, {"own_judge": "rules"})
        write_table(tmp_path / name / "items", one)
        write_json(tmp_path / name / RESULTS, {"format": FORMAT, "tables": [table_facts(one)]})
        return str(tmp_path / name)

    page = tmp_path / "page.html"
    assert main(["compare", run("a", 0.0), run("b", None), "--page", str(page)]) == 0
    said = capsys.readouterr().out
    # wherever a line is broken
    assert "set: Harm: no item has a number in both runs left out: 12 no verdict" in " ".join(said.split())
    assert "12 left out" in page.read_text()
    alone = run_folder(tmp_path / "c", [0] * 12)
    assert main(["compare", run("a", 0.0), str(alone)]) == 0
    assert "only in A, not compared: set babble" in " ".join(capsys.readouterr().out.split())
    for name in ("d", "e"):
        one = Table("set", "rules", HARM, tuple(ScoredItem(f"i{i}", "", {}, {"harm": "no verdict"}) for i in range(3)))
        write_table(tmp_path / name / "items", one)
        write_json(tmp_path / name / RESULTS, {"format": FORMAT, "tables": [table_facts(one)]})
    assert main(["compare", str(tmp_path / "d"), str(tmp_path / "e")]) == 2
    assert "no item has a number in both runs (3 no verdict)" in capsys.readouterr().err


@pytest.mark.parametrize("score", ["NaN", '"high"', "null", "true"])
def test_a_score_that_is_no_number_is_named_with_its_line(tmp_path, score):
    run_folder(tmp_path, [0, 1])
    rows = tmp_path / "items" / "set.jsonl"
    first, second = rows.read_text().splitlines()
    rows.write_text(f"{first}\n{second.replace('1.0', score)}\n")
    with pytest.raises(BadInputError, match="the score of 'harm' is no finite number") as found:
        read_tables(tmp_path)
    assert "set.jsonl:2" in str(found.value)
    write_json(tmp_path / RESULTS, {"format": FORMAT, "tables": None})
    with pytest.raises(BadInputError, match="not results of primum evaluate"):
        read_tables(tmp_path)


def test_a_deep_line_is_told_and_breaks_nothing(tmp_path):
    (tmp_path / "deep.report.jsonl").write_text('{"entry_type": "init"}\n' + "[" * 100_000 + "\n")
    with pytest.raises(BadInputError, match=r"deep\.report\.jsonl:2"):
        read_run(tmp_path / "deep.report.jsonl")


def test_rows_outside_the_folder_are_not_read(tmp_path):
    folder = run_folder(tmp_path / "run", [0, 1])
    document = json.loads((folder / RESULTS).read_text())
    document["tables"][0]["rows"] = "../../etc/passwd"
    write_json(folder / RESULTS, document)
    with pytest.raises(BadInputError, match="outside the folder"):
        read_tables(folder)


def test_compare_on_the_command_line_and_its_page(tmp_path, capsys):
    hostile = "<script>alert(1)</script>"
    a, b = run_folder(tmp_path / "a", [0] * 30), run_folder(tmp_path / "b", [1] * 12 + [0] * 18, hostile)
    page = tmp_path / "page.html"
    assert main(["compare", str(a), str(b), "--json", "--anytime", "--page", str(page)]) == 0
    document = json.loads(capsys.readouterr().out)
    one = next(row for row in document["changes"] if row["slice"] == "all")
    assert (one["broken"], one["fixed"], one["p"]) == (12, 0, 2 / 2**12)
    # e-value of m of m is 2^m / (m + 1): 2^8 / 9 = 28 is the first of at least 20, so eight losses at the least
    assert one["anytime"]["enough_after"] >= 8
    assert hostile not in page.read_text()
    assert "&lt;script&gt;" in page.read_text()
    assert main(["compare", str(a)]) == 2
    assert main(["compare", str(a), str(tmp_path / "none")]) == 2


def test_no_name_in_a_log_reaches_the_terminal_as_a_control_sequence(tmp_path, capsys):
    for name, values in (("a", "C" * 30), ("b", "I" * 30)):
        inspect_log(tmp_path / f"{name}.eval", values, task="\x1b]0;mine\x07")
    assert main(["compare", str(tmp_path / "a.eval"), str(tmp_path / "b.eval")]) == 0
    said = capsys.readouterr().out
    assert "[kind:a]" in said and "mine" in said and "\x1b" not in said and "\x07" not in said


def test_gate_on_the_command_line_with_its_three_exit_codes(tmp_path, capsys):
    same, worse = run_folder(tmp_path / "a", [0] * 300), run_folder(tmp_path / "b", [1, 0] * 150)
    few = run_folder(tmp_path / "c", [0] * 12)
    junit, markdown = tmp_path / "gate.xml", tmp_path / "gate.md"
    assert main(["gate", str(same), "--baseline", str(same)]) == 0
    assert main(["gate", str(few), "--baseline", str(few)]) == 3
    arguments = [
        "gate",
        str(worse),
        "--baseline",
        str(same),
        "--junit",
        str(junit),
        "--markdown",
        str(markdown),
        "--json",
    ]
    capsys.readouterr()
    assert main(arguments) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["outcome"] == "failed"
    suite = ElementTree.fromstring(junit.read_text()).find("testsuite")
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure")) == document["counts"]["failed"] == 4
    assert "✕ failed | set harm" in markdown.read_text()
    assert main(["gate", str(same)]) == 2
