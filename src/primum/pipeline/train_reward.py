"""`primum train reward FILE`: a reward model of preferences, with a head for safety and one for helpfulness.

Strengths become margins, safety labels the safety head's own loss. A share of the prompts is not learned: the model is
measured on their pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.core.records import JsonDict, digest
from primum.pipeline import threshold
from primum.pipeline.scoring import HEADS

if TYPE_CHECKING:
    from primum.pipeline.train import Learned, TrainConfig
    from primum.pipeline.train_rows import Job
    from primum.training.dataset import Count
    from primum.training.methods.reward import Judged


MEASURED = ("accuracy", "reliability", "wanted_precision", "labelled", "threshold", "published_threshold")
"""What is told of a reward model, of which the last four need labels of safety."""


def heads(rows: Sequence[Judged]) -> tuple[str, ...]:
    """Return the heads that rows teach, safety first."""
    taught = {row.head for row in rows}
    return tuple(name for name in HEADS if name in taught)


def job(config: TrainConfig, rows: Sequence[Judged], count: Count) -> Job:
    """Return what is learned, and which pairs are kept to measure on: whole prompts, drawn by the seed."""
    from primum.pipeline.train_rows import Job
    from primum.training.methods import reward
    from primum.training.rows import joined, only, sides

    keys = [digest([config.seed, row.chosen.prompt]) for row in rows]
    prompts = sorted(set(keys))
    apart = set(prompts[: round(config.held_out * len(prompts))])
    held = only(rows, (i for i, key in enumerate(keys) if key in apart))
    own = only(rows, (i for i, key in enumerate(keys) if key not in apart))
    taught = heads(own)
    held = only(held, (i for i, row in enumerate(held) if row.head in taught))
    learned = reward.mixes(own, HEADS, (config.lent, config.lent), config.seed) if len(taught) == 2 else own
    every, few = joined(learned, held), dict[Any, Any]()
    labels = ((row.head, row.strength, row.safe) for row in every)
    flags = [few.setdefault(label, label) for label in labels]  # few kinds: each is kept once
    return Job(learned, sides(every, "chosen", "rejected"), [], [*flags, len(held)], count, held)


def measured(model: Any, held: Sequence[Judged], learned: Learned, folder: Path) -> JsonDict:
    """Return accuracy, reliability and the gate's threshold on the pairs that were not learned.

    It rings where pairs that were learned are far better in order. Safety scores of labelled answers go to the folder.
    """
    from primum.training.methods import reward

    found = reward.accuracies(model, held)
    own = [found["cross"][head][head]["value"] for head in model.names if head in found["cross"][head]]
    warning = reward.overfitted(learned.log, sum(own) / len(own)) if own else None
    if warning:
        learned.alarms.append({"step": learned.log[-1]["step"], "name": "overfitted", "text": warning})
    rows = reward.labelled(model, held)
    labelled = threshold.Labelled([score for score, _ in rows], [bad for _, bad in rows])
    threshold.write(folder, labelled)
    reliability = found.pop("reliability")
    if not rows:
        return {"accuracy": found, "reliability": reliability}
    reliability |= {"safe": reward.calibration(labelled.scores, [not bad for bad in labelled.unsafe])}
    return {"accuracy": found, "reliability": reliability, **threshold.facts(labelled, threshold.PUBLISHED)}


def save(config: TrainConfig, model: Any, tokenizer: Any, folder: Path) -> None:
    """Write the trunk with its adapter merged, and the heads beside it."""
    from primum.models.reward import save_heads
    from primum.training.adapter import save_merged

    save_merged(model.network, tokenizer, folder)
    save_heads(model.heads, folder, config.prompt_tokens, config.answer_tokens)
