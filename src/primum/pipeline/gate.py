"""Best of K by the journey's reward: draw, score by both heads, gate, and what the gate did. One function a step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from primum.core.records import JsonDict, Prompt, Reply
from primum.models.sampling import Sampling
from primum.pipeline.context import Context
from primum.pipeline.desk import Policy
from primum.pipeline.drawing import ByEngine, drawn
from primum.pipeline.scoring import HEADS, score_replies
from primum.pipeline.steps import Draw


@dataclass(frozen=True)
class Pool:
    """K replies to each prompt with their scores by head, each (prompts, K)."""

    prompts: Sequence[Prompt]
    replies: Sequence[Sequence[Reply]]
    safety: Sequence[Sequence[float]]
    helpfulness: Sequence[Sequence[float]]

    @property
    def texts(self) -> list[list[str]]:
        """What was said."""
        return [[reply.text for reply in row] for row in self.replies]

    def combined(self, combine: Any) -> list[list[float]]:
        """Return the gated reward of each reply; `combine` is a `rewards.Combine`."""
        import torch

        tags = [[p.intent == "harmful"] * len(row) for p, row in zip(self.prompts, self.safety, strict=True)]
        tagged = torch.tensor(tags)
        return combine(torch.tensor(self.safety), torch.tensor(self.helpfulness), tagged).tolist()


def pool(
    context: Context, name: str, policy: Policy, prompts: Sequence[Prompt], draw: Draw, by: ByEngine | None = None
) -> Pool:
    """Draw K replies to every prompt and score them; each step resumes where it was stopped.

    A prompt's K replies are drawn together, so that an engine which shares prompts computes it once. A reply that an
    engine could not give has no score (NaN).
    """
    by_prompt: dict[str, list[Reply]] = {p.id: [] for p in prompts}
    for reply in drawn(context, f"draw-{name}", policy, list({p.id: p for p in prompts}.values()), draw, by):
        by_prompt[reply.prompt_id].append(reply)
    rows = [by_prompt[p.id] for p in prompts]
    scores = scored(context, f"score-{name}", rows)
    return Pool(list(prompts), rows, scores["safety"], scores["helpfulness"])


def scored(
    context: Context, name: str, rows: Sequence[Sequence[Reply]], trained: Policy | None = None,
    heads: tuple[str, ...] = HEADS,
) -> dict[str, list[list[float]]]:  # fmt: skip
    """Score K replies to each prompt, as `score_replies` does; by head (prompts, K), NaN of one that was not given."""
    flat = [reply for row in rows for reply in row]
    found = score_replies(context, name, flat, trained, heads)
    cut: dict[str, list[list[float]]] = {}
    for head, values in found.items():
        known = iter([math.nan if r.finish == "error" else one for r, one in zip(flat, values, strict=True)])
        cut[head] = [[next(known) for _ in row] for row in rows]
    return cut


def drawing(temperature: float, tokens: int, samples: int, seed: int) -> Draw:
    """Return how K replies to every prompt are drawn."""
    return Draw(Sampling(temperature, tokens), samples, seed, each=True)


def gate_facts(found: Pool, threshold: float) -> JsonDict:
    """Return how often the gate decided, and where the two rewards pull apart; replies without a score do not count."""
    flat = [s for row in found.safety for s in row if not math.isnan(s)]
    apart = conflicts(found.prompts, found.safety, found.helpfulness)
    return {"replies": len(flat), "under_threshold": sum(s < threshold for s in flat), "quadrants": apart}


def conflicts(
    prompts: Sequence[Prompt], safety: Sequence[Sequence[float]], helpfulness: Sequence[Sequence[float]]
) -> JsonDict:
    """Count by kind of prompt where the two heads agree and where they pull apart (arXiv:2307.09288, figure 32).

    Args:
        prompts: what was asked.
        safety: per prompt, the scores of its replies; those without one (NaN) do not count.
        helpfulness: the same.
    """
    from primum.training.rewards import quadrants

    by_kind: JsonDict = {}
    for kind, bad in (("harmful prompts", True), ("benign prompts", False)):
        rows = [i for i, p in enumerate(prompts) if (p.intent == "harmful") == bad]
        sides = [[one for i in rows for one in scores[i] if not math.isnan(one)] for scores in (safety, helpfulness)]
        by_kind[kind] = quadrants(sides[0], sides[1])
    return by_kind
