"""Attention over a tree of tokens on a GPU, without its dense mask: FlexAttention (arXiv:2412.05496).

Whether a token sees another is asked of two numbers a token (`packed.Tour`) inside the kernel. Which blocks of queries
and keys it must look at is read off the tree's chains, so that nothing as large as the square of the tree is ever made:
a tree of 16,600 tokens (25 pairs of 200 / 60 / 400) takes 20 ms of a CPU and tables of 0.3 MB, where the mask would be
275 MB, and 540 blocks of 16,900 are looked at.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import pad, scaled_dot_product_attention

from primum.training.examples import Example
from primum.training.packed import Packed, pack, tour

BLOCK = 128
"""Tokens of a block of the kernel."""
FEWEST = 2
"""Blocks that a tree is padded to: torch compiles a kernel of its own for one block."""
FAULTS = (TypeError, ValueError, RuntimeError, ImportError, AssertionError, OSError, subprocess.CalledProcessError)
"""What compiling and running a kernel may raise: no Triton, no C compiler, a GPU too old, too little shared memory."""


class Padded(NamedTuple):
    """A tree with pads behind it that see themselves only: ids and positions (1, T), T a multiple of BLOCK."""

    ids: Tensor
    positions: Tensor
    mask: BlockMask


def padded(packed: Packed) -> Padded:
    """Fill the last block of a tree, so that all lengths run on one compiled kernel, and say what sees what."""
    count = packed.ids.shape[1]
    blocks = max(FEWEST, -(-count // BLOCK))
    length = blocks * BLOCK
    rest = length - count
    walk, own = tour(packed), torch.arange(count, count + rest, dtype=torch.int32, device=packed.ids.device)
    first, last = torch.cat([walk.first, own]), torch.cat([walk.last, own + 1])

    def sees(_batch: Tensor, _head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (first[k] <= first[q]) & (first[q] < last[k])

    looks = pairs(packed, blocks)
    whole = (looks == BLOCK * BLOCK).tril(-1)
    part = (looks > 0) & ~whole | torch.eye(blocks, dtype=torch.bool)  # a block may be pads alone
    tables = [table.to(packed.ids.device) for each in (part, whole) for table in _listed(each)]
    mask = BlockMask.from_kv_blocks(*tables, BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(length, length))
    return Padded(pad(packed.ids, (0, rest)), pad(packed.positions, (0, rest)), mask)


def pairs(packed: Packed, blocks: int) -> Tensor:
    """Return in how many pairs a token of a block (row) sees one of the same or an earlier block (column).

    Args:
        packed: the tree.
        blocks: how many there are.

    Returns:
        Counts (blocks, blocks). On the diagonal, and only there, too large: a token's successors in its chain count.
    """
    edges = torch.arange(blocks + 1) * BLOCK

    def within(ranges: list[tuple[int, int]]) -> Tensor:
        ends = torch.tensor(ranges)[:, :, None]
        return (torch.minimum(ends[:, 1], edges[1:]) - torch.maximum(ends[:, 0], edges[:-1])).clamp(min=0)

    chains = packed.chains
    owner = torch.tensor([i for i, chain in enumerate(chains) for _ in chain.path])
    keys = torch.zeros(len(chains), blocks, dtype=torch.long)
    keys.index_add_(0, owner, within([part for chain in chains for part in chain.path]))
    queries = within([(chain.start, chain.end) for chain in chains])
    return (queries.double().T @ keys.double()).tril().long()


def _listed(table: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many columns each row of a table (n, n) marks, (1, 1, n), and all columns, marked first, (1, 1, n, n).

    That is how the kernel reads it.
    """
    order = torch.argsort(table.int(), dim=1, descending=True, stable=True)
    return table.sum(1, dtype=torch.int32)[None, None], order.to(torch.int32)[None, None]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: BlockMask, scale: float) -> Tensor:
    """Attend along the paths of a padded tree; compiled on a GPU.

    Args:
        q: queries (1, H, T, D).
        k: keys (1, G, T, D); H is a multiple of G.
        v: values (1, G, T, D).
        mask: of the tree (`padded`).
        scale: of the products of queries and keys.

    Returns:
        What is attended to, (1, T, H, D).
    """
    kernel = flex_attention if q.device.type == "cpu" else _compiled()
    return kernel(q, k, v, block_mask=mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1]).transpose(1, 2)


@cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=True)


def fault(heads: int, keys: int, size: int, dtype: torch.dtype, place: torch.device) -> str | None:
    """Try the kernel on random numbers, forward and backward, beside torch's attention under the dense mask.

    Args:
        heads: of queries.
        keys: heads of keys and values.
        size: numbers of a head.
        dtype: the number format.
        place: the device.

    Returns:
        Why it cannot be used here; None: it can.
    """
    stem = tuple(range(200))
    packed = pack([Example(stem, (1,) * 100), Example(stem, (2,) * 60), Example((9,), (3,) * 40)], place)
    tree, random = padded(packed), torch.Generator().manual_seed(0)
    count, whole = packed.ids.shape[1], tree.ids.shape[1]
    shapes = [(1, h, whole, size) for h in (heads, keys, keys, heads)]
    *inputs, pull = (torch.randn(shape, generator=random).to(place, dtype) for shape in shapes)
    pull[:, :, count:] = 0
    dense = torch.eye(whole, dtype=torch.bool, device=place)
    dense[:count, :count] = packed.sees[0, 0]
    try:
        found = _with_gradients(lambda q, k, v: attend(q, k, v, tree.mask, size**-0.5).transpose(1, 2), inputs, pull)
    except FAULTS as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no words'}"
    gqa = heads != keys
    expected = _with_gradients(
        lambda q, k, v: scaled_dot_product_attention(q, k, v, attn_mask=dense, enable_gqa=gqa), inputs, pull
    )
    apart = max(float((a - b).norm() / b.norm()) for a, b in zip(found, expected, strict=True))
    return None if apart < NEAR else f"its numbers are {apart:.0%} off those under the dense mask"


NEAR = 0.05
"""How far the kernel may be off, as a share of the numbers' norm: rounding of bf16 is below 1%, a wrong mask tens."""


@torch.enable_grad()
def _with_gradients(function: Callable[..., Tensor], inputs: list[Tensor], pull: Tensor) -> list[Tensor]:
    """Return a function's result where it is pulled, and the gradients of its inputs."""
    own = [x.clone().requires_grad_() for x in inputs]
    out = function(*own)
    return [(out * (pull != 0)).detach().float(), *(g.float() for g in torch.autograd.grad(out, own, pull))]
