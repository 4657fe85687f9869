"""The output matrix: whether logits are it times the trunk's states, and that product done at a good rate."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import linear

PIECE = 768
"""Rows of the output matrix in one product on a CPU in fp32: the product of a whole vocabulary runs at two thirds of
the rate of this one (docs/log.md), for its matrix does not stay in a core's cache."""


def plain_head(base: Any) -> bool:
    """Whether logits are the output matrix times the trunk's hidden states, and nothing more.

    Gemma 2 caps its logits, Granite and Cohere scale them; such models, and any whose trunk is not found under the
    usual name, are scored through their own forward.
    """
    config = base.config.get_text_config()
    touched = ("final_logit_softcapping", "logits_scaling", "logit_scale", "lm_head_multiplier")
    return hasattr(base, base.base_model_prefix) and not any(getattr(config, name, None) for name in touched)


def output_matrix(base: Any) -> torch.Tensor | None:
    """Return the output matrix (V, D) where logits are plainly it times the trunk's states; None where not."""
    head = base.get_output_embeddings()
    if not plain_head(base) or type(head) is not torch.nn.Linear or head.bias is not None:
        return None
    return head.weight


def logits_of(states: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Return states (N, D) times an output matrix (V, D), transposed: (N, V), in their format."""
    if states.device.type != "cpu" or states.dtype != torch.float32 or len(matrix) < 4 * PIECE:
        return linear(states, matrix)
    if torch.is_grad_enabled() and (states.requires_grad or matrix.requires_grad):
        return linear(states, matrix)  # pieces would be added up again in backward
    found = states.new_empty(len(states), len(matrix))
    for out, piece in zip(found.split(PIECE, dim=1), matrix.split(PIECE), strict=True):
        torch.mm(states, piece.t(), out=out)
    return found
