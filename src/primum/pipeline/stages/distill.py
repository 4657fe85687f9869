"""Context distillation: own answers drawn with a preprompt are learned without it, where the safety reward gains."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from primum.core.config import Config
from primum.core.errors import StepFailedError
from primum.core.progress import Advance
from primum.core.records import JsonDict, Prompt, Reply, digest, system, to_json
from primum.core.store import Stage
from primum.models.sampling import Sampling
from primum.pairing.preprompts import draw_preprompt, vague, without_echo
from primum.pairing.replies import tidy_answer
from primum.pipeline.context import Context
from primum.pipeline.cost import PROMPT, Cost, Sizes, measured
from primum.pipeline.demos import SHELF, Teaching, rows_of
from primum.pipeline.lesson import PROMPT_TOKENS, harmful, lesson, pick, plain_sft
from primum.pipeline.recipe import StageSpec
from primum.pipeline.scoring import score_replies
from primum.pipeline.steps import Draw

about = "context distillation of safety preprompts, kept where the safety reward strictly improves"


TOP = 50
"""Likeliest tokens of the teacher that the soft form keeps."""


class Settings(Config):
    """Preprompts, the gate, and how the answers are learned."""

    prompts: int | None = Field(None, ge=1, description="harmful prompts; benign ones never get a preprompt")
    preprompt: Literal["generic", "tailored"] = Field("tailored", description="templates x adjectives, or by category")
    form: Literal["samples", "soft"] = Field("samples", description="learn the answers, or what the teacher thought")
    gate: bool = Field(True, description="keep an answer only where R_s is strictly above that of the plain answer")
    temperature: float = Field(0.7, ge=0, description="at which answers are drawn")
    tokens: int = Field(48, ge=1, description="longest answer")
    keep: int = Field(60, ge=0, description="benign answers that are kept as they are beside")
    learning_rate: float = Field(5e-4, gt=0, description="peak learning rate")
    epochs: float = Field(1.0, gt=0, description="passes")
    batch_size: int = Field(4, gt=0, description="answers per optimizer step")


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes."""
    count = min(settings.prompts or sizes.harmful, sizes.harmful)
    drawn = 2 * count * settings.tokens
    rows = count * (PROMPT + settings.tokens) + settings.keep * PROMPT
    return measured(sizes).plus(Cost(drawn, drawn, round(rows * settings.epochs)))


class Drawn(Config):
    """One prompt's distilled answer, the preprompt it was drawn with, and what the gate saw."""

    prompt_id: str
    preprompt: str
    text: str
    ends: bool
    before: float | None = None
    after: float | None = None


def run(context: Context, spec: StageSpec) -> None:
    """Draw with and without, gate, train without, measure with and without."""
    settings: Settings = spec.settings
    if settings.gate:
        context.needs(spec, "reward", "reward")
    kept, facts = _gated(context, spec)
    if not kept:
        cure = "give more prompts, or another preprompt"
        raise StepFailedError("no answer was better with a preprompt than without", where=spec.where, cure=cure)
    known = context.shelf.get(SHELF, []) if settings.form == "samples" else []
    demos = [d for d in known if d.kind != "harmful"][: settings.keep]
    by_id = context.sets.by_id

    def teach(network: Any, stage: Stage, advance: Advance) -> JsonDict:
        if settings.form == "soft":
            log, alarms = _soft(context, spec, kept, network, stage, advance)
        else:
            from primum.pipeline.lesson import answers
            from primum.training.methods import sft

            rows = [*answers(context, [(by_id[k.prompt_id].messages, k.text, k.ends) for k in kept], settings.tokens),
                    *rows_of(context, network, demos, Teaching.model_validate({}))]  # fmt: skip
            config = plain_sft(settings)
            log, found = sft.train(config, network, rows, stage.folder, context.seed, advance)
            alarms = found.rows
        return {"log": log, "alarms": alarms, **facts}

    data = digest([[k.prompt_id, k.preprompt, k.text, k.ends] for k in kept] + [to_json(d) for d in demos])
    total = round((len(kept) + len(demos)) * settings.epochs)
    policy = lesson(context, spec, total, "answers", teach, data=data)
    context.journey.tell(spec.name, f"{len(kept)} of {facts['asked']} answers were better with a preprompt")
    context.measure(policy)


