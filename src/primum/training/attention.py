"""Attention over a tree of tokens without its mask: each chain of the tree looks at its own path only.

A dense mask makes attention grow with the square of the whole tree, although a token sees its ancestors and nothing
else. Here the tree is cut into chains (`packed.Chain`); a chain's queries meet the keys of their path, laid together.
Both ways are written out in matrix products: torch's CPU kernel takes two to five times as long in bf16, and no less in
fp32 (docs/log.md). On a GPU the work is handed over to `flex`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from primum.models.load import tower
from primum.training import flex
from primum.training.packed import Chain

NAME = "primum_tree"
"""What transformers calls this attention (its registry of attention functions is open)."""


def forward(q: Tensor, k: Tensor, v: Tensor, chains: Sequence[Chain], scale: float) -> Tensor:
    """Attend along the paths of a tree.

    Args:
        q: queries (T, H, D).
        k: keys (T, G, D); H is a multiple of G.
        v: values (T, G, D).
        chains: the tree.
        scale: of the products of queries and keys.

    Returns:
        What is attended to, (T, H, D).
    """
    out = torch.empty_like(q, memory_format=torch.contiguous_format)
    for chain in chains:
        queries = _queries(q, k, chain)
        seen = torch.bmm((queries * scale).flatten(1, 2), _path(k, chain).transpose(1, 2))
        seen.view(*queries.shape[:3], -1).add_(_causal(chain, q))
        _queries(out, k, chain).copy_(torch.bmm(torch.softmax(seen, -1), _path(v, chain)).view(queries.shape))
    return out


def backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, chains: Sequence[Chain], scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of queries, keys and values; a key's is the sum over the chains that saw it.

    With S = s Q K' and P = softmax(S): dV = P' dO, dS = P * (dP - rowsum(P * dP)) for dP = dO V', dQ = s dS K,
    dK = s dS' Q (FlashAttention, arXiv:2205.14135, appendix B.2).
    """
    dq, dk, dv = torch.empty_like(q, memory_format=torch.contiguous_format), torch.zeros_like(k), torch.zeros_like(v)
    for chain in chains:
        shape = _queries(q, k, chain).shape
        queries = (_queries(q, k, chain) * scale).reshape(shape[0], -1, shape[-1])
        out = _queries(grad, k, chain).reshape(shape[0], -1, shape[-1])
        keys, values = _path(k, chain), _path(v, chain)
        seen = torch.bmm(queries, keys.transpose(1, 2))
        seen.view(*shape[:3], -1).add_(_causal(chain, q))
        share = torch.softmax(seen, -1)
        _spread(dv, torch.bmm(share.transpose(1, 2), out), chain)
        pull = torch._softmax_backward_data(  # pyright: ignore[reportPrivateImportUsage]
            torch.bmm(out, values.transpose(1, 2)), share, -1, share.dtype
        )
        _queries(dq, k, chain).copy_(torch.bmm(pull, keys).mul_(scale).view(shape))
        _spread(dk, torch.bmm(pull.transpose(1, 2), queries), chain)
    return dq, dk, dv


def _queries(x: Tensor, k: Tensor, chain: Chain) -> Tensor:
    """View a chain's rows of (T, H, D) as (G, H / G, n, D): the heads that share a key are a batch of their own."""
    rows = x[chain.start : chain.end]
    return rows.view(len(rows), k.shape[1], -1, rows.shape[-1]).permute(1, 2, 0, 3)


def _path(x: Tensor, chain: Chain) -> Tensor:
    """Return the rows of (T, G, D) on a chain's path, its own last, as (G, m, D)."""
    ranges = chain.path
    rows = x[ranges[0][0] : ranges[0][1]] if len(ranges) == 1 else torch.cat([x[a:b] for a, b in ranges])
    return rows.transpose(0, 1)


def _spread(whole: Tensor, part: Tensor, chain: Chain) -> None:
    """Add what (G, m, D) holds for a path to the rows (T, G, D) of the path."""
    at = 0
    for a, b in chain.path:
        whole[a:b] += part[:, at : at + b - a].transpose(0, 1)
        at += b - a


def _causal(chain: Chain, like: Tensor) -> Tensor:
    """Return what is added to the products (n, m) of a chain."""
    n, m = chain.end - chain.start, sum(b - a for a, b in chain.path)
    return torch.full((n, m), float("-inf"), dtype=like.dtype).triu_(m - n + 1)


class _Tree(torch.autograd.Function):
    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, chains: Sequence[Chain], scale: float
    ) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.chains, ctx.scale = chains, scale
        return forward(q, k, v, chains, scale)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v = ctx.saved_tensors
        return *backward(grad, q, k, v, ctx.chains, ctx.scale), None, None


def interface(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """Attend as transformers asks its attention functions to: (1, H, T, D) in, (1, T, H, D) out.

    The model's forward hands down `chains` (attended to here) or, on a GPU, `tree_mask` (by `flex`).

    Raises:
        ValueError: the model did not hand the tree down, or wants dropout; it is scored in another way then.
    """
    chains, mask, scale = settings.get("chains"), settings.get("tree_mask"), settings.get("scaling")
    if settings.get("dropout") or attention_mask is not None or len(query) != 1:
        raise ValueError("an attention with dropout or a mask of its own")
    scale = scale or query.shape[-1] ** -0.5
    if mask is not None:
        return flex.attend(query, key, value, mask, scale), None
    if chains is None:
        raise ValueError("no tree of tokens")
    out = _Tree.apply(*(x[0].transpose(0, 1) for x in (query, key, value)), chains, scale)
    return out[None], None  # type: ignore[index]


def tree_attention(base: Any) -> AbstractContextManager[None]:
    """Let a transformers network attend along a tree for a while; its forward must be given the tree (`interface`)."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, interface)
    own = tower(base).config  # what a vision-language model sees with keeps its attention
    return _named([own, own.get_text_config()], NAME)


def attention_now(layer: Any) -> AbstractContextManager[None]:
    """Let a layer attend, for a while, as it does at the moment of this call."""
    configs = [m.config for m in layer.modules() if hasattr(getattr(m, "config", None), "_attn_implementation")]
    return _named(configs, configs[0]._attn_implementation) if configs else nullcontext()


@contextmanager
def _named(configs: Sequence[Any], name: str) -> Iterator[None]:
    kept = [(config, config._attn_implementation) for config in {id(c): c for c in configs}.values()]
    try:
        for config, _ in kept:
            config._attn_implementation = name
        yield
    finally:
        for config, before in kept:
            config._attn_implementation = before
