"""A block of a Llama-like network computed in one piece, forward and backward, where its matrices are frozen.

A block run layer by layer is some eighty small operations forward and more backward, most of them copies, casts and
element-wise work between the matrix products; on a CPU they take as long as the products. Here q, k and v are one
product, so are gate and up; adapters (LoRA) of layers that share an input are one low-rank product; what backward
needs is kept once; matrices of small networks are laid out once in the order the processor reads them. The first rows
that a network scores are also computed the plain way, and one whose numbers differ never comes here (`score.way`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from primum.training import attention
from primum.training.packed import Chain

KNOWN = ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer")
"""Blocks that are norm, attention with rotary positions, norm, gated feed-forward; nothing else."""
SMALL = 1 << 30
"""Bytes of all blocks up to which a second and a third copy of their matrices are worth their speed."""
ROWS = 256
"""Rows for which the copies are laid out."""


class LowRank(NamedTuple):
    """One layer's adapter: A (r, in) and B (out, r), fp32, and its scale."""

    a: Tensor
    b: Tensor
    scale: float


@dataclass
class Group:
    """Linear layers that share an input: one frozen matrix (out, in) and one low-rank product."""

    layers: list[Any]
    copies: bool
    _key: list[Any] = field(default_factory=list[Any])
    _ready: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    @property
    def bases(self) -> list[Any]:
        """The layers under the adapters."""
        return [getattr(layer, "base_layer", layer) for layer in self.layers]

    @property
    def sizes(self) -> list[int]:
        """Numbers that each layer gives."""
        return [base.out_features for base in self.bases]

    def low(self) -> list[LowRank | None]:
        """Return each layer's adapter, None where it has none at the moment."""
        return [_adapter(layer) for layer in self.layers]

    def times(self, x: Tensor) -> Tensor:
        """Return x W' + bias, (T, out)."""
        bias = self.bases[0].bias
        if len(self.layers) > 1 and bias is not None:
            bias = torch.cat([base.bias for base in self.bases])
        if self._packs(x):
            return torch.ops.mkldnn._linear_pointwise(x, self._laid("forward"), bias, "none", [], "")
        return torch.cat([linear(x, base.weight, base.bias) for base in self.bases], -1)

    def back(self, grad: Tensor) -> Tensor:
        """Return grad W, (T, in)."""
        if self._packs(grad):
            return torch.ops.mkldnn._linear_pointwise(grad, self._laid("backward"), None, "none", [], "")
        parts = zip(grad.split(self.sizes, -1), self.bases, strict=True)
        first, base = next(parts)
        total = first @ base.weight
        for part, base in parts:
            total.addmm_(part, base.weight)
        return total

    def _packs(self, x: Tensor) -> bool:
        """Whether products run on copies: of matrices that stay, in a format that has them."""
        still = not any(base.weight.requires_grad for base in self.bases)
        return self.copies and still and x.dtype == torch.bfloat16 and torch.backends.mkldnn.is_available()

    def _laid(self, way: str) -> Tensor:
        """Return the matrix in the processor's own order, made again where a layer was exchanged or merged."""
        key: list[Any] = []
        for layer, base in zip(self.layers, self.bases, strict=True):
            key += [layer, getattr(layer, "merged", False), base.weight.data_ptr(), base.weight._version]
        if len(key) != len(self._key) or any(a is not b and a != b for a, b in zip(key, self._key, strict=True)):
            self._key, self._ready = key, {}
        if way not in self._ready:
            whole = torch.cat([base.weight.detach() for base in self.bases])
            whole = whole if way == "forward" else whole.t().contiguous()
            self._ready[way] = torch.ops.mkldnn._reorder_linear_weight(whole, ROWS)
        return self._ready[way]


def _adapter(layer: Any) -> LowRank | None:
    if not hasattr(layer, "base_layer") or layer.disable_adapters or layer.merged:
        return None
    name = layer.active_adapters[0]
    return LowRank(layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name])


class Joined(NamedTuple):
    """The adapters of a group as one: A (R, in) and B (out, R), scaled and in the format of the products."""

    a: Tensor
    b: Tensor


