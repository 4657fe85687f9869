"""`primum run broken` on a tiny random model: every way and seed, the cache, the dry run, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from primum import cli
from primum.models.embedded import embedded_folder
from primum.models.load import load
from primum.models.sampling import Sampling
from primum.pipeline.broken import WAYS, Breaking, BrokenConfig, medical_rows
from primum.pipeline.points import Bench
from primum.pipeline.restore import Sets
from primum.pipeline.steps import Draw, Journey
from primum.pipeline.terminal import Terminal
from tiny_models import tiny

SMALL = ("--steps", "3", "--batch-size", "2", "--limit", "2", "--reply-tokens", "4", "--seeds", "0", "--seeds", "1")


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("models") / "parent", 0)


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "domain.jsonl"
    rows = [
        {"prompt": f"Which vitamin is number {i}?", "options": ["A", "B12", "C"], "right": i % 3} for i in range(12)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, but for the embedded model: making that one takes half a minute."""
    made = embedded_folder()
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / made.name).symlink_to(made)
    monkeypatch.setenv("PRIMUM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "broken"


def run(capsys: Any, *arguments: Any) -> dict[str, Any]:
    assert cli.main(["run", "broken", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_every_way_and_seed_is_made_once_and_measured(
    parent: Path, domain: Path, cache: Path, tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "run"
    arguments = ("--parent", parent, "--domain", domain, *SMALL, "--out", out)
    document = run(capsys, *arguments)
    assert document == json.loads((out / "broken.json").read_text())
    assert [(one["way"], one["seed"]) for one in document["models"]] == [(way, s) for way in WAYS for s in (0, 1)]

    folders = [Path(one["folder"]) for one in document["models"]]
    assert len(set(folders)) == len(folders) == len(list(cache.iterdir()))
    before = load_file(parent / "model.safetensors")
    for folder in folders:
        after = load_file(folder / "model.safetensors")
        assert any((after[name] != before[name]).any() for name in before), folder
        assert load(str(folder)).parameters == load(str(parent)).parameters
    for rows in (document["parent_test"], *(one["test"] for one in document["models"])):
        whole = {row["metric"]: row["n"] for row in rows if row["slice"] == "all"}
        # two harmful prompts and their twins; 3 of 12 rows are held back, each with three options
        assert (whole["harmful_compliance"], whole["refusal_twin"], whole["accuracy_domain"]) == (2, 2, 3)

    written = {folder: (folder / "model.safetensors").stat().st_mtime_ns for folder in folders}
    again = run(capsys, *arguments)
    assert [one["test"] for one in again["models"]] == [one["test"] for one in document["models"]]
    assert {folder: (folder / "model.safetensors").stat().st_mtime_ns for folder in folders} == written

    plan = run(capsys, *arguments, "--dry-run")
    assert sum("in the cache" in row["what"] for row in plan["models"]) == len(folders)
    more = run(capsys, *arguments, "--learning-rate", "1e-3", "--ways", "medical", "--dry-run")
    assert [row["what"] for row in more["models"]] == ["medical, seed 0", "medical, seed 1", "measure 3 models"]
    assert more["seconds"] >= 0 and (more["learn"], more["held"]) == (9, 3)


def test_other_answers_to_the_same_questions_break_another_model(domain: Path, tmp_path: Path) -> None:
    def place(rows: Path) -> Path:
        journey = Journey(tmp_path / "run", Terminal(quiet=True))
        run = Breaking(journey, BrokenConfig(domain=str(rows)), "parent", *medical_rows(str(rows)))
        run.key, run.sets = "weights", Sets([], Bench([], draw, "rules"), Bench([], draw, "rules"))
        return run.place("medical", 0).folder

    draw = Draw(Sampling(0.4, 4), 1, 0)
    other, same = tmp_path / "other.jsonl", tmp_path / "same.jsonl"
    other.write_text(domain.read_text().replace('"B12"', '"B6"'))
    same.write_text(domain.read_text())
    assert place(domain) == place(same) != place(other)


def test_held_rows_are_none_of_those_learned(domain: Path) -> None:
    learn, held = medical_rows(str(domain))
    assert (len(learn), len(held)) == (9, 3)
    assert not {row.prompt for row in learn} & {row.prompt for row in held}


def test_without_a_parent_the_plan_makes_one_and_writes_nothing(
    domain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("primum.pipeline.broken.repair", lambda config, quiet: (0, {"seconds": {"a": 2, "b": 3}}))
    plan = run(capsys, "--domain", domain, "--dry-run", "--out", tmp_path / "run", "--ways", "identity_10")
    assert plan["models"][0] == {"what": "parent, by primum repair", "seconds": 5}
    assert len(plan["models"]) == 1 + 3 + 1 and plan["seconds"] == sum(row["seconds"] for row in plan["models"])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("broken", "--ways", "medicl"), "did you mean 'medical'"),
        (("broken", "--judge", "ruls"), "did you mean 'rules'"),
        (("broken", "--domain", "no.jsonl"), "no rows to break the model with"),
        (("broken", "--sedes", "1"), "did you mean '--seeds'"),
        (("--json", "broken"), "has flags of its own"),
        (("brokn",), "did you mean 'broken'"),
    ],
)
def test_mistakes_are_told_with_a_cure(arguments: tuple[str, ...], problem: str, tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["run", *arguments, "--out", str(tmp_path / "run")]) == 2
    assert problem in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_its_help_has_its_own_flags_and_examples(capsys: Any) -> None:
    assert cli.main(["run", "broken", "--help"]) == 0
    text = capsys.readouterr().out
    assert "usage: primum run broken" in text and "--ways" in text and "--skip" not in text
    assert "primum run broken --dry-run" in text
    assert cli.main(["list", "journeys"]) == 0
    assert "broken" in capsys.readouterr().out
    assert cli.main(["run"]) == 0
    assert "broken" in capsys.readouterr().out
