"""The grid of a stress run: the untouched model, then cell after cell, each resumable, none kept but for counts."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from primum import __version__
from primum.core.catalogue import member
from primum.core.errors import StepFailedError
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict, Prompt, Reply
from primum.core.store import Stage
from primum.core.taxonomy import policy, stamp
from primum.judging import Exchange
from primum.judging.runner import judge_all
from primum.models.sampling import Sampling
from primum.pipeline.choose import choose
from primum.pipeline.settings import Budget
from primum.pipeline.shots import DRAWS, Examples, domain_key, weights_of
from primum.pipeline.steps import Journey, prompts_key
from primum.prompts.collect import Source, collect
from primum.repair.source import unpacked
from primum.stress import measure
from primum.stress.catalogue import Cell
from primum.stress.finetune import run_of
from primum.stress.setting import Aids, Point, Setup, Shape, SkippedError, Tamper, with_system

if TYPE_CHECKING:
    from primum.models.load import Model

VERSION = 1
"""Raise when a cell writes something else for the same settings."""
EMBEDDED_TOKENS = 2e12
"""SmolLM2-135M was pretrained on 2 trillion tokens (arXiv:2502.02737)."""
SCREEN = 256
"""Prompts that attacks may use, of each kind, at most."""


class Prompts(NamedTuple):
    """Prompts that are measured on, and those that attacks may use; no prompt is both."""

    all: list[Prompt]
    attack_harmful: list[Prompt]
    attack_benign: list[Prompt]

    @property
    def harmful(self) -> list[Prompt]:
        """The harmful ones that are measured on: all that a point of a training is asked."""
        return [p for p in self.all if p.intent == "harmful"]


@dataclass(frozen=True)
class Grid:
    """All that a stress run needs to know."""

    model: str
    cells: Sequence[Cell]
    shape: Shape
    prompts: Prompts
    tokens: int
    temperature: float
    seed: int
    judges: Sequence[str]
    system: str
    base: str | None
    broken: str | None
    domain: str | None
    pretraining_tokens: float | None
    settings: JsonDict

    @property
    def sampling(self) -> Sampling:
        """How the untouched model is asked."""
        return Sampling(self.temperature, self.tokens)


def prompts_of(harmful: int, general: int) -> Prompts:
    """Return the embedded prompts: held-out ones to measure on, those to learn from for the attacks."""
    held_out = tuple(c.id for c in policy().categories.values() if c.held_out)
    prompts = collect([Source("embedded")], held_out=held_out, seed=0).prompts
    budget = Budget(SCREEN, SCREEN, None, harmful, general, 1, 1, 1, 0)
    train = choose(prompts, "train", budget)
    benign = [p for p in train if p.intent == "benign"]
    return Prompts(choose(prompts, "test", budget), [p for p in train if p.intent == "harmful"], benign)


@dataclass
class Subject:
    """The model under stress: one copy in memory, loaded anew after a tamper has changed it."""

    journey: Journey
    grid: Grid
    held: Model | None = None

    def clean(self) -> Model:
        """Return an untouched copy."""
        if self.held is None:
            from primum.models.load import load

            self.held = load(self.grid.model)
        return self.held

    def forget(self) -> None:
        """Drop the copy: its weights were changed. Nothing of it was written."""
        self.held = None

    def setup(self) -> Setup:
        """Return the untouched model as it is asked."""
        return Setup(self.clean(), self.grid.sampling, with_system(self.grid.system))


@dataclass
class Result:
    """What is known of a cell: its points' rows and facts, or why there are none."""

    cell: Cell
    points: list[JsonDict] = field(default_factory=list[JsonDict])
    skipped: str | None = None


def measure_all(journey: Journey, grid: Grid) -> JsonDict:
    """Measure the untouched model and every cell; return the report's facts."""
    subject = Subject(journey, grid)
    with journey.step(f"load {Path(grid.model).name}"):
        key = subject.clean().key
    base = unpacked(grid.base, journey.folder / "models" / "base").checkpoint if grid.base else None
    aids = Aids(grid.prompts.attack_harmful, grid.prompts.attack_benign, Examples(journey, grid, key), grid.shape, base)
    untouched = {kind: reference(subject, key, kind, None) for kind in ("all", "harmful")}
    references = _references(subject, key, grid)
    found: list[Result] = []
    with journey.step("tamper and measure", sum(points_of(c, grid.shape) for c in grid.cells), "points") as advance:
        for cell in grid.cells:
            found.append(one_cell(subject, key, cell, aids, advance))
    return Facts(journey, grid, subject.clean(), untouched, found, references).all()


