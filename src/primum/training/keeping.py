"""What the warm start minimises, and preference optimisation is anchored to: some answers are learned, others kept.

A demonstration is learned by its likelihood. An answer that the model gave itself is kept: the loss is the divergence
from what the model said before training, token by token (a distillation of the model into itself, as in context
distillation, arXiv:2112.00861, section 2.1), at the temperature at which answers are drawn. There the one token that
opens most refusals beats the many that open answers long before it holds half of the mass; at a temperature of 1
nothing of that would be seen. To learn one's own samples instead would sharpen the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from primum.core.config import Config as Base
from primum.core.progress import Advance, silent
from primum.models.head import plain_head
from primum.training.batches import micro_batches
from primum.training.examples import Example
from primum.training.loop import MicroLoss, places
from primum.training.score import States, answer_states, causal, logits, per_row, token_logps

COMMON = 0.1
"""A token opens what is learned where at least this share of the learned answers begins with it."""


class KeepConfig(Base):
    """How learned and kept answers weigh against each other."""

    keep_weight: float = Field(default=4.0, ge=0, description="weight of kept answers against learned ones")
    temperature: float = Field(default=0.4, gt=0, description="answers are kept as they are drawn at this temperature")
    opening: int = Field(default=4, ge=1, description="tokens that open an answer and weigh as a row")
    rest_weight: float = Field(default=0.5, ge=0, description="weight of all other tokens of an answer")
    lead: float = Field(
        default=0.0, description="nats by which the opener of learned answers is raised while training, never after"
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """An example with the states (N, D) from which its model, before training, predicts its answer; None: learn it.

    `weight`: of its loss against another row's.
    """

    example: Example
    states: Tensor | None = None
    weight: float = 1.0

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
    for group in micro_batches(examples, 2048):
        states = answer_states(network, group)
        for example, hidden in zip(group, states.hidden.split(states.lengths.tolist()), strict=True):
            found[order[id(example)]] = Kept(example, hidden.clone())
        advance(len(group))
    return [found[i] for i in range(len(examples))]


def openers(rows: Sequence[Kept]) -> list[int]:
    """Return the tokens with which a tenth or more of the learned answers begin."""
    first = Counter(row.example.answer[0] for row in rows if row.states is None)
    return sorted(token for token, n in first.items() if n >= COMMON * first.total())


def keeping_loss(config: KeepConfig, network: Any, micro: Sequence[Kept], raised: Sequence[int] = ()) -> MicroLoss:
    """Return the loss of some rows, summed; every row has its own weight, whatever its length.

    Within a row the opening tokens weigh as much as a row of them alone would: whether to decline is decided there
    (arXiv:2406.05946), and would be one token in a hundred.

    With a `lead`, the logits of the tokens `raised` are that much higher before each answer's first token while
    training (logit adjustment, arXiv:2007.07314, equation 10). The network then leaves them lower by as much: it
    declines only where declining leads by that margin. The order of prompts by their inclination to be declined is
    hardly touched; where the line is drawn moves.

    Returns:
        The loss; nll of learned rows and divergence of kept ones, nats per token.
    """
    states = answer_states(network, [row.example for row in micro])
    out = logits(network, states.hidden)
    if config.lead and raised:
        adjusted = torch.zeros_like(out)
        adjusted[_starts(states)[:, None], torch.tensor(raised, device=out.device)] = config.lead
        out = out + adjusted
    kept_rows = [row.states is not None for row in micro]
    learned, kept = _split(kept_rows, out.device)
    values = out.new_zeros(len(out))
    of_learned, of_kept = _split([row.states is not None for row in micro for _ in row.example.answer], out.device)
    values[of_learned] = -token_logps(out[of_learned], states.targets[of_learned])
    if len(kept):
        held = torch.cat([row.states for row in micro if row.states is not None])
        t = config.temperature
        values[of_kept] = t * divergence(logits(network, held) / t, out[of_kept] / t)
    each = weighed(values, states, config.opening, config.rest_weight)
    weights = each.new_tensor([row.weight for row in micro])
    factors = each.new_tensor([config.keep_weight if one else 1.0 for one in kept_rows])
    total = (weights * factors * each).sum()
    parts = {"nll": each.detach()[learned].sum(), "divergence": each.detach()[kept].sum()}
    return MicroLoss(total, parts, {"nll": len(learned), "divergence": len(kept)})


def _split(kept: Sequence[bool], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the places of what is learned and of what is kept."""
    return places([not one for one in kept], device), places(kept, device)


def weighed(values: Tensor, states: States, opening: int, rest_weight: float) -> Tensor:
    """Return per row (B,) the mean of a value per token (N,) over the opening, plus the rest's mean, weighed."""
    first = torch.arange(len(values), device=values.device) - _starts(states)[states.owner] < opening
    lengths = states.lengths.clamp(max=opening)
    rest = (states.lengths - opening).clamp(min=1)
    return per_row(values * first, states) / lengths + rest_weight * per_row(values * ~first, states) / rest


def divergence(before: Tensor, now: Tensor) -> Tensor:
    """Return KL(before || now) per token (N,), in nats, of logits (N, V); no gradient to `before`."""
    with torch.no_grad():
        target = log_softmax(before, -1)
    return kl_div(log_softmax(now, -1), target, reduction="none", log_target=True).sum(-1)


def _starts(states: States) -> Tensor:
    return states.lengths.cumsum(0) - states.lengths
