"""A model of which several processes hold a part each: torch's FSDP2 (arXiv:2304.11277), block by block.

Every process holds its share of each block's weights, gradients and optimizer state; a block is put together for as
long as it computes, forward and backward. Embeddings, last norm and output matrix stay whole in each process, so that
scoring reads them as ever. The gradients of parts are summed where they are, not averaged: a step's loss is a sum over
rows divided by one number (`team`). torch does this itself: accelerate passes its own plugin over on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from primum.core.errors import UsageError
from primum.training.adapter import trainable
from primum.training.examples import Example
from primum.training.score import causal, way
from primum.training.team import Team

FIRST = [Example((1, 2, 3), (4, 5)), Example((1, 2, 3), (6, 7, 8))]
"""Rows that begin alike, in any vocabulary: how rows are scored is found out on them."""


def shard(network: Any, team: Team) -> int:
    """Leave each process its part of every block, in place; return how many blocks there are.

    Args:
        network: the same in every process, with or without an adapter, not yet scored; its blocks may lie on a CPU
            while the processes compute on GPUs.
        team: the processes.

    Raises:
        UsageError: transformers does not say what the network's blocks are.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    inner = getattr(network, "network", network)
    base = causal(inner)
    trunk, names = getattr(base, base.base_model_prefix, None), set(getattr(base, "_no_split_modules", None) or ())
    blocks = [m for m in base.modules() if type(m).__name__ in names]
    if trunk is None or not blocks:
        raise UsageError(f"the blocks of {type(base).__name__} are not known", cure="train without --shard")
    mesh = init_device_mesh(team.place.type, (team.size,))
    for block in blocks:
        part = cast(Any, fully_shard(block, mesh=mesh, reshard_after_forward=True))
        part.set_gradient_divide_factor(1.0)
        part.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    whole = [p for p in network.parameters() if not isinstance(p, DTensor)]
    fully_shard(trunk, mesh=mesh, ignored_params=set(whole))  # nothing of its own: it sees blocks coming
    for p in whole:
        p.data = p.data.to(team.place)
    for learns in (False, True):  # the same choice in every process, and with it where parts lie
        way(inner, FIRST, learns)
    return len(blocks)


def sharded(network: nn.Module) -> bool:
    """Whether processes hold parts of this network."""
    return any(isinstance(p, DTensor) for p in network.parameters())


class Held:
    """The weights that learn, as this process holds them: whole ones, or its parts, as plain tensors.

    Attributes:
        tensors: by name; those of parts share their memory with the network's.
        parts: the network's own weights of which this process has a part; none where nothing is sharded.
    """

    def __init__(self, network: nn.Module, team: Team) -> None:
        """Look at a network's weights that learn."""
        weights: Mapping[str, Any] = trainable(network)
        self.team = team
        self.parts = {name: p for name, p in weights.items() if isinstance(p, DTensor)}
        with torch.no_grad():
            self.tensors: dict[str, Any] = {
                n: cast(Any, p).to_local() if n in self.parts else p for n, p in weights.items()
            }

    def add_gradients(self) -> None:
        """Sum gradients over all processes; those of parts were summed as they came, and are moved to our tensors."""
        for name, p in self.parts.items():
            own = self.tensors[name]
            grad, p.grad = cast(Any, p.grad), None
            own.grad = torch.zeros_like(own) if grad is None else grad.to_local()
        self.team.add_gradients(p for name, p in self.tensors.items() if name not in self.parts)

    def forget_gradients(self) -> None:
        """Drop what gradients there are."""
        for p in (*self.tensors.values(), *self.parts.values()):
            p.grad = None

    def clip(self, most: float, accelerator: Any) -> Tensor:
        """Cut gradients to a norm over all weights; return the norm they had."""
        if not self.parts:
            return accelerator.clip_grad_norm_(list(self.tensors.values()), most)
        squares = {n: p.grad.double().square().sum() for n, p in self.tensors.items() if p.grad is not None}
        own = sum((v for n, v in squares.items() if n in self.parts), torch.zeros((), dtype=torch.float64))
        everywhere = own.to(self.team.place)
        distributed.all_reduce(everywhere)
        norm = (everywhere + sum(v for n, v in squares.items() if n not in self.parts)).sqrt()
        scale = (most / (norm + 1e-6)).clamp(max=1.0)
        for p in self.tensors.values():
            if p.grad is not None:
                p.grad.mul_(scale.to(p.grad.dtype))
        return norm

    def whole(self, name: str, tensor: Tensor) -> Tensor:
        """Return a tensor laid out as a weight is (the weight, its moments) with all its parts; all must ask."""
        if name not in self.parts:
            return tensor.detach()
        like = self.parts[name]
        made = DTensor.from_local(
            tensor.detach(), like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
        )
        return made.full_tensor()

    def own(self, name: str, whole: Tensor) -> Tensor:
        """Return this process's part of such a tensor, or all of it."""
        tensor = self.tensors[name]
        if name in self.parts:
            pieces = whole.chunk(self.team.size)
            whole = pieces[self.team.rank].clone() if self.team.rank < len(pieces) else whole[:0]
        return whole.to(tensor.device)


def gathered(network: nn.Module, team: Team) -> dict[str, Tensor]:
    """Return the weights that learn, whole, on the CPU of the leading process; the others get none. All must ask."""
    held, found = Held(network, team), dict[str, Tensor]()
    for name, tensor in held.tensors.items():
        whole = held.whole(name, tensor).cpu()
        if team.leads:
            found[name] = whole
    return found
