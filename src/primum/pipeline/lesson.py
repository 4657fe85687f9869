"""What every training stage does alike: start from a policy, learn, keep the adapter, be skipped where it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from primum.core.progress import Advance
from primum.core.records import JsonDict, Messages, Prompt
from primum.core.store import Stage
from primum.pipeline.context import Context
from primum.pipeline.desk import Policy
from primum.pipeline.recipe import StageSpec

PROMPT_TOKENS = 1024
"""Tokens that are read of a prompt, its end: of a dialogue the first turn too, where an instruction stands."""
Teach = Callable[[Any, Stage, Advance], JsonDict]
"""(network with the start policy's adapter on it, the stage's folder, progress) -> what is kept in its manifest."""


def lesson(context: Context, spec: StageSpec, total: int, unit: str, teach: Teach, **facts: Any) -> Policy:
    """Train one policy and put it among the context's policies; a finished one is taken from its folder.

    Args:
        context: of the journey.
        spec: the stage; its settings are part of the key.
        total: units of progress.
        unit: their name.
        teach: what learns. Its manifest holds at least `log` (a row a step).
        facts: what else the result depends on: digests of the data.
    """
    from primum.training.adapter import save_weights

    start = context.start(spec)
    settings = spec.settings.model_dump(mode="json")
    stage = context.journey.stage(f"stage-{spec.name}", start=start.key, settings=settings, seed=context.seed, **facts)
    weights = stage.path("weights.safetensors")
    with context.journey.step(spec.name, total, unit) as advance:
        if stage.manifest:
            advance(total)
        else:
            context.desk.take(start)
            context.desk.changed()
            found = teach(context.desk.network, stage, advance)
            context.desk.network.set_adapter("default")
            save_weights(context.desk.network, weights)
            stage.finish(**found)
    policy = Policy(spec.name, stage.key, weights)
    context.policies[spec.name] = policy
    context.facts[spec.name] = {"kind": spec.do, "start": start.name, **(stage.manifest or {})}
    return policy


def harmful(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return the prompts that must not be complied with."""
    return [p for p in prompts if p.intent == "harmful"]


def benign(prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return the prompts that deserve an answer."""
    return [p for p in prompts if p.intent == "benign"]


def pick(prompts: Sequence[Prompt], most: int | None) -> list[Prompt]:
    """Return the first prompts of an order that was drawn once for all (`choose`)."""
    return list(prompts if most is None else prompts[:most])


def plain(messages: Messages) -> list[list[Any]]:
    """Return a conversation as plain JSON, for a key."""
    return [m.identity for m in messages]


def answers(context: Context, rows: Sequence[tuple[Messages, str, bool]], tokens: int) -> list[Any]:
    """Return rows whose answers are learned by their likelihood (prompt, answer, whether it ends where it was ended).

    An answer that is cut at `tokens` does not end either.
    """
    from primum.training.examples import Answered, Limits, answered
    from primum.training.keeping import Kept

    limits = Limits(PROMPT_TOKENS, tokens)
    texts = [Answered(messages, text, limits, ends) for messages, text, ends in rows]
    return [Kept(e) for e in answered(texts, context.desk.model.tokenizer)]


def plain_sft(settings: Any) -> Any:
    """Return the supervised method's settings where every token of an answer weighs the same."""
    from primum.training.methods import sft

    given: dict[str, Any] = {name: getattr(settings, name) for name in ("learning_rate", "epochs", "batch_size")}
    return sft.Config(**given, rest_weight=1.0)
