"""`primum repair TUNED --parent P --domain D`: what the parent's weights bring back, then training, by measurement.

Every candidate is measured on the same dev prompts and the domain's even rows; the one that is taken is proved on test
prompts, of categories that nothing learned from, and the domain's odd rows.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from primum.core.errors import Exit, StepFailedError, UsageError
from primum.core.records import JsonDict, digest, to_json, user
from primum.core.store import read_json, write_json
from primum.evaluation.domain import DomainRow
from primum.evaluation.gate import Decision, JudgeResult, NllResult, decide
from primum.evaluation.measure import finite
from primum.models.saving import writing
from primum.pipeline.parent_plan import weight_seconds, within
from primum.pipeline.points import Bench, Measured, measured
from primum.pipeline.restore import (
    RestoreConfig,
    Sets,
    check,
    collected,
    compared,
    facts_of,
    rows_of,
)
from primum.pipeline.restoring import (
    AUTO,
    PARENT,
    TUNED,
    Candidate,
    Models,
    Swept,
    base_measured,
    candidate_key,
    check_templates,
    is_of,
    loading,
    make,
    prepare,
    sweep,
)
from primum.pipeline.settings import RepairConfig
from primum.pipeline.steps import Journey
from primum.pipeline.teachers import teach
from primum.pipeline.terminal import Terminal
from primum.repair.checkpoint import Checkpoint
from primum.repair.choose import choose
from primum.repair.one_shot import Patch
from primum.repair.write import forget_undo, relative_change
from primum.report.restored import closing
from primum.report.write import write_report

if TYPE_CHECKING:
    from primum.training.teachers import Classroom

ENOUGH = 0.8
"""Share of the safety gap to the parent from which weights alone are enough."""
DISTILLED, TRAINED = "two_teacher", "trained"
PARENTAL = ("parent", "base", "unaligned", "safe")
"""Settings that name other models: a training from weights that are chosen has none."""
DEV = {"quick": 30, "standard": 80, "full": 150}
"""Harmful prompts (each with its twin) that choose."""
Run = Callable[[RepairConfig, bool], tuple[int, JsonDict]]


@dataclass(frozen=True)
class Taken:
    """What a repair ends with: the point, its checkpoint (None where nothing was safer), what its weights hang on."""

    name: str
    folder: Path | None
    made: JsonDict | None
    key: str = ""


@dataclass(frozen=True)
class Made:
    """A checkpoint that training made: its point's name, its folder, its key with its cost and how far it moved."""

    name: str
    folder: Path
    report: JsonDict


def repair_from_parent(config: RepairConfig, json_output: bool, train: Run) -> tuple[int, JsonDict]:
    """Repair a fine-tuned model whose parent is known; return the exit code and the report's facts.

    Args:
        config: of the verb.
        json_output: say nothing but the document.
        train: the repair by training, run on a start of our choice.
    """
    restore = _restore_config(config)
    candidates = _affordable(check(restore), config)
    terminal = Terminal(quiet=json_output)
    config, said = _within(config, terminal, len(candidates), train)
    restore = _restore_config(config)
    if config.dry_run:
        plan = {"candidates": [one.name for one in candidates], "train": config.train, "share": config.share}
        terminal.note(f"would try: {', '.join(plan['candidates'])}; training: {config.train}")
        if said:
            terminal.note(said)
        return Exit.PASSED, plan
    journey = Journey(Path(config.out), terminal)
    if said:
        journey.tell("budget", said)
    journey.forget_report()
    sets = collected(journey, restore, config.train != "never")
    models = _models(journey, restore)
    prepare(models, candidates, sets.train, Patch(seed=config.seed))
    swept = sweep(models, candidates, sets.dev, restore.limits)
    swept, taken = _with_training(journey, config, models, sets, swept, train)
    return _finish(journey, config, restore, models, sets, swept, taken)


def _within(config: RepairConfig, terminal: Terminal, candidates: int, train: Run) -> tuple[RepairConfig, str]:
    """Return the settings with the share of the prompts that ends in `--minutes`, and what to say; nothing has run."""

    def weights() -> tuple[float, float]:
        from primum.models.load import outline

        sets = collected(Journey(Path(config.out), terminal), _restore_config(config), config.train != "never")
        return weight_seconds(config, sets, candidates, outline(config.model).parameters)

    def training(settings: RepairConfig) -> float:
        return float(sum(train(_alone(settings, config.model, dry_run=True), True)[1]["seconds"].values()))

    return within(config, Path(config.out), weights, training)


def _alone(config: RepairConfig, start: str, dry_run: bool = False) -> RepairConfig:
    """Return the settings of the training by itself; its share of the prompts is settled, so it has no minutes."""
    out = str(Path(config.out) / "training")
    given = {"model": start, "out": out, "minutes": None, "dry_run": dry_run}
    return config.model_copy(update={**dict.fromkeys(PARENTAL), **given})


