"""How many tokens a micro-batch may have, and whether layers must compute again: measured before the first step.

On a CPU more tokens are no faster (docs/log.md), so that the usual number stays and memory alone can lower it: there a
process that takes too much is killed, not told. On a GPU as many are taken as memory allows, up to what still helps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from primum.models.device import free_memory
from primum.training.batches import USUAL, Sized
from primum.training.recompute import recompute
from primum.training.score import causal, under_mask
from primum.training.sharding import sharded
from primum.training.team import Team

X = TypeVar("X", bound=Sized)
MOST = 32768
"""Tokens of a micro-batch on a GPU: above, its matrix products are no faster."""
SHARE = {"cuda": 0.8, "cpu": 0.5}
"""Of the free memory that a micro-batch may take. On a CPU what is kept for backward is counted, and the process takes
about 1.4 times as much (docs/log.md)."""
LARGER = 4
"""How many times the tokens of the longest row a second pass has on a GPU: what is allocated once is told apart."""
ALONE = Team()


class Line(NamedTuple):
    """Bytes that a pass takes: `fixed`, and `slope` more a token."""

    fixed: float
    slope: float

    def at(self, tokens: int) -> float:
        """Return the bytes of a pass of so many tokens."""
        return self.fixed + self.slope * tokens


class Fit(NamedTuple):
    """What was measured and chosen.

    token_budget: tokens of a micro-batch. again: layers compute again what backward needs. slope: bytes a token,
    0 where none were measured. free: bytes that were free; None: unknown.
    """

    token_budget: int
    again: bool
    slope: float
    free: int | None

    def said(self) -> str:
        """Return it in one line."""
        text = f"micro-batches of at most {self.token_budget:,} tokens: "
        text += f"{self.slope / 1e6:.2g} MB a token measured" if self.slope else "not measured"
        text += "" if self.free is None else f", {self.free / 1e9:.1f} GB free"
        return text + (", layers compute again what the backward pass needs" if self.again else "")


def fitted(
    network: Any, loss: Callable[[Sequence[X]], Tensor], examples: Sequence[X], longest: int, team: Team = ALONE
) -> Fit:
    """Measure what a pass takes, and choose; all processes of a team choose the same.

    Args:
        network: what learns; it has no gradients yet, and has none afterwards.
        loss: of a micro-batch.
        examples: of the first step.
        longest: tokens of the longest example of all.
        team: the processes that learn together.
    """
    place = next(network.parameters()).device
    if team.size > 1 and sharded(network):
        return Fit(USUAL, False, 0.0, None)  # a process whose memory is short would leave the others waiting
    own = free_memory(place)
    known = [free for free in team.gathered(own) if free is not None]
    free = min(known) // (team.size if place.type == "cpu" else 1) if known else None
    room = None if free is None else SHARE.get(place.type, SHARE["cpu"]) * free
    line, again = _line(network, loss, examples, team), False  # also finds the way in which rows are scored
    if (line is None or (room is not None and line.at(longest) > room)) and recompute(network):
        line, again = _line(network, loss, examples, team), True
    most = USUAL if free is None else _most(network, place)
    return Fit(budget(line, room, most), again, line.slope if line else 0.0, free)


def budget(line: Line | None, room: float | None, most: int) -> int:
    """Return the tokens that fit in the room (bytes; None: unknown), at most `most`, in three binary digits.

    Coarse, so that a little more or less free memory gives the same number. No line: not even one row fitted.
    """
    if line is None:
        return 1
    fits = most if room is None or line.slope <= 0 else int((room - line.fixed) / line.slope)
    if fits >= most:
        return most
    unit = 1 << max(0, max(1, fits).bit_length() - 3)
    return max(1, fits // unit * unit)


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory is too short; on a CPU torch says so in words only."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "can't allocate memory" in str(error) or "not enough memory" in str(error)


def line_through(points: Sequence[tuple[int, float]]) -> Line:
    """Return the line through one point (tokens, bytes) and nought, or through two; never a falling one."""
    (few, small), (many, large) = points[0], points[-1]
    if many == few or large <= small:
        return Line(0.0, max(taken / tokens for tokens, taken in points))
    slope = (large - small) / (many - few)
    return Line(max(0.0, small - slope * few), slope)


def _most(network: Any, place: torch.device) -> int:
    """Return the tokens above which a micro-batch does not get faster.

    Under a dense mask attention costs T / (6 d) of what the matrix products of a block cost (4 T d and about 24 d^2
    operations a token, d numbers a token): with 2 d tokens, a third. More rows are better apart then.
    """
    if place.type == "cpu":
        return USUAL
    width = causal(network).config.get_text_config().hidden_size
    return min(MOST, max(USUAL, 2 * width)) if under_mask(network) else MOST


def _line(network: Any, loss: Callable[[Sequence[X]], Tensor], examples: Sequence[X], team: Team) -> Line | None:
    """Measure passes of the first step's rows; None where memory was too short for one row in any process."""
    ordered = sorted(examples, key=lambda one: -one.length)
    try:
        measure = _on_gpu if next(network.parameters()).device.type == "cuda" else _on_cpu
        own = line_through(measure(network, loss, ordered))
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        own = None
    each = team.gathered(list(own) if own else None)
    lines = [Line(*one) for one in each if one is not None]
    return None if len(lines) < len(each) else max(lines, key=lambda one: one.slope)


def _on_cpu(network: Any, loss: Callable[[Sequence[X]], Tensor], ordered: Sequence[X]) -> list[tuple[int, float]]:
    """Return what one row's pass keeps for backward: (tokens, bytes)."""
    weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss(ordered[:1])
    return [(ordered[0].length, float(sum(kept.values())))]


def _on_gpu(network: Any, loss: Callable[[Sequence[X]], Tensor], ordered: Sequence[X]) -> list[tuple[int, float]]:
    """Return the most that passes of two sizes allocate: (tokens, bytes). The first is made twice: kernels compile."""
    larger, tokens = list[X](), 0
    for one in ordered:
        if not larger or tokens + one.length <= LARGER * ordered[0].length:
            larger.append(one)
            tokens += one.length
    points: list[tuple[int, float]] = []
    for group in (ordered[:1], ordered[:1], larger):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        try:
            loss(group).backward()
        except RuntimeError as error:
            if not points or not out_of_memory(error):
                raise
            break
        finally:
            network.zero_grad(set_to_none=True)
        points.append((sum(one.length for one in group), float(torch.cuda.max_memory_allocated() - before)))
    torch.cuda.empty_cache()
    return points[1:]
