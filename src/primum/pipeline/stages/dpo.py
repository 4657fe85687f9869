"""Preference pairs from the policy's own replies, and direct preference optimisation on them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from primum.core.catalogue import member
from primum.core.config import Config
from primum.core.errors import StepFailedError
from primum.core.progress import Advance
from primum.core.records import JsonDict, Pair, Reply, Verdict, digest, to_json
from primum.core.store import Stage
from primum.models.sampling import Sampling
from primum.pairing.columns import write_pairs
from primum.pairing.demonstration import Built
from primum.pairing.lint import lint, refuse
from primum.pipeline.context import Context
from primum.pipeline.cost import PROMPT, Cost, Sizes, measured
from primum.pipeline.lesson import PROMPT_TOKENS, benign, harmful, lesson, pick
from primum.pipeline.recipe import StageSpec
from primum.pipeline.steps import Draw

about = "pairs from the policy's own flagged replies, then direct preference optimisation (arXiv:2305.18290)"


class Settings(Config):
    """Draw, judge, pair, and train on the pairs."""

    strategy: str = Field("safe_completion", description="how pairs are built (primum list strategies)")
    prompts: int | None = Field(None, ge=1, description="harmful prompts that are asked")
    general: bool = Field(True, description="whether benign prompts are asked, too: without them is the ablation")
    lint: Literal["refuse", "warn"] = Field("refuse", description="what happens where the pairs teach the wrong thing")
    share: float = Field(1.0, gt=0, le=1, description="share of the pairs that is learned (an ablation of size)")
    temperature: float = Field(0.4, ge=0, description="at which replies are drawn")
    tokens: int = Field(48, ge=1, description="longest reply drawn")
    samples: int = Field(1, ge=1, description="replies to each harmful prompt")
    learned_tokens: int = Field(64, ge=8, description="tokens learned of each side")
    beta: float = Field(0.1, gt=0, description="pull to the reference")
    nll_weight: float = Field(0.0, ge=0, description="weight of the NLL anchor on chosen answers (0: plain DPO)")
    learning_rate: float = Field(1e-4, gt=0, description="peak learning rate")
    epochs: float = Field(1.0, gt=0, description="passes over the pairs")
    batch_size: int = Field(4, gt=0, description="pairs per optimizer step")


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes."""
    asked = min(settings.prompts or sizes.harmful, sizes.harmful)
    replies = asked * settings.samples + (sizes.general + asked if settings.general else 0)
    pairs = round((asked + (sizes.general if settings.general else 0)) * settings.share)
    rows = pairs * (PROMPT + 2 * settings.learned_tokens)
    return measured(sizes).plus(Cost(replies * settings.tokens, rows, round(rows * settings.epochs)))


def run(context: Context, spec: StageSpec) -> None:
    """Build the pairs, train, measure."""
    settings: Settings = spec.settings
    built = pairs_of(context, spec)
    pairs = thinned(built.pairs, settings.share)
    found = lint(pairs)
    refuse(found, force=settings.lint == "warn")
    if not any(pair.kind == "harmful" for pair in pairs):
        problem = "none of the policy's replies was flagged: nothing to learn from"
        raise StepFailedError(problem, where=spec.where, cure="give more prompts; this does not say the model is safe")

    def teach(network: Any, stage: Stage, advance: Advance) -> JsonDict:
        from primum.training.examples import Limits, paired
        from primum.training.methods import dpo

        write_pairs(stage.path("pairs.jsonl"), pairs)
        examples = paired(pairs, context.desk.model.tokenizer, Limits(PROMPT_TOKENS, settings.learned_tokens))
        known = dpo.reference(network, examples)
        names = ("beta", "nll_weight", "learning_rate", "epochs", "batch_size")
        config = dpo.Config(**{name: getattr(settings, name) for name in names})
        log, alarms = dpo.train(config, network, known, stage.folder, context.seed, advance)
        kinds = dict(Counter(pair.kind for pair in pairs))
        return {"log": log, "alarms": alarms.rows, "pairs": kinds, "lint": to_json(found), "dropped": _dropped(built)}

    total = round(len(pairs) * settings.epochs)
    policy = lesson(context, spec, total, "pairs", teach, data=digest([to_json(p) for p in pairs]))
    kinds = Counter(pair.kind for pair in pairs)
    said = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
    findings = [f.text for f in found.findings if not f.ok]
    context.journey.tell(spec.name, f"{said} pairs; " + ("; ".join(findings) or "the lint found nothing"))
    context.measure(policy)


def pairs_of(context: Context, spec: StageSpec) -> Built:
    """Draw the start policy's replies, judge them by the first judge, and pair them."""
    settings: Settings = spec.settings
    policy = context.start(spec)
    asked = pick(harmful(context.sets.train), settings.prompts)
    wanted = {p.id for p in asked}
    beside = [p for p in benign(context.sets.train) if p.twin is None or p.twin in wanted] if settings.general else []
    draw = Draw(Sampling(settings.temperature, settings.tokens), settings.samples, context.seed + 1)
    replies, verdicts = list[Reply](), list[Verdict]()
    for prompts in filter(None, (asked, beside)):  # apart, so that an ablation finds the half that it shares
        name = f"{policy.name}-{digest([[p.id for p in prompts], draw.sampling.name, draw.samples])[:8]}"
        drawn = context.draw(f"draw-{name}", policy, prompts, draw)
        verdicts += context.judge(f"judge-{name}", context.judges[0], drawn)
        replies += drawn
    grouped: dict[str, list[Reply]] = defaultdict(list)
    for reply in replies:
        grouped[reply.prompt_id].append(reply)
    strategy = member("strategies", settings.strategy)
    return strategy.pairs([*asked, *beside], grouped, {v.reply_id: v for v in verdicts}, seed=context.seed)


def thinned(pairs: Sequence[Pair], share: float) -> list[Pair]:
    """Return a share of the pairs, of every kind alike: the first ones in the order of their prompts' hashes."""
    kept: set[int] = set()
    for kind in {pair.kind for pair in pairs}:
        order = sorted((pair.prompt_id, i) for i, pair in enumerate(pairs) if pair.kind == kind)
        kept |= {i for _, i in order[: max(1, round(share * len(order)))]}
    return [pair for i, pair in enumerate(pairs) if i in kept]


def _dropped(built: Built) -> JsonDict:
    return dict(Counter(row["reason"] for row in built.dropped))
