"""Many rows in one: what rows have in common is computed once.

Rows of safety data share much: every one begins with the template's system turn, the two answers of a pair share their
prompt, refusals share their openings. The rows of a micro-batch are laid into one tree of tokens, a token being
identified by all that comes before it; the tree is one sequence in which a token sees its ancestors only and stands
at its depth. There is no padding, and a causal model gives the same numbers as on separate rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from primum.training.examples import Example

LONGEST = 128
"""Tokens of a chain: a longer one is cut, so that no query is multiplied with many keys that come after it."""


class Chain(NamedTuple):
    """What one row added to the tree, or a part of it: tokens start to end, each the parent of the next.

    path: the ranges of tokens that the chain's last token sees, in order of depth; the last one ends with the chain.
    """

    start: int
    end: int
    path: tuple[tuple[int, int], ...]


class Tour(NamedTuple):
    """Numbers of tokens in the order of a walk through the tree, (T,) each: q sees k if first[k] <= first[q] < last[k].

    first: the token's own number. last: one more than the largest number among its descendants and itself.
    """

    first: Tensor
    last: Tensor


class Packed(NamedTuple):
    """A tree of T tokens that holds N answer tokens of several rows, row after row.

    ids, positions: (1, T). chains: the tree. before: (N,), the token after which an answer token is predicted.
    targets: (N,), the answer tokens. owner: (N,), their rows. lengths: (rows,), answer tokens of each row.
    """

    ids: Tensor
    positions: Tensor
    chains: tuple[Chain, ...]
    before: Tensor
    targets: Tensor
    owner: Tensor
    lengths: Tensor

    @property
    def sees(self) -> Tensor:
        """The tree as a mask (1, 1, T, T), True where a token (row) may look at another (column)."""
        mask = torch.zeros(self.ids.shape[1], self.ids.shape[1], dtype=torch.bool)
        for chain in self.chains:
            for start, end in chain.path:
                mask[chain.start : chain.end, start:end] = True
            own = slice(chain.start, chain.end)
            mask[own, own] = torch.ones(chain.end - chain.start, chain.end - chain.start, dtype=torch.bool).tril_()
        return mask[None, None].to(self.ids.device)


class Walk(NamedTuple):
    """The tokens of a tree, their depths, and per row the places of its tokens, the last of each row left out."""

    tokens: list[int]
    depths: list[int]
    places: list[list[int]]


def walk(examples: Sequence[Example]) -> Walk:
    """Lay rows of prompt and answer into one tree; the last token of a row predicts nothing and is left out."""
    nodes: dict[tuple[int, int], int] = {}
    found = Walk([], [], [])
    for row in examples:
        places = list[int]()
        for token in (*row.prompt, *row.answer)[:-1]:
            key = (places[-1] if places else -1, token)
            if key not in nodes:
                nodes[key] = len(found.tokens)
                found.depths.append(len(places))
                found.tokens.append(token)
            places.append(nodes[key])
        found.places.append(places)
    return found


def pack(examples: Sequence[Example], device: torch.device | str = "cpu") -> Packed:
    """Lay rows into one tree, with what a network needs to score their answers."""
    tokens, depths, rows = walk(examples)
    before: list[int] = []
    chains: list[Chain] = []
    known = 0
    for row, places in zip(examples, rows, strict=True):
        whole = max(known, places[-1] + 1 if places else 0)
        for start in range(known, whole, LONGEST):
            end = min(start + LONGEST, whole)
            chains.append(Chain(start, end, _ranges(places[: len(places) - whole + end])))
        known = whole
        before += [places[i - 1] if i else -1 for i in range(len(row.prompt), len(row.prompt) + len(row.answer))]
    lengths = torch.tensor([len(row.answer) for row in examples])
    targets = torch.tensor([token for row in examples for token in row.answer])
    owner = torch.repeat_interleave(torch.arange(len(examples)), lengths)
    ids, positions = torch.tensor([tokens]), torch.tensor([depths])
    at = [t.to(device) for t in (ids, positions, torch.tensor(before), targets, owner, lengths)]
    return Packed(at[0], at[1], tuple(chains), *at[2:])


def tour(packed: Packed) -> Tour:
    """Walk through a tree, depth first (an Euler tour: Tarjan and Vishkin 1985, doi:10.1137/0214061)."""
    parents = list(range(-1, packed.ids.shape[1] - 1))
    for chain in packed.chains:
        if chain.path[-1][0] == chain.start:
            parents[chain.start] = chain.path[-2][1] - 1 if len(chain.path) > 1 else -1
    sizes = [1] * len(parents)
    for token in reversed(range(len(parents))):  # a child has a larger place than its parent
        if parents[token] >= 0:
            sizes[parents[token]] += sizes[token]
    first, following = [0] * len(parents), [0] * (len(parents) + 1)  # the last of `following` is the roots'
    for token, (parent, size) in enumerate(zip(parents, sizes, strict=True)):
        first[token] = following[parent]
        following[parent] += size
        following[token] = first[token] + 1
    numbers = torch.tensor([first, sizes], dtype=torch.int32, device=packed.ids.device)
    return Tour(numbers[0], numbers.sum(0, dtype=torch.int32))


def _ranges(places: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the ranges that a path of token numbers, which only grow along it, is made of."""
    starts = [i for i in range(len(places)) if i == 0 or places[i] != places[i - 1] + 1]
    return tuple((places[a], places[b - 1] + 1) for a, b in zip(starts, [*starts[1:], len(places)], strict=True))
