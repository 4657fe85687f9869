"""Weights rounded to fewer bits, as models are shipped: simulated, and through what ships them.

`int8` and `int4` are simulated and round to nearest: int8 one symmetric scale a row, int4 a scale and a zero point a
group of 128 inputs; matrices of the blocks alone. `gguf Q8_0` and `gguf Q4_0` write a whole GGUF file and read it back,
`torchao int8` and `torchao int4` let torchao hold the matrices of the blocks and multiply with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from primum.stress.backends import through_gguf, through_torchao
from primum.stress.layers import linear_layers, set_weight
from primum.stress.setting import Aids, Point, Setup, Shape

if TYPE_CHECKING:
    from torch import Tensor

about = "weights rounded to 8 or 4 bits"
source = "https://arxiv.org/abs/2506.20251"
kind = "weights"
GROUP = 128
BACKENDS = {"gguf": through_gguf, "torchao": through_torchao}


def levels(shape: Shape) -> tuple[str, ...]:
    """Return the formats."""
    return ("int8", "int4", "gguf Q8_0", "gguf Q4_0", "torchao int8", "torchao int4")


def tamper(setup: Setup, level: str, aids: Aids) -> Iterator[Point]:
    """Round the weights.

    Raises:
        SkippedError: the backend is not installed, or cannot hold this model.
    """
    backend, _, precision = level.rpartition(" ")
    if backend:
        yield Point(level, setup, BACKENDS[backend](setup.model, precision))
        return
    way = {"int8": int8, "int4": int4}[level]
    for layer in linear_layers(setup.model.network):
        set_weight(layer.module, way(layer.module.weight.detach().float()))
    yield Point(level, setup)


def int8(weight: Tensor) -> Tensor:
    """Return (out, in) rounded to whole multiples of each row's largest value over 127."""
    scale = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
    return (weight / scale).round().clamp(-127, 127) * scale


def int4(weight: Tensor, group: int = GROUP) -> Tensor:
    """Return (out, in) rounded to 16 levels between the least and the largest value of each group of inputs.

    The levels hold 0, and a row's last group may be shorter.
    """
    import torch

    return torch.cat([_int4(part) for part in weight.split(group, dim=1)], dim=1)


def _int4(part: Tensor) -> Tensor:
    low, high = part.amin(1, keepdim=True).clamp(max=0), part.amax(1, keepdim=True).clamp(min=0)
    scale = ((high - low) / 15).clamp(min=1e-12)
    zero = (-low / scale).round()
    return ((part / scale + zero).round().clamp(0, 15) - zero) * scale
