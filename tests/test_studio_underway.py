"""Live progress inside a step: a run's note of it, and what the Runs page reads of a run that goes on elsewhere."""

import json
import os
import subprocess
import sys

import pytest

from primum.core.progress import FILE, noted, silent
from primum.core.store import Stage, write_json
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal
from primum.studio.underway import SILENT, Underway, underway
from studio_kit import serving

NOTE = {"step": "replies before", "unit": "replies", "done": 30, "found": 0, "total": 120, "started": 1000.0,
        "updated": 1010.0}  # fmt: skip


class Clock:
    """Seconds that go on when they are told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


# ---------------------------------------------------------------- what a run notes


def test_a_step_is_noted_at_most_once_a_second_and_the_note_goes_with_it(tmp_path):
    clock, told = Clock(), []
    note = tmp_path / FILE
    with noted(tmp_path, "replies", 100, "replies", told.append, clock) as advance:
        assert json.loads(note.read_text())["done"] == 0
        for seconds, units, written in ((0.5, 40, 0), (1.0, 5, 45), (0.4, 5, 45), (0.7, 10, 60)):
            clock.now += seconds
            advance(units)
            assert json.loads(note.read_text())["done"] == written
        assert json.loads(note.read_text()) == {
            "step": "replies", "unit": "replies", "done": 60, "found": 40, "total": 100, "started": 1000.0,
            "updated": pytest.approx(1002.6),
        }  # fmt: skip
    assert told == [40, 5, 5, 10], "the terminal is told as before"
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_fails_takes_its_note_away_and_its_error_goes_on(tmp_path):
    with pytest.raises(ValueError, match="broken"), noted(tmp_path, "x", None, "", silent):
        raise ValueError("broken")
    assert list(tmp_path.iterdir()) == []


def test_a_run_does_not_depend_on_its_note(tmp_path):
    with noted(tmp_path / "none", "x", 2, "rows", silent) as advance:
        advance(2)
    assert not (tmp_path / "none").exists(), "no folder is made for it"


def test_every_step_of_a_journey_is_noted(tmp_path):
    journey = Journey(tmp_path, Terminal(quiet=True))
    with journey.step("judge", 10, "verdicts") as advance:
        advance(4)
        assert underway(tmp_path).step == "judge"
        with journey.step("load a model"):
            assert underway(tmp_path).step == "load a model"
            assert underway(tmp_path).total is None
    assert underway(tmp_path) is None


# ---------------------------------------------------------------- what is read of it


@pytest.mark.parametrize(
    ("facts", "now", "expected"),
    [
        # 30 in 10 s: 90 more take 30 s
        ({}, 1010.0, Underway("replies before", "replies", 30, 120, 30.0, 0.0)),
        # two of those seconds are over
        ({}, 1012.0, Underway("replies before", "replies", 30, 120, 28.0, 0.0)),
        # 60 of the 90 were found finished: 30 in 10 s, 30 more take 10 s
        ({"done": 90, "found": 60}, 1010.0, Underway("replies before", "replies", 90, 120, 10.0, 0.0)),
        ({"done": 0}, 1010.0, Underway("replies before", "replies", 0, 120, None, 0.0)),
        ({"total": None}, 1010.0, Underway("replies before", "replies", 30, None, None, 0.0)),
        ({"done": 130}, 1010.0, Underway("replies before", "replies", 120, 120, 0.0, 0.0)),
        ({}, 1011.0 + SILENT, Underway("replies before", "replies", 30, 120, 0.0, SILENT + 1.0)),
    ],
)
def test_done_of_total_and_the_time_left(tmp_path, facts, now, expected):
    write_json(tmp_path / FILE, {**NOTE, **facts})
    assert underway(tmp_path, now=now) == expected


@pytest.mark.parametrize(
    "text",
    ["", "[]", "3", "{}", "null", json.dumps({**NOTE, "done": "many"}), json.dumps({**NOTE, "done": -1}),
     json.dumps({**NOTE, "total": 10**400}), json.dumps({**NOTE, "started": float("nan")}), "[" * 100_000],
)  # fmt: skip
def test_a_note_that_is_broken_is_none(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    assert underway(tmp_path, now=1010.0) is None


def begun(folder, name, at=1000.0):
    Stage(folder / "steps" / name, {"step": name})
    os.utime(folder / "steps" / name / "key.json", (at, at))
    return folder / "steps" / name


def lines(path, rows, at=1010.0):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.utime(path, (at, at))


def test_without_a_note_the_rows_of_the_open_step_are_counted(tmp_path):
    """A red team's attack has as many rows as there are goals: 20 of 80 in 10 s, 60 more take 30 s."""
    lines(tmp_path / "goals.jsonl", [{}] * 80)
    step = begun(tmp_path, "attack-fiction")
    lines(step / "shard-00000.jsonl", [{}] * 20)
    (step / "dropped.jsonl").write_text("{}\n")
    assert underway(tmp_path, now=1010.0) == Underway("attack-fiction", "rows", 20, 80, 30.0, 0.0)
    write_json(step / "manifest.json", {})
    assert underway(tmp_path, now=1010.0) is None, "it is done"


