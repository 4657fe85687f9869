"""Layers that keep only their inputs for the backward pass and compute the rest again: less memory, more time.

Activation checkpointing (Chen et al. 2016, arXiv:1604.06174), by the layers' own support in transformers. A network
learns without dropout here (`loop`), so what is computed again is what was computed before, and nothing else changes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from primum.training.attention import attention_now


def recompute(network: Any) -> bool:
    """Let the layers of a network compute again what backward needs; False where they do already, or cannot.

    Args:
        network: a transformers network, with or without an adapter; its layers keep everything again after
            `network.eval()`.
    """
    from torch.utils.checkpoint import checkpoint

    if recomputes(network):
        return False
    layers = _layers(network)
    for layer in layers:
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False, context_fn=partial(_twice, layer))
        layer.gradient_checkpointing = True
        layer.training = True  # of the layer alone, which asks for it: its parts stay without dropout
    return bool(layers)


def recomputes(network: Any) -> bool:
    """Whether the layers of a network compute again what backward needs."""
    return any(layer.training and layer.gradient_checkpointing for layer in _layers(network))


def _twice(layer: Any) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what surrounds a layer forward and when it is computed again: the same attention, a tree's or its own."""
    return nullcontext(), attention_now(layer)


def _layers(network: Any) -> list[Any]:
    from transformers.modeling_layers import GradientCheckpointingLayer

    return [module for module in network.modules() if isinstance(module, GradientCheckpointingLayer)]
