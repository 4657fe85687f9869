"""Which engine answers: the one that was asked for, or the fastest that can run the model here, and why."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from primum.core.catalogue import member, names
from primum.core.errors import UsageError
from primum.models.sampling import Opening, Streaming

AUTO = "auto"
ALIASES = {"transformers": "hf"}
"""What people call an engine -> its id."""


class Chosen(NamedTuple):
    """An engine's id, and in one sentence why it was taken."""

    engine: str
    why: str


def choose(engine: str, opening: Opening) -> Chosen:
    """Return the engine to use.

    Raises:
        UsageError: no such engine.
    """
    if engine != AUTO:
        known = ALIASES.get(engine, engine)
        member("engines", known)
        return Chosen(known, "asked for")
    if opening.url:
        return Chosen("http", "an endpoint was named")
    if opening.model.partition(":")[0] == "canned":
        return Chosen("canned", "the fake was asked for")
    ranked = sorted(((_rank(member("engines", name)), name) for name in names("engines")), reverse=True)
    refused: list[str] = []
    for rank, name in ranked:
        problem = "it is taken only when asked for" if rank <= 0 else member("engines", name).why_not(opening)
        if problem is None:
            return Chosen(name, "the fastest here" + (f"; not {'; not '.join(refused)}" if refused else ""))
        refused.append(f"{name}: {problem}")
    raise UsageError(f"no engine can run '{opening.model}' here", cure="; ".join(refused))


def _rank(module: Any) -> int:
    """Return how fast an engine is among the others here: `rank` on a CPU, another (where it has one) elsewhere.

    `gpu_rank` counts on a GPU, `bf16_rank` on a CPU whose own bf16 products are the faster ones.
    """
    import torch

    from primum.models.device import device

    here = device()
    name = "gpu_rank" if here.name == "cuda" else "bf16_rank" if here.dtype == torch.bfloat16 else "rank"
    return int(getattr(module, name, module.rank))


def open_engine(engine: str, opening: Opening) -> Streaming:
    """Open the model in an engine that `choose` gave."""
    return cast(Streaming, member("engines", engine).open_engine(opening))
