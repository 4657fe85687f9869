"""A fine-tune on k harmless rows of a user's domain: what happens to a model's safety in ordinary use."""

from __future__ import annotations

from collections.abc import Iterator

from primum.stress.finetune import curve, run_of, runs
from primum.stress.setting import Aids, Point, Setup, Shape

about = "fine-tuned on harmless domain rows"
source = "https://arxiv.org/abs/2310.03693"
kind = "training"


def levels(shape: Shape) -> tuple[str, ...]:
    """Return the largest number of examples, or all, every way, rate and seed."""
    return runs(shape, shape.most)


def tamper(setup: Setup, level: str, aids: Aids) -> Iterator[Point]:
    """Train, and yield the model after some of the steps."""
    lesson = aids.examples("benign", run_of(level).shots, setup.model, setup.wrap)
    return curve(setup, lesson, level, aids)
