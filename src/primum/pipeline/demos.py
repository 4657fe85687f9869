"""Demonstrations of a journey: authored safe completions, the model's own good answers, and how they are learned."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field

from primum.core.config import Config
from primum.core.progress import Advance
from primum.core.records import JsonDict, Reply, Verdict
from primum.core.store import Stage
from primum.models.sampling import Sampling
from primum.pairing.checklist import checked
from primum.pairing.demonstration import Demonstration
from primum.pairing.strategies import safe_completion
from primum.pipeline import reading
from primum.pipeline.context import Context
from primum.pipeline.given import GIVEN, cut_note, part
from primum.pipeline.lesson import PROMPT_TOKENS, benign, harmful, pick
from primum.pipeline.steps import Draw
from primum.pipeline.taught import tokens_of, turns_of

if TYPE_CHECKING:
    from primum.training.examples import Example
    from primum.training.keeping import Kept

SHELF = "demonstrations"


class Teaching(Config):
    """How demonstrations are learned; what a journey's supervised stages have in common."""

    learning_rate: float = Field(default=1e-3, gt=0, description="peak learning rate")
    epochs: float = Field(default=1.5, gt=0, description="passes")
    batch_size: int = Field(default=4, gt=0, description="rows per optimizer step")
    keep_weight: float = Field(default=8.0, ge=0, description="weight of answers that are kept as they are")
    lead: float = Field(
        default=2.0, description="nats by which declining must lead (training.keeping); more declines less"
    )
    opening: int = Field(default=4, ge=1, description="tokens that open an answer and weigh as much as a row")
    rest_weight: float = Field(default=0.5, ge=0, description="weight of all other tokens")
    short_tokens: int = Field(default=6, ge=1, description="tokens learned of most safe completions")
    whole: int = Field(default=4, ge=1, description="of so many safe completions one is learned whole")
    whole_tokens: int = Field(default=64, ge=8, description="longest safe completion that is learned whole")
    kept_tokens: int = Field(default=12, ge=1, description="tokens kept of a benign answer")
    kept_whole: int = Field(default=4, ge=1, description="of so many benign answers, one is kept as far as it goes")
    general_every: int = Field(
        default=1, ge=1, description="answers that have no twin, the general ones, come along in one of so many passes"
    )
    given_tokens: int = Field(default=256, ge=1, description="tokens learned of a demonstration of your own")


def demonstrate(
    context: Context, most: int | None, share: float | None, tokens: int, given: Sequence[Demonstration] = (),
    composed: bool = True,
) -> list[Demonstration]:  # fmt: skip
    """Return demonstrations that pass the checklist: safe completions, and own answers to benign prompts.

    Args:
        context: of the journey.
        most: harmful prompts at most; the user's come first.
        share: of safe completions in the mix; None leaves the mix as the prompts give it.
        tokens: longest own answer.
        given: the user's, which passed; the model is not asked what they answer.
        composed: whether safe completions are composed beside them.
    """
    first = part(given, most)
    theirs = {d.prompt_id for d in first}
    room = None if most is None else most - sum(d.kind == "harmful" for d in first)
    others = [p for p in harmful(context.sets.train) if p.id not in theirs] if composed else []
    asked = [p for p in benign(context.sets.train) if p.id not in theirs]
    draw = Draw(Sampling(context.recipe.sampling.temperature, tokens), 1, context.seed + 1)
    replies = context.draw("draw-own-answers", context.desk.base, asked, draw)
    verdicts = context.judge("judge-own-answers", context.judges[0], replies)
    built = safe_completion.pairs(
        [*pick(others, room), *asked], _grouped(replies), _by_reply(verdicts), seed=context.seed
    )
    passed, failed = checked(built.demonstrations)
    every = [*first, *passed]
    mixed = every if share is None else mix(every, share)
    notes = [f"{count} demonstrations: {reason}" for reason, count in sorted(failed.items())]
    notes += cut_note(given, first, f"yours, over the {most} that the stage takes")
    notes += cut_note(every, mixed, f"cut, so that safe ones are {share or 0:g} of the mix")
    context.left_out += [note for note in notes if note not in context.left_out]
    return mixed


def mix(demonstrations: Sequence[Demonstration], share: float) -> list[Demonstration]:
    """Return the demonstrations with safe completions making up `share` of them: the larger side is cut."""
    safe = [d for d in demonstrations if d.kind == "harmful"]
    other = [d for d in demonstrations if d.kind != "harmful"]
    if share >= 1:
        return safe
    room = round(share / (1 - share) * len(other))
    if len(safe) > room:
        safe = safe[:room]
    elif share > 0:
        other = other[: round((1 - share) / share * len(safe))]
    return [*safe, *other]


