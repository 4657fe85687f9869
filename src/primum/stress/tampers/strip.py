"""The difference to the pretrained model stripped of its leading singular directions, where a patch of low rank lies.

A safety patch trained as an adapter of rank r is the r leading directions of (released - base), or nearly; who holds
the weights can take them out again.
"""

from __future__ import annotations

from collections.abc import Iterator

from primum.repair.linear import low_rank
from primum.stress.layers import linear_layers, set_weight
from primum.stress.setting import Aids, Point, Setup, Shape, SkippedError

about = "the leading directions of the difference to the base model taken out"
source = "https://arxiv.org/abs/2402.05162"
kind = "weights"
RANKS = (1, 16)


def levels(shape: Shape) -> tuple[str, ...]:
    """Return the ranks."""
    return tuple(f"rank {rank}" for rank in RANKS)


def tamper(setup: Setup, level: str, aids: Aids) -> Iterator[Point]:
    """Take the leading directions out of every matrix of the blocks."""
    if aids.base is None:
        raise SkippedError("needs the model that it was trained from (--base)")
    rank, changed = int(level.split()[1]), 0
    for layer in linear_layers(setup.model.network):
        name = f"{layer.name}.weight"
        own = aids.base.held_as.get(name) if setup.model.sees else aids.base.resolve(name)
        if own is None or aids.base.entries[own].shape != tuple(layer.module.weight.shape):
            continue
        weight = layer.module.weight.detach().float().cpu()
        delta = weight - aids.base.tensor(own).float()
        set_weight(layer.module, weight - low_rank(delta, rank))
        changed += 1
    if not changed:
        raise SkippedError("no matrix of the base model has the same name and shape")
    yield Point(level, setup, {"matrices": changed})
