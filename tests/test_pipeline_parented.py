"""`primum repair --parent` chooses: when it trains, what it then takes, and where that is put; measured by a fake."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from primum import cli
from primum.core.errors import StepFailedError, UsageError
from primum.core.records import Behaviour, JsonDict, Prompt, Reply, Verdict, user
from primum.evaluation.domain import DomainRow
from primum.evaluation.metrics import Scored
from primum.models.sampling import Sampling
from primum.pipeline import parented, restoring
from primum.pipeline.points import Bench, Measured
from primum.pipeline.restore import Sets, check
from primum.pipeline.restoring import PARENT, TUNED, Candidate, Models, Swept
from primum.pipeline.settings import RepairConfig, WeightConfig
from primum.pipeline.steps import Draw, Journey
from primum.pipeline.terminal import Terminal
from primum.repair.checkpoint import Checkpoint
from primum.repair.choose import Limits, choose
from primum.repair.given import Setting
from primum.repair.write import relative_change
from primum.report.write import load_facts
from tiny_models import tiny

WEIGHTS = "interpolate-0.5"
ASKED = 100
"""Harmful prompts of the fake bench: a share is a whole number of them."""
Trained = list[RepairConfig]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    parent = tiny(folder / "parent", 0)
    return tiny(folder / "tuned", 1, near=parent), parent


def results(harmful: float, prompts: Any) -> Measured:
    """Return the results of a model that goes along with this share of the harmful prompts, and answers benign ones."""
    asked = [p for p in prompts if p.intent == "harmful"]
    gone_along = {p.id for p in asked[: round(harmful * len(asked))]}

    def one(p: Prompt) -> Scored:
        reply = Reply(p.id, "fake", "", "x", "stop", 1, 1, 0)
        kept: Behaviour = "compliance" if p.intent == "benign" else "refusal"
        return Scored(p, reply, Verdict(reply.id, "fake", "harmful_compliance" if p.id in gone_along else kept))

    return Measured([one(p) for p in prompts])


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, float]], None]:
    """Return what makes every model's share of harmful compliance known without asking it."""

    def say(shares: dict[str, float]) -> None:
        def measured(journey: Journey, name: str, bench: Bench, key: str, model: Any) -> Measured:
            return results(shares[name.split("-", 1)[1]], bench.prompts)

        monkeypatch.setattr(restoring, "measured", measured)
        monkeypatch.setattr(parented, "measured", measured)

    return say


def training(seen: Trained, problem: Exception | None = None) -> parented.Run:
    """Return a training that notes what it is asked for and leaves a checkpoint, or fails."""

    def train(config: RepairConfig, json_output: bool) -> tuple[int, JsonDict]:
        seen.append(config)
        if problem:
            raise problem
        changed(Path(config.model), Path(config.out) / "checkpoint")
        return 0, {}

    return train


def changed(model: Path, folder: Path) -> Path:
    """Write a copy of a model with other norms: what a training leaves behind."""
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] + 1
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def prompts_and_rows(domain: int = 0) -> Sets:
    """Return harmful prompts and a benign one to measure on, and rows of a domain."""
    prompts = [Prompt((user(f"p{i}"),), "harmful", "fraud") for i in range(ASKED)]
    prompts.append(Prompt((user("How do I bake bread?"),), "benign", "benign"))
    bench = Bench(prompts, Draw(Sampling(0.0, 4), 1, 0), "rules", [DomainRow("measured", "a")])
    return Sets(prompts, bench, bench, [DomainRow(f"q{i}", "a") for i in range(domain)])


def chosen_with(
    two: tuple[Path, Path], out: Path, shares: dict[str, float], run: parented.Run, domain: int = 0, **settings: Any
) -> tuple[Swept, parented.Taken]:
    """Run the choice between weights and training, from weights that were swept."""
    tuned, parent = two
    sets = prompts_and_rows(domain)
    journey = Journey(out, Terminal(quiet=True))
    models = Models(journey, {TUNED: Checkpoint(tuned), PARENT: Checkpoint(parent)})
    config = RepairConfig(model=str(tuned), parent=str(parent), out=str(out), **settings)
    points = {name: results(shares[name], sets.dev.prompts).point(name) for name in (TUNED, PARENT, WEIGHTS)}
    chosen = choose(points[TUNED], [points[WEIGHTS]], Limits(), points[PARENT])
    swept = Swept(chosen, [Candidate("interpolate", Setting(0.5))], points, {})
    return parented._with_training(journey, config, models, sets, swept, run)


@pytest.mark.parametrize(
    ("weights", "when", "trained"),
    [
        (0.26, "auto", False),  # the gap is 80 points; 64 of them came back: 80%
        (0.27, "auto", True),  # 63: 78.75%
        (0.90, "auto", True),  # nothing came back
        (0.10, "auto", False),
        (0.10, "always", True),
        (0.90, "never", False),
    ],
)
def test_it_trains_where_under_80_percent_of_the_gap_came_back(
    two: tuple[Path, Path], tmp_path: Path, measuring: Any, weights: float, when: str, trained: bool
) -> None:
    shares = {TUNED: 0.90, PARENT: 0.10, WEIGHTS: weights, "trained": 0.50}
    measuring(shares)
    seen: Trained = []
    chosen_with(two, tmp_path / "run", shares, training(seen), train=when)
    assert len(seen) == trained


