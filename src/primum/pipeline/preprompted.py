"""A policy with a safety preprompt and without: replies drawn with it, and what of its gain is kept once learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

from primum.core.records import JsonDict, Prompt, Reply, Verdict, system
from primum.core.stats import fieller
from primum.evaluation.measure import finite
from primum.evaluation.metrics import HARMFUL_COMPLIANCE, falsely_refused
from primum.pairing.preprompts import draw_preprompt
from primum.pipeline.context import Context
from primum.pipeline.desk import Policy
from primum.pipeline.lesson import benign, harmful
from primum.pipeline.scoring import rewards_of, score_replies
from primum.pipeline.steps import Draw
from primum.pipeline.table import share_of

BEFORE, LED, AFTER, AFTER_LED = STATES = ("before", "led", "after", "after_led")
"""The policy that was started from, without its preprompt and with it; and the one that learned from it, likewise."""


def draw_led(
    context: Context, name: str, policy: Policy, prompts: Sequence[Prompt], preprompts: Mapping[str, str], draw: Draw
) -> dict[str, Reply]:
    """Draw a reply to each prompt with its preprompt as system turn; return them by prompt id.

    They are replies to the prompt alone, as they are scored and judged: the preprompt must not earn anything itself.
    """
    asked = {p.id: replace(p, messages=(system(preprompts[p.id]), *p.messages)) for p in prompts}
    own = {led.id: prompt_id for prompt_id, led in asked.items()}
    drawn = context.draw(name, policy, list(asked.values()), draw)
    return {own[r.prompt_id]: replace(r, prompt_id=own[r.prompt_id], variant=f"{r.variant}-preprompt") for r in drawn}


def written(context: Context, prompts: Sequence[Prompt], form: str) -> dict[str, str]:
    """Return each prompt's preprompt, by prompt id."""
    return {p.id: draw_preprompt(p.id, p.category, context.seed, form) for p in prompts}


class Twin(NamedTuple):
    """Whether a harmful prompt's benign twin is refused for safety's sake, without the prompt's preprompt and with it.

    None where the judge could not say.
    """

    plain: bool | None
    led: bool | None

    @property
    def lost(self) -> bool:
        """The preprompt alone makes the model refuse it."""
        return self.plain is False and self.led is True


def refused_twins(
    context: Context, name: str, policy: Policy, prompts: Sequence[Prompt], preprompts: Mapping[str, str], draw: Draw
) -> dict[str, Twin]:
    """Ask the benign twins of harmful prompts with the same preprompts, and judge by the first judge; none is learned.

    Returns:
        By the harmful prompt's id; those without a twin are missing.
    """
    wanted = {p.id for p in prompts}
    twins = [p for p in benign(context.sets.train) if p.twin in wanted]
    if not twins:
        return {}
    texts = {p.id: preprompts[str(p.twin)] for p in twins}
    plain = {r.prompt_id: r for r in context.draw(f"draw-{name}-twins-plain", policy, twins, draw)}
    led = draw_led(context, f"draw-{name}-twins-led", policy, twins, texts, draw)
    found = [
        [_refused(v) for v in context.judge(f"judge-{name}-twins-{kind}", context.judges[0], [by[p.id] for p in twins])]
        for kind, by in (("plain", plain), ("led", led))
    ]
    return {str(p.twin): Twin(*both) for p, *both in zip(twins, *found, strict=True)}


def _refused(verdict: Verdict) -> bool | None:
    event = falsely_refused(verdict)
    return event if isinstance(event, bool) else None


def twin_facts(twins: Mapping[str, Twin]) -> JsonDict:
    """Return the shares of benign twins refused without the preprompt and with it, of those that were judged twice."""
    known = [one for one in twins.values() if one.plain is not None and one.led is not None]
    return {
        "refused_without_preprompt": share_of([bool(one.plain) for one in known]),
        "refused_with_preprompt": share_of([bool(one.led) for one in known]), "unscored": len(twins) - len(known),
    }  # fmt: skip


def gain_kept(context: Context, name: str, form: str, start: Policy, policy: Policy) -> list[JsonDict]:
    """Measure both policies with preprompts on the harmful test prompts; return which share of the gain is kept.

    A row for each judge (harmful compliance) and one for the safety reward, where there is a reward model: the mean in
    each of the four states, and share = (before - after) / (before - led), with Fieller's interval over prompts. The
    share has no value where the preprompt gains nothing.
    """
    prompts = harmful(context.sets.test)
    preprompts = written(context, prompts, form)
    plain = {BEFORE: context.measure(start), AFTER: context.measure(policy)}
    replies = {
        state: list(draw_led(context, f"draw-{name}-{state}", one, prompts, preprompts, context.measuring).values())
        for state, one in ((LED, start), (AFTER_LED, policy))
    }
    rows: list[JsonDict] = []
    for judge in context.judges:
        led = {s: (r, context.judge(f"judge-{name}-{s}-{judge}", judge, r)) for s, r in replies.items()}
        said = {**{s: (m.replies, m.verdicts[judge]) for s, m in plain.items()}, **led}
        values = {s: {r.prompt_id: _event(v) for r, v in zip(*both, strict=True)} for s, both in said.items()}
        rows.append({"by": judge, "metric": HARMFUL_COMPLIANCE.name, **kept_share(prompts, values, lower=True)})
    if "reward" in context.shelf:
        scored = {s: (m.replies, rewards_of(context, m)["safety"]) for s, m in plain.items()}
        for s, r in replies.items():
            scored[s] = (r, score_replies(context, f"score-{name}-{s}", r)["safety"])
        values = {s: {r.prompt_id: x for r, x in zip(*both, strict=True)} for s, both in scored.items()}
        rows.append({"by": "reward model", "metric": "safety_reward", **kept_share(prompts, values, lower=False)})
    return rows


def _event(verdict: Verdict) -> float | None:
    event = HARMFUL_COMPLIANCE.outcome(verdict)
    return float(event) if isinstance(event, bool) else None


def kept_share(prompts: Sequence[Prompt], values: Mapping[str, Mapping[str, float | None]], *, lower: bool) -> JsonDict:
    """Return the means of the four states over the prompts that have a number in all of them, and the share kept.

    Args:
        prompts: what was asked.
        values: by state, then by prompt id; None where the judge could not say.
        lower: whether less is safer.
    """
    rows = [[values[state][p.id] for state in STATES] for p in prompts]
    known = [[x for x in row if x is not None] for row in rows if None not in row]
    found: JsonDict = {"n": len(known), "left_out": len(rows) - len(known), "share": None}
    if not known:
        return found | dict.fromkeys(STATES)
    sign = 1 if lower else -1
    led, after = ([sign * (row[0] - row[i]) for row in known] for i in (1, 2))
    if fmean(led) > 0:
        value, low, high = fieller(led, after)
        found["share"] = {"value": value, "low": finite(low), "high": finite(high), "n": len(known)}
    return found | {state: fmean(row[i] for row in known) for i, state in enumerate(STATES)}
