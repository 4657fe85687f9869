"""A judge's questions answered by a model in memory."""

from __future__ import annotations

from collections.abc import Sequence

from primum.core.records import Messages
from primum.judging.ask import Answer, Ask, Tokens

MAX_TOKENS = 64


def in_memory(name: str, max_tokens: int = MAX_TOKENS) -> Ask:
    """Return a function that asks the named model, greedily; it is loaded on the first question.

    Args:
        name: "embedded", a hub id or a path.
        max_tokens: longest answer.
    """
    from primum.models.sampling import Sampling

    loaded: list[object] = []

    def ask(batch: Sequence[Messages]) -> list[Answer]:
        from primum.models.engines.hf import HFEngine
        from primum.models.load import load

        if not loaded:
            loaded.append(HFEngine(load(name)))
        engine = loaded[0]
        assert isinstance(engine, HFEngine)
        replies = engine(batch, Sampling(max_new_tokens=max_tokens), seed=0)
        return [Answer(reply.text, tokens=Tokens(reply.prompt_tokens, reply.reply_tokens)) for reply in replies]

    return ask
