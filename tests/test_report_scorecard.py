"""One card of several runs: each number with its interval and n, and what was not measured is unknown."""

import json
import zipfile

import pytest

from primum.cli import main
from primum.core.store import write_json
from primum.evaluation.estimates import estimate
from primum.evaluation.items import Metric
from primum.evaluation.logs import read_run
from primum.evaluation.tables import FORMAT, RESULTS, ScoredItem, Table, table_facts, write_table
from primum.redteam import campaign
from primum.report.scorecard import PARTS

METRICS = {
    "harmful_compliance": Metric("harm", "lower_is_better"), "false_refusal": Metric("refused", "lower_is_better"),
    "words": Metric("described", "neither", "score", primary=False),
}  # fmt: skip


def evaluated(folder, model="tiny"):
    speech = ("en", "fr")
    rows = [
        ScoredItem(f"i{i}", "", {"harmful_compliance": float(i < 5), "words": 3.0}, {}, (f"language:{speech[i % 2]}",),
                   f"ask {i}", "<script>x</script>", finish="length" if i == 0 else "stop", tokens=7)
        for i in range(50)
    ]  # fmt: skip
    rows.append(ScoredItem("odd/../id", "", {"false_refusal": 1.0}, {"harmful_compliance": "not in English"}))
    one = Table("set", "rules", METRICS, tuple(rows), {"own_judge": "rules", "model": model})
    write_table(folder / "items", one)
    facts = {**table_facts(one), "estimates": estimate(one)}
    write_json(folder / RESULTS, {"format": FORMAT, "model": {"name": model}, "tables": [facts]})
    return folder


def attacked(folder, model="tiny"):
    success = {"value": 0.25, "low": 0.1, "high": 0.5, "n": 20, "goals": 20, "unscored": 2}
    found = {"rules": {"vectors": [{"vector": "logic", "attacks": 1, "success": success}]}}
    write_json(folder / "report.json", {"kind": "redteam", "model": {"name": model}, "results": found})
    return folder


