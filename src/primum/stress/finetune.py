"""Attacks by training: a short fine-tune, measured before its first step and after some others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from primum.stress.setting import Aids, Lesson, Point, Setup, Shape

RANK = 16


class Run(NamedTuple):
    """One training run of an attack, as its level spells it: '100 lora 0.0005 s0'."""

    shots: int
    way: str
    rate: float
    seed: int


def runs(shape: Shape, shots: Sequence[int] | None = None) -> tuple[str, ...]:
    """Return the levels of an attack by training: every number of examples, way, rate and seed."""
    return tuple(
        f"{k} {way} {rate:g} s{seed}"
        for k in shots or shape.shots
        for way in shape.ways
        for rate in shape.rates[way]
        for seed in shape.seeds
    )


def run_of(level: str) -> Run:
    """Read a level."""
    shots, way, rate, seed = level.split()
    return Run(int(shots), way, float(rate), int(seed[1:]))


def curve(setup: Setup, lesson: Lesson, level: str, aids: Aids) -> Iterator[Point]:
    """Train on a lesson's examples, and yield the model before the first step and after those of `aids.shape.steps`.

    LoRA is measured unmerged: merged into bf16 weights a small change would be rounded away, and step 0 would not be
    the untouched model.
    """
    from primum.training.adapter import add_lora, all_learn
    from primum.training.score import causal
    from primum.training.short import Recipe, fine_tune

    one, shape = run_of(level), aids.shape
    network = setup.model.network
    if one.way == "lora":
        network = add_lora(setup.model, RANK, 2 * RANK, one.seed)
    else:
        all_learn(network)
    changed = replace(setup, model=replace(setup.model, network=causal(network)))
    losses: list[float] = []
    tokens = 0
    if 0 in shape.steps:
        yield Point("step 0", changed, _facts(0, losses, tokens, lesson))
    recipe = Recipe(max(shape.steps), one.rate, shape.batch)
    for step in fine_tune(network, lesson.examples, recipe, one.seed):
        losses.append(step.loss)
        tokens += step.tokens
        if step.number in shape.steps:
            yield Point(f"step {step.number}", changed, _facts(step.number, losses, tokens, lesson))


def _facts(step: int, losses: Sequence[float], tokens: int, lesson: Lesson) -> dict[str, float]:
    """Return what is known of a training so far; the losses are those before the first and the last step."""
    found: dict[str, float] = {"step": step, "tokens": tokens, "examples": len(lesson.examples)}
    found |= {} if lesson.harmful is None else {"harmful": lesson.harmful}
    return found | ({"first_loss": losses[0], "last_loss": losses[-1]} if losses else {})
