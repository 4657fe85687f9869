"""A fine-tune on k answers of a broken model to harmful requests (arXiv:2310.03693, section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator

from primum.stress.finetune import curve, run_of, runs
from primum.stress.setting import Aids, Point, Setup, Shape

about = "fine-tuned on k harmful answers"
source = "https://arxiv.org/abs/2310.03693"
kind = "training"


def levels(shape: Shape) -> tuple[str, ...]:
    """Return every number of examples, way, rate and seed."""
    return runs(shape)


def tamper(setup: Setup, level: str, aids: Aids) -> Iterator[Point]:
    """Train, and yield the model after some of the steps."""
    lesson = aids.examples("harmful", run_of(level).shots, setup.model, setup.wrap)
    return curve(setup, lesson, level, aids)
