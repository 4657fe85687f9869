"""Log-likelihood of continuations, many at once: items that share a context share its computation.

Tokenised as lm-evaluation-harness does it (spaces at the end of the context go to the continuation; context and
continuation are tokenised together and cut where the context's own tokens end; where there is no context, the token
that begins a text stands in its place and is not counted), so that its numbers are ours. Rows are laid into trees in
the order given: a few-shot prefix is computed once a tree, a question once for all of its options.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from primum.core.progress import Advance, silent

if TYPE_CHECKING:
    from primum.models.load import Model
    from primum.training.examples import Example

VERSION = 3
"""Raise when the same requests get other numbers, or more is said of them: what a run folder holds is then taken again.
"""
TREE = 1024
"""Tokens of one tree: attention inside it grows with the square, what it shares grows too."""
LONGEST_PADDED = 8192
"""Tokens of one padded batch, for a model that cannot share."""


class Request(NamedTuple):
    """A context and what may follow it."""

    context: str
    continuation: str


class Likelihood(NamedTuple):
    """Summed log-probability of a continuation (nats) and its number of tokens.

    `context_cut` counts the tokens at the context's beginning that the model's window had no room for.
    """

    logp: float
    tokens: int
    context_cut: int = 0


def loglikelihoods(model: Model, requests: Sequence[Request], advance: Advance = silent) -> list[Likelihood]:
    """Return one likelihood a request, in order; a context too long for the model loses its beginning (counted).

    A continuation too long for it is taken in parts, each after as many of the tokens before it as fit (one at least),
    as lm-evaluation-harness rolls over long texts. An empty continuation has likelihood 0 of no tokens.
    """
    import torch

    from primum.training.score import score, way

    tokenised = encode_all(model, requests)
    rows = [one.parts for one in tokenised]
    found = [Likelihood(0.0, 0, one.context_cut) for one in tokenised]
    asked = [(i, row) for i, parts in enumerate(rows) for row in parts]
    advance(sum(not parts for parts in rows))
    with torch.no_grad():
        shares = bool(asked) and way(model.network, [row for _, row in asked]) != "separate"
        for group in trees(asked) if shares else padded(asked):
            got = score(model.network, [row for _, row in group])
            for (i, row), logp in zip(group, map(float, got.logps), strict=True):
                before = found[i]
                found[i] = before._replace(logp=before.logp + logp, tokens=before.tokens + len(row.answer))
            advance(sum(row is rows[i][-1] for i, row in group))
    return found


class Tokenised(NamedTuple):
    """The rows of a request that are scored, and how many tokens of its context the first of them has no room for."""

    parts: list[Example]
    context_cut: int


def encode_all(model: Model, requests: Sequence[Request]) -> list[Tokenised]:
    """Tokenise requests, each to the rows that are scored; each context once."""
    limit = getattr(model.network.config.get_text_config(), "max_position_embeddings", None)
    contexts: dict[str, list[int]] = {}
    rows: list[Tokenised] = []
    for request in requests:
        context, continuation = moved(request)
        if context and context not in contexts:
            contexts[context] = model.tokenizer(context)["input_ids"]
        ids = contexts.get(context, [])
        own = model.tokenizer(context + continuation, add_special_tokens=bool(context))["input_ids"][len(ids) :]
        if not ids:
            ids = [_first(model.tokenizer)]
            own = own[1:] if own[:1] == ids else own
        parts = list(_parts(ids, own, limit or len(ids) + len(own)))
        rows.append(Tokenised(parts, len(ids) - len(parts[0].prompt) if parts else 0))
    return rows


def _first(tokenizer: Any) -> int:
    """Return the token that stands before a text: that of its beginning, or of the end of the text before it."""
    return tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id


def _parts(ids: Sequence[int], own: Sequence[int], limit: int) -> Iterator[Example]:
    """Cut what is too long for the model; the last token of a row is predicted and not read."""
    from primum.training.examples import Example

    for start in range(0, len(own), max(1, limit)):
        part = own[start : start + limit]
        before = (*ids, *own[:start])[-max(1, limit + 1 - len(part)) :]
        yield Example(tuple(before), tuple(part))


def moved(request: Request) -> Request:
    """Move spaces from the end of the context to the front of the continuation: they belong to its first token."""
    bare = request.context.rstrip()
    return Request(bare, request.context[len(bare) :] + request.continuation)


Indexed = tuple[int, "Example"]


def trees(rows: Sequence[Indexed], budget: int = TREE) -> Iterator[list[Indexed]]:
    """Cut rows, in order, into groups whose distinct tokens (by all that stands before them) fit the budget."""
    group: list[Indexed] = []
    nodes: dict[tuple[int, int], int] = {}
    for one in rows:
        _grow(nodes, one[1])
        if group and len(nodes) > budget:
            yield group
            group, nodes = [], {}
            _grow(nodes, one[1])
        group.append(one)
    if group:
        yield group


def _grow(nodes: dict[tuple[int, int], int], row: Example) -> None:
    """Add a row's path to the tree: a node is a token after a node."""
    at = -1
    for token in (*row.prompt, *row.answer)[:-1]:
        at = nodes.setdefault((at, token), len(nodes))


def padded(rows: Sequence[Indexed], budget: int = LONGEST_PADDED) -> Iterator[list[Indexed]]:
    """Cut rows, longest first, into batches whose padded size fits the budget."""
    group: list[Indexed] = []
    for one in sorted(rows, key=lambda row: -row[1].length):
        if group and (len(group) + 1) * group[0][1].length > budget:
            yield group
            group = []
        group.append(one)
    if group:
        yield group
