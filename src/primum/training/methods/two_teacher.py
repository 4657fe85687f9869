"""On-policy distillation from two teachers: the student answers, and learns what a teacher would have said instead.

On safety and general prompts the aligned parent teaches, on domain prompts the fine-tuned model that the student began
as. The teachers take turns, whole steps each: their gradients are not mixed (arXiv:2605.27115). The loss is a
divergence of the whole next-token distributions on the student's own replies, so no judge and no reward takes part
(arXiv:2306.13649).

KL(teacher || student) is the default. What a fine-tune undid is what the student hardly says any more; the gradient of
KL(student || teacher) at a token is proportional to what the student gives it, and could not bring that back.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from primum.core.errors import StepFailedError
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.core.store import write_jsonl
from primum.training import state
from primum.training.adapter import trainable
from primum.training.alarms import Alarms
from primum.training.batches import indexed_batches, micro_batches
from primum.training.examples import Example
from primum.training.keeping import weighed
from primum.training.loop import LoopConfig, schedule
from primum.training.losses import folded, generalised_jsd
from primum.training.rollouts import Answer, Draw
from primum.training.score import answer_states, logits, per_row
from primum.training.settings import Teaching

about = "the aligned parent teaches on safety prompts, the fine-tuned model on domain prompts, by turns (2306.13649)"
PARENT, TUNED = "parent", "tuned"
TOLERANCE = 0.05
"""Nats per token by which the student may differ from the fine-tuned model before it learned anything: rounding."""
TOKENS = 1536
"""Tokens of one forward pass."""
SAVE_EVERY = 60.0
"""Seconds between two states to resume from."""

Teacher = Callable[[Sequence[Example]], Tensor]
"""Rows -> the teacher's logits (N, V) before each answer token, row after row; no gradients."""


class Config(Teaching):
    """Two-teacher on-policy distillation."""

    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate of the adapter")
    batch_size: int = Field(16, ge=1, description="replies of a step")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are cut to this norm")


@dataclass(frozen=True)
class Players:
    """Who takes part: the student's network, what draws its replies, and the teachers (`PARENT`, `TUNED`)."""

    network: Any
    draw: Draw
    teachers: Mapping[str, Teacher]


class Parted(NamedTuple):
    """Of some rows: the loss of each (B,), and its mean divergence a token (B,), nats."""

    loss: Tensor
    divergence: Tensor