def test_the_replies_after_are_as_many_as_those_before(tmp_path):
    lines(begun(tmp_path, "02-replies-before") / "shard-00000.jsonl", [{}] * 48)
    write_json(tmp_path / "steps" / "02-replies-before" / "manifest.json", {})
    lines(begun(tmp_path, "09-replies-after") / "shard-00000.jsonl", [{}] * 12)
    assert underway(tmp_path, now=1010.0) == Underway("09-replies-after", "rows", 12, 48, 30.0, 0.0)
    lines(begun(tmp_path, "99-other") / "shard-00000.jsonl", [{}] * 7)
    os.utime(tmp_path / "steps" / "09-replies-after", (900.0, 900.0))
    assert underway(tmp_path, now=1010.0) == Underway("99-other", "rows", 7, None, None, 0.0)


def test_the_last_loss_comes_from_the_log_without_the_line_that_is_being_written(tmp_path):
    step = begun(tmp_path, "07-dpo")
    lines(step / "log.jsonl", [{"step": 0, "loss": 2.5}, {"step": 1, "loss": 2.25}])
    with (step / "log.jsonl").open("a") as file:
        file.write('{"step": 2, "loss": 9')
    os.utime(step / "log.jsonl", (1010.0, 1010.0))
    assert underway(tmp_path, now=1010.0) == Underway("07-dpo", "steps", 2, None, None, 0.0, 2.25)
    write_json(tmp_path / FILE, {**NOTE, "step": "preference optimisation"})
    assert underway(tmp_path, now=1010.0).loss == 2.25
    assert underway(tmp_path, ended=True, now=1010.0).loss is None


# ---------------------------------------------------------------- the pages

CHILD = """
import sys, time
from pathlib import Path
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal

journey = Journey(Path(sys.argv[1]), Terminal(quiet=True))
stage = journey.stage("02-replies-before", model="m")

def work(index, part):
    if index == 2:
        print("two shards", flush=True)
        sys.stdin.readline()
    time.sleep(0.6)
    return [{"n": n} for n in part]

with journey.step("replies before", 40, "replies") as advance:
    stage.map(range(40), 10, work, advance)
    stage.finish()
"""


def test_the_page_follows_a_run_that_another_process_began(tmp_path):
    """Two of four shards are written when the page is loaded; the bar says so, and goes when the step has ended."""
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             text=True)  # fmt: skip
    with child, serving(tmp_path) as running:
        assert child.stdout.readline() == "two shards\n"
        browser = running.browser()
        for path in ("/runs/list", "/run/mine", "/run/mine/now"):
            text = browser.get(path).text
            assert '<progress max="40" value="20" aria-label="replies before">' in text, path
            assert "<b>20</b> of 40 replies" in text
            assert " left" in text
        assert 'hx-get="/run/mine/now" hx-trigger="every 2s"' in text
        assert "<html" not in text, "a part of the page"
        child.stdin.write("\n")
        child.stdin.close()
        assert child.wait(60) == 0
        text = browser.get("/run/mine/now").text
        assert "<progress" not in text
        assert 'hx-get="/run/mine/now"' in text, "the next step is waited for"
        write_json(folder / "report.json", {"kind": "repair", "title": "Mine"})
        text = browser.get("/run/mine/now").text
        assert "The run has ended" in text
        assert "hx-get" not in text
        assert not (folder / FILE).exists()


def test_what_a_note_says_is_shown_as_text(tmp_path):
    evil = "<script>alert(1)</script>\u202e"
    folder = tmp_path / "runs" / "mine"
    (folder / "steps").mkdir(parents=True)
    write_json(folder / FILE, {**NOTE, "step": evil, "unit": evil})
    with serving(tmp_path) as running:
        text = running.browser().get("/run/mine").text
        assert "<script>alert" not in text
        assert "&lt;script&gt;alert(1)&lt;/script&gt;⟨U+202E⟩" in text
        assert "nothing written for" in text, "the note is of long ago"
