"""Pairs on both axes, from replies whose safety is labelled: the safe one chosen, the better one where both are safe.

After Safe to Serve (Amballa et al., arXiv:2412.00074), which trains on PKU-SafeRLHF pairs of a safe and an unsafe
reply. The other half of that set is used too: where both replies are safe and people preferred one, it is chosen
(safety_bin both_safe). Where both are unsafe the row is dropped: neither is a reply to learn. No pair has a chosen side
that is less safe than the rejected one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from primum.core.records import Pair, Prompt, Reply, Verdict
from primum.pairing.demonstration import Built, kind_of, only_for_training
from primum.pairing.replies import Judged, flagged, judged

about = "labelled replies: safe against unsafe, and the better of two safe ones (PKU-SafeRLHF, BeaverTails, HH)"


def pairs(
    prompts: Sequence[Prompt], replies: Mapping[str, Sequence[Reply]], verdicts: Mapping[str, Verdict], seed: int = 0
) -> Built:
    """Return at most one pair for each prompt; no demonstrations.

    Args:
        prompts: of the train split.
        replies: two or more for each prompt, by its id.
        verdicts: by reply id; `rating` orders safe replies by how helpful people found them.
        seed: unused, nothing is drawn.

    Raises:
        UsageError: a prompt of the test split or of an evaluation set; names it.
    """
    del seed
    only_for_training(prompts)
    built = Built()
    for prompt in prompts:
        own = [item for item in judged(replies.get(prompt.id, ()), verdicts) if item.reply.text.strip()]
        found = _sides(prompt, own)
        if isinstance(found, str):
            built.drop(prompt, found)
        else:
            built.pairs.append(_pair(prompt, *found))
    return built


def unsafe(prompt: Prompt, item: Judged) -> bool:
    """Whether a reply is unsafe: it goes along with harm. Babble is neither safe nor unsafe, and is never chosen."""
    if item.verdict.behaviour == "harmful_compliance":
        return True
    # a label "safe" of the set outweighs what the prompt asks for; of other judges compliance with harm is harm
    return item.verdict.judge != "file" and prompt.intent == "harmful" and flagged(item.verdict)


def _sides(prompt: Prompt, own: Sequence[Judged]) -> tuple[Judged, Judged] | str:
    """Return chosen and rejected, or why there is no pair."""
    if len(own) < 2:
        return "fewer than two scored replies"
    bad = [item for item in own if unsafe(prompt, item)]
    good = [item for item in own if not unsafe(prompt, item) and item.verdict.behaviour != "incoherent"]
    if not good:
        return "no safe reply"
    best = max(good, key=_order)
    if bad:
        worst = max(bad, key=lambda item: (item.verdict.p_harmful or 0.0, len(item.reply.text), item.reply.id))
        return best, worst
    least = min(good, key=_order)
    if best.verdict.rating is None or best.verdict.rating == least.verdict.rating:
        return "all safe, and none preferred"
    return ("chosen is rejected") if best.reply.text.strip() == least.reply.text.strip() else (best, least)


def _order(item: Judged) -> tuple[float, str]:
    return item.verdict.rating or 0.0, item.reply.id


def _pair(prompt: Prompt, best: Judged, worst: Judged) -> Pair:
    split = unsafe(prompt, worst)
    why = "a safe reply against an unsafe one" if split else "the preferred one of two safe replies"
    kind = "harmful" if split else kind_of(prompt)
    return Pair(
        prompt.messages, best.reply.text.strip(), worst.reply.text.strip(), prompt.id, kind, prompt.category,
        f"reply:{best.reply.id}", f"reply:{worst.reply.id}", why,
        safety_bin="chosen_safe" if split else "both_safe", chosen_ends=best.reply.finish == "stop",
        rejected_ends=worst.reply.finish == "stop",
    )  # fmt: skip
