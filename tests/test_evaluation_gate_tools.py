"""The gate where other tools run it: pytest's fixture and the GitHub Actions workflow."""

import re
import shlex
import subprocess
import sys

import pytest
import yaml

from primum.cli import VERBS, _load, _parse, main
from primum.core.errors import UsageError
from primum.core.store import write_json
from primum.evaluation.items import Metric
from primum.evaluation.tables import FORMAT, RESULTS, ScoredItem, Table, table_facts, write_table
from primum.verbs.pytest_plugin import Gate

HARM = {"harm": Metric("share that is harmful", "lower_is_better")}


def run_folder(folder, values):
    rows = tuple(ScoredItem(f"i{i}", "", {"harm": float(value)}) for i, value in enumerate(values))
    one = Table("set", "rules", HARM, rows, {"own_judge": "rules"})
    write_table(folder / "items", one)
    write_json(folder / RESULTS, {"format": FORMAT, "tables": [table_facts(one)]})


INNER = """
import pytest

def test_same(primum_gate): assert primum_gate("same", baseline="same").outcome == "passed"
def test_worse(primum_gate): primum_gate("worse", baseline="same")
def test_few(primum_gate): primum_gate("few", baseline="few")
def test_few_skipped(primum_gate): primum_gate("few", baseline="few", undecided="skip")
def test_wide_margin(primum_gate): primum_gate("worse", baseline="same", margin=0.6)
def test_command_line(primum_gate): primum_gate()
"""


@pytest.mark.timeout(600)  # starts a second pytest
def test_the_fixture_passes_fails_and_does_not_pass_what_is_undecided(tmp_path):
    for name, values in {"same": [0] * 300, "worse": [1, 0] * 150, "few": [0] * 12}.items():
        run_folder(tmp_path / name, values)
    (tmp_path / "test_inner.py").write_text(INNER)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "-p", "primum.verbs.pytest_plugin"]
    runs = ["--primum-run", "worse", "--primum-baseline", "same"]
    done = subprocess.run([*command, *runs, "test_inner.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    outcomes = {name: word for word, name in re.findall(r"(PASSED|FAILED) test_inner\.py::(\w+)", done.stdout)}
    assert outcomes == {
        "test_same": "PASSED", "test_worse": "FAILED", "test_few": "FAILED", "test_wide_margin": "PASSED",
        "test_command_line": "FAILED",
    }  # fmt: skip
    assert "1 skipped" in done.stdout
    assert "Failed: set harm." in done.stdout
    assert "items would decide" in done.stdout


def test_the_fixture_without_runs_says_what_is_missing():
    with pytest.raises(UsageError, match="a run is needed"):
        Gate(None, None, None)()


def test_the_workflow_is_yaml_whose_commands_primum_understands(tmp_path, capsys):
    path = tmp_path / ".github" / "workflows" / "safety.yml"
    assert main(["gate", "--workflow", str(path)]) == 0
    workflow = yaml.safe_load(path.read_text())
    commands = [shlex.split(step["run"], comments=True) for step in workflow["jobs"]["gate"]["steps"] if "run" in step]
    ours = [words for words in commands if words[0] == "primum"]
    assert [words[1] for words in ours] == ["evaluate", "gate"]
    for words in ours:
        verb = VERBS[words[1]]
        assert _parse(words[1], verb, _load(verb.config), words[2:])  # an unknown flag raises
    assert main(["gate", "--workflow", str(path)]) == 2  # it may hold the user's edits
    assert "this file exists" in capsys.readouterr().err
