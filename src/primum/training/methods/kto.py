"""Kahneman-Tversky optimisation: answers that are good or bad, one by one, without pairs (arXiv:2402.01306).

A good answer gains from being likelier than under the reference, a bad one from being less likely, both measured from
a reference point: how far the policy has moved on answers that do not belong to their prompts. The point is taken over
the whole step, so it does not depend on how the step is cut into micro-batches.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field

from primum.core.config import Config as Base
from primum.core.errors import StepFailedError
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.training import losses
from primum.training.alarms import Alarms
from primum.training.examples import Example
from primum.training.loop import LoopConfig, MicroLoss, Run, places
from primum.training.rows import Lazy, lengths_of
from primum.training.score import score, score_all

about = "Kahneman-Tversky optimisation on answers that are good or bad (arXiv:2402.01306)"


FARTHEST = 256
"""Rows before one that are looked at for another prompt."""


class Config(Base):
    """KTO, arXiv:2402.01306, equations 7 and 8."""

    beta: float = Field(0.1, gt=0, description="pull to the reference; larger stays closer")
    desirable_weight: float = Field(1.0, ge=0, description="weight of good answers")
    undesirable_weight: float = Field(1.0, ge=0, description="weight of bad answers")
    learning_rate: float = Field(5e-5, gt=0, description="peak learning rate of the adapter")
    epochs: float = Field(1.0, gt=0, description="passes over the answers")
    batch_size: int = Field(16, ge=2, description="answers per optimizer step")


class Labelled(NamedTuple):
    """An answer, whether it is good, and its prompt with the answer of another row."""

    example: Example
    desirable: bool
    other: Example


class Referenced(NamedTuple):
    """A labelled answer with the reference log-probabilities (nats, summed) of both examples."""

    row: Labelled
    ref: float
    ref_other: float

    @property
    def length(self) -> int:
        """Tokens of the answer's row."""
        return self.row.example.length


def mismatched(examples: Sequence[Example], labels: Sequence[bool]) -> Lazy[Labelled]:
    """Give each prompt the answer of the nearest row before it that answers another prompt, the first rows of the last.

    A pair that was taken apart is two rows of one prompt: its own other answer would move with it (arXiv:2402.01306,
    section 4.1, takes unrelated answers). Where no row near has another prompt, the answer is that of the row before.
    """

    def make(place: int) -> Labelled:
        own = examples[place]
        before = (examples[place - back] for back in range(1, min(len(examples), FARTHEST)))
        other = next((one for one in before if one.prompt != own.prompt), examples[place - 1])
        return Labelled(own, labels[place], replace(own, answer=other.answer))

    return Lazy(len(examples), make, lengths_of(examples))


class Objective:
    """The loss of a micro-batch; the reference point is found before each step."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.point = torch.zeros(())

    def before_step(self, network: Any, rows: Sequence[Referenced]) -> None:
        """Find the reference point of a step."""
        logps = score_all(network, [r.row.other for r in rows]).logps
        self.point = losses.kto_point(logps, torch.tensor([r.ref_other for r in rows]))

    def __call__(self, network: Any, micro: Sequence[Referenced], scale: float) -> MicroLoss:
        """Return the loss of a micro-batch and what the log shows of it."""
        logps = score(network, [r.row.example for r in micro]).logps
        reference = logps.new_tensor([r.ref for r in micro])
        labels = [r.row.desirable for r in micro]
        desirable = torch.tensor(labels, device=logps.device)
        good, bad = places(labels, logps.device), places([not label for label in labels], logps.device)
        weights = self.config.desirable_weight, self.config.undesirable_weight
        found = losses.kto(logps, reference, desirable, self.point.to(logps.device), self.config.beta, weights)
        metrics = {
            "good_reward": found.reward[good].sum(), "bad_reward": found.reward[bad].sum(),
            "point": self.point * len(micro), "reward": found.reward.sum(),
        }  # fmt: skip
        counts = {"good_reward": len(good), "bad_reward": len(bad)}
        return MicroLoss(found.loss.sum() / scale, metrics, counts)


def train(
    config: Config,
    network: Any,
    rows: Sequence[Referenced],
    folder: Path,
    seed: int = 0,
    advance: Advance = silent,
    groups: Sequence[Hashable] | None = None,
) -> tuple[list[JsonDict], Alarms]:
    """Train on referenced answers; those with the same key in `groups` are in one step.

    Returns:
        The log (loss, rewards of good and bad answers, the reference point; a row a step) and the alarms.

    Raises:
        StepFailedError: the first step does not begin where the reference is.
    """
    loop = LoopConfig(config.learning_rate, config.batch_size, config.epochs, seed=seed)
    objective = Objective(config)
    loss: Callable[[Any, Sequence[Referenced], float], MicroLoss] = objective
    run = Run(network, rows, loss, len, loop, folder, Alarms(), advance, check_start, groups, objective.before_step)
    return run.train(), run.alarms


def check_start(row: JsonDict, tolerance: float = 0.1) -> None:
    """Stop unless the first implicit rewards are zero; the tolerance is bf16 noise between batch shapes.

    Raises:
        StepFailedError: the reference is not the policy at step 0.
    """
    if abs(row["reward"]) > tolerance:
        problem = f"the mean reward at step 0 is {row['reward']:.4f}, not 0: the reference is not the policy"
        raise StepFailedError(problem, cure="the reference was made from other weights; delete the train step's folder")
