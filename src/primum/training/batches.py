"""Which examples make one optimizer step, and which rows share one forward pass. Pure; no model.

A step takes `batch_size` examples drawn without replacement; inside a step rows are cut into micro-batches under a
token budget. They are sorted by length: where rows cannot share a tree, a short refusal is not padded to a long reply.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from primum.training.examples import Example
from primum.training.rows import Lazy, lengths_of

USUAL = 1536
"""Tokens of a micro-batch where nothing was measured, and at most on a CPU: more are no faster there (docs/log.md)."""


class Sized(Protocol):
    """Anything with a length in tokens."""

    @property
    def length(self) -> int:
        """Tokens."""
        ...


S = TypeVar("S", bound=Sized)


class Indexed(NamedTuple):
    """An example with its place in the order given, which micro-batches do not keep."""

    index: int
    example: Example

    @property
    def length(self) -> int:
        """Tokens of the whole row."""
        return self.example.length


def indexed_batches(examples: Sequence[Example], token_budget: int, shares: bool = False) -> Iterator[list[Indexed]]:
    """Cut examples into micro-batches (`cut_rows`) and keep the place of each; made one after the other."""
    for group in cut_rows(examples, token_budget, shares):
        yield [Indexed(i, examples[i]) for i in group]


def steps(groups: Sequence[Hashable], batch_size: int, epochs: float, seed: int) -> list[list[int]]:
    """Return the example indices of each optimizer step; a new order every epoch.

    Args:
        groups: one key per example; a step that sees one example of a key sees them all.
        batch_size: examples a step, at most (a larger group makes a step alone). A step is short where the next group
            does not fit.
        epochs: passes over the examples; the last may be a part of one.
        seed: of the order.
    """
    members: dict[Hashable, list[int]] = {}
    for i, key in enumerate(groups):
        members.setdefault(key, []).append(i)
    left = planned(len(groups), epochs)
    plan: list[list[int]] = [[]]
    for epoch in range(int(epochs) + 1):
        units = list(members.values())
        random.Random(f"{seed}-{epoch}").shuffle(units)
        for unit in units:
            part, left = unit[:left], left - len(unit[:left])
            if plan[-1] and len(plan[-1]) + len(part) > batch_size:
                plan.append([])
            plan[-1] += part
    return [step for step in plan if step]


def plain_steps(count: int, batch_size: int, epochs: float, seed: int) -> Lazy[Sequence[int]]:
    """Return what `steps` returns where every example stands alone; memory: four bytes an example and pass."""
    order, left = array("i"), planned(count, epochs)
    for epoch in range(int(epochs) + 1):
        units = array("i", range(count))
        random.Random(f"{seed}-{epoch}").shuffle(units)
        order.extend(units[: left - len(order)])
    return Lazy(-(-len(order) // batch_size), lambda i: order[i * batch_size : (i + 1) * batch_size])


def micro_batches(items: Sequence[S], token_budget: int) -> list[list[S]]:
    """Cut items, longest first, into groups of at most `token_budget` tokens (a longer item makes a group alone)."""
    return [[items[i] for i in group] for group in cut(lengths_of(items), token_budget)]


def cut(lengths: Sequence[int], token_budget: int) -> list[array[int]]:
    """Return the places of the items of each micro-batch, of their lengths in tokens (see `micro_batches`)."""
    groups: list[array[int]] = []
    tokens = 0
    for i in np.argsort(-np.asarray(lengths, dtype=np.int64), kind="stable"):
        if groups and tokens + lengths[i] <= token_budget:
            groups[-1].append(i)
            tokens += lengths[i]
        else:
            groups.append(array("q", [i]))
            tokens = lengths[i]
    return groups


def cut_rows(examples: Sequence[Example], token_budget: int, shares: bool) -> list[array[int]]:
    """Return the places of the examples of each forward pass, for passes whose examples need no step of their own.

    Args:
        examples: rows; the answers to one prompt follow each other.
        token_budget: tokens of a pass; a longer row makes a pass alone.
        shares: whether rows share a tree. Then the answers to a prompt stay together, up to twice the budget, and the
            prompt counts once: it is computed once. Else rows are cut by their lengths alone (`cut`).
    """
    if not shares:
        return cut(lengths_of(examples), token_budget)
    starts, tokens, before = array("q"), array("q"), None
    for i in range(len(examples)):
        row = examples[i]
        if row.prompt == before and tokens[-1] + len(row.answer) <= 2 * token_budget:
            tokens[-1] += len(row.answer)
        else:
            starts.append(i)
            tokens.append(row.length)
        before = row.prompt
    starts.append(len(examples))
    groups = cut(tokens, token_budget)
    return [array("q", (i for unit in group for i in range(starts[unit], starts[unit + 1]))) for group in groups]


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