def join(group: Group, dtype: torch.dtype) -> Joined | None:
    """Return the group's adapters as one low-rank product; B has a block per layer. None: no adapter."""
    low = group.low()
    known = [each for each in low if each is not None]
    if not known:
        return None
    a = torch.cat([each.a for each in known]).to(dtype)
    b = known[0].b.new_zeros(sum(group.sizes), len(a), dtype=dtype)
    row = column = 0
    for each, size in zip(low, group.sizes, strict=True):
        if each is not None:
            b[row : row + size, column : column + len(each.a)] = each.b * each.scale
            column += len(each.a)
        row += size
    return Joined(a, b)


class Product(NamedTuple):
    """y = x W' + bias + (x A') B', with what backward needs: x A' and the joined adapter."""

    y: Tensor
    inner: Tensor | None
    low: Joined | None


def product(x: Tensor, group: Group) -> Product:
    """Multiply rows (T, in) with a group."""
    y, low = group.times(x), join(group, x.dtype)
    if low is None:
        return Product(y, None, None)
    inner = x @ low.a.T
    return Product(y.addmm_(inner, low.b.T), inner, low)


def inner_back(grad: Tensor, low: Joined | None) -> Tensor | None:
    """Return the gradient at x A' (T, R), given that at the product's result."""
    return None if low is None else grad @ low.b


def rows_back(grad: Tensor, inner: Tensor | None, low: Joined | None, group: Group) -> Tensor:
    """Return the gradient of a product's input (T, in)."""
    dx = group.back(grad)
    return dx if low is None or inner is None else dx.addmm_(inner, low.a)


def adapters_back(grad: Tensor, inner: Tensor | None, x: Tensor, done: Product, group: Group) -> list[Tensor]:
    """Return the gradients of each adapter's A and B."""
    if inner is None or done.inner is None:
        return []
    da, db = inner.T @ x, grad.T @ done.inner
    found: list[Tensor] = []
    row = column = 0
    for each, size in zip(group.low(), group.sizes, strict=True):
        if each is not None:
            rank = slice(column, column + len(each.a))
            found += [da[rank].to(each.a.dtype), db[row : row + size, rank].to(each.b.dtype) * each.scale]
            column += len(each.a)
        row += size
    return found


class Normed(NamedTuple):
    """Rows after a norm, and one over the root of their mean square (T, ..., 1), fp32."""

    y: Tensor
    rate: Tensor


def norm(x: Tensor, weight: Tensor, eps: float) -> Normed:
    """Root mean square norm over the last dimension (arXiv:1910.07467, equation 4), in fp32 as transformers has it."""
    wide = x.float()
    rate = wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
    return Normed((wide * rate).to(x.dtype) * weight, rate)


def norm_back(grad: Tensor, x: Tensor, rate: Tensor, weight: Tensor) -> Tensor:
    """Return the gradient of a norm's input: rate (g - n mean(g n)), n the normed rows, g the gradient at them."""
    n, g = x.float() * rate, (grad * weight).float()
    mean = (g * n).mean(-1, keepdim=True)
    return g.sub_(n.mul_(mean)).mul_(rate).to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, way: int = 1) -> Tensor:
    """Turn heads (T, H, D) by their positions (arXiv:2104.09864, equation 34), or back with `way` -1."""
    half = x.shape[-1] // 2
    turned = x * cos
    turned[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-way)
    turned[..., half:].addcmul_(x[..., :half], sin[..., half:], value=way)
    return turned


