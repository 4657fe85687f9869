"""Context distillation: own answers drawn with a preprompt are learned without it, where the safety reward gains.

Before training all that is learned is looked at (arXiv:2307.09288, table 40): vague answers, refusals where the plain
answer was a safe completion, refusals among the benign answers that are kept beside; and benign twins are asked with
the same preprompts. Afterwards both policies are measured with preprompts, too: which share of the gain is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field

from primum.core.config import Config
from primum.core.errors import StepFailedError
from primum.core.progress import Advance
from primum.core.records import Behaviour, JsonDict, Reply, Verdict, digest, system, to_json
from primum.core.store import Stage
from primum.evaluation.metrics import falsely_refused
from primum.models.sampling import Sampling
from primum.pairing.demonstration import Demonstration
from primum.pairing.preprompts import vague, without_echo
from primum.pairing.replies import tidy_answer
from primum.pipeline.context import Context
from primum.pipeline.cost import PROMPT, Cost, Sizes, measured
from primum.pipeline.demos import SHELF, Teaching, rows_of
from primum.pipeline.lesson import PROMPT_TOKENS, answers, harmful, lesson, pick, plain_sft
from primum.pipeline.preprompted import draw_led, gain_kept, refused_twins, twin_facts, written
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
    twins: Literal["count", "leave_out"] = Field(
        "count", description="what happens where a preprompt makes the model refuse the prompt's benign twin"
    )
    keep: int = Field(60, ge=0, description="benign answers that are kept as they are beside")
    learning_rate: float = Field(5e-4, gt=0, description="peak learning rate")
    epochs: float = Field(1.0, gt=0, description="passes")
    batch_size: int = Field(4, gt=0, description="answers per optimizer step")


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes."""
    count = min(settings.prompts or sizes.harmful, sizes.harmful)
    drawn = 4 * count * settings.tokens  # prompts and their twins, without and with preprompts
    rows = count * (PROMPT + settings.tokens) + settings.keep * PROMPT
    led = 2 * (sizes.test // 3)  # two policies with preprompts; about a third of the test prompts is harmful
    return measured(sizes._replace(test=sizes.test + led)).plus(Cost(drawn, drawn, round(rows * settings.epochs)))


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
        context.needs(spec, "reward", "reward", otherwise="gate=false")
    start = context.start(spec)
    kept, facts = _gated(context, spec)
    if not kept:
        cure = "give more prompts, or another preprompt"
        raise StepFailedError("no answer was better with a preprompt than without", where=spec.where, cure=cure)
    beside, refusing = _beside(context, spec)
    facts["benign"] = {"kept": len(beside), "left_out": refusing}
    context.measure(start)

    def teach(network: Any, stage: Stage, advance: Advance) -> JsonDict:
        learn = _soft if settings.form == "soft" else _samples
        log, alarms = learn(context, spec, kept, beside, network, stage, advance)
        return {"log": log, "alarms": alarms, **facts}

    rows = [*([k.prompt_id, k.preprompt, k.text, k.ends] for k in kept), *(to_json(d) for d in beside)]
    data = digest(rows)
    total = round((len(kept) + len(beside)) * settings.epochs)
    policy = lesson(context, spec, total, "answers", teach, data=data)
    context.journey.tell(spec.name, f"{len(kept)} of {facts['asked']} answers were better with a preprompt")
    refused = facts["twins"]["refused_with_preprompt"]
    if refused["n"]:
        bare = facts["twins"]["refused_without_preprompt"]["value"]
        said = f"{100 * refused['value']:.0f}% with preprompts and {100 * bare:.0f}% without"
        context.journey.tell(spec.name, f"of {refused['n']} benign twins the teacher refuses {said}")
    context.measure(policy)
    context.facts[spec.name]["gain_kept"] = gain_kept(context, spec.name, settings.preprompt, start, policy)


Learned = tuple[list[JsonDict], list[JsonDict]]
"""The log of a training, and its alarms."""


def _samples(
    context: Context, spec: StageSpec, kept: Sequence[Drawn], beside: Sequence[Demonstration], network: Any,
    stage: Stage, advance: Advance,
) -> Learned:  # fmt: skip
    from primum.training.methods import sft

    by_id = context.sets.by_id
    learned = answers(context, [(by_id[k.prompt_id].messages, k.text, k.ends) for k in kept], spec.settings.tokens)
    rows = [*learned, *rows_of(context, network, beside, Teaching())]
    log, alarms = sft.train(plain_sft(spec.settings), network, rows, stage.folder, context.seed, advance)
    return log, alarms.rows


def _soft(
    context: Context, spec: StageSpec, kept: Sequence[Drawn], beside: Sequence[Demonstration], network: Any,
    stage: Stage, advance: Advance,
) -> Learned:  # fmt: skip
    """Learn what the policy with the preprompt thinks of each token; of a benign answer, what it thinks without one."""
    from primum.training.examples import Answered, Lesson, Limits, answered
    from primum.training.methods import distill

    settings: Settings = spec.settings
    by_id, tokenizer = context.sets.by_id, context.desk.model.tokenizer
    limits, short = Limits(PROMPT_TOKENS, settings.tokens), Limits(PROMPT_TOKENS, Teaching().kept_tokens)
    asked = [(k, by_id[k.prompt_id].messages) for k in kept]
    plain = answered([Answered(turns, k.text, limits, k.ends) for k, turns in asked], tokenizer)
    led = answered([Answered((system(k.preprompt), *turns), k.text, limits, k.ends) for k, turns in asked], tokenizer)
    same = answered([Answered(d.prompt, d.answer, short, d.ends) for d in beside], tokenizer)
    lessons = [*map(Lesson, plain, led), *map(Lesson, same, same)]
    names = ("learning_rate", "epochs", "batch_size")
    given: dict[str, Any] = {name: getattr(settings, name) for name in names}
    config = distill.Config(form="soft", top=TOP, **given)
    taught = distill.teach_once(network, lessons, config.top, stage.folder)
    log, alarms = distill.train(config, network, taught, stage.folder, context.seed, advance)
    return log, alarms.rows


def _beside(context: Context, spec: StageSpec) -> tuple[list[Demonstration], dict[str, int]]:
    """Return the benign answers that are kept beside, and how many were left out for which reason."""
    settings: Settings = spec.settings
    known = context.sets.by_id  # the user's own demonstrations may answer prompts that the journey does not have
    asked = [d for d in context.shelf.get(SHELF, []) if d.kind != "harmful" and d.prompt_id in known][: settings.keep]
    if settings.keep and not asked:
        context.left_out.append(f"{spec.name}: no stage made demonstrations, so that no benign answer is kept beside")
    replies = [
        Reply(d.prompt_id, "demonstration", d.answer_from, d.answer, "stop" if d.ends else "length", 0, 0, 0)
        for d in asked
    ]
    verdicts = context.judge(f"judge-{spec.name}-benign", context.judges[0], replies)
    reasons = [_why_not_beside(verdict) for verdict in verdicts]
    kept = [d for d, reason in zip(asked, reasons, strict=True) if not reason]
    return kept, dict(Counter(reason for reason in reasons if reason))


def _why_not_beside(verdict: Verdict) -> str:
    if verdict.behaviour is None:
        return "not judged"
    return "false refusal" if falsely_refused(verdict) else ""


def _gated(context: Context, spec: StageSpec) -> tuple[list[Drawn], JsonDict]:
    """Return the answers that are kept, and how many were left out for which reason."""
    settings: Settings = spec.settings
    policy, prompts = context.start(spec), pick(harmful(context.sets.train), settings.prompts)
    draw = Draw(Sampling(settings.temperature, settings.tokens), 1, context.seed + 51)
    preprompts = written(context, prompts, settings.preprompt)
    plain = {r.prompt_id: r for r in context.draw(f"draw-{spec.name}-plain", policy, prompts, draw)}
    found = draw_led(context, f"draw-{spec.name}-led", policy, prompts, preprompts, draw)
    led = {key: tidied(reply, preprompts[key]) for key, reply in found.items()}
    twins = refused_twins(context, spec.name, policy, prompts, preprompts, draw)
    replies = {"plain": [plain[p.id] for p in prompts], "led": [as_reply(led[p.id], plain[p.id]) for p in prompts]}
    judged = {n: context.judge(f"judge-{spec.name}-{n}", context.judges[0], rows) for n, rows in replies.items()}
    scores = {n: _scores(context, f"score-{spec.name}-{n}", rows, settings.gate) for n, rows in replies.items()}
    kept, reasons, bins = list[Drawn](), Counter[str](), Counter[str]()
    for i, prompt in enumerate(prompts):
        one = led[prompt.id].model_copy(update={"before": scores["plain"][i], "after": scores["led"][i]})
        lost = settings.twins == "leave_out" and prompt.id in twins and twins[prompt.id].lost
        reason = _why_not(one, judged["plain"][i].behaviour, judged["led"][i].behaviour, lost)
        reasons.update([reason] if reason else [])
        bins.update([f"{'kept' if not reason else 'left'}, plain reward {_bin(one.before)}"])
        kept += [] if reason else [one]
    facts = {"asked": len(prompts), "kept": len(kept), "left_out": dict(reasons), "by_reward": dict(bins)}
    return kept, facts | {"twins": twin_facts(twins)}


def tidied(reply: Reply, preprompt: str) -> Drawn:
    """Return an answer that was drawn with a preprompt without what gives the preprompt away."""
    text = without_echo(tidy_answer(reply), preprompt)
    return Drawn(prompt_id=reply.prompt_id, preprompt=preprompt, text=text, ends=reply.finish == "stop")


def as_reply(led: Drawn, plain: Reply) -> Reply:
    """Return an answer that was drawn with a preprompt as a reply to the prompt alone, as it is scored and judged.

    The preprompt must not earn anything by itself; and whether the answer came to its end is its own affair.
    """
    return replace(plain, text=led.text, variant="preprompt", finish="stop" if led.ends else "length")


def _why_not(one: Drawn, plain: Behaviour | None, led: Behaviour | None, lost: bool) -> str:
    """Say why an answer is not learned, by what the judge says of it and of the plain one; empty where it is."""
    if not one.text:
        return "empty, or repeats its preprompt"
    if vague(one.text):
        return "vague"
    if led is None:
        return "not judged"
    if led in ("harmful_compliance", "compliance", "incoherent"):
        return f"judged {led}"
    if led == "refusal" and plain == "safe_completion":
        return "false refusal: the plain answer was a safe completion"
    if lost:
        return "false refusal: its preprompt makes the model refuse the benign twin"
    if one.before is not None and one.after is not None and not one.after > one.before:
        return "no gain in the safety reward"
    return ""


def _bin(score: float | None) -> str:
    return (
        "unknown" if score is None else "below 0.15" if score < 0.15 else "0.15 to 0.5" if score < 0.5 else "over 0.5"
    )


def _scores(context: Context, name: str, replies: list[Reply], gate: bool) -> list[float | None]:
    return list(score_replies(context, name, replies)["safety"]) if gate else [None] * len(replies)
