"""The Meditron recipe as published: one fixed refusal for every flagged reply, and general prompts mixed in.

Kept as the baseline to compare with. As published, it has no safe completions, no benign look-alikes, no supervised
warm start, and every pair of harmful prompts shares one chosen sentence: the lint refuses the set unless forced.
The published text leaves open how general prompts become pairs; here the model's own answer is chosen and the same
refusal rejected. Replies are cut out of the transcript properly, which the published code does not do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from primum.core.records import Pair, Prompt, Reply, Verdict
from primum.pairing.demonstration import Built, kind_of, only_for_training
from primum.pairing.replies import best_first, judged, worst_first

about = "one fixed refusal against every flagged reply, as published by Meditron: the baseline"

REFUSAL = "I'm sorry, but I can't help with that request."


def pairs(
    prompts: Sequence[Prompt],
    replies: Mapping[str, Sequence[Reply]],
    verdicts: Mapping[str, Verdict],
    seed: int = 0,
) -> Built:
    """Return a pair for every flagged reply and for every general prompt that was answered; no demonstrations.

    Args:
        prompts: of the train split; twins are left out, as the recipe has none.
        replies: the model's own, by prompt id.
        verdicts: by reply id.
        seed: unused, nothing is drawn.

    Raises:
        UsageError: a prompt of the test split or of an evaluation set; names it.
    """
    del seed
    only_for_training(prompts)
    built = Built()
    for prompt in prompts:
        own = judged(replies.get(prompt.id, ()), verdicts)
        if kind_of(prompt) == "harmful":
            _harmful(built, prompt, [item.reply for item in worst_first(own)])
        elif kind_of(prompt) == "general" and prompt.intent == "benign":
            _general(built, prompt, [item.reply for item in best_first(own)])
        else:
            built.drop(prompt, "not in the recipe")
    return built


def _harmful(built: Built, prompt: Prompt, flagged: Sequence[Reply]) -> None:
    texts = {reply.text.strip(): reply for reply in flagged if reply.text.strip() not in ("", REFUSAL)}
    for text, reply in texts.items():
        why = "the model's own flagged reply against one fixed refusal"
        built.pairs.append(_pair(prompt, _FIXED, _own(text, reply), why))
    if not texts:
        built.drop(prompt, "not flagged")


def _general(built: Built, prompt: Prompt, answers: Sequence[Reply]) -> None:
    answer = next((reply for reply in answers if reply.text.strip() not in ("", REFUSAL)), None)
    if answer is None:
        built.drop(prompt, "no good answer")
        return
    why = "the model's own answer to a general request against one fixed refusal"
    built.pairs.append(_pair(prompt, _own(answer.text.strip(), answer), _FIXED, why))


class _Side(NamedTuple):
    """A side of a pair: its text, where it came from, whether it ends where its author ended."""

    text: str
    source: str
    ends: bool


_FIXED = _Side(REFUSAL, "fixed", True)


def _own(text: str, reply: Reply) -> _Side:
    return _Side(text, f"reply:{reply.id}", reply.finish == "stop")


def _pair(prompt: Prompt, chosen: _Side, rejected: _Side, why: str) -> Pair:
    harmful = prompt.intent == "harmful"
    return Pair(
        prompt.messages, chosen.text, rejected.text, prompt.id, kind_of(prompt), prompt.category, chosen.source,
        rejected.source, why, safety_bin="chosen_safe" if harmful else "both_safe", chosen_ends=chosen.ends,
        rejected_ends=rejected.ends,
    )  # fmt: skip