@dataclass
class Block:
    """One decoder layer of transformers, read anew at every call: adapters come and go."""

    layer: Any
    copies: bool
    place: int = 0
    """Which block of its network this is, from 0."""
    _groups: dict[str, Group] = field(default_factory=dict[str, Group])

    def group(self, *names: str) -> Group:
        """Return the group of layers with these names."""
        owner = self.layer.mlp if names[0] in ("gate_proj", "down_proj") else self.layer.self_attn
        layers = [getattr(owner, name) for name in names]
        held = self._groups.get(names[0])
        if held is None or any(a is not b for a, b in zip(held.layers, layers, strict=True)):
            held = self._groups[names[0]] = Group(layers, self.copies)
        return held

    @property
    def groups(self) -> tuple[Group, Group, Group, Group]:
        """The four products of a block."""
        return (
            self.group("q_proj", "k_proj", "v_proj"), self.group("o_proj"),
            self.group("gate_proj", "up_proj"), self.group("down_proj"),
        )  # fmt: skip

    def usable(self, x: Tensor) -> bool:
        """Whether all is of one format, adapters are ours, and nothing else learns just now."""
        attn, first, second = self.layer.self_attn, self.layer.input_layernorm, self.layer.post_attention_layernorm
        norms = [getattr(m, "weight") for m in (first, second, *self._head_norms())]  # noqa: B009 - Any to Tensor
        frozen = [*norms, *(base.weight for group in self.groups for base in group.bases)]
        ours = all(not hasattr(m, "base_layer") or _fused(m) for group in self.groups for m in group.layers)
        still = not (attn.training and attn.attention_dropout)
        learns = torch.is_grad_enabled() and any(w.requires_grad for w in frozen)
        return ours and still and not learns and all(w.dtype == x.dtype for w in frozen)

    def _head_norms(self) -> list[Any]:
        attn = self.layer.self_attn
        return [attn.q_norm, attn.k_norm] if hasattr(attn, "q_norm") else []

    def head_norm(self, heads: int, keys: int) -> tuple[Tensor, float] | None:
        """The norm of queries and keys before they are turned (Qwen3): weights (H + G, D) and epsilon."""
        norms = self._head_norms()
        if not norms:
            return None
        weights = [n.weight.expand(count, -1) for n, count in zip(norms, (heads, keys), strict=True)]
        return torch.cat(weights), norms[0].variance_epsilon


def _fused(layer: Any) -> bool:
    return isinstance(layer.__dict__.get("forward"), functools.partial)