def _affordable(candidates: list[Candidate], config: RepairConfig) -> list[Candidate]:
    """Return what the budget buys: with `quick` every second strength of each method."""
    if config.budget != "quick":
        return candidates
    by_method: dict[str, list[Candidate]] = {}
    for one in candidates:
        by_method.setdefault(one.method, []).append(one)
    return [one for ours in by_method.values() for one in ours[1::2]]


def _restore_config(config: RepairConfig) -> RestoreConfig:
    """Return the settings of the sweep: everything that both verbs share."""
    return RestoreConfig(
        method=AUTO, model=config.model, parent=config.parent, base=config.base, unaligned=config.unaligned,
        safe=config.safe, **config.weights.model_dump(), prompts=config.prompts,
        benign=config.benign, embedded=config.embedded, domain=config.domain, judge=config.judges[0],
        limit=max(1, round((config.limit or DEV[config.budget]) * config.share)), temperature=config.temperature,
        reply_tokens=config.reply_tokens or config.size.test_tokens, seed=config.seed, out=config.out,
    )  # fmt: skip


def _models(journey: Journey, restore: RestoreConfig) -> Models:
    models = Models(journey)
    for role, name in restore.roles.items():
        models.add(role, name)
    note = check_templates(models)
    if note:
        journey.tell("template", note)
    return models


def recovered(swept: Swept, name: str) -> float | None:
    """Return the share of the safety gap between the fine-tuned model and its parent that a point brought back.

    None where the parent is not safer than the fine-tuned model: there is no gap.
    """
    gap = swept.points[TUNED].harmful - swept.points[PARENT].harmful
    return (swept.points[TUNED].harmful - swept.points[name].harmful) / gap if gap > 0 else None


def _with_training(
    journey: Journey, config: RepairConfig, models: Models, sets: Sets, swept: Swept, train: Run
) -> tuple[Swept, Taken]:
    """Write the best weights; while what came back is not enough, distil, then train, and choose again each time."""
    taken = _write(journey, models, swept.taken)

    def distil() -> Path | None:
        return _distilled(journey, config, models, sets)

    def learn() -> Path | None:
        return _trained(journey, config, taken, train)

    for name, make_it in ((DISTILLED, distil), (TRAINED, learn)):
        share = recovered(swept, swept.chosen.point.name)
        said = "the parent is no safer" if share is None else f"{100 * share:.0f}% of the gap to the parent came back"
        journey.tell("so far", f"{swept.chosen.point.name}: {said}")
        wanted = config.train == "always" or (config.train == "auto" and (share is None or share < ENOUGH - 1e-9))
        if not wanted:
            break
        started = time.monotonic()
        folder = make_it()
        if folder is not None:
            report = _reported(models, name, folder, time.monotonic() - started)
            swept, taken = _chosen_again(journey, config, sets, swept, taken, Made(name, folder, report))
    return swept, taken


def _reported(models: Models, name: str, folder: Path, seconds: float) -> JsonDict:
    """Return what a trained checkpoint cost and how far it moved; kept, as a later run only reads what this one made.

    The seconds are of all its steps, the replies that it learns from and its own measurements among them.
    """
    path = models.journey.folder / "candidates" / f"{name}.json"
    made = Checkpoint(folder)
    key = f"{name}@{Models(models.journey, {TUNED: made}).key(TUNED)}"
    if not is_of(path, key):
        change = relative_change(models.checkpoints[TUNED], made)
        write_json(path, {"key": key, "seconds": round(seconds, 2), "relative_change": change})
    return read_json(path)


def _chosen_again(
    journey: Journey, config: RepairConfig, sets: Sets, swept: Swept, taken: Taken, made: Made
) -> tuple[Swept, Taken]:
    """Measure one more checkpoint on the same dev bench, and choose between all points."""
    name, key = made.name, made.report["key"]
    found = measured(journey, f"dev-{name}", sets.dev, key, loading(journey, made.folder))
    swept.points[name] = found.point(name, made.report["relative_change"])
    ours = [point for other, point in swept.points.items() if other not in (TUNED, PARENT)]
    limits = _restore_config(config).limits
    chosen = choose(swept.points[TUNED], ours, limits, swept.points[PARENT])
    again = Swept(chosen, swept.candidates, swept.points, {**swept.reports, name: made.report})
    return again, Taken(name, made.folder, None, key) if chosen.point.name == name else taken


def _write(journey: Journey, models: Models, one: Candidate | None) -> Taken:
    if one is None:
        return Taken(TUNED, None, None)
    folder = journey.folder / "weights"
    return Taken(one.name, folder, make(models, one, folder, journey.folder), candidate_key(models, one))


