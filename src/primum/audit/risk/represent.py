"""How much a text looks harmful to a given model, from the inside.

In the spirit of LARF (arXiv:2507.18631), without harmful answers: at every layer a linear discriminant (Fisher 1936)
between the model's mean hidden states over harmful requests and over harmless ones: some that look like the harmful
ones, some of anything, and rows of the corpus itself, of which few are thought to be harmful. Without those the score
would also measure how far the corpus is from a chat: sentences of abstracts then rank above harmful rows (docs/log.md).
The score is the mean over layers of how far a text lies towards the harmful side, in standard deviations of the
harmless one. No one layer is chosen: which is best depends on the corpus more than on the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    """A unit vector a layer (layers, width), with mean and spread of harmless texts along it, and of their mean."""

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
        units = [self._unit(number, [text]) for number, text in enumerate(texts)]
        read = [(order, states[:, 0]) for order, states in self._read(units)]
        order, states = (np.concatenate(parts) for parts in zip(*read, strict=True))
        return states[np.argsort(order)]

    def scores(self, rows: Sequence[Sequence[str]], direction: Direction) -> NDArray[np.float64]:
        """Return the highest score of each row's texts (N,); the states of no more than a batch are in memory.

        Args:
            rows: of texts, each the beginning of the next: they are read as one, as far as the model's window goes.
            direction: that they are scored along.
        """
        units = [unit for number, texts in enumerate(rows) for unit in self._units(number, texts)]
        found = np.full(len(rows), -np.inf)
        for order, states in self._read(units):
            own = direction.score(states.reshape(-1, *states.shape[2:])).reshape(states.shape[:2]).max(1)
            np.maximum.at(found, [units[i].row for i in order], own)
        return found

    def _units(self, row: int, texts: Sequence[str]) -> list[_Unit]:
        """Return the texts as one unit, or as one each where the last is longer than what is read."""
        whole = self._unit(row, texts)
        long = len(texts[-1].strip()) > CHARACTERS or len(whole.ids) == LONGEST
        return [self._unit(row, [text]) for text in texts] if long else [whole]

    def _unit(self, row: int, texts: Sequence[str]) -> _Unit:
        before, after = self._around
        whole = self._ids(f"{self._before}{texts[-1].strip()[-CHARACTERS:]}{self._after}")
        ids = whole[-LONGEST:]
        start, end = max(len(ids) - len(whole) + before, 0), len(ids) - after
        shorter = [slice(start, start + len(self._ids(text.strip()))) for text in texts[:-1]]
        return _Unit(row, ids, [*shorter, slice(start, end)])

    def _ids(self, text: str) -> list[int]:
        return self._model.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _read(self, units: Sequence[_Unit]) -> Iterator[tuple[list[int], Vectors]]:
        """Yield batches of units of like length: which they are, and their states (units, texts, layers, width)."""
        order = sorted(range(len(units)), key=lambda i: len(units[i].ids))
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            yield some, self._batch([units[i] for i in some])

    def _batch(self, units: Sequence[_Unit]) -> Vectors:
        """Return the means of the states over each text's own tokens, without the template's round it."""
        import torch

        from primum.models.load import tower

        width, pad = max(len(one.ids) for one in units), int(self._model.tokenizer.pad_token_id)
        many, place = max(len(one.spans) for one in units), self._model.place
        batch = torch.tensor([[pad] * (width - len(one.ids)) + list(one.ids) for one in units], device=place)
        mask = torch.tensor([[0] * (width - len(one.ids)) + [1] * len(one.ids) for one in units], device=place)
        weights = torch.zeros(len(units), many, width, device=place)
        for rows, one in zip(weights, units, strict=True):
            for number in range(many):
                rows[number, width - len(one.ids) :][one.spans[min(number, len(one.spans) - 1)]] = 1
        weights /= weights.sum(2, keepdim=True)
        with torch.inference_mode():
            inner = tower(self._model.network)
            network = getattr(inner, "model", inner)
            out = network(input_ids=batch, attention_mask=mask, output_hidden_states=True, use_cache=False)
            means = [torch.einsum("btw,bst->bsw", one.float(), weights) for one in out.hidden_states[1:]]
        return torch.stack(means, dim=2).cpu().numpy()


class _Unit(NamedTuple):
    """What is read at once for a row: tokens, and where in them its texts lie."""

    row: int
    ids: Sequence[int]
    spans: Sequence[slice]
