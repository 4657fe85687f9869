"""LoX: go further in the few directions in which alignment changed each layer most.

theta = tuned + a P_k(parent - base), P_k the best approximation of rank k (arXiv:2506.15606; published: k = 6,
a = 1.25). Meant for an aligned model before it is fine-tuned: name it as MODEL and as --parent. On a fine-tuned model
it adds the same to what fine-tuning left.
"""

from __future__ import annotations

from primum.repair.given import Given, Part, Setting
from primum.repair.linear import low_rank

about = "extrapolates the alignment's few strongest directions"
source = "https://arxiv.org/abs/2506.15606"
needs = ("parent", "base")
sweep = (0.25, 0.5, 1.0, 1.25)
strength_is = "how much of the alignment's leading directions is added"
RANK = 6


def restored(part: Part, setting: Setting) -> Given | None:
    """Return the extrapolated tensor; None leaves the tensor as it is."""
    if not part.is_layer:
        return None
    direction = part.of("parent") - part.of("base")
    return Given(part.of("tuned") + setting.strength * low_rank(direction, setting.rank or RANK))