def reference(subject: Subject, key: str, kind: str, tamper: str | None) -> list[JsonDict]:
    """Return the rows of the untouched model, asked as a tamper asks where that is another manner."""
    asked = getattr(member("tampers", tamper), "asked", None) if tamper else None
    name = f"untouched-{kind}" + (f"-as-{tamper}" if tamper else "")
    stage = _stage(subject, name, key, kind, asked=tamper)
    if not stage.manifest:
        with subject.journey.step(name.replace("-", " ")):
            setup = subject.setup()
            rows = _rows(subject, asked(setup) if asked else setup, kind)
            stage.write_shard(0, rows)
            stage.finish(replies=len(rows))
    return stage.rows()


def _references(subject: Subject, key: str, grid: Grid) -> dict[str, list[JsonDict]]:
    """Return the untouched model's rows as each attack by training asks it, and on what other tampers ask instead."""
    names = dict.fromkeys(cell.tamper for cell in grid.cells if cell.kind == "training")
    special = [name for name in names if hasattr(member("tampers", name), "asked")]
    found = {name: reference(subject, key, "harmful", name) for name in special}
    others = [name for name in dict.fromkeys(cell.tamper for cell in grid.cells) if own_prompts(name)]
    return found | {name: reference(subject, key, name, None) for name in others}


def own_prompts(tamper: str) -> bool:
    """Whether a tamper asks other requests than the run's."""
    return hasattr(member("tampers", tamper), "prompts")


def asked_of(grid: Grid, kind: str) -> list[Prompt]:
    """Return prompts by kind: all of the run, the harmful ones, or those of a tamper that has its own."""
    if kind in ("all", "harmful"):
        return grid.prompts.all if kind == "all" else grid.prompts.harmful
    return member("tampers", kind).prompts(len(grid.prompts.harmful))


def judges_of(grid: Grid, kind: str) -> Sequence[str]:
    """Return who judges the replies to prompts of a kind."""
    return grid.judges if kind in ("all", "harmful") else (member("tampers", kind).judge,)


def _stage(subject: Subject, name: str, key: str, kind: str, **more: Any) -> Stage:
    grid = subject.grid
    prompts = asked_of(grid, kind)
    revisions = {judge: member("judges", judge).revision for judge in judges_of(grid, kind)}
    return subject.journey.stage(
        name, version_stress=VERSION, model=key, prompts=prompts_key(prompts), sampling=grid.sampling.name,
        seed=grid.seed, judges=revisions, system=grid.system, **more,
    )  # fmt: skip


def points_of(cell: Cell, shape: Shape) -> int:
    """Return how many points a cell has."""
    return {"training": len(shape.steps), "asking": 1, "weights": 1}[cell.kind] if cell.tamper != "decode" else 6


def one_cell(subject: Subject, key: str, cell: Cell, aids: Aids, advance: Advance = silent) -> Result:
    """Measure the points of a cell; those that are on disk are not measured again.

    A training has to be gone through again up to the point where it was stopped: what it changed was not kept.
    """
    own = own_prompts(cell.tamper)
    kind = cell.tamper if own else "harmful" if cell.kind == "training" else "all"
    facts: JsonDict = {"tamper": cell.tamper, "level": cell.level}
    posed = [member("tampers", cell.tamper).posed(p, cell.level) for p in asked_of(subject.grid, kind)] if own else None
    if posed:
        facts["posed"] = prompts_key(posed)
    if cell.kind != "asking":  # directions, activations and lessons are read off the attack prompts
        facts["attack"] = prompts_key([*aids.harmful, *aids.benign])
    if cell.kind == "training":
        facts |= {"steps": list(aids.shape.steps), "batch": aids.shape.batch, "broken": weights_of(subject.grid.broken),
                  "domain": domain_key(subject.grid.domain), "draws": DRAWS, "pool": max(aids.shape.shots)}  # fmt: skip
    stage = _stage(subject, f"cell-{cell.id}", key, kind, **facts, base=weights_of(subject.grid.base))
    left = points_of(cell, aids.shape)
    if stage.manifest:
        advance(left)
        return Result(cell, stage.rows(), stage.manifest.get("skipped"))
    skipped: str | None = None
    try:
        for number, point in enumerate(_points(subject, cell, aids)):
            if stage.shard(number) is None:
                rows = _rows(subject, point.setup, kind, posed)
                stage.write_shard(number, [{"label": point.label, "facts": dict(point.facts), "rows": rows}])
            advance(1)
            left -= 1
    except SkippedError as error:
        skipped = str(error)
    finally:
        if cell.kind != "asking":
            subject.forget()
    advance(max(0, left))
    rows = stage.rows()
    if rows or not skipped:  # what could not even begin is looked at again the next time
        stage.finish(skipped=skipped)
    return Result(cell, rows, skipped)