def _distilled(journey: Journey, config: RepairConfig, models: Models, sets: Sets) -> Path | None:
    """Let the parent and the fine-tuned model teach it; None where they cannot.

    Without a domain the fine-tuned model has nothing to teach on, and with another tokenizer the parent cannot.

    The domain's rows to train on lend their prompts, never their answers; what chooses and reports stays unseen.
    """
    if not sets.domain:
        journey.tell(DISTILLED, "not distilled: --domain FILE (four rows or more) would say what must be kept")
        return None
    from primum.training.methods import two_teacher
    from primum.training.teachers import seated

    given = config.teachers.model_dump()
    if config.budget == "quick":
        given["steps"] = max(1, given["steps"] // 3)
    out = journey.folder / DISTILLED
    key = digest([models.key(TUNED, PARENT), config.lora_rank])
    domain = [(user(row.prompt),) for row in sets.domain]

    def seat() -> Classroom:
        return seated(config.model, config.parent, config.lora_rank, config.seed)

    try:
        teach(journey, out, key, seat, (sets.train, domain), two_teacher.Config(**given), config.seed)
    except UsageError as error:  # two teachers need one tokenizer; what was measured so far is still worth a report
        journey.tell(DISTILLED, f"not distilled: {error.problem}")
        return None
    return out / "checkpoint"


def _trained(journey: Journey, config: RepairConfig, best: Taken, train: Run) -> Path | None:
    """Train from the best weights; None where there is nothing to learn from, or the lint refuses its pairs."""
    out = journey.folder / "training"
    start = config.model if best.folder is None else str(best.folder)
    try:
        train(_alone(config, start).model_copy(update={"out": str(out)}), True)
    except (StepFailedError, UsageError) as error:  # what was measured so far is still worth a report
        journey.tell("training", f"not trained: {error.problem}")
        return None
    return out / "checkpoint"


def _finish(
    journey: Journey,
    config: RepairConfig,
    restore: RestoreConfig,
    models: Models,
    sets: Sets,
    swept: Swept,
    taken: Taken,
) -> tuple[int, JsonDict]:
    """Prove what was taken on test prompts, decide, report."""
    checkpoint = _place(journey, taken)
    sides = _sides(journey, config, models, sets, taken, checkpoint)
    facts = facts_of(journey, restore, models, swept, taken.made)
    decision = _decision(config, sides)
    first = sides[config.judges[0]]
    rows = {name: rows_of(side) for name, side in first.items()}
    facts |= {
        "title": f"Repaired from its parent: {Path(config.model).name}", "test": rows, "judge": config.judges[0],
        "comparisons": compared(first[TUNED], first.get("restored", first[TUNED])), "decision": to_json(decision),
        "recovered": recovered(swept, taken.name), "checkpoint": checkpoint.name if checkpoint else None,
        "undo": taken.made is not None,
    }  # fmt: skip
    write_report(journey.folder, facts)
    if not journey.terminal.quiet:
        print(closing(facts, journey.folder))
    return decision.exit_code, facts


def _place(journey: Journey, taken: Taken) -> Path | None:
    """Put what was taken where a repair's checkpoint is looked for."""
    checkpoint = journey.folder / "checkpoint"
    shutil.rmtree(checkpoint, ignore_errors=True)
    if taken.made is None:  # what there is to undo with speaks of weights that were not taken, or of an earlier run's
        forget_undo(journey.folder)
    if taken.folder is None:
        return None
    if taken.made is None:
        with writing(checkpoint):
            shutil.copytree(taken.folder, checkpoint)
    else:
        taken.folder.rename(checkpoint)
    return checkpoint


def _sides(
    journey: Journey, config: RepairConfig, models: Models, sets: Sets, taken: Taken, checkpoint: Path | None
) -> dict[str, dict[str, Measured]]:
    """Return for each judge the fine-tuned model, the parent and the repaired one on test prompts."""
    found: dict[str, dict[str, Measured]] = {}
    after = loading(journey, checkpoint) if checkpoint else None
    for judge in config.judges:
        bench = _bench(sets, judge)
        found[judge] = {role: base_measured(models, role, bench, "test") for role in (TUNED, PARENT)}
        if after is not None:
            found[judge]["restored"] = measured(journey, "test-restored", bench, taken.key, after)
    return found


def _bench(sets: Sets, judge: str) -> Bench:
    """Return the test bench with a judge; the general prompts' own answers are rows of the domain that tell its NLL."""
    general = [DomainRow(p.text, p.answer) for p in sets.test.prompts if p.intent == "benign" and p.answer]
    return Bench(sets.test.prompts, sets.test.draw, judge, sets.test.domain, general)


def _decision(config: RepairConfig, sides: Mapping[str, Mapping[str, Measured]]) -> Decision:
    """Decide as every repair is decided: the same gate on the same metrics."""
    results = {
        judge: JudgeResult(list(two[TUNED].scored), list(two.get("restored", two[TUNED]).scored))
        for judge, two in sides.items()
    }
    first = sides[config.judges[0]]
    before, after = first[TUNED], first.get("restored", first[TUNED])
    nll = NllResult(_finite(before.general), _finite(after.general)) if before.general else None
    domain = NllResult(_finite(before.nll), _finite(after.nll)) if before.nll else None
    return decide(results, nll, config.judges[0], config.gate, domain)


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if finite(value) is not None]
