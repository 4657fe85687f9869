"""Which examples make one optimizer step, and which rows share one forward pass. Pure; no model.

A step takes `batch_size` examples drawn without replacement; inside a step rows are cut into micro-batches under a
token budget. They are sorted by length: where rows cannot share a tree, a short refusal is not padded to a long reply.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from primum.training.examples import Example


class Sized(Protocol):
    """Anything with a length in tokens."""

    @property
    def length(self) -> int:
        """Tokens."""
        ...


S = TypeVar("S", bound=Sized)


def steps(count: int, batch_size: int, epochs: float, seed: int) -> list[list[int]]:
    """Return the example indices of each optimizer step; a new order every epoch, the last step may be short."""
    order: list[int] = []
    total = planned(count, epochs)
    for epoch in range(int(epochs) + 1):
        row = list(range(count))
        random.Random(f"{seed}-{epoch}").shuffle(row)
        order += row
    order = order[:total]
    return [order[i : i + batch_size] for i in range(0, total, batch_size)]


def micro_batches(items: Sequence[S], token_budget: int) -> list[list[S]]:
    """Cut items, longest first, into groups of at most `token_budget` tokens (a longer item makes a group alone)."""
    groups: list[list[S]] = []
    tokens = 0
    for item in sorted(items, key=lambda x: -x.length):
        if groups and tokens + item.length <= token_budget:
            groups[-1].append(item)
            tokens += item.length
        else:
            groups.append([item])
            tokens = item.length
    return groups


class Rows(NamedTuple):
    """Right-padded rows: ids (B, T), and targets (B, T) with True where the token is the answer's."""

    ids: Tensor
    targets: Tensor


def collate(examples: Sequence[Example], pad: int, device: torch.device | str = "cpu") -> Rows:
    """Return right-padded rows of prompt + answer."""
    width = max(e.length for e in examples)
    ids = torch.full((len(examples), width), pad)
    targets = torch.zeros(len(examples), width, dtype=torch.bool)
    for i, e in enumerate(examples):
        ids[i, : e.length] = torch.tensor(e.prompt + e.answer)
        targets[i, len(e.prompt) : e.length] = True
    return Rows(ids.to(device), targets.to(device))


def planned(count: int, epochs: float) -> int:
    """Return how many examples a training of `epochs` passes sees."""
    return round(count * epochs)
