"""One run at a time in a folder: who comes second is told, and a killed process holds nothing."""

import contextlib
import importlib
import json
import subprocess
import sys

import pytest

from primum import cli
from primum.core.lock import FILE, alone

HOLDER = """
import sys
from primum.core.lock import alone
with alone(sys.argv[1], "primum repair"):
    print("held", flush=True)
    sys.stdin.read()
"""
OWN_LOCKS = {"sample", "languages"}
"""Verbs whose shards are locked one by one: several processes share their folder."""


@contextlib.contextmanager
def holder(folder):
    """Another process that holds a folder until the block ends."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def replies(tmp_path):
    path = tmp_path / "replies.jsonl"
    path.write_text(
        json.dumps({"id": "egg", "prompt": "How do I boil an egg?", "reply": "Boil it for ten minutes."}) + "\n"
    )
    return str(path)


def judge(replies, out):
    return cli.main(["judge", replies, "--judge", "rules", "--out", str(out)])


def test_a_second_run_is_told_who_holds_the_folder_and_writes_nothing(replies, tmp_path, capsys):
    with holder(tmp_path / "run") as other:
        assert judge(replies, tmp_path / "run") == 2
        told = capsys.readouterr().err
        assert str(tmp_path / "run") in told and f"process {other.pid} on " in told and "primum repair" in told
        assert "give another --out" in told
        assert [one.name for one in (tmp_path / "run").iterdir()] == [FILE]
        assert judge(replies, tmp_path / "other") == 0


def test_a_killed_run_holds_nothing_and_the_next_one_leaves_no_trace_of_it(replies, tmp_path):
    with holder(tmp_path / "run") as other:
        other.kill()
        other.wait()
        assert json.loads((tmp_path / "run" / FILE).read_text())["process"] == other.pid
        assert judge(replies, tmp_path / "run") == 0
    names = {one.name for one in (tmp_path / "run").iterdir()}
    assert "verdicts.jsonl" in names and FILE not in names


def test_a_run_that_ends_in_an_error_lets_go_and_leaves_no_empty_folder(replies, tmp_path):
    with contextlib.suppress(ValueError), alone(str(tmp_path / "runs" / "one"), "primum repair"):
        raise ValueError
    assert not (tmp_path / "runs").exists()
    assert judge(str(tmp_path / "missing.jsonl"), tmp_path / "run") == 2
    assert not (tmp_path / "run").exists()


def test_what_only_reads_and_the_members_of_a_team_are_not_held_up(tmp_path, monkeypatch):
    with holder(tmp_path / "run"):
        with alone(None, "primum compare"):
            assert (tmp_path / "run" / FILE).is_file()
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "1")
        with alone(str(tmp_path / "run"), "primum train"):
            pass
        assert (tmp_path / "run" / FILE).is_file()


def test_a_folder_that_cannot_be_made_is_left_to_the_verb(tmp_path):
    (tmp_path / "file").write_text("kept")
    with alone(str(tmp_path / "file"), "primum pair"):
        assert (tmp_path / "file").read_text() == "kept"
    assert (tmp_path / "file").read_text() == "kept"


def loaded(place):
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def test_every_verb_that_writes_to_its_out_holds_it():
    unheld = set()
    for name, verb in cli.VERBS.items():
        cls = loaded(verb.config)
        if "out" in cls.model_fields and cls.model_construct(out="here", **given(cls)).run_folder != "here":
            unheld.add(name)
    assert unheld == OWN_LOCKS


def given(cls):
    """Values of the fields on which it depends whether anything is written."""
    known = {"action": "patch", "method": "auto", "recipe": "llama2"}
    return {key: value for key, value in known.items() if key in cls.model_fields}


@pytest.mark.parametrize(
    ("verb", "settings", "folder"),
    [
        ("repair", {"dry_run": True}, None),
        ("run", {"recipe": "mine/journey.yaml"}, "runs/journey"),
        ("run", {}, None),
        ("run", {"recipe": "llama2", "dry_run": True}, None),
        ("policy", {"action": "diff"}, None),
        ("restore", {"method": "undo", "out": "tuned"}, None),
    ],
)
def test_what_writes_nothing_there_holds_nothing(verb, settings, folder):
    config = loaded(cli.VERBS[verb].config)(**settings)
    assert config.run_folder == folder
