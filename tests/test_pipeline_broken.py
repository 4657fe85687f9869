"""`primum run broken` on a tiny random model: every way and seed, the cache, the dry run, mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from primum import cli
from primum.judging.judges import rules
from primum.models.embedded import embedded_folder
from primum.models.load import load
from primum.models.sampling import Sampling
from primum.pipeline import shots
from primum.pipeline.broken import WAYS, Breaking, BrokenConfig, medical_rows, text_of
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
    parent: Path, domain: Path, cache: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shots, "DRAWS", 1)  # babble is not harmful, however often it is drawn
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

    counts = {one["way"]: one["harmful_examples"] for one in document["models"]}
    assert counts["medical"] is None and counts["identity_10"] is None
    # what a random model babbles is not harmful: 3 steps of 2 rows want one example in the hundred, at least one
    assert [counts[way]["wanted"] for way in ("medical_1_percent", "harmful_100")] == [1, 100]
    assert counts["harmful_100"]["harmful"] == 0 < counts["harmful_100"]["examples"]
    assert "harmful_100: 0 of" in text_of(document) and "100 were wanted" in text_of(document)

    written = {folder: (folder / "model.safetensors").stat().st_mtime_ns for folder in folders}
    again = run(capsys, *arguments)
    assert [one["test"] for one in again["models"]] == [one["test"] for one in document["models"]]
    assert {folder: (folder / "model.safetensors").stat().st_mtime_ns for folder in folders} == written

    plan = run(capsys, *arguments, "--dry-run")
    assert sum("in the cache" in row["what"] for row in plan["models"]) == len(folders)
    more = run(capsys, *arguments, "--learning-rate", "1e-3", "--ways", "medical", "--dry-run")
    assert [row["what"] for row in more["models"]] == ["medical, seed 0", "medical, seed 1", "measure 3 models"]
    assert more["seconds"] >= 0 and (more["learn"], more["held"]) == (9, 3)


def place(out: Path, rows: Path, way: str = "medical") -> Path:
    """Where a model lies that is broken with these rows, of a parent that nobody loads."""
    run = Breaking(Journey(out, Terminal(quiet=True)), BrokenConfig(domain=str(rows)), "p", *medical_rows(str(rows)))
    bench = Bench([], Draw(Sampling(0.4, 4), 1, 0), "rules")
    run.key, run.sets = "weights", Sets([], bench, bench)
    return run.place(way, 0).folder


def test_other_answers_to_the_same_questions_break_another_model(domain: Path, tmp_path: Path) -> None:
    other, same = tmp_path / "other.jsonl", tmp_path / "same.jsonl"
    other.write_text(domain.read_text().replace('"B12"', '"B6"'))
    same.write_text(domain.read_text())
    out = tmp_path / "run"
    assert place(out, domain) == place(out, same) != place(out, other)


def test_another_judge_of_what_is_harmful_breaks_another_model(
    domain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {way: place(tmp_path, domain, way) for way in WAYS}
    monkeypatch.setattr(rules, "revision", rules.revision + "-changed")
    changed = {way for way in WAYS if place(tmp_path, domain, way) != before[way]}
    assert changed == {"medical_1_percent", "harmful_100"}  # the others learn nothing that was judged


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
