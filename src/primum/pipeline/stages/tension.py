"""The point of tension, measured: the gate's threshold, tagging and one reward or two, against false refusals and harm.

The same K replies to each prompt are chosen from by every rule, and what was chosen is judged: no policy is trained, so
that the rules alone differ. Which prompts are false refusals the reward model is never told. Beside the journey's two
heads a model with one head chooses (`single`), taught by the same pairs of both kinds together.
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
from primum.pipeline.cost import PROMPT, Cost, Sizes
from primum.pipeline.gate import Pool, conflicts, drawing, gate_facts, pool, scored
from primum.pipeline.lesson import benign, harmful, pick
from primum.pipeline.recipe import StageSpec
from primum.pipeline.reward_lesson import SHELF, SINGLE, single
from primum.pipeline.scoring import HEADS
from primum.report import words

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
    single: bool = Field(True, description="whether a reward model with one head is trained on both kinds of pairs")


def cost(settings: Settings, sizes: Sizes) -> Cost:
    """Return the tokens it takes; how many pairs taught the two heads is not known here: about three a prompt."""
    drawn = 3 * min(settings.prompts or 100, 100) * settings.samples * settings.tokens
    learned = 3 * sizes.harmful * (PROMPT + 2 * settings.tokens) * settings.single
    return Cost(drawn, (3 if settings.single else 2) * drawn, learned)


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
    rows = [_row(found, judged, name, rule) for name, rule in rules(settings.thresholds)]
    facts: JsonDict = {"kind": "tension", "source": policy.name, "gate": gate_facts(found, context.shelf["threshold"])}
    if settings.single:
        row, learned = _single(context, spec, found, judged)
        rows, facts = [*rows, row], facts | learned
    context.facts[spec.name] = {**facts, "rules": rows}
    said = min(rows, key=lambda row: row["harmful_compliance"]["value"] or 0)
    context.journey.tell(spec.name, f"{len(rows)} rules on {len(flat)} replies; least harm by {said['rule']}")


def rules(thresholds: Sequence[float]) -> list[tuple[str, Any]]:
    """Return every rule over the two heads with its name: the sweep, and what else makes one number of them."""
    from primum.training.rewards import Combine

    found = [
        (f"gate {threshold:g}, {'tagged' if tagging else 'not tagged'}", Combine("piecewise", threshold, tagging))
        for tagging in (True, False)
        for threshold in thresholds
    ]
    alone = [("helpfulness alone", Combine("weighted", weight=0.0)), ("safety alone", Combine("weighted", weight=1.0))]
    return [*found, *alone, ("half and half", Combine("weighted", weight=0.5)), ("the lower one", Combine("minimum"))]


def _row(found: Pool, judged: dict[str, Verdict], name: str, combine: Any) -> JsonDict:
    gate = {"threshold": combine.threshold, "tagging": combine.tagging} if combine.rule == "piecewise" else {}
    return {"rule": name, **gate, **chosen(found, judged, found.combined(combine))}


def chosen(found: Pool, judged: dict[str, Verdict], scores: Sequence[Sequence[float]]) -> JsonDict:
    """Return what the best of K by some scores is: its judge's shares, what both heads give it, where they disagree.

    Args:
        found: the replies and what the two heads give them.
        judged: verdict by reply id.
        scores: whoever chooses, (prompts, K); NaN where a reply has none.
    """
    from primum.training.methods.rejection import best

    kept = best(scores, found.texts)
    prompts = [found.prompts[k.prompt] for k in kept]
    winners = [(p, judged[found.replies[k.prompt][k.index].id]) for p, k in zip(prompts, kept, strict=True)]
    given = {head: [getattr(found, head)[k.prompt][k.index] for k in kept] for head in HEADS}
    mean = {head: sum(values) / len(kept) if kept else None for head, values in given.items()}
    apart = conflicts(prompts, *([[one] for one in given[head]] for head in HEADS))
    return {**{m.name: share_of(m, winners) for m in METRICS}, **mean, "quadrants": apart}


def _single(context: Context, spec: StageSpec, found: Pool, judged: dict[str, Verdict]) -> tuple[JsonDict, JsonDict]:
    """Train the model with one head, let it choose from the same replies; return its row, and what its training said.

    Its held-out pairs stand beside those of the two heads (`two_heads`), each on its own kind.
    """
    taught = context.needs(spec, SHELF, "reward", "single=false")
    policy, learned = single(context, taught)
    scores = scored(context, f"score-{spec.name}-single", found.replies, policy, SINGLE)[SINGLE[0]]
    cross = context.facts[context.shelf["reward"].name]["accuracy"]["cross"]
    two = {head: cross[head][head] for head in HEADS if head in cross[head]}
    kinds = [
        f"{head} {words.percent(one['value'])} (two heads {words.percent(two[head]['value'])}, n {one['n']})"
        for head, one in learned["accuracy"].items()
    ]
    context.journey.tell(spec.name, f"{policy.name}, held-out pairs in order: {', '.join(kinds) or 'none to look at'}")
    own = {"pairs": learned["pairs"], "accuracy": learned["accuracy"], "two_heads": two}
    row = {"rule": policy.name, "heads": len(SINGLE), **chosen(found, judged, scores)}
    return row, {"log": learned["log"], "alarms": learned["alarms"], "single": own}


def share_of(metric: Metric, judged: Sequence[tuple[Prompt, Verdict]]) -> JsonDict:
    """Return a metric over prompts with the verdict on what was chosen, as every report counts it."""
    found = [metric.outcome(verdict) for prompt, verdict in judged if metric.about(prompt)]
    return table.share_of([one for one in found if isinstance(one, bool)])
