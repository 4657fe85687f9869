"""Weights rounded to fewer bits, as models are shipped: simulated, so that any backend can measure it.

`int8` and `int4` round to nearest: int8 one symmetric scale a row, int4 a scale and a zero point a group of 128
inputs. `q8_0` and `q4_0` are llama.cpp's formats: the gguf library writes the blocks and reads them back. Matrices of
the blocks are rounded; embeddings, head and norms stay.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from primum.stress.layers import linear_layers, set_weight
from primum.stress.setting import Aids, Point, Setup, Shape, SkippedError

if TYPE_CHECKING:
    from torch import Tensor

about = "weights rounded to 8 or 4 bits"
source = "https://arxiv.org/abs/2506.20251"
kind = "weights"
GROUP = 128
GGUF_BLOCK = 32


def levels(shape: Shape) -> tuple[str, ...]:
    """Return the formats."""
    return ("int8", "int4", "q8_0", "q4_0")


def tamper(setup: Setup, level: str, aids: Aids) -> Iterator[Point]:
    """Round every matrix of the blocks."""
    way = {"int8": int8, "int4": int4, "q8_0": gguf_q8_0, "q4_0": gguf_q4_0}[level]
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


def gguf_q8_0(weight: Tensor) -> Tensor:
    """Return the weight as llama.cpp's Q8_0 keeps it."""
    return _gguf(weight, "Q8_0")


def gguf_q4_0(weight: Tensor) -> Tensor:
    """Return the weight as llama.cpp's Q4_0 keeps it."""
    return _gguf(weight, "Q4_0")


def _gguf(weight: Tensor, name: str) -> Tensor:
    import torch
    from gguf import GGMLQuantizationType, quants

    if weight.shape[1] % GGUF_BLOCK:
        raise SkippedError(f"rows of {weight.shape[1]} numbers are no multiple of GGUF's block of {GGUF_BLOCK}")
    kind_of = GGMLQuantizationType[name]
    packed = quants.quantize(weight.cpu().numpy(), kind_of)
    return torch.from_numpy(quants.dequantize(packed, kind_of).copy()).to(weight.device)
