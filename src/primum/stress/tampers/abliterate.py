"""The direction of refusal taken out of every matrix that writes into the residual stream: W becomes W - r rᵀ W.

r is the difference in means between harmful and benign prompts (arXiv:2406.11717, sections 2.3 and 4). The embedding is
left where it is also the output matrix: taking r out of that would change what is said, not what is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from primum.stress.hidden import refusal_direction
from primum.stress.layers import set_weight, writers
from primum.stress.setting import Aids, Point, Setup, Shape, SkippedError

if TYPE_CHECKING:
    from torch import Tensor

about = "the direction of refusal projected out of the weights"
source = "https://arxiv.org/abs/2406.11717"
kind = "weights"
MOST = 128


def levels(shape: Shape) -> tuple[str, ...]:
    """Return one level: one direction."""
    return ("1 direction",)


def tamper(setup: Setup, level: str, aids: Aids) -> Iterator[Point]:
    """Find the direction on prompts that are not measured, and project it out."""
    if min(len(aids.harmful), len(aids.benign)) < 2:
        raise SkippedError("there are too few prompts to find a direction with")
    found = refusal_direction(setup, aids.harmful[:MOST], aids.benign[:MOST])
    network = setup.model.network
    vector = found.vector.to(setup.model.place)
    for layer in writers(network):
        set_weight(layer.module, without(layer.module.weight.detach().float(), vector))
        if layer.module.bias is not None:
            layer.module.bias.data -= (vector @ layer.module.bias.data.float() * vector).to(layer.module.bias.dtype)
    embedding, head = network.get_input_embeddings(), network.get_output_embeddings()
    if head is not None and embedding.weight is not head.weight:
        set_weight(embedding, without(embedding.weight.detach().float().T, vector).T)
    yield Point(level, setup, {"block": found.block, "separation": found.separation})


def without(weight: Tensor, vector: Tensor) -> Tensor:
    """Return W - r rᵀ W: nothing that this matrix writes has a part along r.

    Args:
        weight: (hidden, in).
        vector: r, of unit length, (hidden,).
    """
    return weight - vector[:, None] * (vector @ weight)[None, :]
