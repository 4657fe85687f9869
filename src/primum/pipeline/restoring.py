"""The sweep of weight-space repairs: candidates are written, measured and removed again; one is taken."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from primum.core.catalogue import member, names
from primum.core.errors import UsageError
from primum.core.records import JsonDict, Prompt, digest
from primum.core.store import read_json, write_json
from primum.pipeline.points import Bench, Measured, measured
from primum.pipeline.steps import Journey
from primum.repair.checkpoint import Checkpoint
from primum.repair.choose import Chosen, Limits, Point, choose
from primum.repair.given import Method, Setting
from primum.repair.gradients import EXAMPLES, gradient
from primum.repair.one_shot import Patch, patched
from primum.repair.source import template_of, unpacked
from primum.repair.write import write

if TYPE_CHECKING:
    from primum.models.load import Model

TUNED, PARENT = "tuned", "parent"
AUTO = "auto"
MADE = ("patched", "gradient")
"""Roles that no user names: they are made from the fine-tuned model."""


@dataclass(frozen=True)
class Candidate:
    """A method with its settings."""

    method: str
    setting: Setting

    @property
    def name(self) -> str:
        """A short name, also of its folders."""
        return f"{self.method}-{self.setting.strength:g}"


@dataclass
class Models:
    """The models of a sweep by role, as folders of safetensors, and what says which weights they hold."""

    journey: Journey
    checkpoints: dict[str, Checkpoint] = field(default_factory=dict[str, Checkpoint])

    def add(self, role: str, name: str) -> None:
        """Find a model's weights; adapters, GGUF files and hub models are written out into the run folder once."""
        with self.journey.step(f"find the {role} model"):
            self.checkpoints[role] = unpacked(name, self.journey.folder / "models" / role).checkpoint

    def key(self, *roles: str) -> str:
        """Return a hash of the weights' places, sizes and times: reading 70B to hash it would take an hour."""
        facts: list[list[object]] = []
        for role in roles:
            model = self.checkpoints[role]
            facts.append([role, str(model.folder.resolve()), *model.stamp])
        return digest(facts)


@dataclass(frozen=True)
class Swept:
    """All points that were measured on dev, what each change did, and which one was taken."""

    chosen: Chosen
    candidates: Sequence[Candidate]
    points: dict[str, Point]
    reports: Mapping[str, JsonDict]

    @property
    def taken(self) -> Candidate | None:
        """The candidate that was taken; None where the fine-tuned model itself is the best."""
        return next((one for one in self.candidates if one.name == self.chosen.point.name), None)


def wanted(method: str, strengths: Sequence[float], roles: Sequence[str], setting: Setting) -> list[Candidate]:
    """Return the candidates: one method's, or (`auto`) those of all whose models are there.

    Raises:
        UsageError: no such method, or none has the models that it needs.
    """
    chosen = names("repairs") if method == AUTO else [method]
    found: list[Candidate] = []
    for name in chosen:
        one = cast(Method, member("repairs", name))
        if method == AUTO and not set(one.needs) <= {*roles, *MADE}:
            continue
        found += [Candidate(name, _with(setting, s)) for s in strengths or one.sweep]
    if not found:
        raise UsageError("no method has the models that it needs", cure="give --parent MODEL")
    return found


def _with(setting: Setting, strength: float) -> Setting:
    return Setting(**{**vars(setting), "strength": strength})


def prepare(models: Models, candidates: Sequence[Candidate], prompts: Sequence[Prompt], patch: Patch) -> None:
    """Make what candidates need beside the models given: a patched model, a gradient."""
    roles = {role for one in candidates for role in cast(Method, member("repairs", one.method)).needs}
    folder, tuned = models.journey.folder / "models", str(models.checkpoints[TUNED].folder)
    if "patched" in roles:
        with models.journey.step("learn one safe answer", patch.steps, "steps") as advance:
            models.checkpoints["patched"] = patched(tuned, prompts, patch, folder / "patched", advance)
    if "gradient" in roles:
        with models.journey.step("gradient of safe answers", EXAMPLES, "answers") as advance:
            models.checkpoints["gradient"] = gradient(tuned, prompts, patch.seed, folder / "gradient", advance)


