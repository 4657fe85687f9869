"""How alike the two sides of a pair look to a model: the centred hidden embedding similarity (CHES, arXiv:2410.08847).

Where the sum of the hidden states of the rejected answer lies along that of the chosen one, preference learning pushes
both down together: the chosen answer loses probability too, and a model trained to refuse may refuse less. Pairs with
the highest scores are the ones to leave out (section 6 of the paper leaves out all but the lowest twentieth).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from primum.core.errors import UsageError
from primum.core.progress import Advance, silent
from primum.models.head import plain_head
from primum.training.batches import indexed_batches
from primum.training.examples import Example, PairExample
from primum.training.score import answer_states, causal


class Ches(NamedTuple):
    """The score of a pair (definition 2) and the length-normalised one, by which pairs of unlike length compare."""

    raw: float
    normalised: float


@torch.no_grad()
def ches(network: Any, pairs: Sequence[PairExample], token_budget: int = 2048, advance: Advance = silent) -> list[Ches]:
    """Return the score of each pair.

    With S the sum of a side's hidden states before its tokens: <S-, S+> - |S+|^2, and with S / tokens for the other.

    Args:
        network: a causal language model, in the state in which training would begin.
        pairs: prompts with both answers.
        token_budget: tokens of a forward pass; rows do not see each other, so it changes nothing but the time.
        advance: told of every answer read.

    Raises:
        UsageError: the network does more after its hidden states than multiply them; they cannot be had here.
    """
    if not plain_head(causal(network)):
        raise UsageError("no hidden states can be read from this kind of model", cure="leave --ches out")
    network.eval()
    rows = [row for pair in pairs for row in (pair.chosen, pair.rejected)]
    sums = _sums(network, rows, token_budget, advance) if rows else torch.zeros(0, 1)
    return [_score(sums[2 * i : 2 * i + 2], pair) for i, pair in enumerate(pairs)]


def _sums(network: Any, rows: Sequence[Example], token_budget: int, advance: Advance) -> Tensor:
    """Return the sum of the hidden states before each row's answer tokens (N, D), fp32."""
    found: list[Tensor] = [torch.zeros(0)] * len(rows)
    for group in indexed_batches(rows, token_budget):
        states = answer_states(network, [one.example for one in group])
        hidden = states.hidden.float()
        sums = hidden.new_zeros(len(group), hidden.shape[1]).index_add(0, states.owner, hidden)
        for one, each in zip(group, sums.cpu(), strict=True):
            found[one.index] = each
        advance(len(group))
    return torch.stack(found)


def _score(sums: Tensor, pair: PairExample) -> Ches:
    chosen, rejected = sums.double()
    mean, other = chosen / max(1, len(pair.chosen.answer)), rejected / max(1, len(pair.rejected.answer))
    return Ches(float(rejected @ chosen - chosen @ chosen), float(other @ mean - mean @ mean))
