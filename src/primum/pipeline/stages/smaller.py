"""The best samples of all rounds, learned by a smaller model: only the largest samples (arXiv:2307.09288, 3.2.3)."""

from __future__ import annotations

import shutil
from typing import Any

from pydantic import Field

from primum.core.config import Config
from primum.core.records import JsonDict, digest
from primum.pipeline.context import Context
from primum.pipeline.cost import PROMPT, Cost, Sizes, measured
from primum.pipeline.desk import Policy
from primum.pipeline.lesson import PROMPT_TOKENS
from primum.pipeline.recipe import StageSpec

about = "distil the best samples of all rounds into a smaller model, where one is named"
ROUNDS = "rounds"
FOLDER = "smaller"
"""Where its checkpoint lies in the run folder."""


class Settings(Config):
    """Which model, and how it learns."""

    model: str | None = Field(None, description="hub id or folder of the smaller model; none: nothing is done")
    replay: int = Field(1, ge=1, description="best replies of a prompt that are learned")
    tokens: int = Field(96, ge=8, description="tokens learned of a reply")
    learning_rate: float = Field(5e-4, gt=0, description="peak learning rate")
    epochs: float = Field(1.0, gt=0, description="passes")
    batch_size: int = Field(8, gt=0, description="replies per optimizer step")


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes, as if the model were as large as the journey's."""
    if settings.model is None:
        return Cost()
    learned = Cost(learned=round(sizes.train * settings.epochs * (PROMPT + settings.tokens)))
    return measured(sizes).plus(measured(sizes)).plus(learned)


def run(context: Context, spec: StageSpec) -> None:
    """Train the smaller model, save its checkpoint beside the journey's own, and measure it before and after."""
    settings: Settings = spec.settings
    if settings.model is None:
        context.left_out.append("no smaller model was named (--set stages.smaller.model=...): none is distilled")
        return
    from primum.training.methods.rejection import replayed

    samples = replayed(context.needs(spec, ROUNDS, "rejection"), settings.replay)
    before = Policy(f"{spec.name}-start", context.desk.another(settings.model).key, model=settings.model)
    stage = context.journey.stage(
        f"stage-{spec.name}", settings=settings.model_dump(mode="json"), seed=context.seed, model=before.key,
        samples=digest([[s.prompt_id, s.text, s.ends] for s in samples]),
    )  # fmt: skip
    with context.journey.step(spec.name, round(len(samples) * settings.epochs), "replies") as advance:
        if not stage.manifest:
            stage.finish(**_learn(context, settings, samples, stage.folder, advance))
    after = Policy(spec.name, stage.key, model=str(context.journey.folder / FOLDER))
    found = {"kind": "smaller", "start": before.name, "model": settings.model, **(stage.manifest or {})}
    context.facts[spec.name] = found
    context.measure(before)
    context.measure(after)


def _learn(context: Context, settings: Settings, samples: Any, folder: Any, advance: Any) -> JsonDict:
    from primum.models.load import load
    from primum.models.saving import writing
    from primum.training.adapter import add_lora, save_merged
    from primum.training.examples import Answered, Limits, answered
    from primum.training.methods import rejection

    model, lora, by_id = load(settings.model or ""), context.recipe.lora, context.sets.by_id
    network = add_lora(model, lora.rank, 2 * lora.rank, context.seed, lora.start)
    limits = Limits(PROMPT_TOKENS, settings.tokens)
    rows = answered([Answered(by_id[s.prompt_id].messages, s.text, limits, s.ends) for s in samples], model.tokenizer)
    names = ("learning_rate", "epochs", "batch_size")
    config = rejection.Config(**{name: getattr(settings, name) for name in names})
    log, alarms = rejection.train(config, network, rows, folder, context.seed, advance)
    made = context.journey.folder / FOLDER
    partial = made.with_name("smaller.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with writing(made):
        save_merged(network, model.tokenizer, partial)
        shutil.rmtree(made, ignore_errors=True)
        partial.rename(made)
    return {"log": log, "alarms": alarms.rows, "samples": len(samples), "checkpoint": made.name}