def sweep(models: Models, candidates: Sequence[Candidate], bench: Bench, limits: Limits) -> Swept:
    """Measure the fine-tuned model, the parent and every candidate on the bench, and take one.

    A candidate's weights are written to the run folder, measured, and removed; what was measured is kept.
    """
    points: dict[str, Point] = {}
    for role in (TUNED, PARENT):
        if role in models.checkpoints:
            points[role] = base_measured(models, role, bench, "dev").point(role)
    reports: dict[str, JsonDict] = {}
    for one in candidates:
        result, reports[one.name] = _candidate(models, one, bench)
        points[one.name] = result.point(one.name, reports[one.name]["relative_change"])
    ours = [points[one.name] for one in candidates]
    return Swept(choose(points[TUNED], ours, limits, points.get(PARENT)), candidates, points, reports)


def base_measured(models: Models, role: str, bench: Bench, when: str) -> Measured:
    """Measure one of the models given."""
    folder, key = models.checkpoints[role].folder, f"{role}@{models.key(role)}"
    return measured(models.journey, f"{when}-{role}", bench, key, loading(models.journey, folder))


def _candidate(models: Models, one: Candidate, bench: Bench) -> tuple[Measured, JsonDict]:
    folder, key = models.journey.folder / "candidates" / one.name, candidate_key(models, one)
    report = models.journey.folder / "candidates" / f"{one.name}.json"
    journey = models.journey

    def load() -> Model:
        if not (folder / "config.json").is_file() or not is_of(report, key):
            make(models, one, folder, None, report)
        return loading(journey, folder)()

    if not is_of(report, key):
        make(models, one, folder, None, report)
    result = measured(journey, f"dev-{one.name}", bench, key, _once(load))
    shutil.rmtree(folder, ignore_errors=True)
    return result, read_json(report)


def candidate_key(models: Models, one: Candidate) -> str:
    """Return what a candidate's weights depend on."""
    roles = [TUNED, *(role for role in needed(one) if role in models.checkpoints)]
    return f"{one.name}@{digest([vars(one.setting), models.key(*roles)])}"


def needed(one: Candidate) -> list[str]:
    """Return the roles that a candidate reads, beside the fine-tuned model."""
    return [*cast(Method, member("repairs", one.method)).needs, *(["safe"] if one.method == "safemerge" else [])]


def is_of(report: Path, key: str) -> bool:
    """Whether a candidate's report is there and speaks of these weights."""
    return report.is_file() and read_json(report).get("key") == key


def make(models: Models, one: Candidate, folder: Path, undo: Path | None, report: Path | None = None) -> JsonDict:
    """Write a candidate's weights; `undo` keeps what turns them back."""
    own = {role: models.checkpoints[role] for role in [TUNED, *needed(one)] if role in models.checkpoints}
    total = len(own[TUNED].entries)
    with models.journey.step(f"{one.method} at {one.setting.strength:g}", total, "tensors") as advance:
        done = write(one.method, one.setting, own, folder, undo, advance)
    done["key"] = candidate_key(models, one)
    if report is not None:
        write_json(report, done)
    return done


def loading(journey: Journey, folder: Path) -> Callable[[], Model]:
    """Return what loads a folder once, when it is first needed (inside the step that needs it)."""

    def load_it() -> Model:
        from primum.models.load import load

        journey.terminal.note(f"  load {folder.name}")
        return load(str(folder))

    return _once(load_it)


def _once(load: Callable[[], Model]) -> Callable[[], Model]:
    held: list[Model] = []

    def get() -> Model:
        held[:] = held or [load()]
        return held[0]

    return get


def check_templates(models: Models) -> str | None:
    """Return a note where the fine-tuned model and the parent speak through different chat templates.

    A parent of text has no use for the marks of pictures: of its template nothing is said.
    """
    pair = [one for role in (TUNED, PARENT) if (one := models.checkpoints.get(role))]
    texts = {template_of(one) for one in pair}
    if len(texts) < 2 or None in texts or len({one.sees for one in pair}) > 1:
        return None
    return (
        "the fine-tuned model has another chat template than its parent: try the parent's first, safety often comes "
        "back with it (arXiv:2402.18540)"
    )
