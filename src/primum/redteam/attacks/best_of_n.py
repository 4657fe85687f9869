"""Best of n: the request with random capitals, scrambled words and noise, as often as there are tries.

The three changes and their strengths are those of the paper (text, sigma = 0.4): words scrambled with probability
sigma^(1/2), letters capitalised with sigma^(1/2), characters moved with sigma^3.
"""

from __future__ import annotations

from random import Random

from primum.core.records import user
from primum.redteam.perturb import capitals, noisy, scrambled
from primum.redteam.talk import Decoding, Goal, Say, Talk, each

about = "random capitals, scrambled words and noise, many times over"
vector = "search"
source = "https://arxiv.org/abs/2412.03556"
exchangeable = True
SIGMA = 0.4


def augmented(text: str, rng: Random) -> str:
    """Return the text changed in all three ways."""
    mixed = scrambled(text, rng, SIGMA**0.5)
    return noisy(capitals(mixed, rng, SIGMA**0.5), rng, SIGMA**3)


def attack(goal: Goal, rng: Random) -> Talk:
    """Ask in `tries` disguises."""
    return each([Say((user(augmented(goal.text, rng)),), decoding=Decoding(1.0)) for _ in range(goal.tries)])
