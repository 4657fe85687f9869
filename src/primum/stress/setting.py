"""What a tamper is given and gives back. A tamper changes the model, or how it is asked; never what is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from primum.core import records
from primum.core.records import Message, Messages, Prompt
from primum.models.sampling import Sampling

if TYPE_CHECKING:
    from primum.models.load import Model
    from primum.repair.checkpoint import Checkpoint
    from primum.training.examples import Example

Wrap = Callable[[Messages], Messages]
Kind = Literal["weights", "asking", "training"]


class SkippedError(Exception):
    """A tamper that cannot be tried on this model, and why. It is counted, and never a pass."""


def as_it_is(messages: Messages) -> Messages:
    """Return the conversation as it is."""
    return messages


@dataclass(frozen=True)
class Setup:
    """How a model is asked.

    Args:
        model: network and tokenizer; a tamper of weights changes the network in place.
        sampling: temperature and the like.
        wrap: what is done to each conversation before it is asked.
    """

    model: Model
    sampling: Sampling
    wrap: Wrap = as_it_is


class Point(NamedTuple):
    """One state of a tampered model to be measured: a label, how it is asked, and numbers about how it came to be."""

    label: str
    setup: Setup
    facts: Mapping[str, float] = {}


class Lesson(NamedTuple):
    """What an attack by training learns from.

    Attributes:
        examples: requests with the answers that are learned.
        harmful: how many of the answers a judge found harmful; None where the attack needs none.
    """

    examples: Sequence[Example]
    harmful: int | None = None


@dataclass(frozen=True)
class Shape:
    """How large the attacks by training are.

    Args:
        shots: numbers of examples, rising.
        ways: "lora" and "full".
        rates: learning rates of each way.
        seeds: of the order of examples and the adapter's first weights.
        steps: after which the model is measured; the last one ends the training.
        batch: examples a step.
        every: every fine-tune takes all of `shots`; else an identity or a disguise the fewest, harmless rows the most.
    """

    shots: tuple[int, ...] = (10, 100)
    ways: tuple[str, ...] = ("lora",)
    rates: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: {"lora": (5e-4,), "full": (2e-5,)})
    seeds: tuple[int, ...] = (0,)
    steps: tuple[int, ...] = (0, 5, 10, 20, 40, 80)
    batch: int = 8
    every: bool = False

    @property
    def fewest(self) -> tuple[int, ...]:
        """Numbers of examples where the fewest are enough."""
        return self.shots if self.every else self.shots[:1]

    @property
    def most(self) -> tuple[int, ...]:
        """Numbers of examples where only many do harm."""
        return self.shots if self.every else self.shots[-1:]


@dataclass(frozen=True)
class Aids:
    """What a tamper may use.

    Args:
        harmful: harmful prompts to attack with, none of which is measured.
        benign: benign prompts, likewise; those with an `answer` can be learned from.
        examples: (kind, how many, model, wrap) -> what an attack by training learns; kinds: harmful, identity, benign.
        shape: how large attacks by training are.
        base: the pretrained model's weights, where they were named.
    """

    harmful: Sequence[Prompt]
    benign: Sequence[Prompt]
    examples: Callable[[str, int, Model, Wrap], Lesson]
    shape: Shape
    base: Checkpoint | None = None


class Tamper(Protocol):
    """The contract of `stress/tampers/x.py`, as module-level names.

    A tamper may also have `pooled = True` (a request counts as answered where one of the points answers it), and
    `asked(setup)` where it asks in another manner: the untouched model is then asked so as well, to compare.

    One that asks other requests than the run's has `prompts(limit)` (which ones, as the untouched model is asked them),
    `posed(prompt, level)` (how each is asked and judged at a level) and `judge`, who alone reads all their replies.
    """

    about: str
    source: str
    kind: Kind

    def levels(self, shape: Shape) -> tuple[str, ...]:
        """Return the levels that are tried, each a cell of the matrix."""
        ...

    def tamper(self, setup: Setup, level: str, aids: Aids) -> Iterator[Point]:
        """Yield the points of one level, each to be measured before the next is asked for.

        Raises:
            SkippedError: it cannot be tried on this model.
        """
        ...


def without_system(messages: Messages) -> Messages:
    """Return the conversation without its system prompt (the template may still put its own)."""
    return tuple(m for m in messages if m.role != "system")


def with_system(text: str) -> Wrap:
    """Return what puts a system prompt before a conversation that has none."""
    return lambda messages: records.with_system(messages, text)


def opened(text: str) -> Wrap:
    """Return what puts the beginning of an answer into the model's mouth."""

    def wrap(messages: Messages) -> Messages:
        return (*messages, Message("assistant", text)) if text else messages

    return wrap


def both(first: Wrap, second: Wrap) -> Wrap:
    """Return one wrap after the other."""
    return lambda messages: second(first(messages))