@dataclass
class Trainer:
    """One training in a folder: log.jsonl, and the state from which it goes on."""

    config: Config
    players: Players
    prompts: Mapping[str, Sequence[Answer]]
    folder: Path
    seed: int = 0
    advance: Advance = silent
    alarms: Alarms = field(default_factory=Alarms)

    def train(self) -> list[JsonDict]:
        """Train to the end and return the log, a row a step.

        Raises:
            StepFailedError: the student does not begin as the fine-tuned model, or the loss is no number.
        """
        config, weights = self.config, trainable(self.players.network)
        optimizer = torch.optim.AdamW(weights.values(), betas=(0.9, 0.99), weight_decay=0.0, fused=True)
        log = state.load(self.folder, weights, optimizer)
        for row in log:
            self.alarms.see(row)
        self.advance(len(log))
        self.players.network.eval()  # no dropout: a reply is learned by the network that drew it
        saved = time.monotonic()
        for number in range(len(log), config.steps):
            log.append(self._step(number, optimizer))
            self.alarms.see(log[-1])
            if time.monotonic() - saved > SAVE_EVERY:
                state.save(self.folder, weights, optimizer, log)
                saved = time.monotonic()
            self.advance(1)
        write_jsonl(self.folder / "log.jsonl", log)
        return log

    def _step(self, number: int, optimizer: torch.optim.Optimizer) -> JsonDict:
        config, name = self.config, teacher_of(number, self.config.domain_every)
        rate = schedule(number, config.steps, LoopConfig(config.learning_rate))
        for group in optimizer.param_groups:
            group["lr"] = rate
        rows = self._drawn(name, number)
        if number == 0:
            self._check_start(rows)
        kept = self._furthest(name, rows)
        sums = {"loss": 0.0, "divergence": 0.0}
        for micro in micro_batches(kept, TOKENS):
            found = self._parted(name, micro)
            (found.loss.sum() / len(kept)).backward()
            for key, value in found._asdict().items():
                sums[key] += float(value.detach().sum()) / len(kept)
        weights = [p for group in optimizer.param_groups for p in group["params"]]
        norm = float(torch.nn.utils.clip_grad_norm_(weights, config.max_grad_norm))
        if not (math.isfinite(sums["loss"]) and math.isfinite(norm)):
            cure = "lower the learning rate; the weights of the last state are kept"
            raise StepFailedError(f"the loss is {sums['loss']} at step {number}", where=str(self.folder), cure=cure)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        length = sum(len(row.answer) for row in rows) / len(rows)
        return {"step": number, "teacher": name, "lr": rate, "grad_norm": norm, **sums, "tokens": length}

    def _drawn(self, name: str, number: int) -> list[Example]:
        """Let the student answer the prompts of a step."""
        before = sum(teacher_of(i, self.config.domain_every) == name for i in range(number))
        asked = prompts_of(self.prompts[name], before, self.config.batch_size, f"{self.seed}-{name}")
        answers = self.players.draw(asked, self.seed + 7919 * number + 1)
        return [Example(prompt, tuple(answer)) for prompt, answer in zip(asked, answers, strict=True)]

    def _parted(self, name: str, rows: Sequence[Example]) -> Parted:
        """Return how far the student is from a teacher on its own replies; every reply weighs the same."""
        teacher = self.players.teachers[name](rows).log_softmax(-1)
        states = answer_states(self.players.network, rows)
        student = logits(self.players.network, states.hidden).log_softmax(-1)
        if self.config.top is not None and self.config.top < teacher.shape[-1]:
            tokens = teacher.topk(self.config.top, -1).indices
            teacher, student = folded(teacher, tokens), folded(student, tokens)
        values = generalised_jsd(teacher, student, self.config.divergence)
        lengths = states.lengths.to(values.device).clamp(min=1)
        return Parted(weighed(values, states, self.config.opening, 1.0), per_row(values, states) / lengths)

    def _furthest(self, name: str, rows: list[Example]) -> list[Example]:
        """Return the share of the replies on which student and teacher are furthest apart (arXiv:2605.27115)."""
        if self.config.keep == 1:
            return rows
        gaps: dict[int, float] = {}
        with torch.no_grad():
            for group in indexed_batches(rows, TOKENS):
                found = self._parted(name, [one.example for one in group]).divergence.tolist()
                gaps |= {one.index: gap for one, gap in zip(group, found, strict=True)}
        order = sorted(gaps, key=lambda i: (-gaps[i], i))
        return [rows[i] for i in order[: max(1, round(self.config.keep * len(rows)))]]

    @torch.no_grad()
    def _check_start(self, rows: Sequence[Example]) -> None:
        gap = max(float(self._parted(TUNED, part).divergence.max()) for part in micro_batches(rows, TOKENS))
        if gap > TOLERANCE:
            problem = f"before anything is learned the student is {gap:.3f} nats a token from the fine-tuned model"
            raise StepFailedError(problem, where=str(self.folder), cure="both must be made from the same weights")


def teacher_of(number: int, domain_every: int) -> str:
    """Return who teaches at a step: of every `domain_every` steps the fine-tuned model has the last."""
    return TUNED if number % domain_every == domain_every - 1 else PARENT


def prompts_of(prompts: Sequence[Answer], before: int, size: int, seed: str) -> list[Answer]:
    """Return the prompts of a step: passes over all of them, one after the other, each in an order of its own.

    Args:
        prompts: of one teacher.
        before: steps that this teacher had before.
        size: prompts a step.
        seed: of the orders.
    """
    first, last = before * size, (before + 1) * size
    passes = range(first // len(prompts), (last - 1) // len(prompts) + 1)
    line = [one for number in passes for one in random.Random(f"{seed}-{number}").sample(prompts, len(prompts))]
    skipped = first - passes.start * len(prompts)
    return line[skipped : skipped + size]


def train(
    config: Config, players: Players, prompts: Mapping[str, Sequence[Answer]], folder: Path, seed: int = 0,
    advance: Advance = silent,
) -> tuple[list[JsonDict], list[JsonDict]]:  # fmt: skip
    """Train a student that begins as the fine-tuned model; return the log and the alarms.

    Args:
        config: settings.
        players: student and teachers.
        prompts: token ids of the prompts on which each teacher teaches, by its name.
        folder: where state and log lie; training goes on there.
        seed: of prompts and replies.
        advance: told of steps.

    Raises:
        ValueError: a teacher has no prompts.
        StepFailedError: see `Trainer.train`.
    """
    if missing := [name for name in (PARENT, TUNED) if not prompts.get(name)]:
        raise ValueError(f"no prompts for the teacher '{missing[0]}'")
    trainer = Trainer(config, players, prompts, folder, seed, advance)
    return trainer.train(), trainer.alarms.rows
