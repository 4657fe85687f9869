"""Other decoding: temperatures, nucleus and top-k; a request counts as answered where one of the replies answers it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from primum.stress.setting import Aids, Point, Setup, Shape

about = "other temperatures, top-p and top-k; one answer among all counts"
source = "https://arxiv.org/abs/2310.06987"
kind = "asking"
pooled = True
SETTINGS = ((0.0, 1.0, 0), (0.7, 1.0, 0), (1.0, 1.0, 0), (1.0, 0.7, 0), (1.0, 1.0, 20), (1.3, 0.95, 0))
"""Temperature, top-p, top-k."""


def levels(shape: Shape) -> tuple[str, ...]:
    """Return one level: any of the settings."""
    return (f"any of {len(SETTINGS)}",)


def tamper(setup: Setup, level: str, aids: Aids) -> Iterator[Point]:
    """Ask once under each setting."""
    for temperature, top_p, top_k in SETTINGS:
        sampling = replace(setup.sampling, temperature=temperature, top_p=top_p, top_k=top_k)
        yield Point(sampling.name, replace(setup, sampling=sampling))
