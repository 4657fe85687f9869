"""A model picks the better of two replies by principles in words, asked in both orders (RLAIF, arXiv:2309.00267).

Two replies of each prompt are compared, drawn by the seed; where people have voted on replies of a prompt, those that
they compared, so that model and people are asked about the same. Where the order of the two decides, or the model does
not answer, there is no pair: such prompts stand among the dropped ones, for people to vote on. A pair whose chosen side
the verdicts flag while the other is safe is dropped too: the model was talked round. What the model said of every two,
dropped or not, is kept as a label.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from primum.core.errors import UsageError
from primum.core.records import JsonDict, Pair, Preference, Prompt, Reply, Verdict, to_json
from primum.judging.duel import Outcome, Prefer, Shown, Twice, asked_twice
from primum.pairing.completions import rng_for
from primum.pairing.demonstration import Built, kind_of, only_for_training
from primum.pairing.replies import flagged
from primum.pairing.votes import Two, by_two

about = "a model picks the better of two replies by principles, in both orders (--endpoint or --judge-model)"
needs = ("ask", "preferences")
FOR_PEOPLE = {"tie": "for people: the order decided", "unscored": "for people: the model did not say"}
MODEL = "model"
"""Who judged, in a label: whoever asks the model writes its name there."""


def pairs(
    prompts: Sequence[Prompt],
    replies: Mapping[str, Sequence[Reply]],
    verdicts: Mapping[str, Verdict],
    seed: int = 0,
    prefer: Prefer | None = None,
    preferences: Sequence[Preference] | None = None,
) -> Built:
    """Return at most one pair for each prompt, for one that people voted on one for each two replies; and the labels.

    Args:
        prompts: of the train split.
        replies: two or more for each prompt, by its id.
        verdicts: by reply id.
        seed: of which two of more replies are compared.
        prefer: says which of two replies is better.
        preferences: people's votes; only which replies they compared is read.

    Raises:
        UsageError: there is no model to ask, or a prompt of the test split or of an evaluation set; names it.
    """
    only_for_training(prompts)
    if prefer is None:
        if not prompts:
            return Built()
        cure = "primum pair FILE --endpoint http://localhost:8000/v1 --endpoint-model NAME, or --judge-model NAME"
        raise UsageError("the strategy 'ai_feedback' needs a model to ask", cure=cure)
    voted = defaultdict[str, list[Two]](list)
    prompt_of = {reply.id: prompt_id for prompt_id, rows in replies.items() for reply in rows}
    for two in by_two(preferences or ()):
        voted[prompt_of.get(two[0], "")].append(two)
    built, drawn = Built(), list[tuple[Prompt, Reply, Reply]]()
    for prompt in prompts:
        drawn += _compared(built, prompt, replies.get(prompt.id, ()), voted[prompt.id], seed)
    shown = [Shown(prompt.text, one.text, other.text) for prompt, one, other in drawn]
    said = asked_twice(shown, prefer) if shown else []
    for (prompt, one, other), twice in zip(drawn, said, strict=True):
        built.labels.append(_label(prompt, (one, other), twice))
        _add(built, prompt, (one, other), twice.outcome, verdicts)
    return built


def _compared(
    built: Built, prompt: Prompt, given: Sequence[Reply], voted: Sequence[Two], seed: int
) -> list[tuple[Prompt, Reply, Reply]]:
    """Return which replies of a prompt are compared: those that people compared, else two that are drawn."""
    by_id = {reply.id: reply for reply in given if reply.text.strip()}
    own = list({reply.text.strip(): reply for reply in by_id.values()}.values())
    twos = [(by_id[one], by_id[other]) for one, other in voted if one in by_id and other in by_id]
    if not voted and len(own) > 1:
        one, other = rng_for(seed, prompt.id).sample(own, 2)
        twos = [(one, other)]
    found = [(prompt, one, other) for one, other in twos if one.text.strip() != other.text.strip()]
    if not found:
        built.drop(prompt, "fewer than two different replies")
    return found


def _label(prompt: Prompt, two: tuple[Reply, Reply], twice: Twice) -> JsonDict:
    """Return what the model said of two replies as a vote like a person's, with its margins in both orders."""
    outcome = twice.outcome
    winner = {"a": 0, "b": 1}.get(outcome)
    kind = "winner" if winner is not None else "tie" if outcome == "tie" else "skip"
    vote = Preference(prompt.id, (two[0].id, two[1].id), winner, kind, "better", MODEL)
    return {**to_json(vote), "margins": [margin if math.isfinite(margin) else None for margin in twice]}


def _add(
    built: Built, prompt: Prompt, two: tuple[Reply, Reply], outcome: Outcome, verdicts: Mapping[str, Verdict]
) -> None:
    if outcome in FOR_PEOPLE:
        built.drop(prompt, FOR_PEOPLE[outcome])
        return
    best, worst = two if outcome == "a" else two[::-1]
    bad = [reply.id in verdicts and flagged(verdicts[reply.id]) for reply in (best, worst)]
    harmful = prompt.intent == "harmful"
    if harmful and bad == [True, False]:
        built.drop(prompt, "chosen unsafe, the other safe")
        return
    built.pairs.append(
        Pair(
            prompt.messages, best.text.strip(), worst.text.strip(), prompt.id, kind_of(prompt), prompt.category,
            f"reply:{best.id}", f"reply:{worst.id}", "preferred by a model in both orders",
            safety_bin="both_safe" if not harmful or not any(bad) else "both_unsafe" if all(bad) else "chosen_safe",
            chosen_ends=best.finish == "stop", rejected_ends=worst.finish == "stop",
        )
    )  # fmt: skip
