"""Supervised fine-tuning on answers: some are learned, others kept as they are (`training.keeping`)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.training.alarms import Alarms
from primum.training.keeping import KeepConfig, Kept, keeping_loss, openers
from primum.training.loop import LoopConfig, MicroLoss, Run

about = "supervised fine-tuning on answers; the model's own answers are kept by their divergence (no loss on prompts)"


class Config(KeepConfig):
    """Supervised fine-tuning; prompt tokens carry no loss (Llama 2, arXiv:2307.09288, section 3.1)."""

    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of the adapter")
    epochs: float = Field(3.0, gt=0, description="passes over the demonstrations")
    batch_size: int = Field(16, gt=0, description="demonstrations per optimizer step")


def train(
    config: Config,
    network: Any,
    rows: Sequence[Kept],
    folder: Path,
    seed: int = 0,
    advance: Advance = silent,
    groups: Sequence[Hashable] | None = None,
) -> tuple[list[JsonDict], Alarms]:
    """Train on rows that are learned and rows that are kept; each row weighs the same, whatever its length.

    Rows with the same key in `groups` (a harmful prompt and its benign twin) are in one step: what they have in common
    then pulls both ways at once, and the step is left with what tells them apart.

    Returns:
        The log (loss; nll of learned answers, divergence of kept ones: nats per token) and the alarms.
    """
    raised = openers(rows)

    def loss(network: Any, micro: Sequence[Kept], scale: float) -> MicroLoss:
        found = keeping_loss(config, network, micro, raised)
        return found._replace(loss=found.loss / scale)

    loop = LoopConfig(config.learning_rate, config.batch_size, config.epochs, seed=seed)
    run = Run(network, rows, loss, len, loop, folder, advance=advance, groups=groups)
    return run.train(), run.alarms
