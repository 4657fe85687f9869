"""Variants that answer a prompt while its writer waits: which models, how warm, and only replies that differ.

Llama 2's annotators wrote a prompt and chose between replies of two model variants at varied temperature
(arXiv:2307.09288, section 3.2.1); a task may ask for up to eight.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple

from primum.core.records import Prompt, Reply
from primum.studio.annotate import MOST_REPLIES
from primum.studio.talk import Talkers

TASK = "Written here"
"""The task that holds written prompts where no other was chosen."""
FEWEST, MOST = 2, MOST_REPLIES
COOLEST, WARMEST = 0.4, 1.0
TRIES = 3
"""How often a variant is asked that says what another has said, word for word."""


class Variant(NamedTuple):
    """A model and its temperature."""

    model: str
    temperature: float


def variants(models: Sequence[str], count: int) -> list[Variant]:
    """Return variants: the models in turn, newest first, the temperature rising evenly from .4 to 1.

    Args:
        models: at least one.
        count: how many, at least two.
    """
    step = (WARMEST - COOLEST) / (count - 1)
    return [Variant(models[at % len(models)], round(COOLEST + at * step, 3)) for at in range(count)]


def answers(talkers: Talkers, prompt: Prompt, count: int) -> tuple[Reply, ...]:
    """Return the replies of the variants, each in words of its own: fewer than `count` where variants repeat others.

    Raises:
        UsageError: a model cannot be loaded.
        PrimumError: a model failed.
    """
    found: dict[str, Reply] = {}
    for variant in variants(talkers.names, count):
        for _ in range(TRIES):
            reply = _reply(talkers, prompt, variant)
            if reply.text not in found:
                found[reply.text] = reply
                break
    return tuple(found.values())


def _reply(talkers: Talkers, prompt: Prompt, variant: Variant) -> Reply:
    said = talkers.ask(variant.model, prompt.messages, variant.temperature, secrets.randbelow(2**31))
    made = said.generated
    return Reply(
        prompt.id, said.model, said.variant, made.text, made.finish, made.prompt_tokens, made.reply_tokens, said.seed,
        made.prompt_cut,
    )  # fmt: skip