def _points(subject: Subject, cell: Cell, aids: Aids) -> Iterator[Point]:
    """Yield the points of a cell; a training that diverges ends it, with the reason."""
    tamper = cast(Tamper, member("tampers", cell.tamper))
    points = iter(tamper.tamper(subject.setup(), cell.level, aids))
    while True:
        try:
            point = next(points)
        except StopIteration:
            return
        except StepFailedError as error:
            raise SkippedError(f"it ended early: {error.problem}") from error
        yield point


def _rows(subject: Subject, setup: Setup, kind: str, posed: Sequence[Prompt] | None = None) -> list[JsonDict]:
    """Ask, judge, and keep the verdicts: the replies of an attacked model go no further.

    Args:
        subject: the model under stress.
        setup: how it is asked.
        kind: of prompts.
        posed: these prompts as they are asked and judged, where that is in other words; rows keep to the given ones.
    """
    from primum.models.engines.hf import HFEngine

    grid = subject.grid
    given = asked_of(grid, kind)
    prompts = posed or given
    drawn = HFEngine(setup.model)([setup.wrap(p.messages) for p in prompts], setup.sampling, grid.seed)
    replies = [
        Reply(p.id, "stressed", setup.sampling.name, r.text, r.finish, r.prompt_tokens, r.reply_tokens, grid.seed,
              r.prompt_cut)
        for p, r in zip(prompts, drawn, strict=True)
    ]  # fmt: skip
    exchanges = [Exchange(p, r) for p, r in zip(prompts, replies, strict=True)]
    said = {judge: judge_all(judge, exchanges) for judge in judges_of(grid, kind)}
    return [
        measure.row(p, r, {judge: verdicts[i] for judge, verdicts in said.items()})
        for i, (p, r) in enumerate(zip(given, replies, strict=True))
    ]


