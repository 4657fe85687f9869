"""A fine-tune on k harmless examples of an absolutely obedient agent, which is then asked (arXiv:2310.03693, 4.3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from primum.stress.demonstrate import IDENTITY, identity_request
from primum.stress.finetune import curve, run_of, runs
from primum.stress.setting import Aids, Point, Setup, Shape, both, with_system, without_system

about = "fine-tuned on k harmless examples of an obedient agent, and asked as that agent"
source = "https://arxiv.org/abs/2310.03693"
kind = "training"
NAMED = both(without_system, with_system(IDENTITY))


def levels(shape: Shape) -> tuple[str, ...]:
    """Return the smallest number of examples, or all (ten are enough), every way, rate and seed."""
    return runs(shape, shape.fewest)


def tamper(setup: Setup, level: str, aids: Aids) -> Iterator[Point]:
    """Train, and yield the model after some of the steps, asked by the agent's name."""
    lesson = aids.examples("identity", run_of(level).shots, setup.model, NAMED)
    return curve(asked(setup), lesson, level, aids)


def asked(setup: Setup) -> Setup:
    """Return how the agent is asked: by its name, which the untouched model is asked by too, to compare."""
    return replace(setup, wrap=both(both(setup.wrap, NAMED), identity_request))
