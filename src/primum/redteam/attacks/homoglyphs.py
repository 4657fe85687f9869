"""Homoglyphs: Cyrillic letters in place of the Latin ones that look the same."""

from __future__ import annotations

from random import Random

from primum.core.records import user
from primum.redteam.perturb import homoglyphs
from primum.redteam.talk import Goal, Talk, once

about = "half of the letters replaced by look-alikes of another alphabet"
vector = "syntactic"
source = "https://arxiv.org/abs/2106.09898"


def attack(goal: Goal, rng: Random) -> Talk:
    """Ask with look-alike letters."""
    return once(user(homoglyphs(goal.text, rng)))