def rows_of(
    context: Context, network: Any, demonstrations: Sequence[Demonstration], teaching: Teaching, untaught: bool = False
) -> list[Kept]:
    """Return rows to train on: safe completions are learned, benign answers kept as the network gives them.

    What the user wrote is learned, to benign prompts too.

    Args:
        context: of the journey.
        network: with the adapter that learns.
        demonstrations: of all kinds.
        teaching: how much of an answer counts.
        untaught: keep them as the network gives them without its adapter; otherwise as it gives them now.
    """
    from primum.training.keeping import Kept, keep

    both = list(zip(examples_of(context, demonstrations, teaching), demonstrations, strict=True))
    own = [e for e, d in both if not _learned(d)]
    with network.disable_adapter() if untaught else nullcontext():
        kept = iter(keep(network, own) if own else ())
    return [Kept(e) if _learned(d) else next(kept) for e, d in both]


def examples_of(context: Context, demonstrations: Sequence[Demonstration], teaching: Teaching) -> list[Example]:
    """Return demonstrations as tokens, each answer as far as it counts."""
    from primum.training.examples import Answered, Limits, answered

    rows = [Answered(d.prompt, d.answer, Limits(PROMPT_TOKENS, _tokens(d, teaching)), d.ends) for d in demonstrations]
    return answered(rows, context.desk.model.tokenizer)


def _learned(demonstration: Demonstration) -> bool:
    return demonstration.kind == "harmful" or demonstration.answer_from == GIVEN


def _tokens(demonstration: Demonstration, teaching: Teaching) -> int:
    if demonstration.answer_from == GIVEN:
        return teaching.given_tokens
    return tokens_of(demonstration, teaching)


class Lesson(NamedTuple):
    """What was learned from (the demonstrations' rows alone), the log (a row a step), and the alarms."""

    rows: list[Kept]
    log: list[JsonDict]
    alarms: list[JsonDict]


def seen(demonstrations: Sequence[Demonstration], teaching: Teaching, beside: int = 0) -> int:
    """Return how many rows all passes see, with so many others beside."""
    from primum.training.batches import planned

    every = teaching.general_every
    return planned(len(turns_of(demonstrations, every)) + every * beside, teaching.epochs / every)


def learn(
    context: Context, network: Any, demonstrations: Sequence[Demonstration], teaching: Teaching, stage: Stage,
    advance: Advance, beside: Sequence[Kept] = (),
) -> Lesson:  # fmt: skip
    """Learn safe completions, and keep benign answers as the network without its adapter gives them.

    Args:
        context: of the journey.
        network: with the adapter that learns.
        demonstrations: of all kinds.
        teaching: how they are learned.
        stage: whose folder holds what a rerun goes on from.
        advance: progress, in rows (`seen`).
        beside: other rows to learn, in every pass.
    """
    from primum.training.methods import sft

    every = teaching.general_every
    turns = turns_of(demonstrations, every)
    keys = groups_of(demonstrations)
    groups = [(keys[i], turn) for i, turn in turns]
    groups += [(f"beside {i}", turn) for i in range(len(beside)) for turn in range(every)]
    names = ("learning_rate", "batch_size", "keep_weight", "lead", "opening", "rest_weight")
    heat = reading.warmth(context.recipe.sampling.temperature)
    given = {name: getattr(teaching, name) for name in names}
    config = sft.Config(**given, temperature=heat, epochs=teaching.epochs / every)
    examples = [*examples_of(context, demonstrations, teaching), *(row.example for row in beside)]
    with context.desk.from_the_adapter(examples):
        rows = rows_of(context, network, demonstrations, teaching, untaught=True)
        taken = [rows[i] for i, _ in turns] + [row for row in beside for _ in range(every)]
        log, alarms = sft.train(config, network, taken, stage.folder, context.seed, advance, groups)
    return Lesson(rows, log, alarms.rows)


def groups_of(demonstrations: Sequence[Demonstration]) -> list[str]:
    """Return the key of each demonstration's group: twins are learned in one step."""
    return [d.group or d.prompt_id for d in demonstrations]


def _grouped(replies: Sequence[Reply]) -> dict[str, list[Reply]]:
    grouped: dict[str, list[Reply]] = defaultdict(list)
    for reply in replies:
        grouped[reply.prompt_id].append(reply)
    return grouped


def _by_reply(verdicts: Sequence[Verdict]) -> dict[str, Verdict]:
    return {v.reply_id: v for v in verdicts}
