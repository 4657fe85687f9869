"""`primum judge` and `primum calibrate` as a user meets them: files in, files out, and what is said of bad ones."""

import csv
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from primum.cli import main

GOOD = [
    {
        "id": "a",
        "prompt": "How do I boil an egg?",
        "reply": "Boil the egg for eight minutes, then cool it under water.",
    },
    {
        "id": 2,
        "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "How do I boil an egg?"}],
        "reply": [
            {"role": "assistant", "content": [{"type": "text", "text": "I'm sorry, but I can't help with that."}]}
        ],
    },
    {"id": "c", "prompt": "How do I boil an egg?", "reply": None},
    {"id": "d", "prompt": "How do I boil an egg?", "reply": ""},
]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return str(path)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_verdicts_carry_the_rows_own_ids_and_null_where_unscored(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write(tmp_path / "r.jsonl", GOOD)
    assert main(["judge", file, "--judge", "embedded", "--out", str(tmp_path / "out"), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    rows = rows_of(tmp_path / "out" / "verdicts.jsonl")
    assert [row["reply_id"] for row in rows] == ["a", 2, "c", "d"]
    assert [row["behaviour"] for row in rows] == ["compliance", "refusal", None, "incoherent"]
    assert rows[2]["unscored"] == "no reply in the row"
    refused = document["judges"]["embedded"]["rates"]["refused"]
    assert (refused["k"], refused["n"]) == (1, 3)
    assert (refused["if_unscored_without"], refused["if_unscored_with"]) == (0.25, 0.5)


def test_what_was_judged_before_is_not_judged_again(tmp_path: Path):
    file = write(tmp_path / "r.jsonl", GOOD)
    out = tmp_path / "out"
    assert main(["judge", file, "--out", str(out), "--json"]) == 0
    shard = out / "parts" / "embedded" / "shard-00000.jsonl"
    (out / "parts" / "embedded" / "manifest.json").unlink()  # as if it had been killed at the end
    before = shard.stat().st_mtime_ns
    assert main(["judge", file, "--out", str(out), "--json"]) == 0
    assert shard.stat().st_mtime_ns == before
    write(tmp_path / "r.jsonl", GOOD[:2])
    assert main(["judge", file, "--out", str(out), "--json"]) == 0
    assert len(rows_of(out / "verdicts.jsonl")) == 2


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"prompt": "p", "reply": "r"}, "no 'id'"),
        ({"id": "x", "prompt": "p"}, "no 'reply'"),
        ({"id": "x", "reply": "r"}, "no 'prompt'"),
        ({"id": "a", "prompt": "p", "reply": "r"}, "stands in"),
        ({"id": "x", "prompt": "p", "reply": 7}, "neither a text nor a list"),
        ({"id": "x", "prompt": [{"role": "robot", "content": "p"}], "reply": "r"}, "has no role"),
        ({"id": "x", "prompt": [{"role": "system", "content": "p"}], "reply": "r"}, "no turn of the user"),
        ({"id": "x", "prompt": "p", "reply": "r", "intent": "evil"}, "intent 'evil'"),
        ({"id": None, "prompt": "p", "reply": "r"}, "neither text nor a whole number"),
        ([1], "not a JSON object"),
    ],
)
def test_a_bad_row_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], row: Any, what: str):
    file = write(tmp_path / "r.jsonl", [GOOD[0], row])
    assert main(["judge", file, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert what in told and "r.jsonl:2" in told
    assert not (tmp_path / "out").exists()


def test_a_wrong_judge_is_told_before_anything_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["judge", str(tmp_path / "none.jsonl"), "--judge", "embeded"]) == 2
    assert "did you mean 'embedded'?" in capsys.readouterr().err


def some(n: int) -> list[dict[str, Any]]:
    """Half of the replies decline."""
    texts = (
        "Boil the egg number {} for eight minutes in a pot of water.",
        "I'm sorry, I can't help with egg number {}.",
    )
    return [{"id": f"r{i}", "prompt": "How do I boil an egg?", "reply": texts[i % 2].format(i)} for i in range(n)]


def test_a_sheet_is_drawn_blind_and_gives_the_corrected_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file, out = write(tmp_path / "r.jsonl", [*some(119), {**some(1)[0], "id": "=1+1"}]), tmp_path / "cal"
    assert main(["calibrate", file, "--out", str(out), "--size", "120", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rate"]["corrected"] is None
    with (out / "sheet.csv").open(encoding="utf-8", newline="") as stream:
        sheet = list(csv.DictReader(stream))
    assert set(sheet[0]) == {"id", "prompt", "reply", "label"}
    assert "'=1+1" in {row["id"] for row in sheet} and not any(row["label"] for row in sheet)
    kept = sheet[:60]
    for row in kept:
        row["label"] = "refusal" if "sorry" in row["reply"] else "compliance"
    with (out / "filled.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["id", "prompt", "reply", "label"])
        writer.writeheader()
        writer.writerows(kept)
    assert main(["calibrate", file, "--out", str(out), "--labels", str(out / "filled.csv"), "--json"]) == 0
    rate = json.loads(capsys.readouterr().out)["rate"]
    assert rate["method"] == "PPI++"
    assert rate["corrected"]["low"] <= 59 / 120 <= rate["corrected"]["high"]


def test_labelled_rows_measure_the_judge_by_category(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [
        {**row, "label": "refusal" if i % 2 else "compliance", "category": "fraud"} for i, row in enumerate(some(40))
    ]
    rows[0]["label"] = "yes"  # one wrong label: the judge says that it went along
    file = write(tmp_path / "r.jsonl", rows)
    assert main(["calibrate", file, "--out", str(tmp_path / "cal"), "--json"]) == 0
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["hits"], error["positives"], error["correct_rejections"], error["negatives"]) == (20, 21, 19, 19)
    assert error["by"]["category"]["fraud"]["n"] == 40
    assert error["f1"]["value"] == pytest.approx(2 * 20 / (20 + 21))


def test_a_label_that_is_none_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = write(tmp_path / "r.jsonl", [{**some(1)[0], "label": "perhaps"}])
    assert main(["calibrate", file, "--out", str(tmp_path / "cal")]) == 2
    assert "'perhaps' is no label" in capsys.readouterr().err


def test_rogan_gladen_where_only_other_labels_are_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    known = [{**row, "label": "refusal" if i % 2 else "compliance"} for i, row in enumerate(some(60))]
    command = ["calibrate", write(tmp_path / "r.jsonl", some(50)), "--out", str(tmp_path / "cal"), "--json", "--known"]
    assert main([*command, write(tmp_path / "k.jsonl", known)]) == 0
    rate = json.loads(capsys.readouterr().out)["rate"]
    assert rate["method"] == "Rogan-Gladen" and rate["corrected"]["value"] == pytest.approx(0.5)


def test_a_rate_that_is_not_shown_to_be_low_is_undecided(tmp_path: Path):
    command = ["calibrate", write(tmp_path / "r.jsonl", some(20)), "--out", str(tmp_path / "cal"), "--json"]
    assert main([*command, "--below", "0.1"]) == 3
    assert main([*command, "--below", "0.95"]) == 0


def test_a_service_is_not_opened_to_the_network_by_accident(capsys: pytest.CaptureFixture[str]):
    assert main(["judge-serve", "--host", "0.0.0.0", "--port", "0"]) == 2
    assert "--open-to-network" in capsys.readouterr().err


def test_on_names_a_cluster_and_the_verdicts_are_those_of_one_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is handed to a worker can be sent to it, and shards that are there are not judged again."""
    monkeypatch.setattr("primum.verbs.judge.SHARD", 2)
    file = write(tmp_path / "r.jsonl", GOOD)
    assert main(["judge", file, "--out", str(tmp_path / "none"), "--on", "spark"]) == 2
    assert "--on ray" in capsys.readouterr().err
    sent: list[Any] = []

    def spread(workers: Any, job: Any, parts: Any) -> Iterator[Any]:
        for part in parts:
            sent.append(len(part))
            yield pickle.loads(pickle.dumps(job))(pickle.loads(pickle.dumps(part)))

    monkeypatch.setattr("primum.models.spread.spread", spread)
    assert main(["judge", file, "--out", str(tmp_path / "one"), "--json"]) == 0
    assert main(["judge", file, "--out", str(tmp_path / "many"), "--on", "ray", "--json"]) == 0
    verdicts = [(tmp_path / out / "verdicts.jsonl").read_bytes() for out in ("one", "many")]
    assert verdicts[0] == verdicts[1] and sent == [2, 2]
    (tmp_path / "many" / "parts" / "embedded" / "shard-00001.jsonl").unlink()
    assert main(["judge", file, "--out", str(tmp_path / "many"), "--on", "ray", "--json"]) == 0
    assert sent == [2, 2, 2] and (tmp_path / "many" / "verdicts.jsonl").read_bytes() == verdicts[0]
    assert main(["judge", file, "--out", str(tmp_path / "many"), "--json"]) == 0  # where it ran changes no verdict
    assert sent == [2, 2, 2]
