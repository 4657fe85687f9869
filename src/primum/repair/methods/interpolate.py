"""Interpolation with the parent: a part of the way back, in every weight.

theta = (1 - a) tuned + a parent (arXiv:2412.19512, equation 1). At a = 0 the bytes are the fine-tuned model's, at a = 1
the parent's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from primum.repair.given import Given, Part, Setting

if TYPE_CHECKING:
    from torch import Tensor

about = "moves every weight a part of the way back to the parent"
source = "https://arxiv.org/abs/2412.19512"
needs = ("parent",)
sweep = (0.2, 0.35, 0.5, 0.65, 0.8)
strength_is = "share of the way back to the parent"


def restored(part: Part, setting: Setting) -> Given:
    """Return the interpolated tensor."""
    tuned, parent = part.of("tuned"), part.of("parent")
    mixed: Tensor = (1 - setting.strength) * tuned + setting.strength * parent
    return Given(mixed)
