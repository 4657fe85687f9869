"""A cache of keys and values with one slot a conversation: allocated once, written in place, refilled when free.

transformers' DynamicCache copies every key and value at every token, and repeats them for grouped queries under a
mask. Here a step writes one column and reads keys and values as they lie: with SmolLM2-135M on a CPU in bf16 that
takes attention from two fifths of a step to an eighth.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import AttentionInterface, Cache, DynamicCache
from transformers.cache_utils import CacheLayerMixin, DynamicLayer

from primum.models.head import logits_of, output_matrix

Tokens = tuple[int, ...]

GROW = 32
"""Columns added at a time: a step's shapes change seldom, so compiled kernels are found again."""
FEWEST, MOST, HELD = 96, 384, 1 << 31
"""Conversations decoded together on a CPU where nobody said how many: the most whose keys and values stay under so many
bytes. In fp32 on two cores 384 rows make 1.4 times the tokens of 96, and 768 no more (docs/log.md)."""
PREFILL = 4096
"""Prompt tokens in one forward pass: enough for full speed, few enough to stay near a CPU's cache."""


class SlotLayer(CacheLayerMixin):
    """One layer's keys and values, each (slots, heads, width, size per head)."""

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots, self.active = slots, 0
        self.at = torch.empty(0)
        self.keys: Any = None
        self.values: Any = None

    @property
    def width(self) -> int:
        """Columns allocated."""
        return 0 if self.keys is None else self.keys.shape[2]

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate no column yet, in the format of these keys and values."""
        self.keys, self.values = (
            x.new_zeros(self.slots, x.shape[1], 0, x.shape[3]) for x in (key_states, value_states)
        )
        self.is_initialized = True

    def grow(self, width: int) -> None:
        """Have at least `width` columns. New ones hold zeros: what a mask hides must still be finite."""
        if width > self.width:
            more = -(-width // GROW) * GROW - self.width
            self.keys, self.values = (torch.nn.functional.pad(x, (0, 0, 0, more)) for x in (self.keys, self.values))

    def put(self, first: int, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Write prompts into the slots from `first` on, from column 0."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.grow(key_states.shape[2])
        for held, new in ((self.keys, key_states), (self.values, value_states)):
            held[first : first + len(new), :, : new.shape[2]] = new

    def move(self, source: int, target: int) -> None:
        """Copy one slot over another."""
        for held in (self.keys, self.values):
            held[target] = held[source]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one token a slot at the columns `at`; return keys and values of the active slots, whole width."""
        for held, new in ((self.keys, key_states), (self.values, value_states)):
            held.view(-1, held.shape[3]).index_copy_(0, self.at, new.reshape(-1, new.shape[3]))
        return self.keys[: self.active], self.values[: self.active]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns that a mask must cover, and where they start."""
        return self.width, 0

    def get_seq_length(self) -> int:
        """Columns in use, at most."""
        return self.width

    def get_max_length(self) -> int:
        """No limit: columns are added."""
        return -1


class Slots:
    """Conversations being decoded: slot i holds `lengths[i]` tokens.

    Args:
        network: a causal language model of which `fits` is true.
        slots: conversations decoded together, at most.
    """

    def __init__(self, network: Any, slots: int) -> None:
        self.network, self.place = network, next(network.parameters()).device
        self.matrix = output_matrix(network)
        depth = len(DynamicCache(config=network.config).layers)
        self.layers = [SlotLayer(slots) for _ in range(depth)]
        self.cache = Cache(layers=list(self.layers))
        self.lengths: list[int] = []
        self._known: dict[Tokens, int] = {}
        self._prompts: Any = None

    def add(self, prompts: Sequence[Tokens]) -> None:
        """Take conversations into the next free slots; each different prompt is computed once."""
        done = 0
        while done < len(prompts):
            if prompts[done] not in self._known:
                self._compute(_batch(prompts[done:]))
            end = done
            while end < len(prompts) and prompts[end] in self._known:
                end += 1
            rows = torch.tensor([self._known[p] for p in prompts[done:end]], device=self.place)
            self._fill(rows)
            self.lengths += [len(p) for p in prompts[done:end]]
            done = end

    def drop(self, slot: int) -> None:
        """Free a slot; the last one moves there."""
        last = len(self.lengths) - 1
        if slot != last:
            for layer in self.layers:
                layer.move(last, slot)
            self.lengths[slot] = self.lengths[last]
        self.lengths.pop()

    def step(self, tokens: Sequence[int]) -> torch.Tensor:
        """Append one token to every conversation; return the logits (B, V) of what follows."""
        count, widest = len(self.lengths), max(self.lengths) + 1
        first = self.layers[0]
        lengths = torch.tensor(self.lengths, device=self.place)
        for layer in self.layers:
            layer.grow(widest)
            layer.active = count
        heads = first.keys.shape[1]
        row = torch.arange(count * heads, device=self.place) * first.width
        at = row + lengths.repeat_interleave(heads)
        for layer in self.layers:
            layer.at = at
        seen = (torch.arange(first.width, device=self.place) <= lengths[:, None])[:, None, None]
        ids = torch.tensor(tokens, device=self.place)[:, None]
        with _grouped_attention(self.network, self.place) as additive:
            given: dict[str, Any] = {
                "input_ids": ids, "attention_mask": _additive(seen, self.network.dtype) if additive else seen,
                "position_ids": lengths[:, None], "past_key_values": self.cache, "use_cache": True,
            }  # fmt: skip
            if self.matrix is None:
                logits = self.network(**given, logits_to_keep=1).logits[:, -1]
            else:
                logits = logits_of(self.network.get_decoder()(**given).last_hidden_state[:, -1], self.matrix)
        self.lengths = [length + 1 for length in self.lengths]
        return logits

    def _fill(self, rows: torch.Tensor) -> None:
        for layer, held in zip(self.layers, self._prompts.layers, strict=True):
            layer.put(len(self.lengths), held.keys[rows], held.values[rows])

    def _compute(self, prompts: list[Tokens]) -> None:
        """Run prompts through the network: what all of them begin with once, the rest padded at its end.

        Under a causal mask padding at the end changes nothing before it, and what it wrote is never looked at.
        """
        shared = _shared(prompts)
        rest = [p[shared:] for p in prompts]
        cache = DynamicCache(config=self.network.config)
        if shared:
            self._forward([prompts[0][:shared]], cache)
            cache.batch_repeat_interleave(len(prompts))
        if any(rest) or not shared:
            self._forward(rest, cache)
        self._known, self._prompts = {p: i for i, p in enumerate(prompts)}, cache

    def _forward(self, rows: list[Tokens], cache: DynamicCache) -> None:
        width = max(1, *map(len, rows))
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=self.place)
        self.network.get_decoder()(input_ids=ids, past_key_values=cache, use_cache=True)


def fits(network: Any) -> bool:
    """Return whether this network's attention is the plain one: every layer sees all tokens, and nothing but tokens.

    Sliding windows, states in place of keys, soft caps and attention sinks are left to transformers' own caches.
    """
    config = network.config.get_text_config()
    plain = all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    shared = bool(getattr(config, "num_kv_shared_layers", 0))
    return plain and not capped and not shared and config._attn_implementation == "sdpa" and network.config is config


def together(network: Any, width: int) -> int:
    """Return how many conversations of at most `width` tokens are decoded together where nobody said."""
    config, weights = network.config.get_text_config(), next(network.parameters())
    if weights.device.type != "cpu" or not fits(network):
        return FEWEST
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * config.num_hidden_layers * heads * size * weights.element_size()
    return min(MOST, max(FEWEST, HELD // (token * width)))


def _batch(prompts: Sequence[Tokens]) -> list[Tokens]:
    """Return the first different prompts that one forward pass takes; they come longest first."""
    different = list(dict.fromkeys(prompts))
    widest = max(map(len, different))
    return different[: max(1, PREFILL // max(1, widest))]


def _shared(prompts: Sequence[Tokens]) -> int:
    """Return how many tokens all prompts begin with; 0 for a single one, which has nothing to share."""
    first, last = min(prompts), max(prompts)  # in dictionary order, these two differ the earliest
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return same if len(prompts) > 1 else 0


def _additive(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)


@contextlib.contextmanager
def _grouped_attention(network: Any, place: torch.device) -> Iterator[bool]:
    """Let a CPU use `grouped` for the block (True); other devices have better kernels of their own (False)."""
    if place.type != "cpu":
        yield False
        return
    config, before = network.config, network.config._attn_implementation
    config._attn_implementation = "primum_grouped"
    try:
        yield True
    finally:
        config._attn_implementation = before


def grouped(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor,
    scaling: float, **more: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """Attention of one new token: queries that share a head's keys are one small matrix, nothing is repeated.

    Args:
        module: the attention layer.
        query: (B, heads, 1, D).
        key: (B, key heads, W, D).
        value: (B, key heads, W, Dv).
        attention_mask: (B, 1, 1, W), added to the scores.
        scaling: of the scores.
        more: what other attentions need.

    Returns:
        (B, 1, heads, Dv), and no weights.
    """
    batch, heads, size = query.shape[0], query.shape[1], query.shape[3]
    scores = torch.matmul(query.view(batch, key.shape[1], -1, size), key.transpose(2, 3))
    weights = scores.mul_(scaling).add_(attention_mask).softmax(-1)
    return torch.matmul(weights, value).view(batch, 1, heads, -1), None


AttentionInterface.register("primum_grouped", grouped)