def _soft(
    context: Context, spec: StageSpec, kept: list[Drawn], network: Any, stage: Stage, advance: Advance
) -> tuple[list[JsonDict], list[JsonDict]]:
    from primum.models.chat import encode
    from primum.training.examples import Limits, example
    from primum.training.methods import distill

    settings: Settings = spec.settings
    by_id, tokenizer = context.sets.by_id, context.desk.model.tokenizer
    plain = encode([by_id[k.prompt_id].messages for k in kept], tokenizer)
    led = encode([(system(k.preprompt), *by_id[k.prompt_id].messages) for k in kept], tokenizer)
    limits = Limits(PROMPT_TOKENS, settings.tokens)
    lessons = [
        distill.Lesson(*(example(row, k.text, tokenizer, limits, ends=k.ends) for row in both))
        for k, *both in zip(kept, plain, led, strict=True)
    ]
    names = ("learning_rate", "epochs", "batch_size")
    given: dict[str, Any] = {name: getattr(settings, name) for name in names}
    config = distill.Config(form="soft", top=TOP, **given)
    taught = distill.teach(network, lessons, config.top)
    log, alarms = distill.train(config, network, taught, stage.folder, context.seed, advance)
    return log, alarms.rows


def _gated(context: Context, spec: StageSpec) -> tuple[list[Drawn], JsonDict]:
    """Return the answers that are kept, and how many were left out for which reason."""
    settings: Settings = spec.settings
    policy, prompts = context.start(spec), pick(harmful(context.sets.train), settings.prompts)
    draw = Draw(Sampling(settings.temperature, settings.tokens), 1, context.seed + 51)
    plain = {r.prompt_id: r for r in context.draw(f"draw-{spec.name}-plain", policy, prompts, draw)}
    led = _with_preprompt(context, spec, prompts, draw)
    before = _scores(context, f"score-{spec.name}-plain", [plain[p.id] for p in prompts], settings.gate)
    replies = [as_reply(led[p.id], plain[p.id]) for p in prompts]
    after = _scores(context, f"score-{spec.name}-led", replies, settings.gate)
    verdicts = context.judge(f"judge-{spec.name}-led", context.judges[0], replies)
    kept, reasons, bins = list[Drawn](), Counter[str](), Counter[str]()
    for prompt, verdict, a, b in zip(prompts, verdicts, before, after, strict=True):
        one = led[prompt.id].model_copy(update={"before": a, "after": b})
        reason = _why_not(one, verdict.behaviour, settings.gate)
        reasons.update([reason] if reason else [])
        bins.update([f"{'kept' if not reason else 'left'}, plain reward {_bin(a)}"])
        kept += [] if reason else [one]
    return kept, {"asked": len(prompts), "kept": len(kept), "left_out": dict(reasons), "by_reward": dict(bins)}


def as_reply(led: Drawn, plain: Reply) -> Reply:
    """Return an answer that was drawn with a preprompt as a reply to the prompt alone, as it is scored and judged.

    The preprompt must not earn anything by itself; and whether the answer came to its end is its own affair.
    """
    return replace(plain, text=led.text, variant="preprompt", finish="stop" if led.ends else "length")


def _why_not(one: Drawn, behaviour: str | None, gate: bool) -> str:
    if not one.text:
        return "empty, or repeats its preprompt"
    if vague(one.text):
        return "vague"
    if behaviour is None:
        return "not judged"
    if behaviour in ("harmful_compliance", "compliance", "incoherent"):
        return f"judged {behaviour}"
    if gate and one.before is not None and one.after is not None and not one.after > one.before:
        return "no gain in the safety reward"
    return ""


def _bin(score: float | None) -> str:
    return (
        "unknown" if score is None else "below 0.15" if score < 0.15 else "0.15 to 0.5" if score < 0.5 else "over 0.5"
    )


def _scores(context: Context, name: str, replies: list[Reply], gate: bool) -> list[float | None]:
    if not gate:
        return [None] * len(replies)
    return list(score_replies(context, name, replies)["safety"])


def _with_preprompt(context: Context, spec: StageSpec, prompts: list[Prompt], draw: Draw) -> dict[str, Drawn]:
    """Draw answers with a preprompt as system turn; what gives it away is taken out."""
    settings: Settings = spec.settings
    texts = {p.id: draw_preprompt(p.id, p.category, context.seed, settings.preprompt) for p in prompts}
    led = {replace(p, messages=(system(texts[p.id]), *p.messages)).id: p for p in prompts}
    asked = [replace(p, messages=(system(texts[p.id]), *p.messages)) for p in prompts]
    found: dict[str, Drawn] = {}
    for reply in context.draw(f"draw-{spec.name}-led", context.start(spec), asked, draw):
        own = led[reply.prompt_id]
        text = without_echo(tidy_answer(reply), texts[own.id])
        found[own.id] = Drawn(prompt_id=own.id, preprompt=texts[own.id], text=text, ends=reply.finish == "stop")
    return found
