"""What reward models of a journey are taught: two heads by their own pairs, or one head by the pairs of both.

The one with a single head is what a team has that keeps helpfulness and safety in one reward model. It is trained on
the preferences that taught the journey's own, with the same settings and seed, so that the heads alone differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from primum.core.progress import Advance
from primum.core.records import JsonDict, digest, to_json
from primum.pairing.preferences import Voted
from primum.pipeline.context import Context
from primum.pipeline.desk import Policy
from primum.pipeline.scoring import HEADS

if TYPE_CHECKING:
    from primum.training.alarms import Alarms
    from primum.training.heads import RewardModel
    from primum.training.methods.reward import Judged

SHELF = "preferences"
"""Of the shelf: what the journey's reward model was taught."""
SINGLE = ("reward",)
"""The one head of a model that is taught both kinds of pairs."""
TRAINED = ("loss", "margin", "safety_weight", "centre_weight", "learning_rate", "epochs", "batch_size")
"""What a stage `reward` sets of the training itself."""


class Taught(NamedTuple):
    """What a reward model was taught: preferences of "train" and "dev", its stage's settings, and its seed."""

    votes: Mapping[str, Sequence[Voted]]
    settings: Any
    seed: int


def rows_of(context: Context, votes: Sequence[Voted]) -> list[Judged]:
    """Tokenise preferences for the reward model."""
    from primum.models.chat import encode
    from primum.training.examples import example
    from primum.training.heads import LIMITS
    from primum.training.methods.reward import Judged

    tokenizer = context.desk.model.tokenizer
    prompts = encode([v.prompt for v in votes], tokenizer)
    return [
        Judged(
            example(ids, v.chosen, tokenizer, LIMITS, ends=v.chosen_ends),
            example(ids, v.rejected, tokenizer, LIMITS, ends=v.rejected_ends),
            v.head, v.strength, v.safe,
        )
        for ids, v in zip(prompts, votes, strict=True)
    ]  # fmt: skip


def fit(
    context: Context, taught: Taught, heads: tuple[str, ...], pairs: Sequence[Judged], weights: Path, advance: Advance
) -> tuple[RewardModel, list[JsonDict], Alarms]:
    """Train a reward model that has learned nothing and write its weights; return it, still on, with log and alarms."""
    from primum.training.adapter import save_weights
    from primum.training.methods import reward

    config = reward.Config(**{name: getattr(taught.settings, name) for name in TRAINED})
    model = context.desk.fresh_reward(heads, taught.seed)
    log, alarms = reward.train(config, model, pairs, weights.parent, taught.seed, advance)
    model.put_on()
    save_weights(model, weights)
    return model, log, alarms


def overfitted(log: Sequence[JsonDict], held_out: Sequence[float]) -> list[JsonDict]:
    """Return the alarm where pairs learned last are far more often in order than held-out ones (a share each kind)."""
    from primum.training.methods import reward

    text = reward.overfitted(log, sum(held_out) / len(held_out)) if held_out else None
    return [{"step": log[-1]["step"], "name": "overfitted", "text": text}] if text else []


def single(context: Context, taught: Taught) -> tuple[Policy, JsonDict]:
    """Return the reward model with one head, trained once for the journey's own, and what its training said.

    The facts: `log`, `alarms`, `pairs` by split and kind, and `accuracy`: the share of held-out pairs of each kind in
    order, with its interval. The journey's own model is as it was: its weights are read again when it is next taken.
    """
    settings = {name: getattr(taught.settings, name) for name in TRAINED}
    stage = context.journey.stage(
        f"single-{context.shelf['reward'].name}", heads=SINGLE, settings=settings, seed=taught.seed,
        base=context.desk.base.key, data=digest([[to_json(v) for v in part] for part in taught.votes.values()]),
    )  # fmt: skip
    weights, total = stage.path("weights.safetensors"), round(len(taught.votes["train"]) * taught.settings.epochs)
    with context.journey.step("one reward model", total, "pairs") as advance:
        if stage.manifest:
            advance(total)
        else:
            stage.finish(**_learn(context, taught, weights, advance))
    return Policy("one reward model", stage.key, weights), stage.manifest or {}


def _learn(context: Context, taught: Taught, weights: Path, advance: Advance) -> JsonDict:
    from primum.training.methods.reward import in_order, judge_pairs

    pairs, held_out = (rows_of(context, taught.votes[part]) for part in ("train", "dev"))
    model, log, alarms = fit(context, taught, SINGLE, pairs, weights, advance)
    kinds = {head: [one for one in held_out if one.head == head] for head in HEADS}
    accuracy = {head: in_order(judge_pairs(model, rows, SINGLE[0])) for head, rows in kinds.items() if rows}
    model.give_back()
    context.desk.changed()
    found = [*alarms.rows, *overfitted(log, [one["value"] for one in accuracy.values()])]
    counts = {part: dict(Counter(v.head for v in votes)) for part, votes in taught.votes.items()}
    return {"log": log, "alarms": found, "pairs": counts, "accuracy": accuracy}
