"""Fine-tuning without losing safety (`primum train sft --keep-safe`): what is added before the training begins.

Rows that do what the model declines today are found, and learned with the model's own answer in place of theirs. Its
own safe answers are replayed beside the rows: what it declines today, and its own answers to benign requests that look
alike, so that it learns neither to comply with everything nor to refuse everything. Rows that were written in another
model's template are named: a template that is not the one it is served with undoes safety too (arXiv:2402.18540).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from primum.core.errors import BadInputError
from primum.core.records import Prompt, Reply
from primum.judging import Exchange
from primum.pipeline.steps import Draw, Journey, judge, sample

if TYPE_CHECKING:
    from primum.models.load import Model
    from primum.pipeline.train_rows import Given, Job
    from primum.training.examples import Example

TOKENS = 64
OPENING = 16
"""Tokens of a reply after which a refusal shows."""
DECLINED = ("refusal", "safe_completion")
FEWEST = 16
LOOKED_AT = 2000
FOREIGN = re.compile(
    r"### (?:Instruction|Response|Input)\b|\[/?INST\]|<<SYS>>|<\|im_start\|>|<start_of_turn>|\nHuman: |\nAssistant: "
)
"""Marks of chat templates; inside a text they are no template but words."""


def screened(journey: Journey, model: Model, job: Job, given: Sequence[Given], seed: int) -> Job:
    """Learn what the model itself says where it declines a row's request today and the row's answer does not.

    So whoever fine-tunes an aligned model does not unteach what it declines by rows that he has not looked at. It is
    seen in the opening of the model's own greedy reply. Where its whole reply does not decline in the end, the row is
    left out. Both are counted with their places.

    Args:
        journey: the run folder; replies and verdicts are kept there.
        model: before it learns.
        job: of plain fine-tuning.
        given: what each of the job's rows was made of, in order.
        seed: of the replies.

    Raises:
        BadInputError: nothing is left to learn.
    """
    from primum.training.rows import joined, only

    suspects = suspicious(journey, model, given, seed)
    asked = {prompt.id: prompt for prompt in suspects.values()}
    own = {
        prompt.id: as_examples([(prompt, reply)], model.tokenizer)[0]
        for prompt, reply, declines in _answered(journey, "refusals", model, list(asked.values()), TOKENS, seed)
        if declines
    }
    kept = [place for place in range(len(given)) if place not in suspects]
    instead = [place for place, prompt in suspects.items() if prompt.id in own]
    job.count.replace([given[place].row for place in instead])
    for place in suspects.keys() - set(instead):
        job.count.drop(given[place].row, "does what the model declines, whose own answer does not end safely")
    if suspects:
        left = len(suspects) - len(instead)
        found = f"{len(suspects)} of {len(given)} do what the model declines today"
        journey.tell("rows", f"{found}: {len(instead)} learned with its own answer in their place, {left} left out")
    if not kept and not instead:
        cure = "look at the rows; --no-screen learns them all"
        raise BadInputError("every row does what the model declines today", where=given[0].row.where, cure=cure)
    rows = joined(only(job.examples, kept), [own[suspects[place].id] for place in instead])
    return replace(job, rows=rows, examples=rows)


def suspicious(journey: Journey, model: Model, given: Sequence[Given], seed: int) -> dict[int, Prompt]:
    """Return the requests of rows, by place, that the model declines and the row's answer does not."""
    asked = {
        place: Prompt(one.prompt, "benign", "unknown")
        for place, one in enumerate(given)
        if any(message.role == "user" for message in one.prompt)
    }
    different = list({prompt.id: prompt for prompt in asked.values()}.values())
    declined = {p.id for p, _, declines in _answered(journey, "openings", model, different, OPENING, seed) if declines}
    doubted = {place: prompt for place, prompt in asked.items() if prompt.id in declined}
    said = [
        Exchange(prompt, Reply(prompt.id, "rows", str(place), given[place].answer, "stop", 0, 0, 0))
        for place, prompt in doubted.items()
    ]
    verdicts = judge(journey, "judge-rows", "rules", said)
    return {
        place: prompt
        for (place, prompt), verdict in zip(doubted.items(), verdicts, strict=True)
        if verdict.behaviour not in DECLINED
    }


def _answered(
    journey: Journey, name: str, model: Model, prompts: Sequence[Prompt], tokens: int, seed: int
) -> list[tuple[Prompt, Reply, bool]]:
    """Return the model's greedy replies to requests, and whether each declines."""
    from primum.models.engines.hf import HFEngine
    from primum.models.sampling import Sampling

    by_id = {prompt.id: prompt for prompt in prompts}
    draw = Draw(Sampling(0.0, tokens), 1, seed)
    replies = sample(journey, f"own-{name}", prompts, draw, model.key, lambda: HFEngine(model))
    verdicts = judge(journey, f"judge-own-{name}", "rules", [Exchange(by_id[r.prompt_id], r) for r in replies])
    both = zip(replies, verdicts, strict=True)
    return [(by_id[reply.prompt_id], reply, verdict.behaviour in DECLINED) for reply, verdict in both]


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
    return DECLINED if prompt.intent == "harmful" else ("compliance",)


def foreign_templates(texts: Sequence[str]) -> int:
    """Count the texts that hold marks of a chat template."""
    return sum(bool(FOREIGN.search(text)) for text in texts)
