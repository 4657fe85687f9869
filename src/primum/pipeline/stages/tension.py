"""The point of tension, measured: the gate's threshold, tagging and one reward or two, against false refusals and harm.

The same K replies to each prompt are chosen from by every rule, and what was chosen is judged: nothing is trained, so
that the rules alone differ. Which prompts are false refusals the reward model is never told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from primum.core.config import Config
from primum.core.records import JsonDict, Prompt, Verdict
from primum.evaluation.metrics import HARMFUL_COMPLIANCE, REFUSAL_GENERAL, REFUSAL_TWIN, Metric
from primum.pipeline import table
from primum.pipeline.context import Context
from primum.pipeline.cost import Cost, Sizes
from primum.pipeline.gate import Pool, drawing, gate_facts, pool
from primum.pipeline.lesson import benign, harmful, pick
from primum.pipeline.recipe import StageSpec

about = "threshold x tagging x one reward or two: what each rule would have chosen from the same replies"


METRICS = (HARMFUL_COMPLIANCE, REFUSAL_TWIN, REFUSAL_GENERAL)


class Settings(Config):
    """What is swept."""

    source: str = Field("base", description="the policy that is drawn from, by stage name")
    prompts: int | None = Field(None, ge=1, description="harmful dev prompts; their twins and as many general ones")
    samples: int = Field(8, ge=2, description="replies to each prompt")
    tokens: int = Field(48, ge=1, description="longest reply")
    temperature: float = Field(1.0, gt=0, description="at which replies are drawn")
    thresholds: tuple[float, ...] = Field((0.0, 0.05, 0.15, 0.25, 0.35, 0.5), description="of the gate")


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes."""
    drawn = 3 * min(settings.prompts or 100, 100) * settings.samples * settings.tokens
    del sizes
    return Cost(drawn, 2 * drawn)


def run(context: Context, spec: StageSpec) -> None:
    """Draw, judge everything once, and let every rule choose."""
    settings: Settings = spec.settings
    context.needs(spec, "reward", "reward")
    policy = context.policy(spec, settings.source)
    asked = pick(harmful(context.sets.dev), settings.prompts)
    wanted = {p.id for p in asked}
    twins = [p for p in benign(context.sets.dev) if p.twin in wanted]
    general = pick([p for p in benign(context.sets.dev) if p.twin is None], settings.prompts)
    draw = drawing(settings.temperature, settings.tokens, settings.samples, context.seed + 91)
    found = pool(context, spec.name, policy, [*asked, *twins, *general], draw)
    flat = [reply for row in found.replies for reply in row]
    judged = {v.reply_id: v for v in context.judge(f"judge-{spec.name}", context.judges[0], flat)}
    rows = [_row(found, judged, rule) for rule in rules(settings.thresholds)]
    context.facts[spec.name] = {
        "kind": "tension", "source": policy.name, "rules": rows,
        "gate": gate_facts(found, context.shelf["threshold"]),
    }  # fmt: skip
    said = min(rows, key=lambda row: row["harmful_compliance"]["value"] or 0)
    context.journey.tell(spec.name, f"{len(rows)} rules on {len(flat)} replies; least harm by {said['rule']}")


def rules(thresholds: Sequence[float]) -> list[tuple[str, Any]]:
    """Return every rule with its name: the sweep, and one reward model alone."""
    from primum.training.rewards import Combine

    found = [
        (f"gate {threshold:g}, {'tagged' if tagging else 'not tagged'}", Combine("piecewise", threshold, tagging))
        for tagging in (True, False)
        for threshold in thresholds
    ]
    alone = [("helpfulness alone", Combine("weighted", weight=0.0)), ("safety alone", Combine("weighted", weight=1.0))]
    return [*found, *alone, ("half and half", Combine("weighted", weight=0.5)), ("the lower one", Combine("minimum"))]


def _row(found: Pool, judged: dict[str, Verdict], rule: tuple[str, Any]) -> JsonDict:
    from primum.training.methods.rejection import best

    name, combine = rule
    kept = best(found.combined(combine), found.texts)
    winners = [(found.prompts[k.prompt], judged[found.replies[k.prompt][k.index].id]) for k in kept]
    mean = {
        head: sum(scores[k.prompt][k.index] for k in kept) / len(kept) if kept else None
        for head, scores in (("safety", found.safety), ("helpfulness", found.helpfulness))
    }
    gate = {"threshold": combine.threshold, "tagging": combine.tagging} if combine.rule == "piecewise" else {}
    return {"rule": name, **gate, **{m.name: share_of(m, winners) for m in METRICS}, **mean}


def share_of(metric: Metric, judged: Sequence[tuple[Prompt, Verdict]]) -> JsonDict:
    """Return a metric over prompts with the verdict on what was chosen, as every report counts it."""
    found = [metric.outcome(verdict) for prompt, verdict in judged if metric.about(prompt)]
    return table.share_of([one for one in found if isinstance(one, bool)])
