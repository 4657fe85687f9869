"""What a stage would cost, in tokens, for the dry run: no model is loaded to know it."""

from __future__ import annotations

from typing import NamedTuple


class Sizes(NamedTuple):
    """What costs depend on: prompts to learn from and to measure on, tokens of a measured reply, and all known prompts.

    Those beyond the budget are among the known ones: what needs no reply to them reads them.
    """

    harmful: int
    general: int
    test: int
    tokens: int
    known: int = 0

    @property
    def train(self) -> int:
        """All prompts to learn from: a harmful one brings its twin."""
        return 2 * self.harmful + self.general


class Cost(NamedTuple):
    """Tokens that are drawn, read once (scored) and learned, at most."""

    drawn: int = 0
    scored: int = 0
    learned: int = 0

    def plus(self, other: Cost) -> Cost:
        """Add two costs."""
        return Cost(self.drawn + other.drawn, self.scored + other.scored, self.learned + other.learned)


PROMPT = 50
"""Tokens of a prompt with its template, about."""


def measured(sizes: Sizes) -> Cost:
    """Return what it costs to measure one policy: a reply to each test prompt, read by the judges."""
    return Cost(sizes.test * sizes.tokens, sizes.test * (PROMPT + sizes.tokens))
