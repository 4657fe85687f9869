"""Supervised fine-tuning on answers only: the warm start before preferences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from primum.core.config import Config as Base
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.training.alarms import Alarms
from primum.training.batches import collate
from primum.training.examples import Example
from primum.training.loop import LoopConfig, MicroLoss, Run
from primum.training.score import score

about = "supervised fine-tuning on answers (prompt tokens carry no loss)"


class Config(Base):
    """Supervised fine-tuning; prompt tokens carry no loss (Llama 2, arXiv:2307.09288, section 3.1)."""

    learning_rate: float = Field(3e-4, gt=0, description="peak learning rate of the adapter")
    epochs: float = Field(1.0, gt=0, description="passes over the demonstrations")
    batch_size: int = Field(16, gt=0, description="demonstrations per optimizer step")


def train(
    config: Config, network: Any, examples: Sequence[Example], pad: int, folder: Path, seed: int = 0,
    advance: Advance = silent,
) -> tuple[list[JsonDict], Alarms]:  # fmt: skip
    """Train on (prompt, answer) examples; every answer token of a step weighs the same, times its example's weight.

    Returns:
        The log (one row a step: loss in nats per answer token) and the alarms.
    """
    place = next(network.parameters()).device

    def loss(network: Any, micro: Sequence[Example], scale: float) -> MicroLoss:
        logps, _ = score(network, collate(micro, pad, place))
        weights = logps.new_tensor([e.weight for e in micro])
        return MicroLoss(-(logps * weights).sum() / scale, {})

    def tokens(examples: Sequence[Example]) -> float:
        return sum(e.weight * len(e.answer) for e in examples)

    loop = LoopConfig(config.learning_rate, config.batch_size, config.epochs, seed=seed)
    run = Run(network, examples, loss, tokens, loop, folder, advance=advance)
    return run.train(), run.alarms
