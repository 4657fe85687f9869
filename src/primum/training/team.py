"""Several processes that learn together: each takes a share of a step's rows, and their gradients are added up.

A step's loss is a sum over rows divided by one number, so the sum of the processes' gradients is the gradient that one
process would have: how rows are dealt changes nothing but the order of addition. Every process holds the whole model
and takes the same optimizer step; the first one alone writes. `accelerate launch` (or torchrun) starts them; on CPUs
they talk by gloo, on GPUs by NCCL. This is data parallelism as in Li et al. 2020 (arXiv:2006.15704) without buckets:
with an adapter there is little to add up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from primum.training.batches import Sized

S = TypeVar("S", bound=Sized)
V = TypeVar("V")


@dataclass(frozen=True)
class Team:
    """This process's number among all of them. One process is a team of its own.

    Attributes:
        rank: from 0.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def share(self, groups: Sequence[Sequence[S]]) -> list[Sequence[S]]:
        """Return this process's micro-batches: the heaviest goes to who has the fewest tokens so far."""
        return [groups[i] for i in self.deal([sum(one.length for one in group) for group in groups])]

    def deal(self, weights: Sequence[int]) -> Sequence[int]:
        """Return which of some things are this process's, by their weights."""
        if self.size == 1:
            return range(len(weights))
        loads, own = [0] * self.size, list[int]()
        for i in sorted(range(len(weights)), key=lambda i: (-weights[i], i)):
            to = min(range(self.size), key=lambda rank: (loads[rank], rank))
            loads[to] += weights[i]
            if to == self.rank:
                own.append(i)
        return own

    def most(self, groups: Sequence[Sequence[S]]) -> int:
        """Return how many of some micro-batches the process has that has most of them."""
        return max(len(Team(rank, self.size).share(groups)) for rank in range(self.size))

    def add_gradients(self, weights: Iterable[Tensor]) -> None:
        """Replace each weight's gradient by the sum over all processes; none counts as nought."""
        held = list(weights)
        if self.size == 1 or not held:
            return
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in held]
        flat = torch.cat([grad.reshape(-1).to(torch.promote_types(grad.dtype, torch.float32)) for grad in grads])
        distributed.all_reduce(flat)
        start = 0
        for p, grad in zip(held, grads, strict=True):
            p.grad = flat[start : start + grad.numel()].view_as(grad).to(grad.dtype)
            start += grad.numel()

    def gathered(self, value: V) -> list[V]:
        """Return every process's value, in their order: what JSON can say, and small."""
        if self.size == 1:
            return [value]
        own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(self.place)
        lengths = [torch.zeros(1, dtype=torch.int64, device=self.place) for _ in range(self.size)]
        distributed.all_gather(lengths, torch.tensor([len(own)], device=self.place))
        longest = max(int(length) for length in lengths)
        parts = [torch.zeros(longest, dtype=torch.uint8, device=self.place) for _ in range(self.size)]
        distributed.all_gather(parts, torch.nn.functional.pad(own, (0, longest - len(own))))
        whole = zip(parts, lengths, strict=True)
        return [json.loads(bytes(part[: int(length)].tolist()).decode()) for part, length in whole]

    @property
    def place(self) -> torch.device:
        """Where what is sent must lie: NCCL takes nothing from a CPU."""
        return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")

    def first(self, value: V) -> V:
        """Return the leading process's value everywhere."""
        return self.gathered(value)[0]

    def summed(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return the sums over all processes, key by key."""
        found: dict[str, float] = {}
        for part in self.gathered(dict(values)):
            for key, value in part.items():
                found[key] = found.get(key, 0) + value
        return found

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def leave(self) -> None:
        """Part once all are done: a process that ends while others still talk to it breaks them, or itself."""
        if self.size > 1 and distributed.is_initialized():
            distributed.barrier()
            distributed.destroy_process_group()


def team(cpu: bool | None = None) -> Team:
    """Return the team that `accelerate launch` or torchrun started this process in, joining it the first time.

    Args:
        cpu: whether the processes compute on CPUs; None: where there is no GPU.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Team()
    from accelerate import PartialState

    state: Any = PartialState(cpu=not torch.cuda.is_available() if cpu is None else cpu)
    return Team(state.process_index, state.num_processes)
