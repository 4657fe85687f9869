"""How much a text looks harmful to a given model, from the inside.

In the spirit of LARF (arXiv:2507.18631), without harmful answers: at every layer, the direction is the difference of
the model's mean hidden states at the last token of harmful requests and of harmless ones, half of which look like the
harmful ones and half of which are anything. The score is the mean over layers of how far a text lies along it, in
standard deviations of the harmless requests. No one layer is chosen: which is best depends on the corpus more than on
the model (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
BATCH, LONGEST = 16, 256
"""Texts of a forward pass, and tokens read of a text (its end)."""


class Direction(NamedTuple):
    """A unit vector a layer (layers, width), with mean and spread of harmless requests along it, and of their mean."""

    vectors: Vectors
    centres: NDArray[np.float64]
    spreads: NDArray[np.float64]
    centre: float = 0.0
    spread: float = 1.0

    def score(self, states: Vectors) -> NDArray[np.float64]:
        """Return how many deviations texts lie towards the harmful ones, of their states (N, layers, width)."""
        along = np.einsum("nlw,lw->nl", states.astype(np.float64), self.vectors)
        return (((along - self.centres) / self.spreads).mean(1) - self.centre) / self.spread


def fit(harmful: Vectors, benign: Vectors) -> Direction:
    """Return the direction from harmless to harmful.

    Args:
        harmful: hidden states (N, layers, width) of harmful requests.
        benign: the same of harmless ones.
    """
    difference = harmful.mean(0) - benign.mean(0)
    lengths = np.linalg.norm(difference, axis=1, keepdims=True)
    vectors = difference / np.where(lengths > 0, lengths, 1)
    along = np.einsum("nlw,lw->nl", benign.astype(np.float64), vectors)
    spreads = along.std(0)
    found = Direction(vectors, along.mean(0), np.where(spreads > 0, spreads, 1))
    own = found.score(benign)
    return found._replace(centre=float(own.mean()), spread=float(own.std()) or 1.0)


class Reader:
    """A model read at the last token of a text that a user might have sent, of a long one at its end.

    Args:
        name: of the model, as everywhere.
    """

    def __init__(self, name: str) -> None:
        from primum.models.load import load

        self._model = load(name)

    def states(self, texts: Sequence[str]) -> Vectors:
        """Return hidden states (N, layers, width); layer 0 is the first block's output."""
        return self._each(texts, lambda states: states)

    def scores(self, texts: Sequence[str], direction: Direction) -> NDArray[np.float64]:
        """Return the scores of texts; the states of no more than a batch are in memory."""
        return self._each(texts, direction.score)

    def _each(self, texts: Sequence[str], then: Callable[[Vectors], NDArray[Any]]) -> NDArray[Any]:
        """Return what is made of each text's states. Texts of like length are read together."""
        ids = [self._ids(text) for text in texts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found = [then(self._batch([ids[j] for j in order[i : i + BATCH]])) for i in range(0, len(order), BATCH)]
        return np.concatenate(found)[np.argsort(order)]

    def _ids(self, text: str) -> list[int]:
        tokenizer = self._model.tokenizer
        turn = [{"role": "user", "content": text}]
        whole = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        return tokenizer(whole, add_special_tokens=False)["input_ids"][-LONGEST:]

    def _batch(self, ids: Sequence[Sequence[int]]) -> Vectors:
        import torch

        width, pad = max(map(len, ids)), int(self._model.tokenizer.pad_token_id)
        place = self._model.place
        batch = torch.tensor([[pad] * (width - len(one)) + list(one) for one in ids], device=place)
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in ids], device=place)
        with torch.inference_mode():
            network = getattr(self._model.network, "model", self._model.network)
            out = network(input_ids=batch, attention_mask=mask, output_hidden_states=True, use_cache=False)
        return torch.stack([one[:, -1] for one in out.hidden_states[1:]], dim=1).float().cpu().numpy()
