"""Gradient-guided restore: the few weights that matter most to safe answers are copied back from the parent.

Going from tuned to parent in one weight changes the loss of safe answers by about d = (parent - tuned) g, g being its
gradient; of every tensor the share of weights with the most negative d gets the parent's value (arXiv:2504.09757; it
ranks over the whole model, here each tensor has its share, so that tensors can be read one at a time). What costs too
much is rolled back by the choice among shares. The gradient is made by `gradients.py` of this room.
"""

from __future__ import annotations

from primum.repair.given import Given, Part, Setting

about = "copies back the few weights that matter most to safe answers"
source = "https://arxiv.org/abs/2504.09757"
needs = ("parent", "gradient")
sweep = (0.005, 0.02, 0.05, 0.1)
strength_is = "share of each tensor's weights that is copied back, at most"


def restored(part: Part, setting: Setting) -> Given:
    """Return the tensor with its most useful weights copied back; those that would not lower the loss stay."""
    import torch

    tuned, parent = part.of("tuned"), part.of("parent")
    gain = -((parent - tuned) * part.of("gradient")).flatten()
    count = int(setting.strength * gain.numel())
    top = gain.topk(count) if count else None
    mixed = tuned.clone().flatten()
    if top is not None:
        useful = top.indices[top.values > 0]
        mixed[useful] = parent.flatten()[useful]
    copied = float(torch.count_nonzero(mixed != tuned.flatten())) / max(1, gain.numel())
    return Given(mixed.reshape(tuned.shape), {"copied back": copied})