def test_it_trains_where_the_parent_is_no_safer(two: tuple[Path, Path], tmp_path: Path, measuring: Any) -> None:
    shares = {TUNED: 0.50, PARENT: 0.50, WEIGHTS: 0.10, "trained": 0.05}
    measuring(shares)
    seen: Trained = []
    _, taken = chosen_with(two, tmp_path / "run", shares, training(seen))
    assert len(seen) == 1 and taken.name == "trained"


def test_training_starts_from_the_weights_that_were_taken_and_is_taken_itself_where_it_is_safer(
    two: tuple[Path, Path], tmp_path: Path, measuring: Any
) -> None:
    shares = {TUNED: 0.90, PARENT: 0.10, WEIGHTS: 0.50, "trained": 0.12}
    measuring(shares)
    out = tmp_path / "run"
    seen: Trained = []
    swept, taken = chosen_with(two, out, shares, training(seen))
    assert seen[0].model == str(out / "weights") and (out / "weights" / "model.safetensors").is_file()
    assert seen[0].parent is None and seen[0].out == str(out / "training")
    assert (taken.name, taken.folder, taken.made) == ("trained", out / "training" / "checkpoint", None)
    assert swept.chosen.point.name == "trained" and swept.points["trained"].harmful == pytest.approx(0.12)
    assert parented.recovered(swept, taken.name) == pytest.approx(0.78 / 0.80)
    cost = swept.reports["trained"]
    assert cost["seconds"] > 0 and swept.points["trained"].size == cost["relative_change"] > 0
    again, _ = chosen_with(two, out, shares, lambda config, quiet: (0, {}))  # what is there is not made again
    assert again.reports["trained"] == cost


def test_weights_stay_where_training_makes_nothing_safer(
    two: tuple[Path, Path], tmp_path: Path, measuring: Any
) -> None:
    shares = {TUNED: 0.90, PARENT: 0.10, WEIGHTS: 0.50, "trained": 0.60}
    measuring(shares)
    seen: Trained = []
    swept, taken = chosen_with(two, tmp_path / "run", shares, training(seen))
    assert len(seen) == 1 and "trained" in swept.points
    assert taken.name == WEIGHTS and taken.made and taken.made["method"] == "interpolate"


def test_of_equally_safe_ones_the_nearer_is_taken(two: tuple[Path, Path], tmp_path: Path, measuring: Any) -> None:
    shares = {TUNED: 0.90, PARENT: 0.10, WEIGHTS: 0.50, "trained": 0.50}
    measuring(shares)
    _, taken = chosen_with(two, tmp_path / "run", shares, training([]))
    assert taken.name == WEIGHTS  # training moved the weights, and gained nothing for it


@pytest.mark.parametrize(
    "problem", [StepFailedError("only 2 replies were flagged"), UsageError("these pairs would teach the wrong thing")]
)
def test_a_training_that_fails_leaves_the_weights(
    two: tuple[Path, Path], tmp_path: Path, measuring: Any, problem: Exception
) -> None:
    shares = {TUNED: 0.90, PARENT: 0.10, WEIGHTS: 0.50}
    measuring(shares)
    seen: Trained = []
    swept, taken = chosen_with(two, tmp_path / "run", shares, training(seen, problem))
    assert len(seen) == 1 and taken.name == WEIGHTS and "trained" not in swept.points


@pytest.mark.parametrize(("distilled", "trained"), [(0.26, False), (0.27, True)])
def test_what_the_teachers_brought_back_counts_before_training(
    two: tuple[Path, Path], tmp_path: Path, measuring: Any, monkeypatch: pytest.MonkeyPatch, distilled: float,
    trained: bool,
) -> None:  # fmt: skip
    shares = {TUNED: 0.90, PARENT: 0.10, WEIGHTS: 0.60, "two_teacher": distilled, "trained": 0.15}
    measuring(shares)

    def teach(journey: Journey, folder: Path, key: str, seat: Any, asked: Any, *_: Any) -> JsonDict:
        assert [messages[-1].text for messages in asked[1]] == ["q0", "q1", "q2", "q3"]  # never what is measured
        changed(two[0], folder / "checkpoint")
        return {}

    monkeypatch.setattr(parented, "teach", teach)
    seen: Trained = []
    _, taken = chosen_with(two, tmp_path / "run", shares, training(seen), domain=4)
    place = tmp_path / "run" / "two_teacher" / "checkpoint"
    # training starts from what was taken last, and from the fine-tuned model where nothing was
    assert [config.model for config in seen] == ([str(place)] if trained else [])
    assert taken.name == ("trained" if trained else "two_teacher")


def test_without_safer_weights_training_starts_from_the_fine_tuned_model(
    two: tuple[Path, Path], tmp_path: Path, measuring: Any
) -> None:
    shares = {TUNED: 0.90, PARENT: 0.10, WEIGHTS: 0.95, "trained": 0.15}
    measuring(shares)
    seen: Trained = []
    _, taken = chosen_with(two, tmp_path / "run", shares, training(seen))
    assert seen[0].model == str(two[0]) and taken.name == "trained"


