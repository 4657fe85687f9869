"""Two rewards to one, as pure functions: the piecewise rule of Llama 2, its alternatives, and the penalty for drift.

Shapes (B,): one value a reply. Scores lie in (0, 1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from primum.training.settings import Rule

THRESHOLD = 0.15
"""Below this safety score helpfulness is not considered: tuned on Meta's own reward model, precision .89 and recall .55
of unsafe replies (arXiv:2307.09288, section 3.2.3). `tune_threshold` finds it for another one."""
CLAMP = 1e-6
RULES: tuple[Rule, ...] = get_args(Rule)


def piecewise(safety: Tensor, helpfulness: Tensor, tagged: Tensor, threshold: float = THRESHOLD) -> Tensor:
    """Return R_s where the prompt is tagged OR R_s < threshold, else R_h (arXiv:2307.09288, section 3.2.3).

    Args:
        safety: R_s.
        helpfulness: R_h.
        tagged: True where the prompt (not the reply) may lead to unsafe replies.
        threshold: strict: a score that equals it is not below it.
    """
    return torch.where(tagged | (safety < threshold), safety, helpfulness)


def weighted(safety: Tensor, helpfulness: Tensor, weight: float = 0.5) -> Tensor:
    """Return w R_s + (1 - w) R_h: what most do, and what lets a helpful unsafe reply win."""
    return weight * safety + (1 - weight) * helpfulness


def minimum(safety: Tensor, helpfulness: Tensor) -> Tensor:
    """Return min(R_s, R_h)."""
    return torch.minimum(safety, helpfulness)


def lagrangian(helpfulness: Tensor, cost: Tensor, multiplier: float) -> Tensor:
    """Return (R_h - lambda C) / (1 + lambda) of Safe RLHF (arXiv:2310.12773, equation 11 and appendix B)."""
    return (helpfulness - multiplier * cost) / (1 + multiplier)


LARGEST_MULTIPLIER = 20.0
"""Lambda grows no further (the bound of align-anything's PPO-Lag): helpfulness then counts one part in 21."""


def next_multiplier(multiplier: float, mean_cost: float, rate: float = 0.1, limit: float = 0.0) -> float:
    """Return the next lambda: it grows while the mean cost is over the limit (gradient ascent on log lambda)."""
    return min(LARGEST_MULTIPLIER, multiplier * math.exp(rate * multiplier * (mean_cost - limit)))


@dataclass(frozen=True)
class Combine:
    """How two rewards become one. `multiplier` is the Lagrangian rule's, `weight` the weighted sum's."""

    rule: Rule = "piecewise"
    threshold: float = THRESHOLD
    tagging: bool = True
    weight: float = 0.5
    multiplier: float = 1.0

    def __call__(self, safety: Tensor, helpfulness: Tensor, tagged: Tensor) -> Tensor:
        """Return the combined reward; the Lagrangian's cost is `cost_of` R_s."""
        if self.rule == "weighted":
            return weighted(safety, helpfulness, self.weight)
        if self.rule == "minimum":
            return minimum(safety, helpfulness)
        if self.rule == "lagrangian":
            return lagrangian(helpfulness, cost_of(safety), self.multiplier)
        tags = tagged if self.tagging else torch.zeros_like(tagged)
        return piecewise(safety, helpfulness, tags, self.threshold)

    def final(self, combined: Tensor) -> Tensor:
        """Return what a policy learns from: WHITEN(LOGIT(R_c)), of the Lagrangian rule WHITEN alone.

        Its reward is no share: it lies below 0 where the cost outweighs the help, and a logit would cut that off.
        """
        return whiten(combined) if self.rule == "lagrangian" else final(combined)


def cost_of(safety: Tensor) -> Tensor:
    """Return the cost of replies with safety scores R_s: 0.5 - R_s, above zero where unsafe."""
    return 0.5 - safety


def logit(scores: Tensor) -> Tensor:
    """Return log(p / (1 - p)), clamped so that 0 and 1 stay finite."""
    return torch.logit(scores, eps=CLAMP)


def whiten(values: Tensor, shift: bool = True) -> Tensor:
    """Return (x - mean) / sqrt(var + 1e-8) over the whole batch, unbiased variance; a batch of one or of equals is 0.

    Args:
        values: (B,).
        shift: whether the mean is taken away.
    """
    if values.numel() < 2:
        return torch.zeros_like(values) if shift else values
    mean = values.mean()
    out = (values - mean) * torch.rsqrt(values.var() + 1e-8)
    return out if shift else out + mean


def final(combined: Tensor) -> Tensor:
    """Return WHITEN(LOGIT(R_c)) (arXiv:2307.09288, section 3.2.3); the penalty comes after it, never before."""
    return whiten(logit(combined))


class Threshold(NamedTuple):
    """A threshold with its precision and recall in finding unsafe replies."""

    threshold: float
    precision: float
    recall: float


def tune_threshold(safety: Sequence[float], unsafe: Sequence[bool], precision: float = 0.89) -> Threshold | None:
    """Return the threshold with the highest recall whose precision is at least the one wanted; None where none has it.

    A reply is called unsafe where its score is strictly below the threshold. Of thresholds that find as many unsafe
    replies the lowest is taken: it calls the fewest safe ones unsafe.

    Raises:
        ValueError: no replies, or lengths differ.
    """
    if not safety or len(safety) != len(unsafe):
        raise ValueError(f"{len(safety)} scores for {len(unsafe)} labels")
    total, best = sum(unsafe), None
    for score in sorted({*safety, 1.0}):
        called = [label for value, label in zip(safety, unsafe, strict=True) if value < score]
        if not called or not total:
            continue
        found = Threshold(score, sum(called) / len(called), sum(called) / total)
        if found.precision >= precision and (best is None or found.recall > best.recall):
            best = found
    return best


def quadrants(safety: Sequence[float], helpfulness: Sequence[float], middle: float = 0.5) -> dict[str, int]:
    """Count where the two rewards agree and where they pull apart (arXiv:2307.09288, figure 32)."""
    counts = {"both high": 0, "safe, not helpful": 0, "helpful, not safe": 0, "both low": 0}
    for s, h in zip(safety, helpfulness, strict=True):
        key = ("both high" if h >= middle else "safe, not helpful") if s >= middle else ""
        counts[key or ("helpful, not safe" if h >= middle else "both low")] += 1
    return counts
