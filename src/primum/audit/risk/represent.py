"""How much a row's request looks harmful to a given model, from the inside.

In the spirit of LARF (arXiv:2507.18631), without harmful answers: the direction is the difference of the model's mean
hidden states at the last token of harmful requests and of harmless ones that look alike, at the layer where it best
tells held-out requests apart. A row whose request lies far along it, and whose answer does not refuse, teaches the
model to comply. The score is in standard deviations of the harmless requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
BATCH, LONGEST = 16, 256
"""Rows of a forward pass, and tokens read of a request (its end)."""


class Direction(NamedTuple):
    """A layer, a unit vector, and mean and spread of harmless requests along it; `auc` is on held-out requests."""

    layer: int
    vector: Vectors
    centre: float
    spread: float
    auc: float

    def score(self, states: Vectors) -> NDArray[np.float64]:
        """Return how many deviations each state (N, width) of this layer lies towards the harmful ones."""
        return (states.astype(np.float64) @ self.vector - self.centre) / self.spread


def fit(harmful: Vectors, benign: Vectors) -> Direction:
    """Return the best layer's direction.

    Every other request is held out to choose the layer; the direction is then taken from all.

    Args:
        harmful: hidden states (N, layers, width) of harmful requests.
        benign: the same of harmless ones.
    """
    aucs = [
        auc(*(side[1::2, layer] @ _unit(harmful[::2, layer], benign[::2, layer]) for side in (harmful, benign)))
        for layer in range(harmful.shape[1])
    ]
    layer = int(np.argmax(aucs))
    vector = _unit(harmful[:, layer], benign[:, layer])
    along = benign[:, layer].astype(np.float64) @ vector
    return Direction(layer, vector, float(along.mean()), float(along.std()) or 1.0, float(aucs[layer]))


def _unit(harmful: Vectors, benign: Vectors) -> Vectors:
    difference = harmful.mean(0) - benign.mean(0)
    return difference / (float(np.linalg.norm(difference)) or 1.0)


def auc(high: NDArray[Any], low: NDArray[Any]) -> float:
    """Return the probability that a value of `high` is above one of `low`; ties count half (Mann-Whitney)."""
    above = (high[:, None] > low[None, :]).mean() + 0.5 * (high[:, None] == low[None, :]).mean()
    return float(above)


class Reader:
    """A model read at the last token of a text that a user might have sent, at every layer or at one.

    Args:
        name: of the model, as everywhere.
    """

    def __init__(self, name: str) -> None:
        from primum.models.load import load

        self._model = load(name)

    def cut(self, layer: int) -> None:
        """Leave out the blocks above a layer that is alone read from now on, where the architecture shows its blocks.

        One more stays: what the last block gives is normalised before it is handed out.
        """
        network: Any = getattr(self._model.network, "model", None)
        if hasattr(getattr(network, "layers", None), "append"):
            network.layers = network.layers[: layer + 2]

    def states(self, texts: Sequence[str], layer: int | None = None) -> Vectors:
        """Return hidden states (N, layers, width), or (N, width) of one layer; layer 0 is the first block's output.

        Texts of like length are read together; of a long one the last LONGEST tokens.
        """
        ids = [self._ids(text) for text in texts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found = [self._batch([ids[j] for j in order[i : i + BATCH]], layer) for i in range(0, len(order), BATCH)]
        return np.concatenate(found)[np.argsort(order)]

    def _ids(self, text: str) -> list[int]:
        tokenizer = self._model.tokenizer
        turn = [{"role": "user", "content": text}]
        whole = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        return tokenizer(whole, add_special_tokens=False)["input_ids"][-LONGEST:]

    def _batch(self, ids: Sequence[Sequence[int]], layer: int | None) -> Vectors:
        import torch

        width, pad = max(map(len, ids)), int(self._model.tokenizer.pad_token_id)
        place = self._model.place
        batch = torch.tensor([[pad] * (width - len(one)) + list(one) for one in ids], device=place)
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in ids], device=place)
        with torch.inference_mode():
            network = getattr(self._model.network, "model", self._model.network)
            out = network(input_ids=batch, attention_mask=mask, output_hidden_states=True, use_cache=False)
        read = out.hidden_states[1:] if layer is None else out.hidden_states[layer + 1 : layer + 2]
        states = torch.stack([one[:, -1] for one in read], dim=1).float().cpu().numpy()
        return states if layer is None else states[:, 0]