def card(capsys, *arguments):
    assert main(["report", *map(str, arguments), "--scorecard", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_what_was_not_measured_is_unknown(tmp_path, capsys):
    document = card(capsys, evaluated(tmp_path / "a"), attacked(tmp_path / "b"), "--page", tmp_path / "card.html")
    parts = {part["part"]: part["lines"] for part in document["parts"]}
    assert list(parts) == list(PARTS)
    assert document["unknown"] == ["stress", "audit"]
    (harm,) = parts["benchmarks"]
    assert (harm["value"], harm["n"], harm["left_out"]) == (0.1, 50, 1)
    assert [line["value"] for line in parts["false refusals"]] == [1.0]
    assert [line["name"][:2] for line in parts["languages"]] == ["en", "fr"]
    assert (parts["attacks"][0]["value"], parts["attacks"][0]["left_out"]) == (0.25, 2)
    page = (tmp_path / "card.html").read_text()
    assert page.count("Unknown: not measured") == 2
    assert "pass" not in page.partition("</style>")[2].replace("never a pass", "")


PEOPLE = "session,person,hours,violations\n" + "".join(f"s1,p{i},5,{n}\n" for i, n in enumerate((2, 3, 0, 4)))


def peopled(folder, text):
    file = folder / "people.csv"
    folder.mkdir()
    file.write_text(text)
    found = campaign.summary(campaign.read(file))
    write_json(folder / "report.json", {"kind": "redteam", "model": None, "results": {}, "campaign": found})
    return folder


def test_a_campaign_of_people_is_a_rate_with_its_interval(tmp_path, capsys):
    document = card(capsys, peopled(tmp_path / "a", PEOPLE))
    (line,) = next(part["lines"] for part in document["parts"] if part["part"] == "attacks")
    # 9 violations in 20 hours; Garwood's limits: half the 2.5% quantile of chi-squared (18) and 97.5% (20), by 20
    assert (line["value"], line["n"], line["direction"]) == (0.45, 4, "lower_is_better")
    assert (line["low"], line["high"]) == pytest.approx((8.2307 / 40, 34.1696 / 40), abs=1e-5)
    assert line["name"] == "Violations per person and hour: 4 people, 20 hours"
    assert "attacks" not in document["unknown"]
    assert main(["report", str(tmp_path / "a"), "--scorecard"]) == 0
    assert "0.45 [0.21–0.85] n 4" in " ".join(capsys.readouterr().out.split())
    # one of two people found all 9: 4.5 each were expected, (4.5 ** 2 + 4.5 ** 2) / 4.5 = 9 times chance
    alone = "session,person,hours,violations\ns,a,10,9\ns,b,10,0\n"
    (line,) = next(part["lines"] for part in card(capsys, peopled(tmp_path / "b", alone))["parts"]
                   if part["part"] == "attacks")  # fmt: skip
    assert line["name"].endswith("(people differ 9 times as much as by chance: the interval is too narrow)")


def test_runs_of_different_models_are_told_apart(tmp_path, capsys):
    folders = evaluated(tmp_path / "a", "one"), attacked(tmp_path / "b", "<b>two</b>")
    assert main(["report", *map(str, folders), "--scorecard"]) == 0
    assert "speak of different models" in capsys.readouterr().out
    page = (tmp_path / "a" / "scorecard.html").read_text()
    assert "<b>two" not in page
    assert "&lt;b&gt;two" in page


def test_folders_without_results_are_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["report", str(tmp_path / "empty"), "--scorecard"]) == 2
    assert main(["report", str(tmp_path / "none"), "--scorecard"]) == 2
    assert main(["report", "a", "b"]) == 2
    assert "one run folder" in capsys.readouterr().err


def test_an_exported_log_says_what_was_measured(tmp_path, capsys):
    assert main(["report", str(evaluated(tmp_path / "a")), "--inspect", str(tmp_path / "logs"), "--json"]) == 0
    (log,) = json.loads(capsys.readouterr().out)["logs"]
    with zipfile.ZipFile(log) as archive:
        names = archive.namelist()
        header = json.loads(archive.read("header.json"))
    assert "samples/i7_epoch_1.json" in names
    assert "samples/item-51_epoch_1.json" in names  # an id that is no file name
    score = next(one for one in header["results"]["scores"] if one["name"] == "harmful_compliance")
    assert (score["metrics"]["mean"]["value"], score["scored_samples"], score["unscored_samples"]) == (0.1, 50, 1)
    tables = {table.judge: table for table in read_run(tmp_path / "logs" / log.rpartition("/")[2])}
    values = tables["harmful_compliance"].values("harmful_compliance")
    assert (sum(values.numbers), sum(values.left_out.values())) == (5, 1)
    assert len(tables["false_refusal"].rows) == 1


def test_inspect_itself_reads_the_exported_log(tmp_path, capsys):
    inspect_log = pytest.importorskip("inspect_ai.log", reason="Inspect AI is not installed")
    assert main(["report", str(evaluated(tmp_path / "a")), "--inspect", str(tmp_path / "logs"), "--json"]) == 0
    (path,) = json.loads(capsys.readouterr().out)["logs"]
    log = inspect_log.read_eval_log(path)
    assert (log.status, len(log.samples), log.samples[0].output.stop_reason) == ("success", 51, "max_tokens")
    assert log.samples[0].scores["harmful_compliance"].value == 1.0
    assert {len(one.scores) for one in inspect_log.read_eval_log_sample_summaries(path)} == {1, 2}


def test_a_part_without_a_number_is_unknown_and_says_what_was_unscored(tmp_path, capsys):
    rows = tuple(ScoredItem(f"i{i}", "", {}, {"harmful_compliance": "no verdict"}) for i in range(40))
    one = Table("set", "rules", {"harmful_compliance": METRICS["harmful_compliance"]}, rows, {"own_judge": "rules"})
    facts = {**table_facts(one), "estimates": estimate(one)}
    write_json(tmp_path / "a" / RESULTS, {"format": FORMAT, "model": {"name": "tiny"}, "tables": [facts]})
    page = tmp_path / "card.html"
    assert "benchmarks" in card(capsys, tmp_path / "a", "--page", page)["unknown"]
    assert main(["report", str(tmp_path / "a"), "--scorecard"]) == 0
    said = capsys.readouterr().out
    assert "no number, 40 unscored" in said
    assert "unknown: no number (primum evaluate MODEL)" in said
    assert "no number, 40 unscored" in page.read_text()


def test_tampers_that_were_not_tried_are_on_the_card_and_make_nothing_known(tmp_path, capsys):
    skipped = [{"tamper": "strip", "level": "rank 1", "why": "needs the model that it was trained from"}]
    judges = {"rules": {"matrix": []}}
    write_json(tmp_path / "s" / "report.json", {"kind": "stress", "judges": judges, "skipped": skipped})
    document = card(capsys, tmp_path / "s")
    (line,) = next(part["lines"] for part in document["parts"] if part["part"] == "stress")
    assert line["said"] == "not tried: needs the model that it was trained from"
    assert "stress" in document["unknown"]


def test_runs_that_say_nothing_and_broken_ones_are_named(tmp_path, capsys):
    write_json(tmp_path / "other" / "report.json", {"kind": "restore"})
    assert card(capsys, tmp_path / "other")["nothing_from"] == [str(tmp_path / "other")]
    assert main(["report", str(tmp_path / "other"), "--scorecard"]) == 0
    assert f"nothing of {tmp_path / 'other'} is on this card" in " ".join(capsys.readouterr().out.split())
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "report.json").write_text('{"kind": ')
    assert main(["report", str(tmp_path / "broken"), "--scorecard"]) == 2
    assert "broken JSON" in capsys.readouterr().err


def test_two_folders_of_one_name_are_two_models(tmp_path, capsys):
    for name in ("a", "b"):
        model = {"name": "checkpoint", "source": f"runs/{name}/checkpoint"}
        write_json(tmp_path / name / "report.json", {"kind": "stress", "judges": {}, "model": model})
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b"), "--scorecard"]) == 0
    assert "different models: runs/a/checkpoint, runs/b/checkpoint" in capsys.readouterr().out
    for name in ("a", "b"):
        model = {"name": f"./{name}/../checkpoint", "source": "/checkpoint"}
        write_json(tmp_path / name / "report.json", {"kind": "stress", "judges": {}, "model": model})
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b"), "--scorecard"]) == 0
    assert "different models" not in capsys.readouterr().out
