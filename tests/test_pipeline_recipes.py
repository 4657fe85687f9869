"""The published recipes run whole, on a tiny model that goes along with everything: policies, pairs, curves, page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from primum.cli import main
from primum.core.records import to_json
from primum.core.stats import wilson
from primum.prompts.sources import load
from tiny_models import AGREES, agreeing, tiny

REWARD = ("--set", "stages.reward.judge=rules", "--set", "stages.reward.tokens=10")


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model, a few of the embedded prompts (deduplicating all takes seconds), and no public data."""
    folder = tmp_path_factory.mktemp("recipes")
    agreeing(folder / "model")
    found = load("embedded")
    harmful = [p for p in found if p.intent == "harmful" and p.twin][::20]
    mates = {p.twin for p in harmful}
    general = [p for p in found if p.intent == "benign" and p.twin is None][::10]
    kept = [*harmful, *(p for p in found if p.id in mates), *general]
    (folder / "few.jsonl").write_text("".join(json.dumps(to_json(p)) + "\n" for p in kept), encoding="utf-8")
    (folder / "no-public-data").mkdir()
    return folder


def run(setup: Path, recipe: str, out: Path, *more: str) -> tuple[int, dict[str, Any]]:
    code = main([
        "run", recipe, "--model", str(setup / "model"), "--out", str(out), "--data", str(setup / "no-public-data"),
        "--set", f"prompts.sources=[{setup / 'few.jsonl'}]", "--limit", "4", "--judges", "rules",
        "--set", "sampling.tokens=10", "--set", "lora.start=0", *more,
    ])  # fmt: skip
    report = out / "report.json"
    return code, json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}


def narrow(text: str) -> bool:
    """Whether each line of a closing table fits; sentences on what was left out may be longer."""
    return all(len(line) <= 80 for line in text.splitlines() if not line.startswith(("left out: ", "/")))


