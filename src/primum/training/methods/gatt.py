"""Ghost attention: an instruction given once holds over many turns (arXiv:2307.09288, section 3.3).

The instruction stands in every user turn while answers are drawn, and in the first one alone where they are learned.
As published only the last answer is learned, since the earlier ones were drawn under another prompt. Where all answers
keep the instruction, those of earlier turns may be learned too: the first teaches a small model to follow at all.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from primum.core.config import Config as Base
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict, Message, Messages, assistant, user
from primum.training.alarms import Alarms
from primum.training.answers import learn_answers
from primum.training.examples import Example
from primum.training.loop import LoopConfig

about = "ghost attention: an instruction of the first turn holds in later ones (arXiv:2307.09288, section 3.3)"


class Config(Base):
    """Ghost attention."""

    learning_rate: float = Field(5e-4, gt=0, description="peak learning rate of the adapter")
    epochs: float = Field(2.0, gt=0, description="passes over the dialogues")
    batch_size: int = Field(8, gt=0, description="answers per optimizer step")


def everywhere(instruction: str, questions: Sequence[str], answers: Sequence[str]) -> Messages:
    """Return a dialogue with the instruction in all user turns, ready for its next answer: how answers are drawn.

    Raises:
        ValueError: not exactly one question more than answers.
    """
    return _dialogue([f"{instruction}\n\n{question}" for question in questions], answers)


def first_only(instruction: str, questions: Sequence[str], answers: Sequence[str]) -> Messages:
    """Return the same dialogue with the instruction in its first turn only: what is learned from."""
    first, *others = questions
    return _dialogue([f"{instruction}\n\n{first}", *others], answers)


def _dialogue(questions: Sequence[str], answers: Sequence[str]) -> Messages:
    if len(questions) != len(answers) + 1:
        raise ValueError(f"{len(questions)} questions for {len(answers)} earlier answers")
    turns: list[Message] = []
    for question, answer in zip(questions, answers, strict=False):
        turns += [user(question), assistant(answer)]
    return (*turns, user(questions[-1]))


class Constraint(NamedTuple):
    """What an answer must keep to, in its long and its short form; of those of one kind only one can be kept at once.

    As in ("figure", "Always act as Napoleon.", "Figure: Napoleon.").
    """

    kind: str
    long: str
    short: str


class Instruction(NamedTuple):
    """An instruction, and the places of the constraints that it was put together from."""

    text: str
    parts: tuple[int, ...]


def instructions(constraints: Sequence[Constraint], count: int, seed: int) -> list[Instruction]:
    """Return instructions of one or two constraints of different kinds, half of the time in their short form.

    Args:
        constraints: what is drawn from, each as often as the others of its kind.
        count: how many.
        seed: of the draws.
    """
    rng = random.Random(seed)
    kinds: dict[str, list[int]] = {}
    for place, one in enumerate(constraints):
        kinds.setdefault(one.kind, []).append(place)
    found: list[Instruction] = []
    for _ in range(count):
        chosen = rng.sample(sorted(kinds), rng.randint(1, min(2, len(kinds))))
        parts = tuple(sorted(rng.choice(kinds[kind]) for kind in chosen))
        short = rng.random() < 0.5
        texts = (constraints[i].short if short else constraints[i].long for i in parts)
        found.append(Instruction(" ".join(texts), parts))
    return found


def train(
    config: Config, network: Any, rows: Sequence[Example], folder: Path, seed: int = 0, advance: Advance = silent,
    groups: Sequence[Hashable] | None = None,
) -> tuple[list[JsonDict], Alarms]:  # fmt: skip
    """Train on answers of dialogues (all that stands before one is its row's prompt and carries no loss).

    Rows with the same key in `groups`, answers of one dialogue, are in one step.
    """
    loop = LoopConfig(config.learning_rate, config.batch_size, config.epochs, seed=seed)
    return learn_answers(loop, network, rows, folder, advance, groups)
