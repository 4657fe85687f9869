"""`primum restore` and `primum repair --parent` from end to end on tiny models: files, undo, resume, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from primum import cli
from primum.repair.choose import Chosen, Point
from primum.report.write import load_facts, page_of
from tiny_models import tiny

SMALL = ("--limit", "2", "--reply-tokens", "4", "--temperature", "0")
WAY_BACK = ("undo.json", "undo.zip")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    parent = tiny(folder / "parent", 0)
    return tiny(folder / "tuned", 1, near=parent), parent


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "domain.jsonl"
    lines = [{"prompt": f"Which is vitamin {i}?", "options": ["A", "B12", "C"], "right": i % 3} for i in range(6)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(*arguments: Any) -> int:
    return cli.main([str(a) for a in arguments])


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)


def test_written_without_measuring_and_undone(two: tuple[Path, Path], tmp_path: Path) -> None:
    tuned, parent = two
    out = tmp_path / "run"
    arguments = ("restore", "interpolate", tuned, "--parent", parent, "--strength", "0.5", "--no-measure", "--out", out)
    assert run(*arguments) == 0
    got, a, b = (load_file(f / "model.safetensors") for f in (out / "checkpoint", tuned, parent))
    name = "model.layers.0.self_attn.k_proj.weight"
    assert (got[name] == ((a[name].float() + b[name].float()) / 2).bfloat16()).all()
    assert run("restore", "undo", out, "--out", tmp_path / "back") == 0
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (tuned / "model.safetensors").read_bytes()
    assert (tmp_path / "back" / "tokenizer.json").is_file()
    assert run("restore", "undo", out, "--out", tmp_path / "back") == 2  # it exists
    assert run(*arguments, "--no-undo") == 0 and not any((out / name).exists() for name in WAY_BACK)
    facts = load_facts(out)
    assert facts["kind"] == "restore" and facts["made"]["changed"] > 0 and "without measuring" in page_of(facts)


def test_a_sweep_measures_everything_and_takes_nothing_that_is_no_safer(
    two: tuple[Path, Path], rows: Path, tmp_path: Path
) -> None:
    tuned, parent = two
    out = tmp_path / "run"
    arguments = ("restore", "interpolate", tuned, "--parent", parent, "--domain", rows, *SMALL, "--out", out)
    assert run(*arguments, "--strength", "0.3", "--strength", "0.6") == 0
    facts = load_facts(out)
    assert [p["name"] for p in facts["points"]] == ["tuned", "parent", "interpolate-0.3", "interpolate-0.6"]
    assert all(p["domain_accuracy"] is not None for p in facts["points"])
    # babble complies with nothing: all are equally safe, and the model that was not changed stays
    assert facts["chosen"] == "tuned" and not (out / "checkpoint").exists() and facts["made"] is None
    assert {"tuned", "parent"} == set(facts["test"]) and not list((out / "candidates").glob("*/*.safetensors"))
    names = {row["metric"] for row in facts["test"]["tuned"]}
    assert {"harmful_compliance", "refusal_twin", "nll_domain", "accuracy_domain"} <= names
    before = {p: p.stat().st_mtime_ns for p in out.rglob("shard-*.jsonl")}
    assert run(*arguments, "--strength", "0.3", "--strength", "0.6") == 0  # a second run asks nothing again
    assert {p: p.stat().st_mtime_ns for p in out.rglob("shard-*.jsonl")} == before
    assert load_facts(out)["points"] == facts["points"]


def test_the_chosen_candidate_is_written_and_proved(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import primum.pipeline.restoring as restoring

    def second(tuned: Point, candidates: Any, limits: Any, parent: Any) -> Chosen:
        return Chosen(candidates[1], {}, ())

    monkeypatch.setattr(restoring, "choose", second)  # which one is safer is not what is shown here
    tuned, parent = two
    out = tmp_path / "run"
    flags = ("--strength", "0.3", "--strength", "0.6")
    assert run("restore", "interpolate", tuned, "--parent", parent, *SMALL, *flags, "--out", out) == 0
    facts = load_facts(out)
    assert facts["chosen"] == "interpolate-0.6" and facts["made"]["strength"] == 0.6 and "restored" in facts["test"]
    assert run("restore", "undo", out, "--out", tmp_path / "back") == 0
    assert (tmp_path / "back" / "model.safetensors").read_bytes() == (tuned / "model.safetensors").read_bytes()
    page = (out / "report.html").read_text()
    assert "interpolate-0.6" in page and "taken" in page and "<script" not in page


def test_one_safe_answer_is_learned(two: tuple[Path, Path], tmp_path: Path) -> None:
    tuned, _ = two
    out = tmp_path / "run"
    assert run("restore", "one_shot", tuned, "--strength", "1", "--no-measure", "--out", out) == 0
    got, patched, before = (
        load_file(f / "model.safetensors") for f in (out / "checkpoint", out / "models" / "patched", tuned)
    )
    assert all((got[name] == patched[name].to(got[name].dtype)).all() for name in got)
    assert any((got[name] != before[name]).any() for name in got)


def test_repair_from_a_parent_decides_and_reports(two: tuple[Path, Path], rows: Path, tmp_path: Path) -> None:
    tuned, parent = two
    out = tmp_path / "run"
    out.mkdir()
    for name in WAY_BACK:
        (out / name).write_text("of an earlier run")
    flags = ("--train", "never", "--budget", "quick", "--judges", "rules", "--domain", rows, *SMALL)
    code = run("repair", tuned, "--parent", parent, *flags, "--out", out)
    facts = load_facts(out)
    assert code in (1, 3) and facts["decision"]["outcome"] in ("failed", "undecided")  # babble is not useful
    tried = {p["name"].rpartition("-")[0] for p in facts["points"]} - {""}
    assert (
        tried == {"interpolate", "one_shot", "gradient"} and facts["recovered"] is None
    )  # no gap between two babblers
    assert (out / "report.html").is_file()
    # nothing is safer than a babbler: nothing was written, and nothing of an earlier run can be undone any more
    assert facts["chosen"] == "tuned" and not facts["undo"] and not any((out / name).exists() for name in WAY_BACK)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("interpolat", "TUNED", "--parent", "PARENT"), "did you mean 'interpolate'"),
        (("interpolate",), "no fine-tuned model is named"),
        (("interpolate", "TUNED"), "needs --parent MODEL"),
        (("lox", "TUNED", "--parent", "PARENT"), "needs --base MODEL"),
        (("interpolate", "TUNED", "--parent", "PARENT", "--no-measure"), "without measuring nothing can be chosen"),
        (("interpolate", "TUNED", "--parent", "PARENT", "--judge", "ruls"), "did you mean 'rules'"),
        (("interpolate", "TUNED", "--parent", "PARENT", "--out", "TUNED"), "is the tuned model's folder"),
        (("interpolate", "no/such", "--parent", "PARENT", "--strength", "1", "--no-measure"), "cannot load model"),
        (("undo", "TUNED", "--out", "TUNED-2"), "nothing to undo with"),
        (("undo", "TUNED"), "where to?"),
    ],
)
def test_mistakes_are_told_with_a_cure(
    two: tuple[Path, Path], tmp_path: Path, capsys: Any, arguments: tuple[str, ...], problem: str
) -> None:
    places = {"TUNED": str(two[0]), "PARENT": str(two[1]), "TUNED-2": str(tmp_path / "x")}
    given = [places.get(a, a) for a in arguments]
    out = () if "--out" in given or given[:1] == ["undo"] else ("--out", str(tmp_path / "run"))
    assert run("restore", *given, *out) == 2
    text = capsys.readouterr().err
    assert problem in text and "cure:" in text
