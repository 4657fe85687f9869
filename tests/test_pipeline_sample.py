"""`primum sample`: variants, samples, parts, resume, and what a user can get wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from faulty_endpoint import endpoint
from primum.cli import main
from primum.core.errors import Exit
from primum.core.records import Reply, from_json
from primum.models.runner import Plan, replies
from primum.models.sampling import Sampling
from primum.pipeline.sample import SampleConfig, due, part_of, variants


def asked(tmp_path: Path, count: int = 10) -> str:
    path = tmp_path / "asked.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Question {i}?"}) + "\n" for i in range(count)), encoding="utf-8")
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any, str]:
    code = main(["sample", *arguments, "--json"])
    said = capsys.readouterr()
    return code, json.loads(said.out) if code in (0, 4) else None, said.err


def test_every_combination_is_drawn_and_every_reply_is_a_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report, _ = run(
        capsys, "canned", "--prompts", asked(tmp_path), "--temperature", "0.4", "--temperature", "1",
        "--system", "", "--system", "Be kind.", "--samples", "3", "--shard", "7", "--out", str(tmp_path / "out"),
    )  # fmt: skip
    assert code == 0 and len(report["variants"]) == 4
    ids = set[str]()
    for found in report["variants"]:
        rows = list(replies(tmp_path / "out" / found["variant"]))
        assert len(rows) == found["replies"] == 30 and found["engine"] == "canned"
        assert [row["variant"][-1] for row in rows[:3]] == ["0", "1", "2"]
        assert found["tokens"] == sum(row["reply_tokens"] for row in rows)
        ids |= {from_json(Reply, row).id for row in rows}
    prompts = [json.loads(line) for line in (tmp_path / "out" / "prompts.jsonl").read_text().splitlines()]
    assert [p["messages"][0]["content"] for p in prompts] == [f"Question {i}?" for i in range(10)]


def test_a_second_start_draws_nothing_and_parts_make_one_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, whole, parts = asked(tmp_path), tmp_path / "whole", tmp_path / "parts"
    first = run(capsys, "canned", "--prompts", prompts, "--shard", "4", "--out", str(whole))[1]["variants"][0]
    again = run(capsys, "canned", "--prompts", prompts, "--shard", "4", "--out", str(whole))[1]["variants"][0]
    assert (first["drawn"], again["drawn"], again["replies"]) == (10, 0, 10)
    drawn = [
        run(capsys, "canned", "--prompts", prompts, "--shard", "4", "--out", str(parts), "--part", f"{i}/2")[1]
        for i in (1, 0)
    ]
    assert [report["variants"][0]["drawn"] for report in drawn] == [4, 6]
    name = first["variant"]
    assert list(replies(parts / name)) == list(replies(whole / name))
    assert (parts / name / "manifest.json").read_bytes() == (whole / name / "manifest.json").read_bytes()


def test_repeated_prompts_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(asked(tmp_path, 3))
    path.write_text(path.read_text() * 2)
    main(["sample", "canned", "--prompts", str(path), "--out", str(tmp_path / "out")])
    assert "3 repeated prompts" in capsys.readouterr().err
    rows = (tmp_path / "out" / "dropped.jsonl").read_text().splitlines()
    assert len(rows) == 3 and json.loads(rows[0])["reason"] == "repeated prompt"


def test_a_preset_gives_its_settings_and_what_is_given_beside_it_overrides() -> None:
    def drawn(**given: Any) -> list[Sampling]:
        return [variant.sampling for variant in variants(SampleConfig(**given))]

    assert drawn(preset="meditron") == [Sampling(0.4, 512, 1.0, 0)]
    assert drawn(preset="safe-to-serve-beams") == [Sampling(0.1, 128, 0.75, 40)]
    assert drawn(preset="meditron", temperature=(0.0, 1.0), top_k=7) == [
        Sampling(0.0, 512, 1.0, 7), Sampling(1.0, 512, 1.0, 7),
    ]  # fmt: skip
    assert drawn() == [Sampling(0.0, 128, 1.0, 0)]


def test_a_preset_says_what_it_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sample", "canned", "--prompts", asked(tmp_path, 2), "--preset", "safe-to-serve", "--reply-tokens", "9"]
    assert main([*command, "--out", str(tmp_path / "out")]) == Exit.PASSED
    said = capsys.readouterr().err
    assert "left out" in said and "frequency penalty of 1" in said
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["preset"] == "safe-to-serve" and "-t0-n9-p0.95-" in report["variants"][0]["variant"]


def test_an_unknown_preset_is_refused_with_those_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sample.yaml"
    path.write_text("model: canned\npreset: meditrn\n")
    code, _, said = run(capsys, "--config", str(path), "--out", str(tmp_path / "out"))
    assert code == Exit.USAGE and "'meditron'" in said and "safe-to-serve" in said


def test_failed_replies_give_exit_code_4_and_can_be_drawn_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, out = asked(tmp_path, 4), str(tmp_path / "out")
    with endpoint(lambda body: "too_long" if "2" in body["messages"][-1]["content"] else None) as server:
        port, command = server.server_address[1], ("m", "--prompts", prompts, "--out", out, "--url", server.url)
        code, report, _ = run(capsys, *command)
        assert code == Exit.STEP_FAILED and list(report["variants"][0]["failed"].values()) == [1]
    assert port
    with endpoint() as server:  # another port is another endpoint: refused, nothing lost
        code, _, said = run(capsys, "m", "--prompts", prompts, "--out", out, "--url", server.url, "--retry-failed")
    assert code == Exit.USAGE and "another url" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--temperature", "-1"], "out of range"),
        (["--top-p", "0"], "out of range"),
        (["--temperature", "0", "--samples", "2"], "are the same"),
        (["--also", "canned"], "twice"),
        (["--part", "3/3"], "no part"),
        (["--engine", "htpp"], "did you mean 'http'"),
        (["--engine", "http"], "no address"),
        (["--prompts", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_what_a_user_can_get_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    code, _, said = run(capsys, "canned", "--limit", "2", "--out", str(tmp_path / "out"), *arguments)
    assert code == Exit.USAGE and says in said


def test_other_prompts_or_settings_are_refused_in_a_used_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert run(capsys, "canned", "--prompts", asked(tmp_path, 4), "--out", out)[0] == 0
    code, _, said = run(capsys, "canned", "--prompts", asked(tmp_path, 5), "--out", out)
    assert code == Exit.USAGE and "other prompts" in said
    code, _, said = run(capsys, "canned", "--prompts", asked(tmp_path, 4), "--out", out, "--seed", "2")
    assert code == Exit.USAGE and "another seed" in said


def test_what_a_part_draws_is_counted_with_the_short_last_shard() -> None:
    # 10 replies in shards of 4: 4, 4, 2
    assert [due(10, Plan(Sampling(), shard=4, offset=i, modulo=2)) for i in (0, 1)] == [6, 4]
    assert part_of("2/8") == (2, 8)


def test_variants_have_names_that_are_folders_of_their_own() -> None:
    config = SampleConfig(model="a/b c", also=("x/b c", "../b c"), temperature=(0.0, 1.0), system=("", "Be kind."))
    names = [variant.name for variant in variants(config)]
    assert len(set(names)) == 12 and all("/" not in name and ".." not in name for name in names)
