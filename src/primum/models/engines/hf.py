"""Replies by transformers on any device: batched, sorted by length, finished rows leave the batch.

`generate` keeps a finished row in the batch until the slowest one ends; safety replies differ much in length
(a refusal is short), so the loop here drops finished rows and their cache. Greedy decoding gives the same tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from transformers import DynamicCache

from primum.core.errors import UsageError
from primum.core.progress import Advance, silent
from primum.core.records import Messages
from primum.models.chat import encode, end_of_turn
from primum.models.load import Model
from primum.models.sampling import Generated, Sampling

about = "transformers, batched, on CPU or GPU"


@dataclass
class HFEngine:
    """An engine over a model in memory.

    Args:
        model: the model and its tokenizer.
        batch_size: rows decoded together.
    """

    model: Model
    batch_size: int = 96
    advance: Advance = silent

    @property
    def model_name(self) -> str:
        """The name and weights of the model that answers."""
        return f"{self.model.name}@{self.model.hash}"

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: int) -> list[Generated]:
        """Generate one reply per conversation, in the order given; longest prompts are decoded first."""
        limit = room(self.model, sampling.max_new_tokens)
        rows = encode(batch, self.model.tokenizer, limit)
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        replies: dict[int, Generated] = {}
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            random = torch.Generator(device=self.model.place).manual_seed(seed * 1_000_003 + start)
            tokens = decode(self.model, [rows[i] for i in part], sampling, random)
            for i, new in zip(part, tokens, strict=True):
                replies[i] = self._reply(rows[i], new)
            self.advance(len(part))
        return [replies[i] for i in range(len(rows))]

    def _reply(self, prompt: list[int], new: list[int]) -> Generated:
        ended = bool(new) and new[-1] in stop_ids(self.model)
        text = self.model.tokenizer.decode(new, skip_special_tokens=True).strip()
        return Generated(text, "stop" if ended else "length", len(prompt), len(new))


def room(model: Model, new_tokens: int) -> int | None:
    """Return how many prompt tokens fit before `new_tokens` new ones; None where the model names no limit.

    Raises:
        UsageError: not even a short prompt fits.
    """
    context = getattr(model.network.config.get_text_config(), "max_position_embeddings", None)
    if context is None:
        return None
    if context - new_tokens < 16:
        cure = f"ask for at most {max(1, context - 256)} tokens with --reply-tokens"
        raise UsageError(f"a reply of {new_tokens} tokens does not fit a context of {context}", cure=cure)
    return context - new_tokens


def stop_ids(model: Model) -> set[int]:
    """Return the tokens that end a reply: the tokenizer's and the generation config's."""
    named = model.network.generation_config.eos_token_id
    ids = set(named) if isinstance(named, list) else {named}
    return {i for i in (*ids, model.tokenizer.eos_token_id, end_of_turn(model.tokenizer)) if i is not None}


@torch.inference_mode()
def decode(model: Model, rows: list[list[int]], sampling: Sampling, random: torch.Generator) -> list[list[int]]:
    """Decode new tokens for left-padded rows until each ends or has `max_new_tokens`.

    Args:
        model: network and tokenizer.
        rows: prompt token ids.
        sampling: temperature, top-p, top-k, length.
        random: source of the draws; the same state gives the same tokens.

    Returns:
        New token ids per row, the stop token included where it came.
    """
    place, width = model.place, max(map(len, rows))
    pad = cast(int, model.tokenizer.pad_token_id)
    tokens = torch.tensor([[pad] * (width - len(r)) + r for r in rows], device=place)
    mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows], device=place)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    cache, alive, stops = DynamicCache(), list(range(len(rows))), stop_ids(model)
    new: list[list[int]] = [[] for _ in rows]
    for _ in range(sampling.max_new_tokens):
        logits = model.network(
            input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache,
            use_cache=True, logits_to_keep=1,
        ).logits[:, -1]  # fmt: skip
        drawn = draw(logits, sampling, random)
        for row, token in zip(alive, drawn.tolist(), strict=True):
            new[row].append(token)
        keep = [k for k, row in enumerate(alive) if new[row][-1] not in stops]
        if not keep:
            break
        if len(keep) < len(alive):
            drawn, mask, positions = _select(keep, cache, drawn, mask, positions)
            alive = [alive[k] for k in keep]
        tokens = drawn[:, None]
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
    return new


def _select(keep: list[int], cache: Any, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    index = torch.tensor(keep, device=tensors[0].device)
    cache.batch_select_indices(index)
    return tuple(tensor[index] for tensor in tensors)


def draw(logits: torch.Tensor, sampling: Sampling, random: torch.Generator) -> torch.Tensor:
    """Draw one token per row of logits (B, V); greedy at temperature 0. Nucleus as in arXiv:1904.09751."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scaled = logits.float() / sampling.temperature
    if sampling.top_k:
        floor = scaled.topk(sampling.top_k).values[:, -1:]
        scaled = scaled.masked_fill(scaled < floor, float("-inf"))
    if sampling.top_p < 1:
        ordered, index = scaled.sort(descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        scaled = scaled.scatter(-1, index, ordered.masked_fill(before >= sampling.top_p, float("-inf")))
    return _inverse_cdf(scaled, random)


def _inverse_cdf(logits: torch.Tensor, random: torch.Generator, block: int = 256) -> torch.Tensor:
    """Draw by one uniform number a row: first the block of tokens it falls into, then the token.

    torch.multinomial draws a number per token of the vocabulary, and a running sum over all tokens is its slowest part.
    """
    rows, size = logits.shape
    weights = (logits - logits.amax(1, keepdim=True)).exp()
    weights = torch.nn.functional.pad(weights, (0, -size % block)).view(rows, -1, block)
    blocks = weights.sum(-1).cumsum(-1)
    point = torch.rand(rows, 1, generator=random, device=logits.device) * blocks[:, -1:]
    at = torch.minimum(torch.searchsorted(blocks, point, right=True), _last(blocks))
    before = torch.where(at > 0, blocks.gather(1, (at - 1).clamp(min=0)), 0)
    inside = weights[torch.arange(rows, device=at.device), at[:, 0]].cumsum(-1)
    token = torch.minimum(torch.searchsorted(inside, point - before, right=True), _last(inside))
    return (at * block + token)[:, 0]


def _last(sums: torch.Tensor) -> torch.Tensor:
    """Return where running sums (B, N) reach their end (B, 1): rounding may point past the last that has any weight."""
    return (sums < sums[:, -1:]).sum(-1, keepdim=True)
