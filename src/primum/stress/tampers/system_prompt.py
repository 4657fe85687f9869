"""The system prompt removed, or emptied where the chat template puts one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from primum.core.records import Messages, system
from primum.stress.setting import Aids, Point, Setup, Shape, without_system

about = "without the system prompt, or with an empty one"
source = "https://arxiv.org/abs/2310.06987"
kind = "asking"


def levels(shape: Shape) -> tuple[str, ...]:
    """Return removed (the template may put its own) and empty."""
    return ("removed", "empty")


def tamper(setup: Setup, level: str, aids: Aids) -> Iterator[Point]:
    """Ask without it."""
    yield Point(level, replace(setup, wrap=without_system if level == "removed" else _emptied))


def _emptied(messages: Messages) -> Messages:
    return (system(""), *without_system(messages))
