"""What an evaluation would ask and about how long it takes: the dry run, and how far the whole is while it runs.

Seconds follow from the tokens that are read and written, the number of weights, and this machine's measured matrix
rate. Tokens are counted on a sample of each benchmark's items; what all of its prompts begin with is read once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from primum.core.progress import Advance
from primum.core.records import JsonDict
from primum.evaluation.items import Benchmark, Item
from primum.pipeline.benchmark import Ask, told
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import TELLING
from primum.report.words import seconds as duration

if TYPE_CHECKING:
    from primum.models.load import Outline

SAMPLE = 256
"""Items of a benchmark whose tokens are counted."""
GPU_RATE = 100_000.0
REACHED = {"hf": (0.5, 0.35), "openvino": (0.5, 0.5)}
"""Fractions of the measured matrix rate that reading and writing reach, by engine (after docs/benchmarks/sample.md)."""
SETTLE = 1.0
"""Seconds: what a step reports earlier was found on disk, and says nothing of how long the rest takes."""


@dataclass(frozen=True, slots=True)
class Part:
    """One benchmark of an evaluation: its items, the tokens that are read and (at most) written, and about how long."""

    benchmark: str
    items: int
    read: int
    written: int
    seconds: float
    step: str = ""
    """The step of the run that takes this time."""


def part(benchmark: Benchmark, ask: Ask, items: Sequence[Item], model: Outline, engine: str) -> Part:
    """Return what one benchmark costs on this machine; what several items ask alike is drawn once."""
    asked = items if benchmark.by_likelihood else list({one.prompt.id: one for one in items}.values())
    sample = asked[:: max(1, len(asked) // SAMPLE)][:SAMPLE]
    rows, written = _rows(benchmark, ask, sample, model.tokenizer)
    head = _shared(rows)
    read = head + round(sum(len(row) - head for row in rows) / len(sample) * len(asked))
    reading, writing = REACHED.get(engine, REACHED["hf"])
    rate = _rate(benchmark.by_likelihood) * 1e9
    whole = 2 * model.parameters * (read / reading + written * len(asked) / writing) / rate
    step = f"{benchmark.name} {'likelihoods' if benchmark.by_likelihood else 'replies'}"
    return Part(benchmark.name, len(items), read, written * len(asked), round(whole, 3), step)


def _rows(benchmark: Benchmark, ask: Ask, sample: Sequence[Item], tokenizer: Any) -> tuple[list[list[int]], int]:
    """Return the tokens that are read for each item, and how many are written at most."""
    from primum.models.seeing import encode_all

    if not benchmark.by_likelihood:
        asked = [told(one.prompt, ask.system).messages for one in sample]
        return encode_all(asked, tokenizer), ask.sampling.max_new_tokens
    contexts = tokenizer([one.prompt.text for one in sample])["input_ids"]
    options = [tokenizer(list(one.options))["input_ids"] for one in sample]
    return [[*context, *chain(*own)] for context, own in zip(contexts, options, strict=True)], 0


def _shared(rows: Sequence[list[int]]) -> int:
    """Return how many tokens all rows begin with."""
    first, last = min(rows), max(rows)
    return next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(map(len, (first, last))))


def _rate(exact: bool) -> float:
    """Return billions of operations a second: in float32 where likelihoods are taken, else in the fastest format."""
    from primum.models.device import device

    rates = device().rates
    return rates.get("fp32", GPU_RATE) if exact else max(rates.values(), default=GPU_RATE)


def described(model: Outline, engine: str, parts: Sequence[Part]) -> JsonDict:
    """Return the plan as JSON, with `text` for the terminal."""
    from primum.models.device import device

    total = sum(one.seconds for one in parts)
    lines = [
        f"{one.benchmark:<24}{one.items:>8,} items{one.read:>12,} tokens read{one.written:>11,} written at most"
        f"   about {duration(one.seconds)}"
        for one in parts
    ]
    head = f"{model.name} ({model.parameters / 1e6:.0f}M), {device().describe()}, replies by {engine}"
    tail = f"about {duration(total)} in all; a run that was stopped goes on where it was"
    text = "\n".join([head, *lines, tail])
    return {"engine": engine, "benchmarks": [asdict(one) for one in parts], "seconds": total, "text": text}


@dataclass
class Whole:
    """How far all benchmarks together are; a benchmark's share of the whole is its part of the estimated time."""

    weights: dict[str, float]
    clock: Callable[[], float] = time.monotonic
    done: float = 0.0
    found: float = 0.0
    started: float = 0.0

    def __post_init__(self) -> None:
        """Start the clock."""
        self.started = self.clock()

    @contextmanager
    def step(self, name: str, total: int | None) -> Generator[Advance]:
        """Hear of one step's units while the block runs; steps of no known weight are not counted."""
        weight, begun = self.weights.get(name, 0.0), self.clock()

        def heard(units: int) -> None:
            share = weight * units / total if total else 0.0
            self.done += share
            self.found += share if self.clock() - begun < SETTLE else 0.0

        yield heard

    def words(self) -> str:
        """Return "; all 25%, 40 min left", or nothing before enough was done to tell."""
        whole, fresh = sum(self.weights.values()), self.done - self.found
        if fresh <= TELLING * whole or len(self.weights) < 2:
            return ""
        left = (self.clock() - self.started) * (whole - self.done) / fresh
        return f"; all {100 * min(self.done, whole) / whole:.0f}%, {duration(max(left, 0.0))} left"


@dataclass
class Tour(Journey):
    """A journey over several benchmarks that also says how far the whole is."""

    whole: Whole = field(default_factory=lambda: Whole({}))

    def __post_init__(self) -> None:
        """Let the terminal speak of the whole behind each step's own progress."""
        self.terminal.behind = self.whole.words

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Generator[Advance]:
        """Time a step, show its progress, and count it into the whole."""
        with super().step(name, total, unit) as advance, self.whole.step(name, total) as heard:

            def both(units: int) -> None:
                heard(units)
                advance(units)

            yield both
