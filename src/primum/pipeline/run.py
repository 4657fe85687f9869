"""`primum run`: a whole journey from one file: stages in order, each resumable, and one table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import Field

from primum.core.catalogue import member
from primum.core.config import Config
from primum.core.errors import BadInputError, Exit, MissingExtraError, UsageError, did_you_mean
from primum.core.records import JsonDict, digest, to_json
from primum.core.taxonomy import policy
from primum.pipeline.choose import choose
from primum.pipeline.context import Context, Sets
from primum.pipeline.cost import Cost, Sizes
from primum.pipeline.desk import Desk, Policy
from primum.pipeline.plan import SAMPLING_SHARE, TRAINING_SHARE
from primum.pipeline.recipe import BudgetName, Recipe, StageSpec, journeys, read_recipe
from primum.pipeline.settings import Budget
from primum.pipeline.steps import Journey, outside
from primum.pipeline.table import assemble
from primum.pipeline.terminal import Terminal
from primum.prompts.collect import Collected, Source, collect
from primum.prompts.shared import default_data_dir


class RunConfig(Config):
    """Run a journey."""

    recipe: str | None = Field(
        default=None, description="meditron, safe-to-serve, llama2, ... or a YAML file; left out: show what there is",
        json_schema_extra={"positional": True},
    )  # fmt: skip
    model: str | None = Field(default=None, description="another model than the recipe's")
    budget: BudgetName = Field(default="quick", description="how many prompts, samples and tokens")
    out: str | None = Field(
        default=None, description="the run folder; a stopped run goes on there (default: runs/RECIPE)"
    )
    set: tuple[str, ...] = Field(default=(), description="KEY=VALUE, as in sampling.tokens=32 or stages.sft.epochs=1")
    skip: tuple[str, ...] = Field(default=(), description="a stage to leave out, by name")
    limit: int | None = Field(default=None, ge=2, description="at most this many prompts of each kind, for a trial")
    hub: bool = Field(default=False, description="fetch the recipe's hub sets, too; without it nothing is fetched")
    prompts: tuple[str, ...] = Field(default=(), description="more harmful prompts: a file, shared:NAME, hub:ID")
    judges: tuple[str, ...] = Field(default=("rules", "probe"), description="who judges; the first builds pairs")
    seed: int = Field(default=0, description="of every random choice but that of prompts: all seeds measure the same")
    dry_run: bool = Field(default=False, description="print the stages and what they cost, and stop")
    data: str | None = Field(default=None, description="the folder of public data sets (default: ../shared/data)")

    @property
    def run_folder(self) -> str | None:
        """The run folder; None where journeys are listed or planned."""
        if self.recipe is None or self.dry_run:
            return None
        return self.out or f"runs/{Path(self.recipe).stem}"


def run_verb(config: RunConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Run a journey; return the exit code and the facts of report.json."""
    if config.recipe is None:
        return _listed(json_output)
    recipe = read_recipe(config.recipe, config.budget, config.set, config.limit)
    recipe = recipe.model_copy(update={"model": config.model or recipe.model})
    specs = _skipped(recipe, config.skip)
    for name in config.judges:
        member("judges", name)
    name = Path(config.recipe).stem
    journey = Journey(Path(config.out or f"runs/{name}"), Terminal(quiet=json_output))
    outside(recipe.model, journey.folder)
    context = _context(config, recipe, journey)
    if config.dry_run:
        plan = estimate(name, context, specs)
        journey.terminal.note(plan["text"])
        return Exit.PASSED, plan
    journey.begin(_settings(config, recipe, specs))
    for spec in specs:
        if not spec.skip:
            member("stages", spec.do).run(context, spec)
    return _finish(context, name, specs, config)


def _listed(json_output: bool) -> tuple[int, JsonDict]:
    found = journeys()
    if not json_output:
        width = max(map(len, found))
        print("\n".join(["journeys:", *(f"  {name:<{width}}  {about}" for name, about in found.items())]))
        print("\nprimum run NAME --dry-run shows the stages of one")
    return Exit.PASSED, {"journeys": found}


def _skipped(recipe: Recipe, skip: Sequence[str]) -> list[StageSpec]:
    names = [spec.name for spec in recipe.stages]
    for name in skip:
        if name not in names:
            raise UsageError(f"there is no stage '{name}' to skip", cure=did_you_mean(name, names))
    return [replace(spec, skip=spec.skip or spec.name in skip) for spec in recipe.stages]


def _context(config: RunConfig, recipe: Recipe, journey: Journey) -> Context:
    folder = Path(config.data) if config.data else default_data_dir()
    if config.data and not folder.is_dir():
        raise BadInputError("no such folder", where=config.data, cure="give the folder of public data sets")
    left_out: list[str] = []
    collected = _collect(config, recipe, journey, folder, left_out)
    sets = _sets(collected, recipe)
    desk = Desk(journey, recipe.model, recipe.lora, config.seed)
    context = Context(journey, recipe, desk, sets, config.judges, config.seed, folder, left_out=left_out)
    if not folder.is_dir():
        left_out.append(f"no folder of public data at {folder}: embedded prompts alone")
    counts = f"{len(sets.train)} prompts to learn from, {len(sets.dev)} to tune on, {len(sets.test)} to measure on"
    journey.tell("prompts", "; ".join([counts, *collected.notes]))
    return context


