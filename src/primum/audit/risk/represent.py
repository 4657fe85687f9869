"""How much a text looks harmful to a given model, from the inside.

In the spirit of LARF (arXiv:2507.18631), without harmful answers: at every layer a linear discriminant (Fisher 1936)
between the model's mean hidden states over harmful requests and over harmless ones: some that look like the harmful
ones, some of anything, and rows of the corpus itself, of which few are thought to be harmful. Without those the score
would also measure how far the corpus is from a chat: sentences of abstracts then rank above harmful rows (docs/log.md).
The score is the mean over layers of how far a text lies towards the harmful side, in standard deviations of the
harmless one. No one layer is chosen: which is best depends on the corpus more than on the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
BATCH, LONGEST = 16, 256
"""Texts of a forward pass, and tokens read of a text (its end)."""
CHARACTERS = 16 * LONGEST
"""Read of a text at most, so that a document of megabytes is not cut into tokens for its last few."""
SHRINKAGE = 0.5
"""Of the covariance towards a multiple of the identity: there are about as many texts as a state has dimensions."""


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
    """Return the direction from harmless to harmful: Fisher's discriminant of each layer.

    Args:
        harmful: hidden states (N, layers, width) of harmful requests.
        benign: the same of harmless texts.
    """
    found = np.stack([_discriminant(harmful[:, i], benign[:, i]) for i in range(harmful.shape[1])])
    lengths = np.linalg.norm(found, axis=1, keepdims=True)
    vectors = (found / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    along = np.einsum("nlw,lw->nl", benign.astype(np.float64), vectors)
    spreads = along.std(0)
    found = Direction(vectors, along.mean(0), np.where(spreads > 0, spreads, 1))
    own = found.score(benign)
    return found._replace(centre=float(own.mean()), spread=float(own.std()) or 1.0)


def _discriminant(harmful: NDArray[Any], benign: NDArray[Any]) -> NDArray[np.float64]:
    """Return the solution v of S v = difference of the means, S the mean of both covariances, shrunk; (width,)."""
    covariance = (np.cov(harmful.T, bias=True) + np.cov(benign.T, bias=True)) / 2
    level = float(np.trace(covariance)) / len(covariance) or 1.0  # one text a side has no spread
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(len(covariance))
    return np.linalg.solve(shrunk, harmful.mean(0, dtype=np.float64) - benign.mean(0, dtype=np.float64))


class Reader:
    """A model that reads a text as if a user had sent it, a long one at its end; its states are means over the text.

    Args:
        name: of the model, as everywhere.
    """

    def __init__(self, name: str) -> None:
        from primum.core.records import user
        from primum.models.chat import render
        from primum.models.load import load

        self._model = load(name)
        mark = "x" * 24
        whole = render((user(mark),), self._model.tokenizer)
        self._before, _, self._after = whole.partition(mark)
        self._around = (len(self._ids(self._before)), len(self._ids(self._after)))

    def states(self, texts: Sequence[str]) -> Vectors:
        """Return means of hidden states over each text (N, layers, width); layer 0 is the first block's output."""
        return self._each(texts, lambda states: states)

    def scores(self, texts: Sequence[str], direction: Direction) -> NDArray[np.float64]:
        """Return the scores of texts; the states of no more than a batch are in memory."""
        return self._each(texts, direction.score)

    def _each(self, texts: Sequence[str], then: Callable[[Vectors], NDArray[Any]]) -> NDArray[Any]:
        """Return what is made of each text's states. Texts of like length are read together."""
        before, after = self._around
        whole = [self._ids(f"{self._before}{text.strip()[-CHARACTERS:]}{self._after}") for text in texts]
        ids = [one[-LONGEST:] for one in whole]
        own = [slice(max(len(i) - len(w) + before, 0), len(i) - after) for i, w in zip(ids, whole, strict=True)]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found: list[NDArray[Any]] = []
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            found.append(then(self._batch([ids[i] for i in some], [own[i] for i in some])))
        return np.concatenate(found)[np.argsort(order)]

    def _ids(self, text: str) -> list[int]:
        return self._model.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _batch(self, ids: Sequence[Sequence[int]], own: Sequence[slice]) -> Vectors:
        """Return the means of the states over each text's own tokens, without the template's round it."""
        import torch

        from primum.models.load import tower

        width, pad = max(map(len, ids)), int(self._model.tokenizer.pad_token_id)
        place = self._model.place
        batch = torch.tensor([[pad] * (width - len(one)) + list(one) for one in ids], device=place)
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in ids], device=place)
        weights = torch.zeros(batch.shape, device=place)
        for row, one, span in zip(weights, ids, own, strict=True):
            row[width - len(one) :][span] = 1
        weights /= weights.sum(1, keepdim=True)
        with torch.inference_mode():
            inner = tower(self._model.network)
            network = getattr(inner, "model", inner)
            out = network(input_ids=batch, attention_mask=mask, output_hidden_states=True, use_cache=False)
            means = [torch.einsum("btw,bt->bw", one.float(), weights) for one in out.hidden_states[1:]]
        return torch.stack(means, dim=1).cpu().numpy()
