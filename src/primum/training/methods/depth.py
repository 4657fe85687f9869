"""Safety deeper than the first tokens: recovery, extended refusals, and wrapped requests answered as plain ones.

Recovery is a row whose prompt ends in the first tokens of a harmful answer: the loss is on what follows. Consistency is
the divergence of the answer to a wrapped request from the answer to the plain one, as the model gives it now; no
gradient goes through the plain one, which is learned or kept by its own row.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.training.alarms import Alarms
from primum.training.examples import Example, Lesson
from primum.training.keeping import KeepConfig, Kept, divergence, keeping_loss, weighed
from primum.training.loop import LoopConfig, MicroLoss, Run
from primum.training.score import answer_states, logits

about = "recovery after harmful tokens (2406.05946), extended refusals (2505.19056), wrapped as plain (2510.27062)"
Row = Kept | Lesson
"""Learned or kept; or the same answer after a wrapped request (student) and after the plain one (teacher)."""


class Config(KeepConfig):
    """Depth."""

    consistency_weight: float = Field(
        default=1.0, ge=0, description="weight of wrapped requests against learned answers"
    )
    learning_rate: float = Field(5e-4, gt=0, description="peak learning rate of the adapter")
    epochs: float = Field(1.0, gt=0, description="passes over the rows")
    batch_size: int = Field(8, ge=1, description="rows per optimizer step")


def begun(row: Example, opening: Sequence[int]) -> Example:
    """Return a row whose answer comes after the opening: the opening's tokens are prompt and carry no loss."""
    return replace(row, prompt=(*row.prompt, *opening))


def consistency(network: Any, lessons: Sequence[Lesson], opening: int, rest_weight: float) -> Tensor:
    """Return KL(answer to the plain request || answer to the wrapped one) of each lesson (B,), nats a token.

    Args:
        network: gives both; only the wrapped side has a gradient.
        lessons: the wrapped row is the student's, the plain one the teacher's.
        opening: tokens that open an answer and weigh as a row.
        rest_weight: of all other tokens.
    """
    with torch.no_grad():
        plain = logits(network, answer_states(network, [one.teacher for one in lessons]).hidden)
    states = answer_states(network, [one.student for one in lessons])
    return weighed(divergence(plain, logits(network, states.hidden)), states, opening, rest_weight)


def train(
    config: Config, network: Any, rows: Sequence[Row], folder: Path, seed: int = 0, advance: Advance = silent,
    groups: Sequence[Hashable] | None = None,
) -> tuple[list[JsonDict], Alarms]:  # fmt: skip
    """Train on rows; each weighs the same. The log has `nll` (learned), `divergence` (kept) and `consistency`."""

    def loss(network: Any, micro: Sequence[Row], scale: float) -> MicroLoss:
        plain, lessons = [m for m in micro if isinstance(m, Kept)], [m for m in micro if isinstance(m, Lesson)]
        found = keeping_loss(config, network, plain) if plain else MicroLoss(torch.zeros(()), {}, {})
        if lessons:
            each = consistency(network, lessons, config.opening, config.rest_weight)
            metrics = {**found.metrics, "consistency": each.detach().sum()}
            counts = {**found.counts, "consistency": len(lessons)}
            found = MicroLoss(found.loss + config.consistency_weight * each.sum(), metrics, counts)
        return found._replace(loss=found.loss / scale)

    loop = LoopConfig(config.learning_rate, config.batch_size, config.epochs, seed=seed)
    run = Run(network, rows, loss, len, loop, folder, advance=advance, groups=groups)
    return run.train(), run.alarms
