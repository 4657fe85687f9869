"""A warm start in closed form: what the network already knows of a prompt is read off, and written into the adapter.

Before the first token of an answer the hidden units of a network tell harmful prompts from their benign twins almost
as well as long fine-tuning does (a linear reading of them is refusal's direction, arXiv:2406.11717), but nothing makes
it decline. Here a ridge regression over the hidden units of many blocks gives one where a harmful prompt is about to
be answered, and nought before benign answers and everywhere else. Each block's adapter gets one rank-one update: what
it reads is the block's part of that regression, what it writes is the direction in which the openers of the learned
answers become likelier (their gradient), as in editing a memory (arXiv:2210.07229). Fine-tuning then starts from a
network that declines already, and need not find out what to look at.

`training/line.py` uses the same two ends after training, to decide how often the network declines.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from pydantic import Field
from torch import Tensor

from primum.core.config import Config as Base
from primum.core.progress import Advance, silent
from primum.models.device import device
from primum.training.batches import micro_batches
from primum.training.examples import Example
from primum.training.packed import Packed, pack
from primum.training.score import answer_states, causal, logits, plain_way, shares_prompts

log = logging.getLogger(__name__)
ELSEWHERE = 4000
"""Tokens where nothing is to be declined, to those where answers begin: one a row, and no more than this in all."""
RESUMED = 2
"""Places per benign answer where a sentence of it begins, and one anywhere else: nothing is to be declined there."""
DIRECTIONS = 64
"""Rows over which the openers' gradient is averaged: it hardly differs between prompts."""
LEAST = 32
"""Fewer rows of a kind than this say nothing about others."""
PROBED = 96
"""Harmful rows on which the strength is measured; the regression does not see them."""


class StartConfig(Base):
    """How the warm start in closed form is fitted and written."""

    ridge: float = Field(default=0.1, gt=0, description="penalty of the regression, against a mean kernel of one")
    odds: float = Field(
        default=-0.5, description="log-odds of declining that a typical harmful prompt of training is brought to"
    )


class Going(NamedTuple):
    """Answers that go on: a reading of where answers begin must not take the next sentence for a beginning.

    rows: benign answers of the network's own. breaks: tokens after which a sentence or a line may begin.
    """

    rows: Sequence[Example]
    breaks: Set[int]


class Fitted(NamedTuple):
    """What was written.

    blocks: how many were touched. strength: nats per unit of the regression. before, after: log-odds of declining a
    typical harmful row that the regression did not see.
    """

    blocks: int
    strength: float
    before: float
    after: float


@dataclass(frozen=True)
class Site:
    """The adapter of one block's last product, which writes hidden units (F) into the residual stream (D)."""

    layer: Any

    @property
    def a(self) -> Tensor:
        """What the adapter reads, (r, F)."""
        return self.layer.lora_A["default"].weight

    @property
    def b(self) -> Tensor:
        """What it writes, (D, r)."""
        return self.layer.lora_B["default"].weight

    @property
    def scale(self) -> float:
        """The adapter's factor."""
        return self.layer.scaling["default"]


def sites(network: Any) -> list[Site]:
    """Return the adapted products from hidden units to the residual stream, block by block; none: not that kind."""
    width = causal(network).config.get_text_config().hidden_size
    found = [m for m in network.modules() if hasattr(m, "lora_A") and "default" in m.lora_A]
    return [Site(m) for m in found if getattr(m, "out_features", 0) == width != getattr(m, "in_features", width)]


def of_text(rows: Sequence[Example]) -> list[Example]:
    """Return the rows without pictures: those with some are scored by the whole network, and not read here."""
    return [row for row in rows if not row.seen]


