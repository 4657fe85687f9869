"""Safe completions, specific to the category, against the model's own worst reply; real answers against refusals.

    harmful                  chosen: a safe completion         rejected: the model's own worst flagged reply
    twin, general, advice    chosen: the model's own answer    rejected: a refusal, from the same pieces

Refusing is never good as such: what is chosen after a harmful prompt is rejected after its benign twin. Every harmful
prompt gives a demonstration, flagged or not, and every benign one that the model begins to answer.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from primum.core.records import Pair, Prompt, Reply, Verdict, digest
from primum.core.taxonomy import policy
from primum.pairing.completions import OTHER, compose, disclaimers, refusal, rng_for, speaks
from primum.pairing.demonstration import NO_ANSWERS, Built, Demonstration, kind_of, only_for_training
from primum.pairing.replies import (
    MIN_WORDS,
    before_loop,
    best_first,
    count_words,
    echoes,
    hateful,
    judged,
    tidy_answer,
    tidy_rejected,
    worst_first,
)

about = "safe completions by category against the model's own worst replies; its own answers against refusals"


class Side(NamedTuple):
    """One side of a pair, where it came from, or why there is none; `ends` is False where a token limit cut it."""

    text: str
    source: str
    missing: str = ""
    ends: bool = True


def pairs(
    prompts: Sequence[Prompt],
    replies: Mapping[str, Sequence[Reply]],
    verdicts: Mapping[str, Verdict],
    seed: int = 0,
) -> Built:
    """Return at most one pair and one demonstration for each prompt, in the prompts' order.

    Args:
        prompts: of the train split (or of dev, for a set to watch); harmful and benign.
        replies: the model's own, by prompt id.
        verdicts: by reply id.
        seed: of the wording; each prompt has its own generator.

    Raises:
        UsageError: a prompt of the test split or of an evaluation set; names it.
    """
    only_for_training(prompts)
    built = Built()
    trained = sorted({prompt.category for prompt in prompts if prompt.intent == "harmful"})
    for prompt in prompts:
        own = replies.get(prompt.id, ())
        if not speaks(prompt.language):
            built.drop(prompt, NO_ANSWERS)
        elif prompt.intent == "harmful":
            _harmful(built, prompt, _worst(prompt, own, verdicts), seed)
        elif prompt.intent == "benign":
            _benign(built, prompt, own, verdicts, trained, seed)
        else:
            built.drop(prompt, "borderline")
    return built


def _harmful(built: Built, prompt: Prompt, rejected: Side, seed: int) -> None:
    text = compose(prompt.category, rng_for(seed, prompt.id), prompt.language)
    chosen = Side(text, f"completions:{prompt.category}")
    _demonstrate(built, prompt, chosen)
    why = f"the model's own flagged reply against a safe completion for {_name(prompt.category)}"
    _pair(built, prompt, chosen, rejected, why)


def _benign(
    built: Built,
    prompt: Prompt,
    own: Sequence[Reply],
    verdicts: Mapping[str, Verdict],
    trained: Collection[str],
    seed: int,
) -> None:
    kind = kind_of(prompt)
    answer, rejected = _answer(prompt, own, verdicts), _refusal(prompt, trained, seed)
    if kind == "advice" and not answer.missing:
        answer = answer._replace(text=_with_disclaimer(answer.text, prompt, seed), ends=True)
    opening = _opening(prompt, own, verdicts) if answer.missing else answer
    if not opening.missing:
        _demonstrate(built, prompt, opening)
    whose = "the answer that came with the prompt" if answer.source == "prompt" else "the model's own answer"
    asked = {"twin": f"a benign look-alike of {_name(prompt.category)}", "advice": "a question that deserves advice"}
    _pair(built, prompt, answer, rejected, f"{whose} to {asked.get(kind, 'a general request')} against a refusal")


def _pair(built: Built, prompt: Prompt, chosen: Side, rejected: Side, why: str) -> None:
    reason = chosen.missing or rejected.missing
    if not reason and not (chosen.text.strip() and rejected.text.strip()):
        reason = "empty side"
    if not reason and chosen.text.strip() == rejected.text.strip():
        reason = "chosen is rejected"
    if reason:
        built.drop(prompt, reason)
        return
    built.pairs.append(
        Pair(
            prompt.messages, chosen.text, rejected.text, prompt.id, kind_of(prompt), prompt.category,
            chosen.source, rejected.source, why,
            safety_bin="chosen_safe" if prompt.intent == "harmful" else "both_safe",
            chosen_ends=chosen.ends, rejected_ends=rejected.ends,
        )
    )  # fmt: skip


def _demonstrate(built: Built, prompt: Prompt, answer: Side) -> None:
    kind = kind_of(prompt)
    group = min(prompt.id, prompt.twin or prompt.id)
    built.demonstrations.append(
        Demonstration(prompt.messages, prompt.id, answer.text, kind, prompt.category, answer.source, answer.ends, group)
    )


def _worst(prompt: Prompt, replies: Sequence[Reply], verdicts: Mapping[str, Verdict]) -> Side:
    """Return the worst of the model's own flagged replies."""
    if not replies:
        return Side("", "", "no reply")
    scored = judged(replies, verdicts)
    if not scored:
        return Side("", "", "unscored")
    worst = worst_first(scored)
    if not worst:
        return Side("", "", "not flagged")
    clean = [item.reply for item in worst if not echoes(prompt.messages, item.reply.text)]
    if not clean:
        return Side("", "", "prompt_echo")
    return Side(tidy_rejected(clean[0]), f"reply:{clean[0].id}", ends=clean[0].finish == "stop")


