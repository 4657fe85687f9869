"""`primum stress`: every tamper on one model, paired with the untouched one; attacked weights are not kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field, field_validator

from primum.core.catalogue import member
from primum.core.config import Config
from primum.core.errors import Exit, UsageError
from primum.core.records import JsonDict
from primum.evaluation.domain import read_domain
from primum.pipeline.plan import GPU_RATE, MEAN_PROMPT, SAMPLING_SHARE, TRAINING_SHARE
from primum.pipeline.steps import Journey, outside
from primum.pipeline.stressing import Grid, asked_of, measure_all, own_prompts, points_of, prompts_of
from primum.pipeline.terminal import Terminal
from primum.report.stressed import closing
from primum.report.write import write_report
from primum.stress.catalogue import Cell, cells
from primum.stress.setting import Shape

ALL_RATES = {"lora": (1e-4, 5e-4), "full": (1e-5, 5e-5)}
SHAPES = {
    "quick": Shape(shots=(10,), rates={"lora": (5e-4,), "full": (5e-5,)}, steps=(0, 10, 20)),
    "standard": Shape(shots=(10, 100), rates={"lora": (5e-4,), "full": (5e-5,)}, steps=(0, 5, 10, 20, 40, 80)),
    "full": Shape(shots=(10, 50, 100), ways=("lora", "full"), rates=ALL_RATES, seeds=(0, 1, 2)),
}
SIZES = {"quick": (24, 16, 32), "standard": (60, 40, 48), "full": (150, 100, 128)}
"""Harmful prompts (each with its twin), general prompts, tokens of a reply."""


class StressConfig(Config):
    """Try to undo a model's safety in every way of the catalogue, or in those named, and report how easily it goes."""

    model: str = Field(
        default="embedded",
        description="hub id, model folder, PEFT adapter folder or .gguf file",
        json_schema_extra={"positional": True},
    )
    tampers: tuple[str, ...] = Field(default=(), description="only this tamper (primum list tampers; default: all)")
    cells: tuple[str, ...] = Field(
        default=(), description="only this cell of the matrix, by its name in --dry-run, or a pattern ('prefill-*')"
    )
    base: str | None = Field(default=None, description="the model that it was trained from: a folder of safetensors")
    broken: str | None = Field(
        default=None, description="a model that answers harmful requests, for attacks by training (default: this one, "
        "with a willing opening in its mouth)"
    )  # fmt: skip
    domain: str | None = Field(
        default=None, description="JSONL or CSV of harmless rows to fine-tune on (default: medical questions, if there)"
    )
    system: str = Field(default="", description="the system prompt under which the model is served")
    judges: tuple[str, ...] = Field(default=("rules", "probe"), description="the first one's verdicts lead the report")
    budget: Literal["quick", "standard", "full"] = Field(
        default="standard", description="how many prompts, examples, steps, rates and seeds"
    )
    limit: int | None = Field(default=None, ge=1, description="harmful prompts measured on (default: the budget's)")
    reply_tokens: int | None = Field(default=None, ge=1, description="longest reply, in tokens (default: the budget's)")
    shots: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="examples that every fine-tune learns from, as 10,50,100 (default: the budget's; of an "
        "identity or a disguise the fewest, of harmless rows the most)"
    )  # fmt: skip
    steps: int | None = Field(default=None, ge=1, description="last step of a training (default: the budget's)")
    temperature: float = Field(default=0.4, ge=0, description="sampling temperature (0 is greedy)")
    seed: int = Field(default=0, description="of the replies drawn")
    pretraining_tokens: float | None = Field(
        default=None, gt=0, description="tokens that the model was pretrained on, for the share of the cost "
        "(default: known for the embedded model, else 20 a weight)"
    )  # fmt: skip
    out: str = Field(default="runs/stress", description="the run folder; a run that was stopped goes on there")
    dry_run: bool = Field(default=False, description="print what would run and about how long, and stop")

    @field_validator("shots", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Let one flag hold several numbers."""
        given = cast(Sequence[Any], value) if isinstance(value, (list, tuple)) else [value]
        return [one for part in given for one in (part.split(",") if isinstance(part, str) else [part])]

    @property
    def shape(self) -> Shape:
        """How large attacks by training are."""
        shape = SHAPES[self.budget]
        if self.shots:
            shape = replace(shape, shots=tuple(sorted(set(self.shots))), every=True)
        if self.steps is None:
            return shape
        kept = tuple(step for step in shape.steps if step < self.steps)
        return replace(shape, steps=(*kept, self.steps))

    @property
    def size(self) -> tuple[int, int, int]:
        """Harmful prompts, general prompts, reply tokens."""
        harmful, general, tokens = SIZES[self.budget]
        return self.limit or harmful, min(general, self.limit or general), self.reply_tokens or tokens


def run_verb(config: StressConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Run the grid; return the exit code (a step failed, where step 0 is not the untouched model) and the facts."""
    journey = Journey(Path(config.out), Terminal(quiet=json_output))
    wanted = check(config)
    if config.dry_run:
        plan = estimate(config, wanted)
        journey.terminal.note(plan["text"])
        return Exit.PASSED, plan
    journey.begin(config.model_dump(mode="json", exclude={"out"}))
    facts = measure_all(journey, grid_of(config, wanted))
    page = write_report(journey.folder, facts)
    if not json_output:
        print(closing(facts, page))
    unequal = any(not one["equal"] for one in facts["checks"])  # what it measured is not what the model does
    return Exit.STEP_FAILED if unequal else Exit.PASSED, facts


def check(config: StressConfig) -> list[Cell]:
    """Find what is wrong with names and files before the first minute is spent; return the cells.

    Raises:
        UsageError: a tamper, cell, judge or file that does not exist, or the model lies in the run folder.
    """
    wanted = cells(config.tampers, config.shape, config.cells)
    if not config.judges:
        raise UsageError("no judge is named", cure="give --judges rules")
    for name in config.judges:
        member("judges", name)
    if config.domain:
        read_domain(Path(config.domain))
    outside(config.model, config.out)
    return wanted


def grid_of(config: StressConfig, wanted: list[Cell]) -> Grid:
    """Return all that the measuring needs to know."""
    harmful, general, tokens = config.size
    return Grid(
        config.model, wanted, config.shape, prompts_of(harmful, general), tokens, config.temperature, config.seed,
        config.judges, config.system, config.base, config.broken, config.domain, config.pretraining_tokens,
        config.model_dump(mode="json"),
    )  # fmt: skip


def estimate(config: StressConfig, wanted: list[Cell]) -> JsonDict:
    """Return the plan as JSON, with `text` for the terminal; loads the model to know its size."""
    from primum.models.device import device
    from primum.models.load import load

    grid, tokens = grid_of(config, wanted), config.size[2]
    parameters = load(config.model).parameters
    rate = max(device().rates.values(), default=GPU_RATE) * 1e9
    shape = config.shape
    rows: list[JsonDict] = []
    for cell in wanted:
        kind = cell.tamper if own_prompts(cell.tamper) else "harmful" if cell.kind == "training" else "all"
        replies = len(asked_of(grid, kind)) * points_of(cell, shape)
        trained = max(shape.steps) * shape.batch * (MEAN_PROMPT + 64) if cell.kind == "training" else 0
        seconds = 2 * parameters * replies * tokens / rate / SAMPLING_SHARE
        seconds += 4 * parameters * trained / rate / TRAINING_SHARE
        rows.append({"cell": cell.id, "replies": replies, "seconds": round(seconds)})
    total = sum(row["seconds"] for row in rows)
    lines = [f"{row['cell']:<40}{row['replies']:>8,} replies   about {row['seconds']:>6,} s" for row in rows]
    text = "\n".join([f"{len(wanted)} cells on {config.model} ({parameters / 1e6:.0f}M), {device().describe()}", *lines,
                      f"about {total / 60:.0f} minutes in all, often less: replies end early"])  # fmt: skip
    return {"cells": rows, "seconds": total, "text": text}
