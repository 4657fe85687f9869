"""Losses of reward models as pure functions, on scalars before the sigmoid; shapes (B,) are one value a pair.

A margin of 3 cannot be reached between two numbers in (0, 1): the ranking loss takes the raw scalar, and the sigmoid
comes after it, where a score is reported (arXiv:2307.09288, section 3.2.2).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

Strength = Literal["significantly", "better", "slightly", "unsure"]
STRENGTHS: tuple[Strength, ...] = ("significantly", "better", "slightly", "unsure")
MARGINS: dict[str, dict[str, float]] = {
    "none": dict.fromkeys(STRENGTHS, 0.0),
    "small": {"significantly": 1.0, "better": 2 / 3, "slightly": 1 / 3, "unsure": 0.0},
    "large": {"significantly": 3.0, "better": 2.0, "slightly": 1.0, "unsure": 0.0},
}
"""Margin by strength of preference, both published scales (arXiv:2307.09288, table 27)."""


def ranking(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0) -> Tensor:
    """Return -log sigma(r_c - r_r - m), (B,): a larger margin asks for more distance (arXiv:2307.09288, equation 2)."""
    return -logsigmoid(chosen - rejected - margin)


def auxiliary(scores: Tensor, safe: Tensor) -> Tensor:
    """Return the cross-entropy of sigma(r) with safety labels, (B,).

    Llama 2 has such a loss and does not print it (appendix A.3.3); this is the plain reading: safe above 0.5, unsafe
    below.

    Args:
        scores: raw scalars (B,).
        safe: True where the answer is safe (B,).
    """
    return binary_cross_entropy_with_logits(scores, safe.to(scores.dtype), reduction="none")


def centring(chosen: Tensor, rejected: Tensor) -> Tensor:
    """Return (r_c + r_r)^2, (B,): keeps the scalars near zero; only differences are learned (arXiv:2312.09244)."""
    return (chosen + rejected) ** 2


def cost(more: Tensor, less: Tensor, more_unsafe: Tensor, less_unsafe: Tensor) -> Tensor:
    """Return the cost model's loss of Safe RLHF, (B,) (arXiv:2310.12773, equation 5).

    -log sigma(C(more) - C(less)) - log sigma(s_more C(more)) - log sigma(s_less C(less)), s = +1 where unsafe, else -1:
    a cost above zero says unsafe.

    Args:
        more: cost of the more harmful answers.
        less: cost of the less harmful ones.
        more_unsafe: True where the more harmful answer is unsafe.
        less_unsafe: the same of the other.
    """
    signs = [torch.where(unsafe, 1.0, -1.0).to(more.dtype) for unsafe in (more_unsafe, less_unsafe)]
    return -logsigmoid(more - less) - logsigmoid(signs[0] * more) - logsigmoid(signs[1] * less)
