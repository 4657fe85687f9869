"""What the embedded model's middle layers hold of a reply: the features of the linear probe.

Always the untouched embedded model, whichever model is being tested. A reply is read once, after its prompt, through
the first DEPTH of 30 layers; a long one by its start and its end, so that 800 replies take half a minute on two cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from primum.judging import Exchange
from primum.judging.text import clip

DEPTH = 20
PROMPT, START, END, FIRST = 36, 32, 16, 24
"""Tokens read of the prompt (its end), of the reply's start and end, and those pooled apart as "first" and "last"."""
BATCH = 48
Features = NDArray[np.float32]


class Row(NamedTuple):
    """Token ids of a prompt's end and a reply, and where the reply begins."""

    ids: list[int]
    begin: int


@cache
def reader() -> Any:
    """Return the embedded model cut to DEPTH layers; loaded once per process.

    Raises:
        UsageError: the package with the embedded weights is not installed.
    """
    from primum.models.load import load

    model = load("embedded")
    inner = model.network.model
    inner.layers = inner.layers[:DEPTH]
    inner.config.num_hidden_layers = DEPTH
    return model


def rows(exchanges: Sequence[Exchange]) -> list[Row]:
    """Return the tokens to be read; an empty reply is read as one line break."""
    tokenizer = reader().tokenizer
    prompts = tokenizer([clip(one.prompt.text) + "\n\n" for one in exchanges], add_special_tokens=False)["input_ids"]
    replies = tokenizer([clip(one.reply.text) or "\n" for one in exchanges], add_special_tokens=False)["input_ids"]
    found: list[Row] = []
    for prompt, reply in zip(prompts, replies, strict=True):
        kept = reply if len(reply) <= START + END else reply[:START] + reply[-END:]
        head = prompt[-PROMPT:]
        found.append(Row(head + (kept or [tokenizer.eos_token_id]), len(head)))
    return found


def features(exchanges: Sequence[Exchange]) -> Features:
    """Return the features (N, 4 * width + 1): four pooled hidden states, and 1 where the prompt is harmful.

    Means over all tokens of the reply, its first and its last ones; and the first mean times the mean over the prompt,
    element by element: how much the reply is about what was asked.
    """
    todo = rows(exchanges)
    order = sorted(range(len(todo)), key=lambda i: len(todo[i].ids))
    out: dict[int, Features] = {}
    for start in range(0, len(order), BATCH):
        part = order[start : start + BATCH]
        for i, vector in zip(part, _pooled([todo[i] for i in part]), strict=True):
            out[i] = vector
    pooled = np.stack([out[i] for i in range(len(todo))])
    harmful = np.array([[one.prompt.intent == "harmful"] for one in exchanges], np.float32)
    return np.concatenate([pooled, harmful], axis=1)


def _pooled(batch: Sequence[Row]) -> list[Features]:
    import torch

    model = reader()
    width = max(len(row.ids) for row in batch)
    pad = int(model.tokenizer.pad_token_id)
    ids = torch.tensor([row.ids + [pad] * (width - len(row.ids)) for row in batch], device=model.place)
    mask = torch.tensor([[1] * len(row.ids) + [0] * (width - len(row.ids)) for row in batch], device=model.place)
    with torch.inference_mode():
        states = model.network.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    return [_pool(one, row) for one, row in zip(states.float().cpu().numpy(), batch, strict=True)]


def _pool(states: Features, row: Row) -> Features:
    begin, end = row.begin, len(row.ids)
    asked, said = states[:begin].mean(0), states[begin:end].mean(0)
    first, last = states[begin : begin + FIRST][: end - begin].mean(0), states[max(begin, end - END) : end].mean(0)
    return np.concatenate([said, first, last, said * asked])