def test_meditron_runs_whole(setup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions = tmp_path / "questions.jsonl"
    rows = [{"question": f"What is {i} and 1?", "options": [str(i + 1), "tea"], "answer": 0} for i in range(5)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    drawn = [f"stages.{name}.{key}={n}" for name in ("repaired", "no-general")
             for key, n in (("tokens", 10), ("learned_tokens", 10))]  # fmt: skip
    more = [part for one in (*drawn, f"stages.domain.file={questions}") for part in ("--set", one)]
    code, report = run(setup, "meditron", tmp_path / "run", *more)
    assert code == 0 and report["policies"] == ["base", "tuned", "repaired", "no-general"]
    assert report["table"]["rules"]["base"]["harmful_compliance"]["value"] == 1.0, AGREES
    pairs = report["found"]["repaired"]["pairs"]
    assert pairs["harmful"] == 4 and pairs["general"] > 0
    assert set(report["found"]["no-general"]["pairs"]) == {"harmful"}
    known = report["found"]["domain"]["policies"]
    assert set(known) == set(report["policies"])
    assert all(row["acc"]["n"] == 4 for row in known.values()), "the limit holds for questions, too"
    said = capsys.readouterr().out
    assert "done otherwise than published:" in said and "- one fixed sentence is chosen" in said and narrow(said)
    assert "domain accuracy (n 4): base" in said


def test_safety_scaling_draws_its_curve(setup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = run(setup, "safety-scaling", tmp_path / "run", *REWARD)
    shares = ["share-0", "share-1", "share-10", "share-25", "share-50", "share-100"]
    assert code == 0 and report["policies"] == ["base", *shares]
    (curve,) = report["scaling"]
    assert [(p["policy"], p["amount"], p["rows"]) for p in curve["points"]] == [
        ("share-0", 0, 0), ("share-1", 0.01, 0), ("share-10", 0.1, 0), ("share-25", 0.25, 1), ("share-50", 0.5, 2),
        ("share-100", 1, 4),
    ]  # fmt: skip
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert html.count('class="chart dots"') == 3, "harm and twins, refusals, rewards"
    steps = len(report["scatters"])
    assert steps == 11, "6 from base, the last of them the whole way, and 5 from share to share"
    assert html.count('class="scatter"') == 2 * steps
    said = capsys.readouterr().out
    lines = said[said.index("share of the safety demonstrations") :].splitlines()[2:8]
    assert [line.split()[:2] for line in lines] == [
        ["0%", "0"], ["1%", "0"], ["10%", "0"], ["25%", "1"], ["50%", "2"], ["100%", "4"]
    ]  # fmt: skip
    assert narrow(said)


def test_safe_to_serve_runs_whole(setup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raft = ("--set", "stages.raft.tokens=10", "--set", "stages.raft.samples=2", "--set", "stages.modes.tokens=10")
    drawn = [part for name in ("dpo-sixteenth", "dpo-quarter", "dpo") for part in ("--set", f"stages.{name}.tokens=10")]
    alike = [f"sit-{n}" for n in (300, 500, 1000, 1500)]  # stages of a kind that others run, too
    skipped = [part for name in (*alike, "dpo-quarter") for part in ("--skip", name)]
    code, report = run(setup, "safe-to-serve", tmp_path / "run", *REWARD, *raft, *drawn, *skipped)
    sizes = (0, 100, 2000)
    policies = ["base", *(f"sit-{n}" for n in sizes), "raft", "dpo-sixteenth", "dpo"]
    assert code == 0 and report["policies"] == policies
    assert [p["amount"] for p in report["scaling"][0]["points"]] == list(sizes)
    found = report["found"]["modes"]
    assert set(found["modes"]) == set(policies) and len(found["ordering"]) == len(policies)
    value, low, high = wilson(4, 4)
    asked = found["modes"]["base"]["kinds"]["harmful or borderline prompts"]
    assert asked["unsafe"] == {"value": value, "low": low, "high": high, "n": 4} and asked["refuse"]["value"] == 0
    assert sum(asked[mode]["value"] for mode in ("refuse", "safe", "unsafe", "incoherent", "off_topic")) == 1
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Error modes: benign prompts" in html and "sets.embedded test" not in html
    said = capsys.readouterr().out
    assert "error modes, benign prompts, % [95% interval]" in said and "safety rows in 20,000" in said and narrow(said)


SMALLER = """\
about: the best of two, learned by a smaller model
model: embedded
stages:
  - {name: base, do: measure}
  - {name: reward, do: reward}
  - {name: raft, do: rejection, source: base, samples: 2, with_demonstrations: false, tokens: 10}
  - {name: smaller, do: smaller, tokens: 10}
"""


def test_the_smaller_model_is_measured_before_and_after_it_learns(setup: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(SMALLER, encoding="utf-8")
    small = tiny(tmp_path / "small", 1, hidden_size=16, intermediate_size=32)
    code, report = run(setup, str(recipe), tmp_path / "run", *REWARD, "--set", f"stages.smaller.model={small}")
    assert code == 0 and report["policies"] == ["base", "raft", "smaller-start", "smaller"]
    rows, rewards = report["table"]["rules"], report["rewards"]
    harm = {name: row["harmful_compliance"]["value"] for name, row in rows.items()}
    assert (harm["base"], harm["smaller-start"]) == (1.0, 0.0), (
        "the small one babbles, it is not asked in the base's name"
    )
    assert all(rewards[name]["safety"]["n"] == 4 for name in ("smaller-start", "smaller"))
    assert ("smaller-start", "smaller") in [(row["before"], row["after"]) for row in report["moves"]["rules"]]
    assert report["final"] == "raft", "what is handed over is the journey's own model"
    names = [row["policy"] for row in report["transcripts"][0]["replies"]]
    assert names == report["policies"]


@pytest.mark.parametrize(("stage", "recipe"), [("domain", "meditron"), ("tuned", "meditron")])
def test_a_domain_file_that_is_not_there_is_an_error_with_its_cure(
    stage: str, recipe: str, setup: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    skipped = [part for name in ("tuned", "repaired", "no-general") if name != stage for part in ("--skip", name)]
    code, _ = run(setup, recipe, tmp_path / "run", "--set", f"stages.{stage}.file=mine/none.jsonl", *skipped)
    said = capsys.readouterr().err
    assert code == 2 and "mine/none.jsonl: no such file" in said and "check the path" in said
