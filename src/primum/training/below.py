"""What lies below the first adapter never changes: it is computed once a row, not once a step.

A repair's adapter begins at two fifths of the depth. What the blocks below make of a row is the same in every pass,
with the adapter on or off, so it is noted before the first step, many rows at a time (`score.note_below`), and each
step begins at the first block that learns. It is the feature caching of transfer learning (arXiv:1310.1531).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from primum.training.examples import Example
from primum.training.packed import walk

ROOM = 1 << 30
"""Bytes of states that are held at most; where rows need more, every step begins at the first block."""


class Below(NamedTuple):
    """What goes into the block `first`, of each row (L - 1, D): its last token predicts nothing."""

    first: int
    states: Mapping[Example, Tensor]

    def laid(self, examples: Sequence[Example]) -> Tensor | None:
        """Return the states (T, D) of the tree that rows make (`packed.pack`); None: a row was not noted."""
        parts: list[Tensor] = []
        known = 0
        for row, places in zip(examples, walk(examples).places, strict=True):
            states = self.states.get(row)
            if states is None:
                return None
            added = sum(place >= known for place in places)
            parts.append(states[len(places) - added :])
            known += added
        return torch.cat(parts)


_held: WeakKeyDictionary[Any, Below] = WeakKeyDictionary()


@contextmanager
def beginning(base: Any, below: Below | None) -> Iterator[None]:
    """Let rows of a network be scored, for a while, from what was noted of them; those not noted as ever."""
    before = _held.get(base)
    try:
        if below is not None:
            _held[base] = below
        yield
    finally:
        _held.pop(base, None)
        if before is not None:
            _held[base] = before


def held(base: Any) -> Below | None:
    """Return what is held for a network."""
    return _held.get(base)


def first_that_learns(base: Any, blocks: Sequence[Any]) -> int:
    """Return which of the blocks is the first that has an adapter or a weight that learns; 0: nothing is frozen below.

    Embeddings that learn are below all blocks; a network whose blocks all stay as they are has nothing to gain.
    """
    own = {id(p) for block in blocks for p in block.parameters()}
    if any(p.requires_grad for p in base.get_input_embeddings().parameters() if id(p) not in own):
        return 0
    adapted = [any(p.requires_grad or "lora_" in n for n, p in block.named_parameters()) for block in blocks]
    return adapted.index(True) if any(adapted) else 0
