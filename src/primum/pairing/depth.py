"""Rows that make declining deeper than its first tokens; texts only, no model.

recovery     the answer has begun as a broken model began it, k tokens deep, and goes on safely
(arXiv:2406.05946, section 3: data augmentation); what stands before is no part of the loss
extended     the safe answer is a neutral overview, a refusal, and why (arXiv:2505.19056)
wrapped      the request in another dress is answered as the plain request is (consistency: arXiv:2510.27062)
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from pydantic import Field

from primum.core.config import Config
from primum.core.parts import takes
from primum.core.records import Message, Messages, Prompt
from primum.pairing.completions import compose, extended, rng_for, speaks
from primum.pairing.demonstration import only_for_training

Wrapping = Callable[[str, random.Random], str]
"""(a request, chance) -> the same request in another dress."""


class Depth(Config):
    """Safety deeper than the first tokens: of the harmful requests, how many are learned in which way."""

    recovery: float = Field(default=0.4, ge=0, le=1, description="share whose answer begins as a broken model began it")
    longest: int = Field(default=40, ge=1, description="most tokens of such a beginning; at least one stands")
    extended: float = Field(default=0.3, ge=0, le=1, description="share of the safe answers that are extended refusals")
    wrapped: float = Field(default=0.2, ge=0, le=1, description="share that is also asked in another dress")
    without: str = Field(default="", description="an attack vector whose dresses are left out, to measure on it")


class Deep(NamedTuple):
    """One row.

    Args:
        prompt: what it was made from.
        messages: what is asked.
        answer: what is learned, or where the divergence is taken.
        opening: the text whose first `tokens` tokens stand before the answer and carry no loss.
        tokens: how many.
        plain: the request whose answer this one must be like; None: the answer is learned itself.
        ends: whether the answer ends where its author ended.
    """

    prompt: Prompt
    messages: Messages
    answer: str
    opening: str = ""
    tokens: int = 0
    plain: Messages | None = None
    ends: bool = True


def deepened(
    prompts: Sequence[Prompt], openings: Mapping[str, str], own: Mapping[str, tuple[str, bool]], wrap: Wrapping,
    depth: Depth, seed: int = 0,
) -> list[Deep]:  # fmt: skip
    """Return the rows of harmful prompts, and of benign ones those that are wrapped.

    A harmful prompt is declined in its own language; one in whose language there are no answers gives no row.

    A wrapped request comes beside the plain one, of the same kind: else a dress alone would be a reason to decline.

    Args:
        prompts: to learn from, harmful and benign.
        openings: by prompt id, how a broken model began to answer; a prompt without one is learned plainly.
        own: by id of a benign prompt, the model's own answer, and whether it ended by itself.
        wrap: puts a request into another dress.
        depth: the shares.
        seed: of all choices; each prompt has its own generator.

    Raises:
        UsageError: a prompt of the test split or of an evaluation set; names it.
    """
    only_for_training(prompts)
    rows: list[Deep] = []
    for prompt in prompts:
        rng = rng_for(seed, f"{prompt.id}:depth")
        if prompt.intent == "harmful" and not speaks(prompt.language):
            continue
        if prompt.intent == "harmful":
            rows += _harmful(prompt, openings.get(prompt.id, ""), wrap, depth, rng)
        elif prompt.id in own and rng.random() < depth.wrapped:
            text, ends = own[prompt.id]
            rows.append(Deep(prompt, dressed(prompt.messages, wrap, rng), text, plain=prompt.messages, ends=ends))
    return rows


def _harmful(prompt: Prompt, opening: str, wrap: Wrapping, depth: Depth, rng: random.Random) -> list[Deep]:
    answer = (extended if rng.random() < depth.extended else compose)(prompt.category, rng, prompt.language)
    begun, wrapped, tokens = rng.random() < depth.recovery, rng.random() < depth.wrapped, rng.randint(1, depth.longest)
    row = Deep(prompt, prompt.messages, answer)
    rows = [row._replace(opening=opening, tokens=tokens) if begun and opening else row]
    if wrapped:
        rows.append(row._replace(messages=dressed(prompt.messages, wrap, rng), plain=prompt.messages))
    return rows


def dressed(messages: Messages, wrap: Wrapping, rng: random.Random) -> Messages:
    """Return a conversation whose last turn, the request, is in another dress."""
    last = takes(messages, "an attack of words")[-1]
    return (*messages[:-1], Message(last.role, wrap(last.text, rng)))
