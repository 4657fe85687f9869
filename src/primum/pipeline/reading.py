"""What the linear start and the line read: where answers to prompts begin, and where the model's own answers go on.

torch is imported inside functions: a dry run and a finished run need none.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from primum.core.records import JsonDict, Prompt
from primum.pairing.demonstration import Demonstration

if TYPE_CHECKING:
    from primum.training.examples import Example
    from primum.training.line import Openers
    from primum.training.linear_start import Going

START_GOING, LINE_GOING = 400, 128
"""Own benign answers that the linear start and the line read, so that neither takes a later sentence for a beginning.

Without them a quarter of the ordinary requests that were declined had begun to answer (docs/log.md, 2026-11-23).
"""
NOTHING = "nothing was written: fewer than 32 prompts of a kind, or a network without such products"
SORRY = re.compile(
    r"[\"'*\s]*(i('m| am) (so |very |truly |really )?(sorry|afraid)|i apologi[sz]e|my apologies|sorry)\b", re.IGNORECASE
)
"""How a model's own apologies begin, up to the word that decides."""
APOLOGY_TOKENS = 12
"""Tokens within which that word stands."""
SOME, RARE = 8, 0.005
"""An apology that fewer own benign answers begin with, or a smaller share of them, is not looked at."""
COLDEST = 0.1
"""Greedy decoding is treated as this temperature where benign answers are kept and declining is measured."""
BREAK = re.compile(r"[.!?:\n][\"')*\s]*$")
"""A token that ends so is one after which a sentence or a line begins."""


def warmth(temperature: float) -> float:
    """Return the temperature at which benign answers are kept and declining is measured, of that of drawing."""
    return max(temperature, COLDEST)


def asked(prompts: Sequence[Prompt], tokenizer: Any, twins_only: bool = False) -> tuple[list[Example], list[Example]]:
    """Return the harmful and the benign prompts, each with one token of answer: what counts is where it begins.

    Args:
        prompts: of one split.
        tokenizer: the model's.
        twins_only: of the benign ones, those that are twins, where there are some.
    """
    from primum.training.examples import Answered, Limits, answered

    if twins_only and any(p.intent == "benign" and p.twin for p in prompts):
        prompts = [p for p in prompts if p.intent != "benign" or p.twin]
    sides = [[p for p in prompts if (p.intent == "benign") is benign] for benign in (False, True)]
    one = [[Answered(p.messages, "I", Limits(answer=1), ends=False) for p in side] for side in sides]
    harmful, benign = (answered(side, tokenizer) if side else [] for side in one)
    return harmful, benign


def going(demonstrations: Sequence[Demonstration], tokenizer: Any, most: int, tokens: int) -> Going:
    """Return some of the model's own answers to benign prompts, in an order that does not depend on how many.

    Args:
        demonstrations: of all kinds.
        most: answers at most.
        tokenizer: the model's.
        tokens: of an answer at most.
    """
    from primum.training.examples import Answered, Limits, answered
    from primum.training.linear_start import Going

    own = sorted((d for d in demonstrations if d.kind != "harmful"), key=lambda d: d.prompt_id)[:most]
    rows = answered([Answered(d.prompt, d.answer, Limits(answer=tokens), ends=False) for d in own], tokenizer)
    used = {token for row in rows for token in row.answer}
    return Going(rows, {token for token in used if BREAK.search(tokenizer.decode([token]))})


def openers(demonstrations: Sequence[Demonstration], tokenizer: Any) -> Openers:
    """Return how answers that decline begin: those that were learned, and the model's own apologies."""
    from primum.training.line import Openers

    learned, own = learned_openers(demonstrations, tokenizer), apology(demonstrations, tokenizer)
    return Openers(learned, () if own[:1] and own[0] in learned else own)


def learned_openers(demonstrations: Sequence[Demonstration], tokenizer: Any) -> list[int]:
    """Return the tokens with which most of the safe completions begin."""
    from primum.training.examples import Answered, Limits, answered
    from primum.training.keeping import Kept, openers

    one = [Answered(d.prompt, d.answer, Limits(answer=1), ends=False) for d in demonstrations if d.kind == "harmful"]
    return openers([Kept(row) for row in answered(one, tokenizer)])


def apology(demonstrations: Sequence[Demonstration], tokenizer: Any) -> tuple[int, ...]:
    """Return the tokens with which the model's own apologies to benign prompts begin most often; none: it hardly does.

    They end with the one that decides: behind "I'm" it is " sorry".
    """
    from primum.training.examples import Answered, Limits, answered

    own = [d for d in demonstrations if d.kind != "harmful"]
    said = [d for d in own if SORRY.match(d.answer)]
    rows = answered([Answered(d.prompt, d.answer, Limits(answer=APOLOGY_TOKENS), ends=False) for d in said], tokenizer)
    paths = Counter[tuple[int, ...]]()
    for row in rows:
        ends = (n for n in range(1, len(row.answer) + 1) if SORRY.match(tokenizer.decode(row.answer[:n])))
        if (end := next(ends, None)) is not None:
            paths[row.answer[:end]] += 1
    path, count = next(iter(paths.most_common(1)), ((), 0))
    return path if count >= max(SOME, RARE * len(own)) else ()


def said_of_start(found: JsonDict) -> str:
    """Return one line about a linear start, as `training.linear_start.Fitted` keeps it."""
    odds = f"{found['before']:.1f} -> {found['after']:.1f}"
    return f"read off {found['blocks']} blocks; log-odds of declining a harmful prompt {odds}"


def said_of_line(found: JsonDict) -> str:
    """Return one line about a line that was drawn, as `training.line.Line` keeps it."""
    before, after = (" and ".join(f"{100 * x:.0f}%" for x in found[when]) for when in ("before", "after"))
    apologies = found.get("own")  # a line of before 2026-11-23 has none
    own = f", the model's own apologies by {apologies:+.1f}" if apologies else ""
    return (
        f"openings that decline, expected on development prompts (harmful and twins): {before} -> {after}, "
        f"moved by {found['nats']:+.1f} nats{own}"
    )
