"""Fine-tuning that may not move the first tokens far: where a model's safety lies (arXiv:2406.05946, section 4).

Each answer token is pulled like in plain fine-tuning, with a weight that falls as the model leaves its reference there:
fast at the first tokens, slowly after them. At the start the gradient is that of plain fine-tuning.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from primum.core.progress import Advance, silent
from primum.training.batches import USUAL, indexed_batches
from primum.training.examples import Example
from primum.training.loop import MicroLoss
from primum.training.losses import constrained
from primum.training.rows import Lazy, lengths_of
from primum.training.score import token_scores

FIRST, OPENING, OPENING_TOKENS = 5.0, 20.0, 5
"""The paper's factors on beta at the first token and at the second to fifth (beta .1: .5, 2, then .1)."""


class Guarded(NamedTuple):
    """A row with its reference log-probability of each answer token, (answer tokens,), nats."""

    example: Example
    reference: Tensor

    @property
    def length(self) -> int:
        """Tokens of the row."""
        return self.example.length


@torch.no_grad()
def guard(
    network: Any, examples: Sequence[Example], token_budget: int = USUAL, advance: Advance = silent
) -> Lazy[Guarded]:
    """Note what the network, which must not have learned anything yet, gives each answer token."""
    network.eval()
    starts, parts, end = array("q", bytes(8 * len(examples))), list[Tensor](), 0
    for group in indexed_batches(examples, token_budget):
        parts.append(token_scores(network, [one.example for one in group]).logps.float().cpu())
        for one in group:
            starts[one.index], end = end, end + len(one.example.answer)
        advance(len(group))
    logps = torch.cat(parts)

    def make(place: int) -> Guarded:
        start, example = starts[place], examples[place]
        return Guarded(example, logps[start : start + len(example.answer)])

    return Lazy(len(examples), make, lengths_of(examples))


def zeros(examples: Sequence[Example]) -> Lazy[Guarded]:
    """Return rows as if all their tokens were certain: to find out how long training takes."""

    def make(place: int) -> Guarded:
        return Guarded(examples[place], torch.zeros(len(examples[place].answer)))

    return Lazy(len(examples), make, lengths_of(examples))


def betas(lengths: Sequence[int], beta: float) -> Tensor:
    """Return the pull back to the reference at every answer token of several rows, row after row, (N,)."""
    found: list[Tensor] = []
    for length in lengths:
        row = torch.full((length,), beta)
        row[:OPENING_TOKENS] *= OPENING
        row[:1] *= FIRST / OPENING
        found.append(row)
    return torch.cat(found) if found else torch.zeros(0)


class Objective:
    """The loss of a micro-batch of guarded rows; a step's sum is divided by its answer tokens."""

    def __init__(self, beta: float = 0.1) -> None:
        self.beta = beta

    def __call__(self, network: Any, micro: Sequence[Guarded], scale: float) -> MicroLoss:
        """Return the loss and, for the log, each row's NLL a token and how far its opening has moved (nats)."""
        scores = token_scores(network, [row.example for row in micro])
        reference = torch.cat([row.reference for row in micro]).to(scores.logps.device)
        lengths = [len(row.example.answer) for row in micro]
        pull = betas(lengths, self.beta).to(scores.logps.device)
        loss = constrained(scores.logps, reference, pull).sum() / scale
        moved = (scores.logps.detach() - reference).split(lengths)
        metrics = {
            "nll": torch.stack([-part.mean() for part in scores.logps.detach().split(lengths)]).sum(),
            "opening_moved": torch.stack([part[:OPENING_TOKENS].sum() for part in moved]).sum(),
        }
        return MicroLoss(loss, metrics)


def answer_tokens(rows: Sequence[Guarded]) -> float:
    """Count the answer tokens of rows."""
    return float(sum(len(row.example.answer) for row in rows))
