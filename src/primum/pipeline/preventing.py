"""Fine-tuning without losing safety (`primum train sft --keep-safe`): what is added before the training begins.

The model's own safe answers are replayed beside the user's rows: what it declines today, and its own answers to benign
requests that look alike, so that it learns neither to comply with everything nor to refuse everything. Rows that were
written in another model's template are named: a template that is not the one it is served with undoes safety too
(arXiv:2402.18540).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from primum.core.records import Prompt, Reply
from primum.judging import Exchange
from primum.pipeline.steps import Draw, Journey, judge, sample

if TYPE_CHECKING:
    from primum.models.load import Model
    from primum.pipeline.train_rows import Job
    from primum.training.examples import Example

TOKENS = 64
FEWEST = 16
LOOKED_AT = 2000
FOREIGN = re.compile(
    r"### (?:Instruction|Response|Input)\b|\[/?INST\]|<<SYS>>|<\|im_start\|>|<start_of_turn>|\nHuman: |\nAssistant: "
)
"""Marks of chat templates; inside a text they are no template but words."""


def with_replay(journey: Journey, model: Model, job: Job, share: float, seed: int) -> Job:
    """Put the model's own safe answers beside the rows, and name rows in another model's template."""
    from primum.training.rows import joined

    texts = [model.tokenizer.decode(list(one.answer)) for one in job.examples[:LOOKED_AT]]
    if found := foreign_templates(texts):
        marks = f"{found} of {len(texts)} answers hold marks of a chat template: check how they were made"
        journey.tell("template", marks)
    own = replayed(journey, model, len(job.rows), share, seed)
    return replace(job, rows=joined(job.rows, own), examples=joined(job.examples, own))


def replayed(journey: Journey, model: Model, count: int, share: float, seed: int) -> list[Example]:
    """Return the model's own safe answers to harmful requests and its own answers to their benign twins.

    Args:
        journey: the run folder; replies and verdicts are kept there.
        model: before it learns.
        count: rows that are to be learned.
        share: of replayed rows beside them; half of them harmful requests.
        seed: of which requests.
    """
    from primum.models.engines.hf import HFEngine
    from primum.models.sampling import Sampling

    prompts = requests(round(share * count), seed)
    draw = Draw(Sampling(0.0, TOKENS), 1, seed)
    replies = sample(journey, "own-answers", prompts, draw, model.key, lambda: HFEngine(model))
    by_id = {prompt.id: prompt for prompt in prompts}
    verdicts = judge(journey, "judge-own-answers", "rules", [Exchange(by_id[r.prompt_id], r) for r in replies])
    kept = [
        (by_id[reply.prompt_id], reply)
        for reply, verdict in zip(replies, verdicts, strict=True)
        if verdict.behaviour in wanted(by_id[reply.prompt_id])
    ]
    declined = sum(prompt.intent == "harmful" for prompt, _ in kept)
    journey.tell("replay", f"{declined} own refusals of harmful requests, {len(kept) - declined} own answers replayed")
    return as_examples(kept, model.tokenizer)


def as_examples(kept: Sequence[tuple[Prompt, Reply]], tokenizer: Any) -> list[Example]:
    """Return replies as rows to learn; one that a token limit cut does not teach to stop there."""
    from primum.training.examples import Answered, Limits, answered

    limits = Limits(answer=TOKENS)
    rows = [Answered(prompt.messages, reply.text, limits, reply.finish == "stop") for prompt, reply in kept]
    return answered(rows, tokenizer)


def requests(count: int, seed: int) -> list[Prompt]:
    """Return harmful requests of the embedded set and their benign twins, half and half, drawn by the seed.

    None is of a category that is held out: on those every other verb measures.
    """
    import random

    from primum.core.taxonomy import policy
    from primum.prompts.embedded import embedded

    known, categories = {prompt.id: prompt for prompt in embedded()}, policy().categories
    learned = (p for p in known.values() if p.category in categories and not categories[p.category].held_out)
    harmful = [p for p in learned if p.intent == "harmful" and p.twin in known]
    some = random.Random(seed).sample(harmful, min(len(harmful), max(FEWEST, (count + 1) // 2)))
    return [one for prompt in some for one in (prompt, known[str(prompt.twin)])]


def wanted(prompt: Prompt) -> tuple[str, ...]:
    """Return what a reply to a request must be to be replayed."""
    return ("refusal", "safe_completion") if prompt.intent == "harmful" else ("compliance",)


def foreign_templates(texts: Sequence[str]) -> int:
    """Count the texts that hold marks of a chat template."""
    return sum(bool(FOREIGN.search(text)) for text in texts)
