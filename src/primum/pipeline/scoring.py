"""Scores of replies by the journey's reward model, kept on disk: a number in (0, 1) for each head and reply."""

from __future__ import annotations

from collections.abc import Sequence

from primum.core.records import Reply, digest
from primum.pipeline.context import Context, Measured
from primum.pipeline.desk import Policy

HEADS = ("safety", "helpfulness")
SHARD = 256


def rewards_of(context: Context, found: Measured) -> dict[str, list[float]]:
    """Return the rewards of a policy's measured replies, by head."""
    return score_replies(context, f"measure-{found.policy.name}-rewards", found.replies)


def score_replies(
    context: Context, name: str, replies: Sequence[Reply], trained: Policy | None = None,
    heads: tuple[str, ...] = HEADS,
) -> dict[str, list[float]]:  # fmt: skip
    """Score replies to this journey's prompts, by its own reward model or another of its stages, with its heads.

    Resumes at the shard where it was stopped.
    """
    by = trained or context.shelf["reward"]
    prompts = context.sets.by_id
    asked = digest([[r.id, r.finish] for r in replies])  # an answer that a limit cut is read without its end
    stage = context.journey.stage(name, reward=by.key, replies=asked)
    label = name.replace("-", " ")
    with context.journey.step(label, len(replies), "replies") as advance:

        def work(index: int, part: Sequence[Reply]) -> list[dict[str, float]]:
            del index
            model = context.desk.reward_model(heads)
            model.take(by.weights)
            scores = model.scores([prompts[r.prompt_id].messages for r in part], [r.text for r in part],
                                  [r.finish == "stop" for r in part], context.desk.model.tokenizer)  # fmt: skip
            model.give_back()
            return [dict(zip(heads, map(float, row), strict=True)) for row in scores]

        rows = stage.map(replies, SHARD, work, advance)
        if not stage.manifest:
            stage.finish(replies=len(rows))
    return {head: [row[head] for row in rows] for head in heads}
