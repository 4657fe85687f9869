"""Weights set to zero: the smallest (magnitude), or those that matter least to their layer's output (Wanda)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from primum.stress.hidden import input_norms
from primum.stress.layers import linear_layers, set_weight
from primum.stress.setting import Aids, Point, Setup, Shape, SkippedError

if TYPE_CHECKING:
    from torch import Tensor

about = "a share of the weights set to zero, by magnitude or by Wanda's score"
source = "https://arxiv.org/abs/2306.11695"
kind = "weights"
SHARES = (20, 50)
READ = 64
"""Benign prompts on which the inputs of layers are measured."""


def levels(shape: Shape) -> tuple[str, ...]:
    """Return way and per cent."""
    return tuple(f"{way} {share}%" for way in ("magnitude", "wanda") for share in SHARES)


def tamper(setup: Setup, level: str, aids: Aids) -> Iterator[Point]:
    """Prune every matrix of the blocks."""
    way, percent = level.removesuffix("%").split()
    layers, share = linear_layers(setup.model.network), int(percent) / 100
    if way == "wanda":
        if not aids.benign:
            raise SkippedError("there are no benign prompts to measure inputs on")
        norms = input_norms(setup, layers, aids.benign[:READ])
        for layer in layers:
            set_weight(layer.module, wanda(layer.module.weight.detach().float(), norms[layer.name], share))
    else:
        for layer in layers:
            set_weight(layer.module, magnitude(layer.module.weight.detach().float(), share))
    yield Point(level, setup)


def magnitude(weight: Tensor, share: float) -> Tensor:
    """Return the weight without its smallest entries, as many of the whole matrix as the share says."""
    return _without(weight.reshape(1, -1), weight.reshape(1, -1).abs(), share).reshape(weight.shape)


def wanda(weight: Tensor, norms: Tensor, share: float) -> Tensor:
    """Return the weight without the entries of least |W| ||X||, as many of each row (arXiv:2306.11695, equation 1).

    Args:
        weight: (out, in).
        norms: of each input over the calibration tokens, (in,).
        share: of each row that is set to zero.
    """
    return _without(weight, weight.abs() * norms, share)


def _without(weight: Tensor, score: Tensor, share: float) -> Tensor:
    count = int(share * weight.shape[1])
    return weight.scatter(1, score.argsort(dim=1, stable=True)[:, :count], 0.0)
