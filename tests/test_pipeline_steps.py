"""How a run begins: settings are kept, a report of others is removed, a model inside the run folder is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from primum.cli import main
from primum.core.errors import UsageError
from primum.pipeline.steps import Journey, outside
from primum.pipeline.terminal import Terminal

FILES = ["evidence.json", "other.json", "report.html", "report.json"]


def begun(folder: Path, settings: dict[str, int]) -> str:
    told = io.StringIO()
    Journey(folder, Terminal(told)).begin(settings, "evidence.json")
    assert json.loads((folder / "settings.json").read_text()) == settings
    return told.getvalue()


def test_a_report_stays_with_its_settings_and_goes_with_others(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert begun(folder, {"seed": 0}) == ""
    for name in FILES:
        (folder / name).write_text("{}")
    assert begun(folder, {"seed": 0}) == ""
    assert sorted(path.name for path in folder.iterdir()) == [*FILES, "settings.json"]
    assert "other settings: what still fits is used, its report removed" in " ".join(begun(folder, {"seed": 1}).split())
    assert sorted(path.name for path in folder.iterdir()) == ["other.json", "settings.json"]


def test_a_name_that_is_no_path_lies_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outside("embedded", ".")
    (tmp_path / "runs" / "x" / "checkpoint").mkdir(parents=True)
    (tmp_path / "runs" / "y").mkdir()
    outside("runs/x/checkpoint", "runs/y")
    with pytest.raises(UsageError, match=r"runs/y/\.\./x/checkpoint: the model lies inside the run folder 'runs/x'"):
        outside("runs/y/../x/checkpoint", "runs/x")


@pytest.mark.parametrize(
    "verb", [["repair"], ["stress"], ["redteam"], ["run", "vectors"], ["run", "llama2", "--model"]], ids=" ".join
)
def test_every_verb_refuses_a_model_inside_its_run_folder(
    verb: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "run" / "checkpoint"
    model.mkdir(parents=True)
    assert main([*verb, str(model), "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert f"{model}: the model lies inside the run folder '{tmp_path / 'run'}'" in told
    assert "cure: give another --out" in told
    assert not (tmp_path / "run" / "settings.json").exists()
