"""Many rows in one: what rows have in common is computed once.

Rows of safety data share much: every one begins with the template's system turn, the two answers of a pair share their
prompt, refusals share their openings. The rows of a micro-batch are laid into one tree of tokens, a token being
identified by all that comes before it; the tree is one sequence in which a token sees its ancestors only and stands
at its depth. There is no padding, and a causal model gives the same numbers as on separate rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from primum.training.examples import Example


class Packed(NamedTuple):
    """A tree of T tokens that holds N answer tokens of several rows, row after row.

    ids, positions: (1, T). sees: (1, 1, T, T), True where a token (row) may look at another (column). before: (N,),
    the token after which an answer token is predicted. targets: (N,), the answer tokens. owner: (N,), their rows.
    lengths: (rows,), answer tokens of each row.
    """

    ids: Tensor
    positions: Tensor
    sees: Tensor
    before: Tensor
    targets: Tensor
    owner: Tensor
    lengths: Tensor


def pack(examples: Sequence[Example], device: torch.device | str = "cpu") -> Packed:
    """Lay rows of prompt and answer into one tree; the last token of a row predicts nothing and is left out."""
    nodes: dict[tuple[int, int], int] = {}
    parents: list[int] = []
    tokens: list[int] = []
    before: list[int] = []
    for row in examples:
        at, path = -1, (*row.prompt, *row.answer)
        for i, token in enumerate(path):
            if i >= len(row.prompt):
                before.append(at)
            if i == len(path) - 1:
                break
            key = (at, token)
            if key not in nodes:
                nodes[key] = len(tokens)
                parents.append(at)
                tokens.append(token)
            at = nodes[key]
    sees = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
    depth = torch.zeros(len(tokens), dtype=torch.long)
    for i, parent in enumerate(parents):
        if parent >= 0:
            sees[i] = sees[parent]
            depth[i] = depth[parent] + 1
        sees[i, i] = True
    lengths = torch.tensor([len(row.answer) for row in examples])
    targets = torch.tensor([token for row in examples for token in row.answer])
    owner = torch.repeat_interleave(torch.arange(len(examples)), lengths)
    whole = Packed(torch.tensor([tokens]), depth[None], sees[None, None], torch.tensor(before), targets, owner, lengths)
    return Packed(*(tensor.to(device) for tensor in whole))