class _Function(torch.autograd.Function):
    """A block: x (T, d) in, (T, d) out; gradients for x and for the adapters."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, block: Block, chains: Sequence[Chain], *adapters: Tensor
    ) -> Tensor:
        layer, (qkv, out, wide, narrow) = block.layer, block.groups
        size, scale = layer.self_attn.head_dim, layer.self_attn.scaling
        keys = qkv.sizes[1] // size
        first = norm(x, layer.input_layernorm.weight, layer.input_layernorm.variance_epsilon)
        a = product(first.y, qkv)
        heads = a.y.view(len(x), -1, size)
        raw, v = heads[:, :-keys], heads[:, -keys:]
        own = block.head_norm(raw.shape[1] - keys, keys)
        named = norm(raw, *own) if own else None
        turned = rotate(named.y if named else raw, cos, sin)
        seen = attention.forward(turned[:, :-keys], turned[:, -keys:], v, chains, scale).view(len(x), -1)
        o = product(seen, out)
        middle = o.y.add_(x)
        second = norm(middle, layer.post_attention_layernorm.weight, layer.post_attention_layernorm.variance_epsilon)
        g = product(second.y, wide)
        gate, up = g.y.chunk(2, -1)
        d = product(silu(gate).mul_(up), narrow)
        ctx.block, ctx.chains, ctx.scale, ctx.keys = block, chains, scale, keys
        ctx.own, ctx.low = own, [p.low for p in (a, o, g, d)]
        ctx.save_for_backward(
            x, cos, sin, first.y, first.rate, raw if own else None, named.rate if named else None, turned, v, seen,
            middle, second.y, second.rate, g.y, *(p.inner for p in (a, o, g, d)),
        )  # fmt: skip
        return d.y.add_(middle)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x, cos, sin, h1, rate1, raw, named, turned, v, seen, middle, h2, rate2, wide_y, *inner) = ctx.saved_tensors
        layer, (qkv, out, wide, narrow), keys = ctx.block.layer, ctx.block.groups, ctx.keys
        done = [Product(grad, each, low) for each, low in zip(inner, ctx.low, strict=True)]
        n_d, n_g, act = _gate_back(grad, wide_y, done[3], narrow)
        low_g = inner_back(n_g, ctx.low[2])
        h2_grad = rows_back(n_g, low_g, ctx.low[2], wide)
        middle_grad = norm_back(h2_grad, middle, rate2, layer.post_attention_layernorm.weight).add_(grad)
        low_o = inner_back(middle_grad, ctx.low[1])
        q, k = turned[:, :-keys], turned[:, -keys:]
        seen_grad = rows_back(middle_grad, low_o, ctx.low[1], out).view(q.shape)
        dq, dk, dv = attention.backward(seen_grad, q, k, v, ctx.chains, ctx.scale)
        heads = rotate(torch.cat((dq, dk), 1), cos, sin, -1)
        if ctx.own:
            heads = norm_back(heads, raw, named, ctx.own[0])
        n_a = torch.cat((heads, dv), 1).view(len(x), -1)
        low_a = inner_back(n_a, ctx.low[0])
        dx = None
        if ctx.needs_input_grad[0]:
            h1_grad = rows_back(n_a, low_a, ctx.low[0], qkv)
            dx = norm_back(h1_grad, x, rate1, layer.input_layernorm.weight).add_(middle_grad)
        return (
            dx, None, None, None, None,
            *adapters_back(n_a, low_a, h1, done[0], qkv), *adapters_back(middle_grad, low_o, seen, done[1], out),
            *adapters_back(n_g, low_g, h2, done[2], wide), *adapters_back(grad, n_d, act, done[3], narrow),
        )  # fmt: skip


def _gate_back(grad: Tensor, wide: Tensor, done: Product, narrow: Group) -> tuple[Tensor | None, Tensor, Tensor]:
    """Go back through the narrowing product and the gate.

    Returns:
        The gradient inside the narrowing product's adapter, the gradient (T, 2 f) at gate and up, and the product's
        input (T, f), made again.
    """
    gate, up = wide.chunk(2, -1)
    act = silu(gate)
    inner = inner_back(grad, done.low)
    back = rows_back(grad, inner, done.low, narrow)
    both = torch.empty_like(wide)
    torch.mul(back, act, out=both[:, wide.shape[1] // 2 :])
    both[:, : wide.shape[1] // 2] = torch.ops.aten.silu_backward(back.mul_(up), gate)
    return inner, both, act.mul_(up)


def fuse_blocks(base: Any) -> int:
    """Let every known block of a network compute itself in one piece when it is asked to; return how many can."""
    blocks = [m for m in base.modules() if type(m).__name__ in KNOWN and _plain(m)]
    size = sum(p.numel() * p.element_size() for block in blocks for p in block.parameters())
    for place, layer in enumerate(blocks):
        if not _fused(layer):
            plain = layer.forward
            layer.forward = functools.partial(_call, Block(layer, size <= SMALL, place), plain)
    return len(blocks)


def _plain(layer: Any) -> bool:
    """Whether the activation is SiLU and nobody listens to the layers inside."""
    quiet = not any(m._forward_hooks or m._forward_pre_hooks for m in layer.modules())
    return quiet and type(layer.mlp.act_fn).__name__ in ("SiLU", "SiLUActivation")


def fused_blocks(base: Any) -> list[Any]:
    """Return the layers of a network that compute themselves in one piece, in order."""
    return [m for m in base.modules() if type(m).__name__ in KNOWN and _fused(m)]


def _call(block: Block, plain: Any, hidden_states: Tensor, *rest: Any, **settings: Any) -> Any:
    """Compute a block in one piece where that is asked for.

    Blocks outside `span` (first, end) hand on what they get; `heard` gets what comes to the end.
    """
    first, end = settings.get("span") or (0, None)
    if block.place == end:
        settings["heard"].append(hidden_states[0])
    if block.place < first or (end is not None and block.place >= end):
        return hidden_states
    chains = settings.get("chains")
    if chains is None or not settings.get("whole_blocks"):
        return plain(hidden_states, *rest, **settings)
    if len(hidden_states) != 1 or not block.usable(hidden_states):
        raise ValueError("a block that learns, or one of several number formats")
    cos, sin = (part[0][:, None] for part in settings["position_embeddings"])
    adapters = [p for group in block.groups for low in group.low() if low is not None for p in (low.a, low.b)]
    return _Function.apply(hidden_states[0], cos, sin, block, chains, *adapters)[None]  # type: ignore[index]
