"""Nothing is half written, nothing finished is done twice, nothing disappears silently."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from primum.core.errors import BadInputError, StepFailedError
from primum.core.store import Stage, disk_error, printable, read_json, read_jsonl, write_json, write_jsonl, write_text


def squares(_index, part):
    return [{"n": n, "square": n * n} for n in part]


def test_jsonl_round_trip_with_line_numbers(tmp_path):
    rows = [{"text": "naïve 🙂\u2028end"}, {"text": "\ud800"}, {"n": 1}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    assert list(read_jsonl(tmp_path / "a.jsonl")) == list(enumerate(rows, 1))


def test_blank_lines_are_passed_over_and_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"n": 1}\n\n{"n": 2}\n')
    assert [number for number, _ in read_jsonl(tmp_path / "a.jsonl")] == [1, 3]


@pytest.mark.parametrize(
    ("line", "says"), [('{"n": ', "broken JSON"), ("[1, 2]", "not a JSON object"), ('"word"', "not a JSON object")]
)
def test_a_broken_line_is_named_with_its_file(tmp_path, line, says):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"n": 1}}\n{line}\n')
    with pytest.raises(BadInputError, match=says) as caught:
        list(read_jsonl(path))
    assert caught.value.where == f"{path}:2"


def test_a_missing_file_is_bad_input(tmp_path):
    with pytest.raises(BadInputError, match="no such file"):
        list(read_jsonl(tmp_path / "none.jsonl"))


def test_a_stage_is_done_when_its_manifest_is_written(tmp_path):
    stage = Stage(tmp_path / "01", {"step": "square"})
    assert stage.manifest is None
    rows = stage.map(range(5), 2, squares)
    stage.drop({"n": 9}, "too large")
    stage.drop({"n": 8}, "too large")
    stage.finish(n=len(rows))
    again = Stage(tmp_path / "01", {"step": "square"})
    assert again.manifest == {"key": again.key, "dropped": {"too large": 2}, "n": 5}
    assert again.rows() == rows == [{"n": n, "square": n * n} for n in range(5)]
    dropped = [row for _, row in read_jsonl(tmp_path / "01" / "dropped.jsonl")]
    assert dropped == [{"reason": "too large", "n": 9}, {"reason": "too large", "n": 8}]


def test_finished_shards_are_not_done_again(tmp_path):
    asked = []

    def work(index, part):
        asked.append(index)
        return squares(index, part)

    seen = []
    first = Stage(tmp_path / "01", {}).map(range(5), 2, work)
    second = Stage(tmp_path / "01", {}).map(range(5), 2, work, seen.append)
    assert first == second
    assert asked == [0, 1, 2]
    assert seen == [2, 2, 1]


def test_another_key_clears_the_folder(tmp_path):
    Stage(tmp_path / "01", {"seed": 0}).map(range(4), 2, squares)
    stale = Stage(tmp_path / "01", {"seed": 1})
    assert stale.rows() == []
    assert stale.manifest is None
    assert read_json(tmp_path / "01" / "key.json")["facts"] == {"seed": 1}


def test_a_folder_without_key_is_cleared(tmp_path):
    (tmp_path / "01").mkdir()
    (tmp_path / "01" / "shard-00000.jsonl").write_text('{"n": 1}\n')
    assert Stage(tmp_path / "01", {}).rows() == []


def test_a_partial_file_left_by_a_kill_is_ignored_and_removed(tmp_path):
    Stage(tmp_path / "01", {}).map(range(2), 2, squares)
    (tmp_path / "01" / "shard-00001.jsonl.partial").write_text('{"n": 2, "squ')
    (tmp_path / "01" / "manifest.json.partial").write_text('{"key')
    stage = Stage(tmp_path / "01", {})
    assert stage.manifest is None
    assert stage.map(range(4), 2, squares) == [{"n": n, "square": n * n} for n in range(4)]
    assert not list((tmp_path / "01").glob("*.partial"))


KILLED = """
import os, signal, sys
from pathlib import Path
from primum.core.store import Stage

def work(index, part):
    if index == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return [{"n": n, "square": n * n} for n in part]

Stage(Path(sys.argv[1]), {"step": "square"}).map(range(8), 2, work)
"""


def test_kill_9_and_rerun_give_what_an_undisturbed_run_gives(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "killed")], check=False)
    assert killed.returncode == -9
    assert len(Stage(tmp_path / "killed", {"step": "square"}).rows()) == 4
    resumed = Stage(tmp_path / "killed", {"step": "square"}).map(range(8), 2, squares)
    assert resumed == Stage(tmp_path / "whole", {"step": "square"}).map(range(8), 2, squares)


FULL = """
import resource, signal, sys
from pathlib import Path
from primum.core.errors import PrimumError
from primum.core.store import write_text

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_text(Path(sys.argv[1]), "x" * 100_000)
except PrimumError as error:
    print(type(error).__name__, int(error.exit_code), error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits on Windows")
def test_a_write_that_fails_midway_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.json"
    write_json(path, {"old": True})
    said = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"StepFailedError 4 {path}: cannot write")
    assert json.loads(path.read_text()) == {"old": True}
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_told_with_its_cure(tmp_path):
    (tmp_path / "rows.jsonl.partial").symlink_to("/dev/full")
    with pytest.raises(StepFailedError, match="the disk is full") as caught:
        write_text(tmp_path / "rows.jsonl", "x")
    assert "free some space" in str(caught.value.cure)
    assert not (tmp_path / "rows.jsonl").exists()


def test_other_disk_errors_keep_their_own_words(tmp_path):
    error = disk_error(PermissionError(13, "Permission denied"), tmp_path)
    assert "Permission denied" in str(error)
    assert "disk is full" not in str(error)


def test_half_a_character_is_printed_as_its_number():
    assert printable({"said": "\ud83d é"}) == '{\n  "said": "\\ud83d \\u00e9"\n}'
    assert printable({"said": "😀 é"}) == '{\n  "said": "😀 é"\n}'


@pytest.mark.parametrize("text", ['{"seed": 1', "", "[" * 100_000])
def test_a_document_that_was_broken_since_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(text)
    with pytest.raises(BadInputError, match="broken JSON") as caught:
        read_json(path)
    assert str(path) in str(caught.value) and "delete this file" in str(caught.value)
