"""Activations that tampers need, taken with hooks while prompts are read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from primum.core.records import Prompt
from primum.stress.layers import Layer
from primum.stress.setting import Setup

if TYPE_CHECKING:
    from torch import Tensor

DEPTHS = (0.3, 0.9)
"""Share of the depth between which the direction of refusal is looked for (arXiv:2406.11717, section 2.3)."""


def input_norms(setup: Setup, layers: Sequence[Layer], prompts: Sequence[Prompt]) -> dict[str, Tensor]:
    """Return for each layer the Euclidean norm of each of its inputs over all tokens of the prompts, (in,), fp32."""
    import torch

    squared: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        def hook(_: Any, inputs: Any) -> None:
            rows = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).float().pow(2).sum(0)
            squared[name] = squared.get(name, torch.zeros_like(rows)) + rows

        return hook

    hooks = [one.module.register_forward_pre_hook(watch(one.name)) for one in layers]
    try:
        for ids in _rows(setup, prompts):
            _read(setup, ids)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: value.sqrt() for name, value in squared.items()}


class Direction(NamedTuple):
    """A unit vector of the residual stream (hidden,), after which block it was found, and how far apart it holds."""

    vector: Tensor
    block: int
    separation: float


def refusal_direction(setup: Setup, harmful: Sequence[Prompt], benign: Sequence[Prompt]) -> Direction:
    """Return the difference in means between harmful and benign prompts, at the last token, of the best block.

    The best block is the one whose difference separates the two sets most: the distance of the means along it over the
    pooled standard deviation (arXiv:2406.11717, equation 1, chooses by ablating each, which costs a run a block).
    """
    import torch

    one, other = (torch.stack([_last(setup, ids) for ids in _rows(setup, part)]) for part in (harmful, benign))
    blocks = one.shape[1] - 1
    best: Direction | None = None
    for block in range(round(DEPTHS[0] * blocks), round(DEPTHS[1] * blocks) + 1):
        found = _direction(one[:, block], other[:, block], block)
        best = found if best is None or found.separation > best.separation else best
    assert best is not None
    return best


def _direction(harmful: Tensor, benign: Tensor, block: int) -> Direction:
    difference = harmful.mean(0) - benign.mean(0)
    vector = difference / difference.norm().clamp(min=1e-12)
    along = [part @ vector for part in (harmful, benign)]
    spread = (sum(float(p.var(unbiased=False)) for p in along) / 2) ** 0.5
    return Direction(vector, block, float(along[0].mean() - along[1].mean()) / max(spread, 1e-12))


def _rows(setup: Setup, prompts: Sequence[Prompt]) -> list[list[int]]:
    from primum.models.chat import encode

    return encode([setup.wrap(p.messages) for p in prompts], setup.model.tokenizer, 512)


def _read(setup: Setup, ids: list[int], states: bool = False) -> Any:
    import torch

    from primum.models.load import tower

    inner, place = tower(setup.model.network), setup.model.place
    trunk = getattr(inner, inner.base_model_prefix, inner)  # no logits are needed
    with torch.no_grad():
        return trunk(input_ids=torch.tensor([ids], device=place), output_hidden_states=states, use_cache=False)


def _last(setup: Setup, ids: list[int]) -> Tensor:
    """Return the residual stream at the last token, before the first block and after each, (blocks + 1, hidden)."""
    import torch

    return torch.stack([h[0, -1].float().cpu() for h in _read(setup, ids, states=True).hidden_states])
