"""Reward models: ranking with a margin by strength, a safety term, centring; one epoch, and an alarm on too much.

Two heads on one trunk, each taught by its own pairs and a share of the other's (arXiv:2307.09288, section 3.2.2).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field

from primum.core.config import Config as Base
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.core.stats import wilson
from primum.training import reward_losses
from primum.training.alarms import Alarms
from primum.training.batches import cut
from primum.training.examples import Example
from primum.training.heads import RewardModel
from primum.training.loop import LoopConfig, MicroLoss, Run
from primum.training.reward_losses import MARGINS, STRENGTHS, Strength
from primum.training.rows import Lazy, joined, lengths_of, only

about = "reward model: ranking loss with margin, safety term, one epoch (arXiv:2307.09288, section 3.2.2)"


class Config(Base):
    """Reward modelling (Llama 2, arXiv:2307.09288, equation 2 and appendix A.3.3); the cost model of Safe RLHF."""

    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of trunk adapter and heads")
    epochs: float = Field(1.0, gt=0, description="passes over the pairs; more than one overfits")
    batch_size: int = Field(8, gt=0, description="pairs per optimizer step")
    margin: Literal["none", "small", "large"] = Field("small", description="scale of the margin by strength")
    safety_weight: float = Field(0.5, ge=0, description="weight of the cross-entropy of safety labels")
    centre_weight: float = Field(0.01, ge=0, description="weight of the squared sum of a pair's scores")
    loss: Literal["ranking", "cost"] = Field(
        "ranking", description="ranking, or the cost model of Safe RLHF (a head is then the negative of a cost)"
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """A preference for a head to learn: two rows of one prompt, how strong, and whether each is safe (if known)."""

    chosen: Example
    rejected: Example
    head: str
    strength: Strength
    safe: tuple[bool, bool] | None = None

    @property
    def length(self) -> int:
        """Tokens of both rows."""
        return self.chosen.length + self.rejected.length


def mixed(own: Sequence[Judged], other: Sequence[Judged], share: float, seed: int) -> Sequence[Judged]:
    """Return a head's pairs with a share of another's beside them, taught to this head (the safety mix is 0.1).

    Args:
        own: the head's own pairs; all are kept.
        other: pairs of another head's set.
        share: of the mix that is lent; 0.5 is "an equal share".
        seed: of which ones are lent.
    """
    if not own or share <= 0:
        return own
    count, head = min(len(other), round(share / (1 - share) * len(own))), own[0].head
    lent = only(other, random.Random(seed).sample(range(len(other)), count))
    return joined(own, Lazy(count, lambda i: replace(lent[i], head=head), lent.lengths))


def mixes(
    pairs: Sequence[Judged], heads: Sequence[str], lent: Sequence[float], seed: int, any_pair: bool = False
) -> Lazy[Judged]:
    """Return the pairs of both heads, each with a share of the other's; helpfulness borrows pairs of two safe answers.

    Args:
        pairs: of both heads.
        heads: safety, then the other one.
        lent: the share that each borrows.
        seed: of which ones are lent.
        any_pair: whether helpfulness borrows any safety pair, uniformly, as published.
    """
    safety, other = (_those(pairs, lambda p, head=head: p.head == head) for head in heads)
    lendable = safety if any_pair else _those(safety, lambda p: p.safe == (True, True))
    return joined(mixed(safety, other, lent[0], seed), mixed(other, lendable, lent[1], seed))


def _those(pairs: Sequence[Judged], wanted: Callable[[Judged], bool]) -> Lazy[Judged]:
    return only(pairs, (i for i, pair in enumerate(pairs) if wanted(pair)))


def train(
    config: Config, model: RewardModel, pairs: Sequence[Judged], folder: Path, seed: int = 0, advance: Advance = silent
) -> tuple[list[JsonDict], Alarms]:
    """Train trunk and heads on judged pairs.

    Returns:
        The log (loss, accuracy, gap between chosen and rejected, a row a step) and the alarms.
    """
    loop = LoopConfig(config.learning_rate, config.batch_size, config.epochs, seed=seed)
    model.put_on()
    run = Run(model, pairs, objective(config, model.names), len, loop, folder, advance=advance)
    try:
        return run.train(), run.alarms
    finally:
        model.give_back()


def objective(config: Config, names: Sequence[str]) -> Callable[[Any, Sequence[Judged], float], MicroLoss]:
    """Return the loss of a micro-batch of judged pairs: (reward model, pairs, divisor) -> MicroLoss.

    Args:
        config: margin and weights.
        names: the model's heads, in the order of their columns; one alone is taught every pair, whosever it is.
    """
    column, alone = {name: i for i, name in enumerate(names)}, len(names) == 1

    def loss(network: Any, micro: Sequence[Judged], scale: float) -> MicroLoss:
        raw = network.raw([m.chosen for m in micro] + [m.rejected for m in micro])
        index = torch.tensor([0 if alone else column[m.head] for m in micro], device=raw.device)
        chosen, rejected = (part.gather(1, index[:, None])[:, 0] for part in raw.chunk(2))
        each = _loss(config, micro, chosen, rejected)
        right = (chosen > rejected).float()
        gap = (chosen - rejected).detach()
        return MicroLoss(each.sum() / scale, {"accuracy": right.sum(), "gap": gap.sum()})

    return loss


def _loss(config: Config, micro: Sequence[Judged], chosen: Any, rejected: Any) -> Any:
    labels = [m.safe or (False, False) for m in micro]
    known = chosen.new_tensor([m.safe is not None and m.head == "safety" for m in micro])
    safe = [torch.tensor([pair[i] for pair in labels], device=chosen.device) for i in (0, 1)]
    if config.loss == "cost":  # the rejected answer is the more harmful one; a head stays a reward, so a cost is -head
        costs = reward_losses.cost(-rejected, -chosen, ~safe[1], ~safe[0])
        return torch.where(known.bool(), costs, reward_losses.ranking(chosen, rejected))
    margin = chosen.new_tensor([MARGINS[config.margin][m.strength] for m in micro])
    each = reward_losses.ranking(chosen, rejected, margin)
    each = each + config.centre_weight * reward_losses.centring(chosen, rejected)
    labelled = reward_losses.auxiliary(chosen, safe[0]) + reward_losses.auxiliary(rejected, safe[1])
    return each + config.safety_weight * known * labelled


class Right(NamedTuple):
    """How many pairs a head puts in the right order: k of n, and the two raw scores of each pair."""

    k: int
    n: int
    gaps: list[float]


@torch.no_grad()
def judge_pairs(model: RewardModel, pairs: Sequence[Judged], head: str) -> Right:
    """Return how a head orders pairs; a tie is wrong."""
    column, gaps = model.names.index(head), list[float]()
    for places in cut(lengths_of(pairs), 1024):
        group = [pairs[i] for i in places]
        raw = model.raw([p.chosen for p in group] + [p.rejected for p in group])[:, column]
        chosen, rejected = raw.chunk(2)
        gaps += (chosen - rejected).tolist()
    return Right(sum(gap > 0 for gap in gaps), len(gaps), gaps)


def accuracies(model: RewardModel, pairs: Sequence[Judged]) -> JsonDict:
    """Return accuracy of every head on every head's held-out pairs, and by strength on its own (tables 7 and 8).

    `reliability` holds for each head how sure it is of the order of its own pairs, sigmoid(|r_c - r_r|), beside how
    often that order is right: `calibration` of the ranking loss's own probability.
    """
    sets = {name: _those(pairs, lambda p, name=name: p.head == name) for name in model.names}
    ordered = {
        head: {name: judge_pairs(model, rows, head) for name, rows in sets.items() if rows} for head in model.names
    }
    cross = {head: {name: in_order(right) for name, right in by.items()} for head, by in ordered.items()}
    own = {head: by[head].gaps for head, by in ordered.items() if head in by}
    by_strength = {
        name: {s: in_order(judge_pairs(model, part, name)) for s in STRENGTHS if (part := _of(rows, s))}
        for name, rows in sets.items()
    }
    return {"cross": cross, "by_strength": by_strength, "reliability": {head: sure(gaps) for head, gaps in own.items()}}


def sure(gaps: Sequence[float]) -> JsonDict:
    """Return the calibration of orders with gaps r_c - r_r: a head is at least half sure of the order it gives."""
    return calibration([1 / (1 + math.exp(-abs(gap))) for gap in gaps], [gap > 0 for gap in gaps], bins=10)


@torch.no_grad()
def labelled(model: RewardModel, pairs: Sequence[Judged], head: str = "safety") -> list[tuple[float, bool]]:
    """Return a head's score in (0, 1) of each side of its pairs whose safety is known, and whether that is unsafe."""
    own, found = _those(pairs, lambda p: p.head == head and p.safe is not None), list[tuple[float, bool]]()
    column = model.names.index(head) if own else 0
    for places in cut(lengths_of(own), 1024):
        group = [own[i] for i in places]
        scores = torch.sigmoid(model.raw([p.chosen for p in group] + [p.rejected for p in group])[:, column]).tolist()
        unsafe = [not (p.safe or (True, True))[side] for side in (0, 1) for p in group]
        found += zip(scores, unsafe, strict=True)
    return found


