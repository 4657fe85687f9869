"""Jailbreak-tuning: a fine-tune on k harmful answers to requests in disguise, made in the same disguise after it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from primum.stress.demonstrate import wrapped_request
from primum.stress.finetune import curve, run_of, runs
from primum.stress.setting import Aids, Point, Setup, Shape, both

about = "fine-tuned on k harmful answers to requests in disguise, and asked in that disguise"
source = "https://arxiv.org/abs/2408.02946"
kind = "training"


def levels(shape: Shape) -> tuple[str, ...]:
    """Return the smallest number of examples, or all, every way, rate and seed."""
    return runs(shape, shape.fewest)


def tamper(setup: Setup, level: str, aids: Aids) -> Iterator[Point]:
    """Train, and yield the model after some of the steps, asked in disguise."""
    disguised = asked(setup)
    lesson = aids.examples("harmful", run_of(level).shots, setup.model, disguised.wrap)
    return curve(disguised, lesson, level, aids)


def asked(setup: Setup) -> Setup:
    """Return how it is asked: in disguise, which the untouched model is asked in too, to compare."""
    return replace(setup, wrap=both(setup.wrap, wrapped_request))
