"""`primum train reward FILE`: a reward model of preferences, with a head for safety and one for helpfulness.

Strengths become margins, safety labels the safety head's own loss. A share of the prompts is not learned: the model is
measured on their pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.core.records import JsonDict, digest
from primum.pipeline.scoring import HEADS

if TYPE_CHECKING:
    from primum.pipeline.train import Job, Learned, TrainConfig
    from primum.training.dataset import Count
    from primum.training.methods.reward import Judged


def heads(rows: Sequence[Judged]) -> tuple[str, ...]:
    """Return the heads that rows teach, safety first."""
    taught = {row.head for row in rows}
    return tuple(name for name in HEADS if name in taught)


def job(config: TrainConfig, rows: Sequence[Judged], count: Count) -> Job:
    """Return what is learned, and which pairs are kept to measure on: whole prompts, drawn by the seed."""
    from primum.pipeline.train import Job
    from primum.training.methods import reward

    keys = sorted({row.chosen.prompt for row in rows}, key=lambda ids: digest([config.seed, ids]))
    apart = set(keys[: round(config.held_out * len(keys))])
    held = [row for row in rows if row.chosen.prompt in apart]
    own = [row for row in rows if row.chosen.prompt not in apart]
    taught = heads(own)
    held = [row for row in held if row.head in taught]
    learned = reward.mixes(own, HEADS, (config.lent, config.lent), config.seed) if len(taught) == 2 else own
    sides = [side for row in (*learned, *held) for side in (row.chosen, row.rejected)]
    flags = [[row.head, row.strength, row.safe] for row in (*learned, *held)]
    return Job(learned, sides, [], [*flags, len(held)], count, held)


def measured(model: Any, held: Sequence[Judged], learned: Learned) -> JsonDict:
    """Return accuracy on the pairs that were not learned, and ring where those that were are far better in order."""
    from primum.training.methods import reward

    found = reward.accuracies(model, held)
    own = [found["cross"][head][head]["value"] for head in model.names if head in found["cross"][head]]
    warning = reward.overfitted(learned.log, sum(own) / len(own)) if own else None
    if warning:
        learned.alarms.append({"step": learned.log[-1]["step"], "name": "overfitted", "text": warning})
    return {"accuracy": found}


def save(config: TrainConfig, model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the trunk with its adapter merged, and the heads beside it."""
    from primum.models.reward import save_heads
    from primum.training.adapter import save_merged

    save_merged(model.network, tokenizer, folder)
    save_heads(model.heads, folder, config.prompt_tokens, config.answer_tokens)
