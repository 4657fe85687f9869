"""One-shot patch: the fine-tuned model learns one well-chosen safe answer, and a part of what it learned is kept.

theta = tuned + a (patched - tuned); `patched` is made by a few steps on one demonstration (arXiv:2601.01887; made by
`one_shot.py` of this room). Needs no parent.
"""

from __future__ import annotations

from primum.repair.given import Given, Part, Setting

about = "adds what the model learns from one safe answer"
source = "https://arxiv.org/abs/2601.01887"
needs = ("patched",)
sweep = (0.25, 0.5, 0.75, 1.0)
strength_is = "share of the patch that is kept"


def restored(part: Part, setting: Setting) -> Given:
    """Return the tensor with its part of the patch."""
    tuned = part.of("tuned")
    return Given((1 - setting.strength) * tuned + setting.strength * part.of("patched"))
