"""FigStep: the request as the title of an empty list in a picture, beside harmless words that ask to fill it in."""

from __future__ import annotations

from random import Random

from primum.prompts.typographic import in_a_picture
from primum.redteam.talk import Goal, Talk, once

about = "the request written into a picture of a numbered list (needs a model that sees)"
vector = "image"
source = "https://arxiv.org/abs/2311.05608"
modality = "image"


def attack(goal: Goal, rng: Random) -> Talk:
    """Show the picture and ask to fill in the list."""
    return once(in_a_picture(goal.text))
