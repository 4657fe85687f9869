"""Supervised fine-tuning on answers: some are learned, others kept as they are.

A demonstration is learned by its likelihood. An answer that the model gave itself is kept: the loss is the divergence
from what the model said before training, token by token (a distillation of the model into itself, as in context
distillation, arXiv:2112.00861, section 2.1), at the temperature at which answers are drawn. There the one token that
opens most refusals beats the many that open answers long before it holds half of the mass; at a temperature of 1
nothing of that would be seen. To learn one's own samples instead would sharpen the model.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from primum.core.config import Config as Base
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.training.alarms import Alarms
from primum.training.batches import micro_batches
from primum.training.examples import Example
from primum.training.loop import LoopConfig, MicroLoss, Run
from primum.training.losses import nll
from primum.training.score import States, answer_states, causal, logits, per_row, plain_head, score, token_logps

about = "supervised fine-tuning on answers; the model's own answers are kept by their divergence (no loss on prompts)"


class Config(Base):
    """Supervised fine-tuning; prompt tokens carry no loss (Llama 2, arXiv:2307.09288, section 3.1)."""

    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of the adapter")
    epochs: float = Field(3.0, gt=0, description="passes over the demonstrations")
    batch_size: int = Field(16, gt=0, description="demonstrations per optimizer step")
    keep_weight: float = Field(4.0, ge=0, description="weight of the answers that are kept, against those learned")
    temperature: float = Field(0.4, gt=0, description="answers are kept as they are drawn at this temperature")
    opening: int = Field(4, ge=1, description="tokens that open an answer: they count as one, all others as another")
    rest_weight: float = Field(0.5, ge=0, description="weight of all other tokens of an answer")
    plain: bool = Field(False, description="every answer token weighs the same, as elsewhere; nothing is kept")


@dataclass(frozen=True, slots=True)
class Kept:
    """An example with the states (N, D) from which its model, before training, predicts its answer; None: learn it."""

    example: Example
    states: Tensor | None = None

    @property
    def length(self) -> int:
        """Tokens of the row."""
        return self.example.length


@torch.no_grad()
def keep(network: Any, examples: Sequence[Example], advance: Advance = silent) -> list[Kept]:
    """Note what the network says now on each answer; memory: one state (D numbers) per answer token.

    Raises:
        ValueError: the output matrix is trained too, so that these states would soon mean something else.
    """
    if plain_head(causal(network)) and causal(network).get_output_embeddings().weight.requires_grad:
        raise ValueError("answers can be kept only where the output matrix is frozen (LoRA does that)")
    found: dict[int, Kept] = {}
    order = {id(e): i for i, e in enumerate(examples)}
    for group in micro_batches(examples, 1024):
        states = answer_states(network, group)
        for example, hidden in zip(group, states.hidden.split(states.lengths.tolist()), strict=True):
            found[order[id(example)]] = Kept(example, hidden.clone())
        advance(len(group))
    return [found[i] for i in range(len(examples))]


def train(
    config: Config,
    network: Any,
    rows: Sequence[Kept],
    folder: Path,
    seed: int = 0,
    advance: Advance = silent,
    groups: Sequence[Hashable] | None = None,
    loop: LoopConfig | None = None,
) -> tuple[list[JsonDict], Alarms]:
    """Train on rows that are learned and rows that are kept; each row weighs the same, whatever its length.

    Rows with the same key in `groups` (a harmful prompt and its benign twin) are in one step: what they have in common
    then pulls both ways at once, and the step is left with what tells them apart.

    Within a row the opening tokens weigh as much as a row of them alone would: whether to decline is decided there
    (arXiv:2406.05946), and would be one token in a hundred.

    Returns:
        The log (loss; nll of learned answers, divergence of kept ones: nats per token) and the alarms.
    """

    def loss(network: Any, micro: Sequence[Kept], scale: float) -> MicroLoss:
        states = answer_states(network, [row.example for row in micro])
        out = logits(network, states.hidden)
        is_kept = torch.tensor([row.states is not None for row in micro], device=out.device)
        kept = is_kept[states.owner]
        values = out.new_zeros(len(out))
        values[~kept] = -token_logps(out[~kept], states.targets[~kept])
        if kept.any():
            held = torch.cat([row.states for row in micro if row.states is not None])
            t = config.temperature
            values[kept] = t * divergence(logits(network, held) / t, out[kept] / t)
        each = weighed(values, states, config.opening, config.rest_weight)
        total = torch.where(is_kept, config.keep_weight * each, each).sum() / scale
        parts = {"nll": each.detach()[~is_kept].sum(), "divergence": each.detach()[is_kept].sum()}
        return MicroLoss(total, parts, {"nll": int((~is_kept).sum()), "divergence": int(is_kept.sum())})

    loop = loop or LoopConfig(config.learning_rate, config.batch_size, config.epochs, seed=seed)
    objective, scale = (likelihood, answer_tokens) if config.plain else (loss, len)
    run = Run(network, rows, objective, scale, loop, folder, advance=advance, groups=groups)
    return run.train(), run.alarms


def likelihood(network: Any, micro: Sequence[Kept], scale: float) -> MicroLoss:
    """Return the negative log-likelihood of answers over `scale`, the answer tokens of the step."""
    logps, lengths = score(network, [row.example for row in micro])
    return MicroLoss(-logps.sum() / scale, {"nll": nll(logps, lengths.to(logps.device)).detach().sum()})


def answer_tokens(rows: Sequence[Kept]) -> float:
    """Count the answer tokens of rows."""
    return float(sum(len(row.example.answer) for row in rows))


def weighed(values: Tensor, states: States, opening: int, rest_weight: float) -> Tensor:
    """Return per row (B,) the mean of a value per token (N,) over the opening, plus the rest's mean, weighed."""
    starts = states.lengths.cumsum(0) - states.lengths
    first = torch.arange(len(values), device=values.device) - starts[states.owner] < opening
    lengths = states.lengths.clamp(max=opening)
    rest = (states.lengths - opening).clamp(min=1)
    return per_row(values * first, states) / lengths + rest_weight * per_row(values * ~first, states) / rest


def divergence(before: Tensor, now: Tensor) -> Tensor:
    """Return KL(before || now) per token (N,), in nats, of logits (N, V); no gradient to `before`."""
    with torch.no_grad():
        target = log_softmax(before, -1)
    return kl_div(log_softmax(now, -1), target, reduction="none", log_target=True).sum(-1)