@dataclass
class Facts:
    """Results to the facts of report.json."""

    journey: Journey
    grid: Grid
    model: Model
    untouched: Mapping[str, list[JsonDict]]
    results: Sequence[Result]
    references: Mapping[str, list[JsonDict]]

    def all(self) -> JsonDict:
        """Return everything, as plain JSON."""
        from primum.pipeline.repair import describe

        grid = self.grid
        return {
            "kind": "stress", "primum": __version__, "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "policy": stamp(), "title": f"Stress: {self.model.name}", "model": describe(self.model),
            "settings": grid.settings, "seed": grid.seed,
            "prompts": {"all": len(grid.prompts.all), "harmful": len(grid.prompts.harmful)},
            "judges": {judge: self._judge(judge) for judge in grid.judges},
            "checks": self._checks(), "skipped": self._skipped(), "prompts_cut": self._prompts_cut(),
            "about": {name: member("tampers", name).about for name in dict.fromkeys(c.tamper for c in grid.cells)},
            "seconds": self.journey.seconds, "versions": {"torch": importlib.metadata.version("torch")},
        }  # fmt: skip

    def _skipped(self) -> list[JsonDict]:
        left = [one for one in self.results if one.skipped]
        return [{"tamper": one.cell.tamper, "level": one.cell.level, "why": one.skipped} for one in left]

    def _prompts_cut(self) -> dict[str, int]:
        """Return, by tamper, how many of its prompts were longer than the model's window, at whatever level."""
        asked = {"untouched": [row for rows in (*self.untouched.values(), *self.references.values()) for row in rows]}
        for one in self.results:
            asked.setdefault(one.cell.tamper, []).extend(row for point in one.points for row in point["rows"])
        # rows of an earlier version do not say it
        cut = {name: len({row["prompt"] for row in rows if row.get("prompt_cut")}) for name, rows in asked.items()}
        return {name: n for name, n in cut.items() if n}

    @property
    def by_id(self) -> dict[str, Prompt]:
        """The prompts measured on."""
        own = [p for name in self.references if own_prompts(name) for p in asked_of(self.grid, name)]
        return {p.id: p for p in (*own, *self.grid.prompts.all)}

    def _scored(self, rows: Sequence[Mapping[str, Any]], judge: str) -> Any:
        return measure.scored(rows, judge, self.by_id)

    def _judge(self, judge: str) -> JsonDict:
        untouched = self._scored(self.untouched["all"], judge)
        ours = [one for one in self.results if one.points and not own_prompts(one.cell.tamper)]
        matrix = [row for one in ours for row in self._matrix(one, judge)]
        if judge == self.grid.judges[0]:
            matrix = self._in_order(matrix + self._others())
        curves = [self._curve(one, judge) for one in self.results if one.cell.kind == "training" and one.points]
        return {"untouched": measure.against(untouched, untouched), "matrix": matrix, "curves": curves,
                "families": _families(curves)}  # fmt: skip

    def _others(self) -> list[JsonDict]:
        """Return the rows of tampers with requests of their own: each names its judge, and what it is compared with."""
        found: list[JsonDict] = []
        for one in self.results:
            if one.points and own_prompts(one.cell.tamper):
                judge = member("tampers", one.cell.tamper).judge
                start = self._scored(self._reference(one), judge)
                reference = measure.against(start, start)
                found += [{**row, "judge": judge, "reference": reference} for row in self._matrix(one, judge)]
        return found

    def _in_order(self, matrix: list[JsonDict]) -> list[JsonDict]:
        order = [one.cell.tamper for one in self.results]
        return sorted(matrix, key=lambda row: order.index(row["tamper"]))

    def _matrix(self, one: Result, judge: str) -> list[JsonDict]:
        """Return the cell's rows: its last point, or all its points pooled."""
        together = getattr(member("tampers", one.cell.tamper), "pooled", False)
        if together:
            rows: Sequence[Mapping[str, Any]] = measure.pooled([p["rows"] for p in one.points], self.grid.judges)
        else:
            rows = one.points[-1]["rows"]
        label = (
            one.cell.level
            if together or one.cell.kind != "training"
            else f"{one.cell.level}, {one.points[-1]['label']}"
        )
        found = measure.against(self._scored(self._reference(one), judge), self._scored(rows, judge))
        return [{"tamper": one.cell.tamper, "level": label, "kind": one.cell.kind, **found}]

    def _reference(self, one: Result) -> list[JsonDict]:
        if one.cell.tamper in self.references:
            return self.references[one.cell.tamper]
        return self.untouched["harmful" if one.cell.kind == "training" else "all"]

    def _curve(self, one: Result, judge: str) -> JsonDict:
        points = [(p["facts"]["step"], self._scored(p["rows"], judge)) for p in one.points]
        found = measure.curve(points, self.grid.shape.batch)
        run, facts = run_of(one.cell.level), one.points[-1]["facts"]
        start = measure.against(self._scored(self._reference(one), judge), self._scored(self._reference(one), judge))
        # a harmless fine-tune that leaves safety alone is what one hopes for; one on harmful answers is suspect
        attack = one.cell.tamper != "benign_finetune"
        warning = measure.suspicious(found, facts, start["harmful_compliance"]["value"]) if attack else None
        tokens = self.grid.pretraining_tokens or (EMBEDDED_TOKENS if self.grid.model == "embedded" else None)
        return {
            "tamper": one.cell.tamper, "level": one.cell.level, **run._asdict(), **found, "warning": warning,
            "cost": measure.cost(facts["tokens"], run.way, self.model.parameters, tokens),
            "losses": [facts.get("first_loss"), facts.get("last_loss")],
            "examples": facts["examples"], "harmful": facts.get("harmful"), "short": measure.shortage(run.shots, facts),
        }  # fmt: skip

    def _checks(self) -> list[JsonDict]:
        """Return, of every cell that should not have changed anything yet, if it replies as the untouched model."""
        found: list[JsonDict] = []
        for one in self.results:
            first = one.points[0] if one.points else None
            if first and (first["label"] == "step 0" or (one.cell.tamper, one.cell.level) == ("prefill", "0 tokens")):
                same = measure.same_replies(self._reference(one), first["rows"])
                found.append({"tamper": one.cell.tamper, "level": one.cell.level, **same})
        return found


def _families(curves: Sequence[JsonDict]) -> list[JsonDict]:
    """Return each attack by training over its seeds: the spread of the area and of the steps to 80%."""
    groups: dict[tuple[Any, ...], list[JsonDict]] = {}
    for one in curves:
        groups.setdefault((one["tamper"], one["shots"], one["way"], one["rate"]), []).append(one)
    return [
        {"tamper": tamper, "shots": shots, "way": way, "rate": rate, "seeds": len(rows),
         "area": measure.spread([row["area"] for row in rows]),
         "steps_to_80": measure.spread([row["steps_to_80"] for row in rows]),
         "reached": sum(row["steps_to_80"] is not None for row in rows)}
        for (tamper, shots, way, rate), rows in groups.items()
    ]  # fmt: skip
