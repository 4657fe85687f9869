"""The matrices of a network: all linear layers of its blocks, and those that write into its residual stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from primum.stress.setting import SkippedError

if TYPE_CHECKING:
    from torch import Tensor

WRITERS = ("o_proj", "out_proj", "down_proj", "dense_4h_to_h", "c_proj", "fc2", "w2", "wo", "dense")
"""What architectures call the matrix that ends an attention or a feed-forward layer."""


class Layer(NamedTuple):
    """A linear layer: its name and its module, whose weight is (out, in)."""

    name: str
    module: Any


def linear_layers(network: Any) -> list[Layer]:
    """Return the linear layers of the network's blocks; the output matrix is none of them.

    Of a vision-language model those of its language tower, by their names inside of it.

    Raises:
        SkippedError: there are none (GPT-2 keeps its matrices in another kind of layer).
    """
    import torch

    from primum.models.load import tower

    head = network.get_output_embeddings()
    found = [Layer(n, m) for n, m in tower(network).named_modules() if isinstance(m, torch.nn.Linear) and m is not head]
    if not found:
        raise SkippedError("the network has no linear layers of the usual kind")
    return found


def writers(network: Any) -> list[Layer]:
    """Return the layers whose output is added to the residual stream.

    Raises:
        SkippedError: none is known by its name.
    """
    width = network.config.get_text_config().hidden_size
    found = [
        one for one in linear_layers(network)
        if one.name.rpartition(".")[2] in WRITERS and one.module.out_features == width
    ]  # fmt: skip
    if not found:
        raise SkippedError("no layer that writes into the residual stream is known by its name")
    return found


def set_weight(module: Any, weight: Tensor) -> None:
    """Put a weight into a layer, in the layer's own number format."""
    import torch

    with torch.no_grad():
        module.weight.copy_(weight.to(module.weight.dtype))
