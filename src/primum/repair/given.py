"""What a method is given for one tensor, and what it gives back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "wpe", "embed_in", "embed_out", "word_embeddings", "embeddings")


@dataclass(frozen=True)
class Setting:
    """How a method is applied.

    Args:
        strength: what the method sweeps; each method says what it is.
        energy: share of the squared norm of an alignment direction that its subspace keeps.
        rank: size of the subspace instead; None lets `energy` decide.
        threshold: SafeMERGE: layers with a cosine below are merged.
        drop: RESTA: chance with which DARE drops a weight of the fine-tune's change.
        ibm: use IBM's matrix instead of the exact projector.
        seed: of what is drawn.
    """

    strength: float
    energy: float = 0.9
    rank: int | None = None
    threshold: float = 0.35
    drop: float = 0.0
    ibm: bool = False
    seed: int = 0


class Given(NamedTuple):
    """A restored tensor, and numbers about it that the report sums up."""

    tensor: Tensor
    facts: Mapping[str, float] = {}


@dataclass
class Part:
    """One tensor in every model that a method needs: `of(role)` reads it in fp32, cut to the rows that all share."""

    name: str
    shape: tuple[int, ...]
    read: Mapping[str, Callable[[], Tensor]]
    held: dict[str, Tensor] = field(default_factory=dict)

    @property
    def is_layer(self) -> bool:
        """Whether it is the matrix of a linear layer inside the network: no bias, no norm, no embedding, no head."""
        return len(self.shape) == 2 and not any(part in EMBEDDINGS for part in self.name.split("."))

    def has(self, role: str) -> bool:
        """Whether there is a model of that role."""
        return role in self.read

    def of(self, role: str) -> Tensor:
        """Return this tensor of the model of a role."""
        if role not in self.held:
            self.held[role] = self.read[role]()
        return self.held[role]


class Method(Protocol):
    """The contract of `repair/methods/x.py`, as module-level names."""

    about: str
    source: str
    needs: tuple[str, ...]
    sweep: tuple[float, ...]
    strength_is: str

    def restored(self, part: Part, setting: Setting) -> Given | None:
        """Return the restored tensor, or None where the method leaves it as it is."""
        ...


def generator(seed: int, name: str) -> torch.Generator:
    """Return a source of randomness for one tensor: the same whatever is written before it."""
    import torch

    hashed = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(hashed[:7], "big"))
