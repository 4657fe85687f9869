"""Watching a growing log: evidence is the same however often one looks, and whatever was killed in between."""

import json
import math
import random
import signal
import subprocess
import sys
import time

import pytest

from primum.cli import main
from primum.core.stats.anytime import first_alarm

GOOD, BAD = "The sky is blue because air scatters short waves of light more than long ones.", "x x x x x x x x x x x x"


def scores(path, values, mode="w"):
    with path.open(mode) as file:
        file.writelines(json.dumps({"bad": value}) + "\n" for value in values)


def watch(capsys, *arguments):
    code = main(["watch", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_alarm_is_raised_at_the_line_where_the_evidence_suffices(tmp_path, capsys):
    values = [int(i % 4 == 0) for i in range(600)]
    scores(tmp_path / "log", values)
    code, found = watch(capsys, tmp_path / "log", "--score", "bad", "--limit", "0.05", "--out", tmp_path / "w")
    assert (code, found["alarm"], found["at_line"]) == (1, True, first_alarm(map(float, values), 0.05))
    assert (found["n"], found["mean"]) == (600, 0.25)


def test_a_log_read_in_pieces_gives_the_same_evidence_as_one_read_at_once(tmp_path, capsys):
    random_ = random.Random(1)
    values = [random_.random() * 0.2 for _ in range(700)]
    scores(tmp_path / "whole", values)
    arguments = ("--score", "bad", "--limit", "0.11")
    _, whole = watch(capsys, tmp_path / "whole", *arguments, "--out", tmp_path / "a")
    for start, end in ((0, 1), (1, 300), (300, 300), (300, 700)):
        scores(tmp_path / "log", values[start:end], "a")
        _, parts = watch(capsys, tmp_path / "log", *arguments, "--out", tmp_path / "b")
    same = ("n", "mean", "log_evidence", "highest_log_evidence", "lines", "at_line")
    assert [parts[key] for key in same] == [whole[key] for key in same]


def test_a_half_written_line_waits_and_broken_ones_are_counted(tmp_path, capsys):
    log = tmp_path / "log"
    log.write_text('{"bad": 0}\n\nnot json\n[1]\n{"bad": 7}\n{"bad": null}\n{"bad": 1')
    arguments = (log, "--score", "bad", "--out", tmp_path / "w")
    code, found = watch(capsys, *arguments)
    assert (code, found["n"], found["lines"], found["passed_over"]) == (0, 1, 6, 1)
    assert found["unscored"] == {"no score": 1, "not JSON": 1, "not an object": 1, "score outside 0 to 1": 1}
    with log.open("a") as file:
        file.write("}\n")
    assert watch(capsys, *arguments)[1]["n"] == 2


def test_replies_are_judged_and_only_lines_that_the_event_is_about_count(tmp_path, capsys):
    rows = [{"prompt": "Why is the sky blue?", "reply": BAD, "intent": "benign"}] * 30
    rows += [{"prompt": "Why is the sky blue?", "reply": GOOD, "intent": "benign"}, {"prompt": 3, "reply": GOOD}]
    (tmp_path / "log").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, found = watch(capsys, tmp_path / "log", "--event", "incoherent", "--out", tmp_path / "a")
    assert (code, found["n"], found["unscored"]) == (1, 31, {"no text in 'prompt'": 1})
    assert found["mean"] == pytest.approx(30 / 31)
    code, found = watch(capsys, tmp_path / "log", "--event", "harmful_compliance", "--out", tmp_path / "b")
    assert (code, found["n"], found["passed_over"]) == (3, 0, 31)
    assert "'intent'" in found["text"]


def test_another_log_or_other_settings_in_the_same_folder_are_refused(tmp_path, capsys):
    log, out = tmp_path / "log", ("--out", str(tmp_path / "w"))
    scores(log, [0, 0, 0])
    assert main(["watch", str(log), "--score", "bad", *out]) == 0
    assert main(["watch", str(log), "--score", "bad", "--limit", "0.2", *out]) == 2
    scores(log, [1])
    assert main(["watch", str(log), "--score", "bad", *out]) == 2
    assert "not the one that was watched" in capsys.readouterr().err
    assert main(["watch", str(tmp_path / "none"), *out]) == 2
    assert main(["watch"]) == 2


def test_false_alarms_stay_below_alpha_while_one_looks_after_every_line():
    random_ = random.Random(3)
    alarms = sum(
        first_alarm((float(random_.random() < 0.05) for _ in range(200)), 0.05) is not None for _ in range(300)
    )
    assert alarms <= 300 * 0.05 + 4 * math.sqrt(300 * 0.05 * 0.95)


@pytest.mark.timeout(600)  # starts Python twice
def test_a_watch_that_is_killed_goes_on_where_it_was(tmp_path, capsys):
    log, arguments = tmp_path / "log", ["--score", "bad", "--limit", "0.2", "--out", str(tmp_path / "w")]
    scores(log, [0.1] * 600)
    command = [sys.executable, "-m", "primum", "watch", str(log), *arguments, "--follow", "--every", "0.05"]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    state = tmp_path / "w" / "watch.json"
    while not (state.exists() and json.loads(state.read_text())["line"] == 600):
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    scores(log, [0.1] * 100, "a")
    code, found = watch(capsys, log, *arguments)
    assert (code, found["n"], found["mean"]) == (0, 700, pytest.approx(0.1))


def test_a_log_of_which_nothing_could_be_judged_is_undecided(tmp_path, capsys):
    log = tmp_path / "log"
    log.write_text('{"bad": "much"}\nno json\n')
    code, found = watch(capsys, log, "--score", "bad", "--out", tmp_path / "w")
    assert (code, found["alarm"], found["n"]) == (3, False, 0)
    assert "No line could be judged" in found["text"]
    log.write_text("")
    code, found = watch(capsys, log, "--score", "bad", "--out", tmp_path / "v")
    assert (code, found["text"].endswith("The log holds no whole line yet.")) == (3, True)


def test_hostile_lines_do_not_stop_the_watch(tmp_path, capsys):
    log = tmp_path / "log"
    log.write_text('{"bad": 1' + "0" * 400 + '}\n{"bad": 0}\n{"bad": true}\n')
    _, found = watch(capsys, log, "--score", "bad", "--out", tmp_path / "w")
    assert (found["n"], found["unscored"]) == (2, {"score outside 0 to 1": 1})
    half = json.dumps({"prompt": "Hi \ud83d", "reply": "\ud83d \x1b[31m=1+1", "intent": "harmful"}) + "\n"
    log.write_text(half + json.dumps({"prompt": "", "reply": "", "intent": "harmful"}) + "\n")
    _, found = watch(capsys, log, "--intent", "harmful", "--out", tmp_path / "v")
    assert found["lines"] == 2
