"""A short fine-tune that can be looked at after every step: for patches of one example, and for attacks by training.

Plain AdamW on answers with a constant rate, as such attacks are published (arXiv:2310.03693); no warm-up, no resume (a
fine-tune of 80 steps is made again). The methods of this room are for training that is meant to be kept.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from primum.core.errors import StepFailedError
from primum.training.adapter import trainable
from primum.training.batches import micro_batches
from primum.training.examples import Example
from primum.training.score import score

TOKENS = 1536
"""Tokens of one forward pass."""


@dataclass(frozen=True)
class Recipe:
    """How a short fine-tune learns.

    Args:
        steps: optimizer steps.
        learning_rate: constant.
        batch_size: examples a step (fewer where there are fewer).
        max_grad_norm: gradients are cut to this norm.
    """

    steps: int
    learning_rate: float
    batch_size: int = 8
    max_grad_norm: float = 1.0


class Step(NamedTuple):
    """One finished step: its number from 1, the mean loss of its answer tokens before it (nats), its tokens."""

    number: int
    loss: float
    tokens: int


def fine_tune(network: Any, examples: Sequence[Example], recipe: Recipe, seed: int) -> Iterator[Step]:
    """Train what requires gradients, in place; yields after every step.

    The weights keep their number format; updates are summed up in fp32 copies, or small ones would be rounded away.

    Args:
        network: a causal language model, with an adapter or without.
        examples: prompts with answers; the loss is the mean over all answer tokens of a step.
        recipe: how it learns.
        seed: of the order of examples.

    Raises:
        StepFailedError: the loss is not a number.
    """
    weights = list(trainable(network).values())
    masters = [p.detach().float().clone() for p in weights]
    optimizer = torch.optim.AdamW(masters, lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=0.0)
    order = _order(len(examples), recipe, seed)
    network.eval()  # no dropout: what is learned depends on the seed of the order alone
    for number, indices in enumerate(order, 1):
        batch = [examples[i] for i in indices]
        total = sum(len(e.answer) for e in batch)
        loss = sum(_backward(network, part, total) for part in micro_batches(batch, TOKENS))
        if not math.isfinite(loss):
            raise StepFailedError(f"the loss is {loss} at step {number}", cure="lower the learning rate")
        _take(weights, masters, recipe.max_grad_norm)
        optimizer.step()
        with torch.no_grad():
            for p, master in zip(weights, masters, strict=True):
                p.copy_(master)
        yield Step(number, loss, sum(e.length for e in batch))


def _order(count: int, recipe: Recipe, seed: int) -> list[list[int]]:
    """Return the examples of every step: passes over all of them, each in an order of its own."""
    rng, size = random.Random(seed), min(recipe.batch_size, count)
    line: list[int] = []
    while len(line) < size * recipe.steps:
        line += rng.sample(range(count), count)
    return [line[i * size : (i + 1) * size] for i in range(recipe.steps)]


def _backward(network: Any, part: Sequence[Example], total: int) -> float:
    with torch.enable_grad():
        loss = -score(network, part).logps.sum() / total
        loss.backward()
    return float(loss.detach())


def _take(weights: Sequence[Any], masters: Sequence[Tensor], most: float) -> None:
    """Move the gradients to the fp32 copies, cut to a norm over all of them."""
    for p, master in zip(weights, masters, strict=True):
        master.grad = torch.zeros_like(master) if p.grad is None else p.grad.detach().float()
        p.grad = None
    torch.nn.utils.clip_grad_norm_(masters, most)
