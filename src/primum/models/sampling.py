"""Sampling settings, their presets, and the engine contract. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from primum.core.records import Messages


@dataclass(frozen=True, slots=True)
class Sampling:
    """How replies are drawn. temperature 0 is greedy decoding."""

    temperature: float = 0.0
    max_new_tokens: int = 128
    top_p: float = 1.0
    top_k: int = 0

    @property
    def name(self) -> str:
        """A short name that says all settings; part of a reply's variant."""
        text = f"t{self.temperature:g}-n{self.max_new_tokens}"
        text += f"-p{self.top_p:g}" if self.top_p < 1 else ""
        return text + (f"-k{self.top_k}" if self.top_k else "")


MEDITRON = Sampling(temperature=0.4, max_new_tokens=512)
"""The settings printed in Meditron's post (2025-09-03): T=0.4, 512 new tokens."""


@dataclass(frozen=True, slots=True)
class Generated:
    """One reply as an engine returns it: only the new text, special tokens left out."""

    text: str
    finish: Literal["stop", "length"]
    prompt_tokens: int
    reply_tokens: int


class Engine(Protocol):
    """A batch of conversations in, one reply each out, in the same order; the same seed gives the same replies.

    One seed for all, or one for each conversation.
    """

    @property
    def model_name(self) -> str:
        """The name and weights of the model that answers."""
        ...

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: int | Sequence[int]) -> list[Generated]:
        """Generate one reply per conversation."""
        ...
