"""Safety instruction tuning: N safety rows among 20,000 general ones, or the same share of as many as there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from primum.core.config import Config
from primum.core.progress import Advance
from primum.core.records import JsonDict, Messages, Prompt, digest
from primum.core.store import Stage
from primum.models.sampling import Sampling
from primum.pairing.completions import compose, rng_for
from primum.pairing.replies import tidy_answer
from primum.pipeline.context import Context
from primum.pipeline.cost import PROMPT, Cost, Sizes, measured
from primum.pipeline.lesson import answers, benign, harmful, lesson, pick, plain, plain_sft
from primum.pipeline.recipe import StageSpec
from primum.pipeline.steps import Draw
from primum.prompts.decontaminate import benchmarks_at, decontaminate
from primum.prompts.shared import load_shared

about = "safety instruction tuning: some safety rows in general data (arXiv:2412.00074, arXiv:2309.07875)"
GENERAL = 20_000
"""General rows of the published mixes."""
SAFETY = "safety_rows"
SETS = "safe-to-serve/safety_only_data_Instructions"


class Settings(Config):
    """How many safety rows, and how they are learned."""

    safety: int = Field(500, ge=0, description="safety rows in 20,000 general ones; fewer rows keep the share")
    rows: int | None = Field(None, ge=1, description="general rows: the model's own answers to benign prompts")
    tokens: int = Field(48, ge=1, description="longest own answer")
    learned_tokens: int = Field(64, ge=8, description="tokens learned of an answer")
    learning_rate: float = Field(5e-4, gt=0, description="peak learning rate")
    epochs: float = Field(2.0, gt=0, description="passes")
    batch_size: int = Field(8, gt=0, description="rows per optimizer step")


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes; own answers are drawn once for all mixes."""
    rows = min(settings.rows or GENERAL, sizes.harmful + sizes.general)
    return measured(sizes).plus(Cost(learned=round(rows * settings.epochs * (PROMPT + settings.learned_tokens))))


def run(context: Context, spec: StageSpec) -> None:
    """Mix, train, measure."""
    settings: Settings = spec.settings
    general = general_rows(context, settings)
    count = round(len(general) * settings.safety / GENERAL)
    count = max(count, 1) if settings.safety else 0
    if SAFETY not in context.shelf:
        context.shelf[SAFETY] = safety_rows(context)
    safety = context.shelf[SAFETY][:count]
    rows = [*general, *safety]

    def teach(network: Any, stage: Stage, advance: Advance) -> JsonDict:
        from primum.training.methods import sft

        ready = answers(context, rows, settings.learned_tokens)
        config = plain_sft(settings)
        log, alarms = sft.train(config, network, ready, stage.folder, context.seed, advance)
        return {"log": log, "alarms": alarms.rows, "general": len(general), "safety": len(safety)}

    data = digest([[plain(messages), text] for messages, text, _ in rows])
    policy = lesson(context, spec, round(len(rows) * settings.epochs), "rows", teach, data=data)
    context.journey.tell(spec.name, f"{len(safety)} safety rows beside {len(general)} general ones")
    context.measure(policy)


def general_rows(context: Context, settings: Settings) -> list[tuple[Messages, str, bool]]:
    """Return benign prompts with the base's own good answers."""
    asked = benign(context.sets.train)
    draw = Draw(Sampling(context.recipe.sampling.temperature, settings.tokens), 1, context.seed + 1)
    replies = context.draw("draw-own-answers", context.desk.base, asked, draw)
    verdicts = {v.reply_id: v for v in context.judge("judge-own-answers", context.judges[0], replies)}
    good = {r.prompt_id: r for r in replies if verdicts[r.id].behaviour == "compliance" and tidy_answer(r)}
    kept = [(p.messages, good[p.id]) for p in asked if p.id in good]  # replies come longest prompt first
    return [(messages, tidy_answer(r), r.finish == "stop") for messages, r in kept][: settings.rows]


def safety_rows(context: Context) -> list[tuple[Messages, str, bool]]:
    """Return the published safety instructions with their answers, none shared with an evaluation set.

    Where they cannot be had: safe completions of the embedded harmful prompts.
    """
    if _there(context.data_dir):
        loaded = [p for p in load_shared(SETS, "harmful", context.data_dir) if p.answer]
        clean = decontaminate(loaded, benchmarks_at(context.data_dir))
        return [(p.messages, p.answer or "", True) for p in _spread(clean.kept, context.seed)]
    note = f"no {SETS}: safe completions of embedded prompts stand in for the safety rows"
    if note not in context.left_out:
        context.left_out.append(note)
    prompts = pick(harmful(context.sets.train), None)
    return [(p.messages, compose(p.category, rng_for(context.seed, p.id)), True) for p in prompts]


def _there(folder: Path) -> bool:
    return (folder / f"{SETS}.json").is_file()


def _spread(prompts: Sequence[Prompt], seed: int) -> list[Prompt]:
    """Return prompts in an order by hash, so that a smaller mix is a part of every larger one."""
    return sorted(prompts, key=lambda p: digest([seed, p.id]))
