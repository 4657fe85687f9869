"""Replies that a policy draws from itself while it learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from primum.models.engines.hf import decode
from primum.models.load import Model
from primum.models.sampling import Sampling

Answer = tuple[int, ...]
Draw = Callable[[Sequence[Answer], int], Sequence[Answer]]
"""(token ids of prompts, seed) -> token ids of one reply to each, drawn from the policy as it is now."""


def drawing(model: Model, sampling: Sampling) -> Draw:
    """Return what draws from a model's network with the adapter that it has on; a seed gives the same replies."""

    def draw(prompts: Sequence[Answer], seed: int) -> list[Answer]:
        random = torch.Generator().manual_seed(seed)
        return [tuple(row) for row in decode(model, [list(p) for p in prompts], sampling, random)]

    return draw