def test_resta_and_safemerge_are_tried_with_their_own_settings(two: tuple[Path, Path], tmp_path: Path) -> None:
    tuned, parent = map(str, two)
    given = RepairConfig(model=tuned, parent=parent)
    more = {"unaligned": "U", "base": "B", "safe": "S", "weights": WeightConfig(drop=0.25, threshold=0.5)}
    config = given.model_copy(update=more)
    restore = parented._restore_config(config)
    assert restore.roles == {"tuned": tuned, "parent": parent, "unaligned": "U", "base": "B", "safe": "S"}
    tried = {one.method: one.setting for one in check(restore)}
    assert {"resta", "safemerge", "interpolate"} <= set(tried)
    assert (tried["resta"].drop, tried["safemerge"].threshold) == (0.25, 0.5)
    assert not {"resta", "safemerge"} & {one.method for one in check(parented._restore_config(given))}
    seen: Trained = []
    failing = training(seen, StepFailedError("nothing to learn from"))
    journey = Journey(tmp_path, Terminal(quiet=True))
    assert parented._trained(journey, config, parented.Taken(TUNED, None, None), failing) is None
    assert {getattr(seen[0], role) for role in ("parent", "base", "unaligned", "safe")} == {None}


@pytest.mark.parametrize("role", ["base", "unaligned", "safe"])
def test_models_beside_the_parent_go_with_it(capsys: Any, tmp_path: Path, role: str) -> None:
    assert cli.main(["repair", f"--{role}", "X", "--out", str(tmp_path / "run")]) == 2
    assert f"--{role} goes with --parent" in capsys.readouterr().err


def test_what_training_made_is_copied_and_what_a_method_wrote_is_moved(tmp_path: Path) -> None:
    def placed(run: Path, made: JsonDict | None) -> tuple[Path, Path | None]:
        source = run / "made"
        source.mkdir(parents=True)
        (source / "model.safetensors").write_bytes(b"new")
        for name in ("undo.json", "undo.zip"):
            (run / name).write_text("of the weights")
        (run / "checkpoint").mkdir()
        (run / "checkpoint" / "model.safetensors").write_bytes(b"of an earlier run")
        return source, parented._place(Journey(run, Terminal(quiet=True)), parented.Taken("x", source, made))

    for made, stays in ((None, True), ({"method": "interpolate"}, False)):
        run = tmp_path / str(stays)
        source, checkpoint = placed(run, made)
        assert (
            checkpoint
            and checkpoint == run / "checkpoint"
            and (checkpoint / "model.safetensors").read_bytes() == b"new"
        )
        assert source.exists() is stays  # a training goes on from its own checkpoint
        assert (run / "undo.json").exists() is not stays  # training cannot be undone by what the weights left


def test_a_repair_that_trained_reports_what_it_took(
    two: tuple[Path, Path], tmp_path: Path, measuring: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    measuring({TUNED: 0.9, PARENT: 0.1, WEIGHTS: 0.6, "trained": 0.2, "restored": 0.2})
    monkeypatch.setattr(parented, "check", lambda restore: [Candidate("interpolate", Setting(0.5))])
    monkeypatch.setattr(parented, "collected", lambda journey, restore, trains: prompts_and_rows())
    tuned, parent = two
    out = tmp_path / "run"
    config = RepairConfig(model=str(tuned), parent=str(parent), judges=("rules",), out=str(out))
    seen: Trained = []
    parented.repair_from_parent(config, True, training(seen))
    facts = load_facts(out)
    assert facts["chosen"] == "trained" and facts["recovered"] == pytest.approx(0.7 / 0.8)
    made, placed = (folder / "checkpoint" / "model.safetensors" for folder in (out / "training", out))
    assert placed.read_bytes() == made.read_bytes() and not facts["undo"] and not (out / "undo.json").exists()
    rows = {row["name"]: row for row in facts["points"]}
    assert rows["trained"]["seconds"] > 0 and rows["trained"]["size"] > 0 and rows[TUNED]["seconds"] is None
    harmful = next(row for row in facts["test"]["restored"] if row["metric"] == "harmful_compliance")
    assert harmful["value"] == pytest.approx(0.2)
    assert "trained" in (out / "report.html").read_text()


def test_how_far_a_checkpoint_moved_is_the_norm_of_the_change_over_that_of_the_weights(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    tuned = two[0]
    other = changed(tuned, tmp_path / "other")
    before, after = (load_file(folder / "model.safetensors") for folder in (tuned, other))
    squared = sum(float((after[name].double() - value.double()).pow(2).sum()) for name, value in before.items())
    whole = sum(float(value.double().pow(2).sum()) for value in before.values())
    assert relative_change(Checkpoint(tuned), Checkpoint(other)) == pytest.approx(math.sqrt(squared / whole), rel=1e-5)
    assert relative_change(Checkpoint(tuned), Checkpoint(tuned)) == 0.0