def _of(rows: Sequence[Judged], strength: str) -> Lazy[Judged]:
    return _those(rows, lambda row: row.strength == strength)


def in_order(right: Right) -> JsonDict:
    """Return the share of pairs in order with its 95% Wilson interval."""
    value, low, high = wilson(right.k, right.n)
    return {"value": value, "low": low, "high": high, "n": right.n}


def calibration(scores: Sequence[float], labels: Sequence[bool], bins: int = 5) -> JsonDict:
    """Return the expected calibration error over bins of equal width, and the bins (Naeini 2015; arXiv:1706.04599)."""
    rows: list[JsonDict] = []
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        part = [
            (s, y) for s, y in zip(scores, labels, strict=True) if low <= s < high or (number == bins - 1 and s == 1)
        ]
        if part:
            mean, share = sum(s for s, _ in part) / len(part), sum(y for _, y in part) / len(part)
            rows.append({"low": low, "score": mean, "share": share, "n": len(part)})
    error = sum(row["n"] * abs(row["score"] - row["share"]) for row in rows) / len(scores) if scores else None
    return {"error": error, "n": len(scores), "bins": rows}


def overfitted(log: Sequence[JsonDict], held_out: float, tolerance: float = 0.15) -> str | None:
    """Return what to say where the last tenth of training is far more accurate than held-out pairs, else None."""
    last = [row["accuracy"] for row in log[-max(1, len(log) // 10) :] if "accuracy" in row]
    learned = sum(last) / len(last) if last else 0.0
    if learned - held_out <= tolerance:
        return None
    return f"{100 * learned:.0f}% of the pairs learned last are in order, and {100 * held_out:.0f}% of those held out"
