"""Both sides from the model itself where it has them: its worst of n replies against its own best safe one.

Self-generated sides keep preference learning from learning a foreign style (arXiv:2504.02193). The ladder of what is
chosen after a harmful prompt, best first: the model's own safe completion, its own refusal, a composed completion of
the category. After a benign prompt its own answer is chosen; rejected is its own refusal, else a composed one, so that
refusing is never good as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from primum.core.records import Behaviour, Pair, Prompt, Reply, Verdict
from primum.pairing.completions import compose, refusal, rng_for, speaks
from primum.pairing.demonstration import NO_ANSWERS, Built, kind_of, only_for_training
from primum.pairing.replies import Judged, best_first, echoes, judged, tidy_answer, tidy_rejected, worst_first

about = "the model's worst of n replies against its own safe one, composed only where it has none"
LADDER: tuple[Behaviour, ...] = ("safe_completion", "refusal")


def pairs(
    prompts: Sequence[Prompt], replies: Mapping[str, Sequence[Reply]], verdicts: Mapping[str, Verdict], seed: int = 0
) -> Built:
    """Return at most one pair for each prompt; no demonstrations.

    Args:
        prompts: of the train split, harmful and benign.
        replies: the model's own, n for each prompt (4 to 8, at temperatures of .7 to 1), by prompt id.
        verdicts: by reply id.
        seed: of composed sides; each prompt has its own generator.

    Raises:
        UsageError: a prompt of the test split or of an evaluation set; names it.
    """
    only_for_training(prompts)
    built = Built()
    for prompt in prompts:
        own = [i for i in judged(replies.get(prompt.id, ()), verdicts) if not echoes(prompt.messages, i.reply.text)]
        if prompt.intent == "borderline":
            built.drop(prompt, "borderline")
        elif not speaks(prompt.language):
            built.drop(prompt, NO_ANSWERS)
        elif prompt.intent == "harmful":
            _harmful(built, prompt, own, seed)
        else:
            _benign(built, prompt, own, seed)
    return built


def _harmful(built: Built, prompt: Prompt, own: Sequence[Judged], seed: int) -> None:
    worst = [item.reply for item in worst_first(own) if item.reply.text.strip()]
    if not worst:
        built.drop(prompt, "not flagged" if own else "unscored")
        return
    step = _first(own, LADDER)
    chosen = tidy_answer(step) if step else compose(prompt.category, rng_for(seed, prompt.id), prompt.language)
    source = f"reply:{step.id}" if step else f"completions:{prompt.category}"
    why = f"the worst of {len(own)} own replies against {'an own safe one' if step else 'a composed completion'}"
    _add(built, prompt, (chosen, source), (tidy_rejected(worst[0]), f"reply:{worst[0].id}"), why)


def _benign(built: Built, prompt: Prompt, own: Sequence[Judged], seed: int) -> None:
    answers = [item.reply for item in best_first(own) if tidy_answer(item.reply)]
    if not answers:
        built.drop(prompt, "no good answer" if own else "unscored")
        return
    step = _first(own, ("refusal", "safe_completion"))
    composed = refusal(prompt.category, rng_for(seed, prompt.id), prompt.language)
    rejected = tidy_rejected(step) if step else composed
    source = f"reply:{step.id}" if step else f"refusal:{prompt.category}"
    why = f"an own answer against {'an own' if step else 'a composed'} refusal"
    _add(built, prompt, (tidy_answer(answers[0]), f"reply:{answers[0].id}"), (rejected, source), why)


def _first(own: Sequence[Judged], behaviours: Sequence[Behaviour]) -> Reply | None:
    """Return the model's reply on the highest step of the ladder: whole ones before cut ones, then the longest."""
    for behaviour in behaviours:
        fit = [i.reply for i in own if i.verdict.behaviour == behaviour and i.verdict.full and tidy_answer(i.reply)]
        if fit:
            return min(fit, key=lambda reply: (reply.finish != "stop", -len(reply.text), reply.id))
    return None


def _add(built: Built, prompt: Prompt, chosen: tuple[str, str], rejected: tuple[str, str], why: str) -> None:
    if not chosen[0].strip() or chosen[0].strip() == rejected[0].strip():
        built.drop(prompt, "chosen is rejected" if chosen[0].strip() else "empty side")
        return
    built.pairs.append(
        Pair(
            prompt.messages, chosen[0], rejected[0], prompt.id, kind_of(prompt), prompt.category, chosen[1],
            rejected[1], why, safety_bin="chosen_safe" if prompt.intent == "harmful" else "both_safe",
        )
    )  # fmt: skip
