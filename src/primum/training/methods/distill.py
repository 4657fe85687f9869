"""Context distillation: a model learns to answer without a preprompt as it answers with one.

Two forms. By samples, as Llama 2 has it (arXiv:2307.09288, section 4.2.4): own answers drawn with the preprompt are
learned without it, where the safety reward gained by it. Soft (arXiv:2112.00861, section 2.1): the divergence from the
distribution with the preprompt, token by token, kept as the likeliest k tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor

from primum.core.config import Config as Base
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.training.adapter import write_tensors
from primum.training.alarms import Alarms
from primum.training.batches import micro_batches
from primum.training.examples import Lesson
from primum.training.loop import LoopConfig, MicroLoss, Run
from primum.training.losses import folded, generalised_jsd
from primum.training.score import answer_states, logits, per_row, token_logps

about = "context distillation: answer without the preprompt as with it (arXiv:2307.09288, 4.2.4; arXiv:2112.00861)"


class Config(Base):
    """Context distillation."""

    form: Literal["samples", "soft"] = Field(
        "samples", description="learn the answers, or the distribution behind them"
    )
    top: int = Field(50, ge=1, description="likeliest tokens of the teacher that are kept (soft form)")
    learning_rate: float = Field(5e-4, gt=0, description="peak learning rate of the adapter")
    epochs: float = Field(1.0, gt=0, description="passes over the answers")
    batch_size: int = Field(8, gt=0, description="answers per optimizer step")


@dataclass(frozen=True, slots=True)
class Taught:
    """An answer without its preprompt and with it, and what the teacher, who reads the latter, thinks.

    Per answer token: the teacher's likeliest tokens (T, k) and their log-shares (T, k).
    """

    lesson: Lesson
    tokens: Tensor | None = None
    shares: Tensor | None = None

    @property
    def length(self) -> int:
        """Tokens of the row that is learned."""
        return self.lesson.length


@torch.no_grad()
def teach(network: Any, lessons: Sequence[Lesson], top: int, advance: Advance = silent) -> list[Taught]:
    """Note what the network, with the preprompt, thinks of each answer token: its likeliest `top` tokens."""
    order = {id(one.teacher): i for i, one in enumerate(lessons)}
    found: dict[int, Taught] = {}
    for group in micro_batches([one.teacher for one in lessons], 1024):
        states = answer_states(network, group)
        logps = logits(network, states.hidden).log_softmax(-1)
        shares, tokens = logps.topk(min(top, logps.shape[-1]), -1)
        lengths = states.lengths.tolist()
        for row, t, s in zip(group, tokens.split(lengths), shares.split(lengths), strict=True):
            found[order[id(row)]] = Taught(lessons[order[id(row)]], t.clone(), s.clone())
        advance(len(group))
    return [found[i] for i in range(len(lessons))]


def teach_once(network: Any, lessons: Sequence[Lesson], top: int, folder: Path, size: int = 256) -> list[Taught]:
    """Do as `teach`, and keep what it found in a folder, so that a run that was killed need not find it again.

    Args:
        network: the teacher; it must be the one of the earlier run.
        lessons: answers; those of the earlier run.
        top: likeliest tokens that are kept.
        folder: files targets-00000.safetensors, ..., each whole or not there. It belongs to one set of lessons.
        size: answers in a file.
    """
    found: list[Taught] = []
    for index, start in enumerate(range(0, len(lessons), size)):
        part = lessons[start : start + size]
        path = folder / f"targets-{index:05d}.safetensors"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _write(teach(network, part, top), path)
        held = load_file(path, device=str(network.device))
        lengths = [len(one.student.answer) for one in part]
        both = zip(held["tokens"].long().split(lengths), held["shares"].split(lengths), strict=True)
        found += [Taught(one, tokens, shares) for one, (tokens, shares) in zip(part, both, strict=True)]
    return found


def _write(taught: Sequence[Taught], path: Path) -> None:
    tokens = torch.cat([one.tokens for one in taught if one.tokens is not None])
    shares = torch.cat([one.shares for one in taught if one.shares is not None])
    write_tensors({"tokens": tokens.int().cpu(), "shares": shares.contiguous().cpu()}, path)


def soft_loss(student: Tensor, tokens: Tensor, shares: Tensor) -> Tensor:
    """Return KL(teacher || student) per token (N,), over the teacher's likeliest tokens and all others as one.

    Args:
        student: logits (N, V).
        tokens: the teacher's likeliest tokens (N, k).
        shares: their log-probabilities (N, k).
    """
    rest = (1 - shares.exp().sum(-1, keepdim=True)).clamp(min=1e-9)
    teacher = torch.cat([shares, rest.log()], -1)
    return generalised_jsd(teacher, folded(student.log_softmax(-1), tokens), beta=0)


def train(
    config: Config, network: Any, rows: Sequence[Taught], folder: Path, seed: int = 0, advance: Advance = silent
) -> tuple[list[JsonDict], Alarms]:
    """Train on taught answers; each weighs the same. The log has `loss` and, by form, `nll` or `divergence`."""

    def loss(network: Any, micro: Sequence[Taught], scale: float) -> MicroLoss:
        states = answer_states(network, [one.lesson.student for one in micro])
        out = logits(network, states.hidden)
        if config.form == "soft":
            tokens = torch.cat([one.tokens for one in micro if one.tokens is not None])
            shares = torch.cat([one.shares for one in micro if one.shares is not None])
            values, name = soft_loss(out, tokens, shares), "divergence"
        else:
            values, name = -token_logps(out, states.targets), "nll"
        each = per_row(values, states) / states.lengths.clamp(min=1)
        return MicroLoss(each.sum() / scale, {name: each.sum()})

    if config.form == "soft" and any(one.tokens is None for one in rows):
        raise ValueError("the soft form needs what the teacher thinks: call teach() first")
    loop = LoopConfig(config.learning_rate, config.batch_size, config.epochs, seed=seed)
    run = Run(network, rows, loss, len, loop, folder, advance=advance)
    return run.train(), run.alarms