def _answer(prompt: Prompt, replies: Sequence[Reply], verdicts: Mapping[str, Verdict]) -> Side:
    """Return the best of the model's own answers, else the answer that came with the prompt."""
    reason = "no good answer"
    for item in best_first(judged(replies, verdicts)):
        text = tidy_answer(item.reply)
        if text and not echoes(prompt.messages, text):
            return Side(text, f"reply:{item.reply.id}", ends=item.reply.finish == "stop")
        reason = "prompt_echo" if text else "no complete sentence"
    if prompt.answer and prompt.answer.strip():
        return Side(prompt.answer.strip(), "prompt")
    return Side("", "", reason)


def _opening(prompt: Prompt, replies: Sequence[Reply], verdicts: Mapping[str, Verdict]) -> Side:
    """Return how the model begins to answer where no answer is whole: not to be preferred, but to be kept as it is.

    Without these every third harmful prompt would be learned without its twin, and the twins that the model answers
    at length would be missing. A reply that pleads a lack of ability is kept, too: what follows such an apology must
    not become a refusal.
    """
    for item in judged(replies, verdicts):
        text = before_loop(item.reply.text.strip())
        begun = item.verdict.behaviour in ("compliance", "deflection") or item.verdict.reason == "ability"
        if begun and not hateful(item.verdict) and count_words(text) >= MIN_WORDS and not echoes(prompt.messages, text):
            return Side(text, f"reply:{item.reply.id}", ends=False)
    return Side("", "", "no answer begun")


def _refusal(prompt: Prompt, trained: Collection[str], seed: int) -> Side:
    """Return a refusal as if the prompt were harmful: of its own category, else of one that is trained on."""
    category = prompt.category
    if kind_of(prompt) != "twin" and category not in trained:
        # Of all trained categories the one with the highest hash: another category in the set moves few prompts, and
        # the words of a category that is held out are never seen.
        category = max(trained, key=lambda name: digest([seed, prompt.id, name]), default=OTHER)
    return Side(refusal(category, rng_for(seed, prompt.id), prompt.language), f"refusal:{category}")


def _with_disclaimer(text: str, prompt: Prompt, seed: int) -> str:
    pool = disclaimers(prompt.category, prompt.language)
    if not pool:
        return text
    # Its own generator: the refusal of the same prompt has drawn from the other one.
    sentence = rng_for(seed, f"{prompt.id}:disclaimer").choice(pool)
    gap = "\n\n" if "\n" in text else " "
    return text + gap + sentence


def _name(category: str) -> str:
    known = policy().categories.get(category)
    return known.name.lower() if known else "a harmful request"
