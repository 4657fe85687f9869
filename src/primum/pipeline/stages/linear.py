"""A warm start in closed form, before anything is learned by steps: `training/linear_start.py` as a stage."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from primum.core.config import Config
from primum.core.progress import Advance
from primum.core.records import JsonDict, digest, to_json
from primum.core.store import Stage
from primum.pipeline import reading
from primum.pipeline.choose import twinned
from primum.pipeline.context import Context
from primum.pipeline.cost import PROMPT, Cost, Sizes, measured
from primum.pipeline.demos import demonstrate
from primum.pipeline.lesson import lesson
from primum.pipeline.recipe import StageSpec

about = "declining read off the model's own hidden units, written into the adapter (primum's own; arXiv:2406.11717)"


class Settings(Config):
    """What is read."""

    prompts: int | None = Field(None, ge=1, description="harmful prompts that are read, each with its twin; none: all")
    tokens: int = Field(48, ge=1, description="longest own answer drawn for benign prompts")


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes."""
    drawn = (sizes.harmful + sizes.general) * settings.tokens
    read = 2 * settings.prompts if settings.prompts else sizes.known
    return measured(sizes).plus(Cost(drawn, drawn + read * PROMPT // 2))


def run(context: Context, spec: StageSpec) -> None:
    """Read, write the adapter, measure."""
    settings: Settings = spec.settings
    demos = demonstrate(context, None, None, settings.tokens)
    prompts = twinned(context.sets.known, settings.prompts)

    def teach(network: Any, _stage: Stage, advance: Advance) -> JsonDict:
        from primum.training.linear_start import StartConfig, start

        tokenizer = context.desk.model.tokenizer
        harmful, benign = reading.asked(prompts, tokenizer)
        first = reading.learned_openers(demos, tokenizer)
        going = reading.going(demos, tokenizer, reading.START_GOING, settings.tokens)
        found = start(StartConfig(), network, harmful, benign, first, context.seed, advance, going)
        return {"log": [], "alarms": [], "found": found and found._asdict(), "read": len(prompts)}

    total = len(prompts) + min(reading.START_GOING, sum(d.kind != "harmful" for d in demos))
    data = digest([[p.id for p in prompts], [to_json(d) for d in demos]])
    policy = lesson(context, spec, total, "prompts and answers", teach, data=data)
    found = context.facts[spec.name]["found"]
    context.journey.tell(spec.name, reading.said_of_start(found) if found else reading.NOTHING)
    context.measure(policy)
