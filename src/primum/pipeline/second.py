"""A second reward model, which training never sees: it tells a policy that got better from one that learned the first.

What is optimised against a reward model soon gains by its errors (arXiv:2210.10760); another one, of another seed or
other preferences, makes other errors. It is a stage of the journey that only watches, or lies in a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from primum.core.errors import StepFailedError, did_you_mean
from primum.core.records import Reply, digest
from primum.core.store import file_sha256
from primum.judging import Exchange
from primum.pipeline.context import Context
from primum.pipeline.desk import Policy
from primum.pipeline.earning import MODEL
from primum.pipeline.recipe import StageSpec
from primum.pipeline.scoring import HEADS
from primum.pipeline.threshold import place

SHELF = "rewards"
"""Of the shelf: every reward model of the journey by its stage's name."""
SHARD = 256
Found = Literal["warn", "stop"]
"""What becomes of a stage whose reward rises while the second model's falls."""


class Trained(NamedTuple):
    """A reward model of the journey: its weights, and the threshold of its gate."""

    policy: Policy
    threshold: float


@dataclass(frozen=True)
class Second:
    """What a second reward model is known by, and the combined reward of exchanges, each in (0, 1)."""

    name: str
    key: str
    rewards: Callable[[Sequence[Exchange]], list[float]]


def second(context: Context, spec: StageSpec, combine: Callable[[float], Any] | None) -> Second | None:
    """Return the reward model that a stage names as its second one; None where it names none.

    Args:
        context: of the journey.
        spec: the stage; its setting `second` is the name of an earlier stage, or a folder.
        combine: threshold of the second model's gate -> the rule by which its heads become one; None: the gate's own.

    Raises:
        StepFailedError: no such stage or folder, or training sees that model.
        UsageError: no reward model in that folder.
    """
    name: str | None = spec.settings.second
    if name is None:
        return None
    known: dict[str, Trained] = context.shelf.get(SHELF, {})
    if name in known:
        trained = known[name]
        learned = context.shelf.get("reward") if getattr(spec.settings, "reward", MODEL) == MODEL else None
        if learned is not None and trained.policy.key == learned.key:
            cure = f"let it only watch (--set stages.{name}.watches=true), or name another"
            raise StepFailedError(f"'{name}' is the reward model that is trained on", where=spec.where, cure=cure)
        from primum.training.rewards import Combine

        rule = combine(trained.threshold) if combine else Combine(threshold=trained.threshold)
        key = digest([trained.policy.key, trained.threshold])
        return Second(name, key, lambda exchanges: _own(context, trained.policy, rule, exchanges))
    if Path(name).is_dir():
        return _folder(Path(name))
    cure = f"name a stage with 'do: reward' before it, which is not skipped ({did_you_mean(name, known)}), or a folder"
    raise StepFailedError(f"there is no second reward model '{name}'", where=spec.where, cure=cure)


def _own(context: Context, policy: Policy, combine: Any, exchanges: Sequence[Exchange]) -> list[float]:
    """Return the rewards by a model of this journey: another adapter of the same base weights."""
    import torch

    model = context.desk.reward_model(HEADS)
    model.take(policy.weights)
    asked, said = [e.prompt.messages for e in exchanges], [e.reply.text for e in exchanges]
    scores = torch.tensor(model.scores(asked, said, _ended(exchanges), context.desk.model.tokenizer))
    model.give_back()
    tagged = torch.tensor([e.prompt.intent == "harmful" for e in exchanges])
    return combine(scores[:, 0], scores[:, 1], tagged).tolist()


def _folder(folder: Path) -> Second:
    """Return the model of another journey's folder, or of primum train reward; it is loaded when it is first asked."""
    from primum.pipeline.reward_server import Said, load_rewards

    load = cache(lambda: load_rewards(folder))

    def rewards(exchanges: Sequence[Exchange]) -> list[float]:
        replies = [Said(e.reply.text, end) for e, end in zip(exchanges, _ended(exchanges), strict=True)]
        tagged = [e.prompt.intent == "harmful" for e in exchanges]
        return [row["reward"] for row in load().of([e.prompt.messages for e in exchanges], replies, tagged)]

    files = sorted(place(folder).folder.glob("*.safetensors"))
    return Second(str(folder), digest([file_sha256(file) for file in files]), rewards)


def _ended(exchanges: Sequence[Exchange]) -> list[bool]:
    return [e.reply.finish == "stop" for e in exchanges]


def rewards_of(context: Context, name: str, model: Second, replies: Sequence[Reply]) -> list[float]:
    """Return the second model's rewards of replies to this journey's prompts; resumes where it was stopped."""
    prompts = context.sets.by_id
    stage = context.journey.stage(name, second=model.key, replies=digest([[r.id, r.finish] for r in replies]))
    with context.journey.step(name.replace("-", " "), len(replies), "replies") as advance:

        def work(index: int, part: Sequence[Reply]) -> list[dict[str, Any]]:
            del index
            return [{"reward": one} for one in model.rewards([Exchange(prompts[r.prompt_id], r) for r in part])]

        rows = stage.map(replies, SHARD, work, advance)
        if not stage.manifest:
            stage.finish(replies=len(rows))
    return [row["reward"] for row in rows]
