"""Where the line between answering and declining lies, drawn on development prompts: `training/line.py`."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from primum.core.config import Config
from primum.core.progress import Advance
from primum.core.records import JsonDict, digest, to_json
from primum.core.store import Stage
from primum.pipeline import reading
from primum.pipeline.context import Context
from primum.pipeline.cost import PROMPT, Cost, Sizes, measured
from primum.pipeline.demos import demonstrate
from primum.pipeline.lesson import lesson
from primum.pipeline.recipe import StageSpec

about = "the openers' likelihood moved by one constant, until a wanted share of benign twins is declined"


class Settings(Config):
    """Where it is drawn."""

    share: float = Field(
        0.18, gt=0, lt=1, description="of development twins that may be declined or apologised to: more is safer"
    )
    tokens: int = Field(48, ge=1, description="longest own answer drawn for benign prompts")


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes."""
    return measured(sizes).plus(Cost(0, 4 * sizes.test * PROMPT // 2))


def run(context: Context, spec: StageSpec) -> None:
    """Draw the line, measure."""
    settings: Settings = spec.settings
    demos = demonstrate(context, None, None, settings.tokens)

    def teach(network: Any, _stage: Stage, _advance: Advance) -> JsonDict:
        from primum.training.line import draw_line

        tokenizer = context.desk.model.tokenizer
        harmful, benign = reading.asked(context.sets.dev, tokenizer, twins_only=True)
        openers = reading.openers(demos, tokenizer)
        going = reading.going(demos, tokenizer, reading.LINE_GOING, settings.tokens)
        heat = reading.warmth(context.recipe.sampling.temperature)
        found = draw_line(network, harmful, benign, openers, settings.share, heat, context.seed, going)
        return {"log": [], "alarms": [], "found": found and found._asdict()}

    data = digest([[p.id for p in context.sets.dev], [to_json(d) for d in demos]])
    policy = lesson(context, spec, 1, "line", teach, data=data)
    found = context.facts[spec.name]["found"]
    context.journey.tell(spec.name, reading.said_of_line(found) if found else reading.NOTHING)
    context.measure(policy)