def _collect(config: RunConfig, recipe: Recipe, journey: Journey, folder: Path, left_out: list[str]) -> Collected:
    held_out = tuple(c.id for c in policy().categories.values() if c.held_out)
    sources = [Source(spec) for spec in (*config.prompts, *recipe.prompts.sources)]
    fetched = [Source(spec) for spec in recipe.prompts.hub]
    if fetched and not config.hub:
        left_out.append(f"{', '.join(s.spec for s in fetched)}: not fetched without --hub; embedded prompts instead")
    with journey.step("collect prompts"):
        if fetched and config.hub:
            try:
                return collect([*fetched, *sources], held_out=held_out, seed=0, data_dir=folder)
            except (BadInputError, MissingExtraError) as error:
                left_out.append(f"hub sets: {error.problem}; embedded prompts instead")
        return collect(sources, held_out=held_out, seed=0, data_dir=folder)


def _sets(collected: Collected, recipe: Recipe) -> Sets:
    """Return the prompts that the recipe buys.

    Raises:
        UsageError: no harmful or no benign prompt to learn from or to measure on.
    """
    part = recipe.prompts
    none = Budget(None, None, None, None, None, 1, 1, 1, 1.0)
    budget = replace(
        none, harmful=part.train.harmful, general=part.train.general,
        test_harmful=part.test.harmful, test_general=part.test.general,
    )  # fmt: skip
    train, test = choose(collected.prompts, "train", budget), choose(collected.prompts, "test", budget)
    dev = choose(collected.prompts, "dev", replace(budget, harmful=part.test.harmful, general=part.test.general))
    for name, prompts in (("learn from", train), ("measure on", test)):
        for intent in ("harmful", "benign"):
            if not any(p.intent == intent for p in prompts):
                raise UsageError(f"there is no {intent} prompt to {name}", cure="leave 'embedded' among the sources")
    return Sets(train, dev, test, choose(collected.prompts, "train", none))


def _settings(config: RunConfig, recipe: Recipe, specs: Sequence[StageSpec]) -> JsonDict:
    stages = [
        {"name": s.name, "do": s.do, "start": s.start, "skip": s.skip, **s.settings.model_dump(mode="json")}
        for s in specs
    ]
    own = config.model_dump(mode="json", exclude={"out", "dry_run", "model"})
    return {**own, **recipe.model_dump(mode="json", exclude={"stages"}), "stages": stages}


def _finish(context: Context, name: str, specs: Sequence[StageSpec], config: RunConfig) -> tuple[int, JsonDict]:
    from primum.pipeline.scoring import rewards_of
    from primum.report.journey import table
    from primum.report.write import write_report

    rewards = {p: rewards_of(context, m) for p, m in context.measured.items()} if "reward" in context.shelf else {}
    with context.journey.step("report"):
        settings = {**_settings(config, context.recipe, specs), "recipe": name}
        facts = {**assemble(context, name, specs, rewards, settings), "model": context.desk.about}
        final = _final(context)
        if final is not None:
            _save(context, final)
            facts |= {"checkpoint": "checkpoint", "adapter": "adapter", "final": final.name}
        page = write_report(context.journey.folder, facts)
    if not context.journey.terminal.quiet:
        print(table(facts, page))
    return Exit.PASSED, facts


def _final(context: Context) -> Policy | None:
    """Return the policy that the journey hands over: the one that the recipe names, or the last that was made."""
    made = context.policies
    return made.get(context.recipe.final or "") or next(reversed(made.values()), None)


def _save(context: Context, policy: Policy) -> None:
    folder = context.journey.folder
    stage = context.journey.stage("checkpoint", policy=policy.key)
    if not stage.manifest:
        with context.journey.step("save adapter and merged model"):
            context.desk.save(policy, folder / "adapter", folder / "checkpoint")
        stage.finish(policy=policy.name)


def estimate(name: str, context: Context, specs: Sequence[StageSpec]) -> JsonDict:
    """Return what would run: the stages, their tokens, and about how long on this machine for the embedded model."""
    from primum.models.device import device
    from primum.models.load import load

    harmful = sum(p.intent == "harmful" for p in context.sets.train)
    general = sum(p.intent == "benign" and p.twin is None for p in context.sets.train)
    known, tested = len(context.sets.known), len(context.sets.test)
    sizes = Sizes(harmful, general, tested, context.recipe.sampling.tokens, known)
    parameters = load(context.recipe.model).parameters
    rate = max(device().rates.values(), default=100_000.0) * 1e9
    rows: list[JsonDict] = []
    for spec in specs:
        module: Any = member("stages", spec.do)
        cost = Cost() if spec.skip else module.cost(spec.settings, sizes)
        read = 2 * cost.scored / TRAINING_SHARE + 4 * cost.learned / TRAINING_SHARE
        flops = (2 * cost.drawn / SAMPLING_SHARE + read) * parameters
        rows.append({"name": spec.name, "do": spec.do, "start": spec.start, "skip": spec.skip, "about": module.about,
                     **cost._asdict(), "seconds": round(flops / rate)})  # fmt: skip
    total = sum(row["seconds"] for row in rows)
    head = f"journey {name}: {context.recipe.about}\nmodel {context.recipe.model}, {device().describe()}"
    lines = [f"{row['name']:<16}{'(skipped) ' if row['skip'] else ''}{row['about']}" + _tokens(row) for row in rows]
    left = [f"left out: {text}" for text in context.left_out]
    text = "\n".join([head, *lines, *left, f"about {total / 60:.0f} minutes in all, often less: replies end early"])
    return {"recipe": name, "stages": rows, "seconds": total, "left_out": context.left_out, "text": text,
            "prompts": digest([to_json(p) for p in context.sets.test])}  # fmt: skip


def _tokens(row: JsonDict) -> str:
    parts = [f"{row[key]:,} tokens {key}" for key in ("drawn", "scored", "learned") if row[key]]
    return f"\n{'':<16}from {row['start'] or 'base'}: {', '.join(parts) or 'nothing'}; about {row['seconds']:,} s"
