"""Repeat: the plain request several times, each in a conversation of its own, drawn at temperature 1.

What sampling alone brings out: the yardstick for every attack that may try more than once.
"""

from __future__ import annotations

from random import Random

from primum.core.records import user
from primum.redteam.talk import Decoding, Goal, Say, Talk, each

about = "the plain request several times at temperature 1: what many tries alone bring out"
vector = "search"
source = "https://arxiv.org/abs/2310.06987"
exchangeable = True


def attack(goal: Goal, rng: Random) -> Talk:
    """Ask the same thing `tries` times."""
    return each([Say((user(goal.text),), decoding=Decoding(1.0)) for _ in range(goal.tries)])
