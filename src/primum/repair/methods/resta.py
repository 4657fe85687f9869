"""RESTA: add the safety vector, the difference between the aligned parent and a twin of it made unsafe.

theta = tuned + g (parent - unaligned) (arXiv:2402.11746, equation 3); with `drop` the fine-tune's own difference is
thinned first by DARE (arXiv:2311.03099): each weight of (tuned - parent) is dropped with that chance, and what stays is
divided by (1 - drop). Without a twin (`--unaligned`) there is no vector to add.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from primum.repair.given import Given, Part, Setting, generator

if TYPE_CHECKING:
    from torch import Tensor

about = "adds the safety vector: the parent minus its unaligned twin"
source = "https://arxiv.org/abs/2402.11746"
needs = ("parent", "unaligned")
sweep = (0.25, 0.5, 0.75, 1.0)
strength_is = "weight of the safety vector"


def restored(part: Part, setting: Setting) -> Given:
    """Return the tensor with the safety vector added."""
    tuned, parent = part.of("tuned"), part.of("parent")
    vector = parent - part.of("unaligned")
    start = parent + _dare(tuned - parent, setting.drop, setting.seed, part.name) if setting.drop else tuned
    return Given(start + setting.strength * vector)


def _dare(delta: Tensor, drop: float, seed: int, name: str) -> Tensor:
    import torch

    kept = torch.rand(delta.shape, generator=generator(seed, name)) >= drop
    return delta * kept / (1 - drop)