def start(
    config: StartConfig,
    network: Any,
    harmful: Sequence[Example],
    benign: Sequence[Example],
    openers: Sequence[int],
    seed: int = 0,
    advance: Advance = silent,
    going: Going | None = None,
) -> Fitted | None:
    """Write a first warm start into a fresh adapter; None where the network has no such products.

    Args:
        config: penalty and strength.
        network: with a fresh adapter.
        harmful: rows whose prompts are to be declined; what counts is where their answers begin.
        benign: rows whose answers are to stay as they are.
        openers: tokens that open the answers to be learned.
        seed: of the tokens that stand for "elsewhere".
        advance: told of every row.
        going: benign answers, within which nothing is to be declined either.
    """
    places = sites(network)
    harmful, benign = of_text(harmful), of_text(benign)
    if not (places and len(harmful) >= LEAST and benign and openers and shares_prompts(network, harmful[:4])):
        return None
    network.eval()
    rng = random.Random(seed)
    probed = rng.sample(list(harmful), min(PROBED, len(harmful) // 4))
    unseen = {id(row) for row in probed}
    fitted = [row for row in harmful if id(row) not in unseen]
    share = min(1.0, ELSEWHERE / (len(fitted) + len(benign)))
    read = [units_of(network, places, rows, rng, advance, share) for rows in (fitted, benign)]
    parts = [*read[0], *read[1], *units_within(network, places, going, rng, advance)]
    wanted = torch.zeros(sum(map(len, parts)))
    wanted[: len(parts[0])] = 1.0
    rows = torch.cat(parts)
    del read, parts  # gigabytes
    weights = ridge(rows, wanted, config.ridge)
    some = [*harmful, *benign]
    ways = directions(network, places, rng.sample(some, min(DIRECTIONS, len(some))), openers)
    reading = [_even(w, way) for w, way in zip(weights.chunk(len(places)), ways, strict=True)]
    before = odds(network, probed, openers).median().item()
    base = [(site.a[0].clone(), site.b[:, 0].clone()) for site in places]

    def put(strength: float) -> float:
        with torch.no_grad():
            for site, (w, way) in zip(places, reading, strict=True):
                root = abs(strength) ** 0.5
                site.a[0] = w * root
                site.b[:, 0] = way * root / site.scale
        return odds(network, probed, openers).median().item()

    strength, after = _search(put, before, config.odds)
    if after <= before:
        with torch.no_grad():
            for site, (a, b) in zip(places, base, strict=True):
                site.a[0], site.b[:, 0] = a, b
        return None
    return Fitted(len(places), strength, before, after)


def _even(w: Tensor, way: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two ends of a rank-one product, of the same length and with the same product."""
    norm = float((w.norm() / way.norm()).sqrt())
    return w / norm, way * norm


def _search(put: Callable[[float], float], before: float, wanted: float) -> tuple[float, float]:
    """Find the strength that brings the log-odds to what is wanted: at first as a straight line would, then by halves.

    The odds rise less than linearly, and fall again where far too much is added.
    """
    low, strength = 0.0, max(wanted - before, 1.0)
    best, found, high = (0.0, before), before, float("inf")
    for _ in range(5):
        found = put(strength)
        if abs(found - wanted) < abs(best[1] - wanted):
            best = (strength, found)
        if abs(found - wanted) < 0.5:
            break
        if found < wanted:
            low = strength
        else:
            high = strength
        strength = strength * 1.5 if high == float("inf") else (low + high) / 2
    written = found == best[1]  # the last one tried was the best one
    return best if written or not best[0] else (best[0], put(best[0]))


def ridge(rows: Tensor, wanted: Tensor, penalty: float) -> Tensor:
    """Return the weights (F,) of a ridge regression without constant of wanted (N,) on rows (N, F).

    Columns are in units of their spread. It is solved by rows (the dual form, Saunders et al. 1998), so wide rows cost
    little.

    Args:
        rows: fp16 or fp32.
        wanted: what the rows are to give.
        penalty: against a kernel whose diagonal is about one.
    """
    count, width = rows.shape
    rounded = rows.dtype != torch.float32 and device().dtype == torch.bfloat16
    kernel, spread = torch.zeros(count, count), torch.empty(width)
    for columns in _columns(width):
        part = rows[:, columns].float()
        spread[columns] = part.std(0) + 1e-3
        _add_kernel(kernel, part / spread[columns], rounded)
    kernel.div_(width).diagonal().add_(penalty)
    solved = torch.cholesky_solve(wanted[:, None], torch.linalg.cholesky(kernel))[:, 0]
    found = torch.cat([rows[:, columns].float().T @ solved for columns in _columns(width)])
    return found / width / spread.square()


def _columns(width: int, block: int = 2048) -> list[slice]:
    """Return pieces of the columns: not all of them need be there in fp32 at once."""
    return [slice(first, min(first + block, width)) for first in range(0, width, block)]


def _add_kernel(kernel: Tensor, part: Tensor, rounded: bool, block: int = 1024) -> None:
    """Add P P' of some columns P (N, B) to the lower half of a kernel (N, N); what is above the blocks stays.

    `rounded` products round what they read to bf16 and add up in fp32, which a processor that multiplies bf16 does in
    half of the time: rows of a network in bf16 lose little, and what they lose averages out over thousands of columns.
    """
    matmul = cast(Any, torch.backends.mkldnn).matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16" if rounded else before
    try:
        for first in range(0, len(part), block):
            last = min(first + block, len(part))
            kernel[first:last, :last] += part[first:last] @ part[:last].T
    finally:
        matmul.fp32_precision = before


@contextmanager
def _hooks(made: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in made:
            hook.remove()


@torch.no_grad()
def units_of(
    network: Any, places: Sequence[Site], rows: Sequence[Example], rng: random.Random, advance: Advance,
    share: float = 1.0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the hidden units of all sites side by side, fp16: where answers begin (N, F), and elsewhere (M, F).

    `share`: tokens elsewhere, to one where an answer begins.
    """
    begins, elsewhere = list[Tensor](), list[Tensor]()
    for group, packed, units in _read(network, places, rows):
        starts = packed.before[packed.lengths.cumsum(0) - packed.lengths]
        others = sorted(set(range(1, packed.ids.shape[1])) - set(starts.tolist()))
        some = torch.tensor(rng.sample(others, min(len(others), round(share * len(group)))), dtype=torch.long)
        begins.append(_at(units, starts))
        elsewhere.append(_at(units, some))
        advance(len(group))
    return torch.cat(begins), torch.cat(elsewhere)


def _at(units: Sequence[Tensor], where: Tensor) -> Tensor:
    return torch.cat([u[where] for u in units], 1).half().cpu()


def _read(
    network: Any, places: Sequence[Site], rows: Sequence[Example]
) -> Iterator[tuple[Sequence[Example], Packed, list[Tensor]]]:
    """Yield groups of rows as they were packed, with the hidden units (T, F) of every site at each of their tokens."""
    heard: dict[int, Tensor] = {}

    def listen(at: int) -> Callable[[Any, Any], None]:
        def hook(_module: Any, inputs: Any) -> None:
            heard[at] = inputs[0].reshape(-1, inputs[0].shape[-1])

        return hook

    with _hooks([site.layer.register_forward_pre_hook(listen(i)) for i, site in enumerate(places)]):
        for group in micro_batches(rows, 4096):
            packed = pack(group, next(network.parameters()).device)
            plain_way(network, group, packed)
            yield group, packed, [heard[i] for i in range(len(places))]


@torch.no_grad()
def units_within(
    network: Any, places: Sequence[Site], going: Going | None, rng: random.Random, advance: Advance
) -> list[Tensor]:
    """Return the hidden units within benign answers: where their sentences begin, and some other places (M, F)."""
    found = list[Tensor]()
    if going is None:
        return found
    for group, packed, units in _read(network, places, of_text(going.rows)):
        chosen, first = list[int](), 0
        for row in group:
            later = range(1, len(row.answer))
            breaks = [t for t in later if row.answer[t - 1] in going.breaks]
            others = [t for t in later if row.answer[t - 1] not in going.breaks]
            some = [*rng.sample(breaks, min(RESUMED, len(breaks))), *rng.sample(others, min(1, len(others)))]
            chosen += [first + t for t in some]
            first += len(row.answer)
        found.append(_at(units, packed.before[torch.tensor(chosen, dtype=torch.long)]))
        advance(len(group))
    return found


@torch.enable_grad()
def directions(network: Any, places: Sequence[Site], rows: Sequence[Example], openers: Sequence[int]) -> list[Tensor]:
    """Return for each site what to add to its output (D,) for one nat more of the openers where an answer begins.

    It is the mean gradient of their log-odds over its squared length: right to first order.
    """
    total = [torch.zeros(site.b.shape[0]) for site in places]
    heard: dict[int, Tensor] = {}

    def listen(at: int) -> Callable[[Any, Any, Tensor], None]:
        def hook(_module: Any, _inputs: Any, output: Tensor) -> None:
            if output.requires_grad:
                output.retain_grad()
                heard[at] = output

        return hook

    with _hooks([site.layer.register_forward_hook(listen(i)) for i, site in enumerate(places)]):
        for group in micro_batches([_opened(row, openers) for row in rows], 1024):
            packed = pack(group, next(network.parameters()).device)
            states = plain_way(network, group, packed)
            log_odds(logits(network, states), openers).sum().backward()  # type: ignore[no-untyped-call]
            for i, sum_ in enumerate(total):
                grad = heard[i].grad
                if grad is not None:
                    sum_ += grad.reshape(-1, grad.shape[-1])[packed.before].float().sum(0).cpu()
    network.zero_grad(set_to_none=True)
    mean = [each / len(rows) for each in total]
    return [(each / each.square().sum().clamp(min=1e-12)).to(places[0].b.device) for each in mean]


@torch.no_grad()
def odds(network: Any, rows: Sequence[Example], openers: Sequence[int], temperature: float = 1.0) -> Tensor:
    """Return the log-odds (N,) that an answer begins with one of the openers, as drawn at a temperature."""
    found, first = torch.zeros(len(rows)), [_opened(row, openers) for row in rows]
    order = {id(row): i for i, row in enumerate(first)}
    for group in micro_batches(first, 4096):
        value = log_odds(logits(network, answer_states(network, group).hidden) / temperature, openers)
        found[[order[id(row)] for row in group]] = value.cpu()
    return found


def _opened(row: Example, openers: Sequence[int]) -> Example:
    """Return the prompt with one token of answer: only where answers begin is looked at."""
    return Example(row.prompt, (openers[0],))


def log_odds(logits: Tensor, openers: Sequence[int]) -> Tensor:
    """Return the log-odds (N,) of any of the openers, of logits (N, V)."""
    these = torch.tensor(list(openers), device=logits.device)
    return logits[:, these].logsumexp(-1) - logits.index_fill(1, these, -torch.inf).logsumexp(-1)
