"""Plain: the request as it is. Every other attack is measured against it."""

from __future__ import annotations

from random import Random

from primum.core.records import user
from primum.redteam.talk import Goal, Talk, once

about = "the request as it is: what every other attack is compared with"
vector = "plain"
source = "baseline"


def attack(goal: Goal, rng: Random) -> Talk:
    """Ask once, unchanged."""
    return once(user(goal.text))
