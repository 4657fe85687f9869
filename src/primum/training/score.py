"""The one scoring function: log-probability of answer tokens, for losses, references and evaluation.

Rows are laid into one tree (`packed`), so that what they share is computed once; the output matrix is applied only
where an answer token is predicted; the reduction is in fp32. A model for which the tree gives other numbers than
separate rows (found out once, on the first rows) is scored on separate rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from primum.core.progress import Advance, silent
from primum.training.attention import tree_attention
from primum.training.batches import collate, micro_batches
from primum.training.examples import Example
from primum.training.packed import Packed, pack

log = logging.getLogger(__name__)
TOLERANCE = 0.1
"""Nats per answer token, in the mean, that a tree may differ from separate rows: far above the rounding of bf16 (about
0.01), far below what a wrong mask or position does (more than 0.5)."""


class Scores(NamedTuple):
    """Per row: summed log-probability of the answer (nats) and number of answer tokens, each (B,)."""

    logps: Tensor
    lengths: Tensor


class States(NamedTuple):
    """Per answer token: what the output matrix is applied to (N, D), the token (N,) and its row (N,); lengths (B,)."""

    hidden: Tensor
    targets: Tensor
    owner: Tensor
    lengths: Tensor


def score(network: Any, examples: Sequence[Example]) -> Scores:
    """Score the answers of rows under a causal language model (a transformers network, with adapters or without)."""
    states = answer_states(network, examples)
    logps = token_logps(logits(network, states.hidden), states.targets)
    return Scores(per_row(logps, states), states.lengths)


def per_row(values: Tensor, states: States) -> Tensor:
    """Sum a value per answer token (N,) to one per row (B,)."""
    return values.new_zeros(len(states.lengths)).index_add(0, states.owner, values)


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability of each target (N,) under logits (N, V)."""
    return -torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def answer_states(network: Any, examples: Sequence[Example]) -> States:
    """Return the network's last hidden states before each answer token, row after row.

    Where the network does more after its trunk than multiply (`plain_head`), the states are its logits.
    """
    place = next(network.parameters()).device
    packed = pack(examples, place)
    name = way(network, examples) if _within_window(network, packed) else "separate"
    hidden = _WAYS[name](network, examples, packed)
    return States(hidden, packed.targets, packed.owner, packed.lengths)


def logits(network: Any, hidden: Tensor) -> Tensor:
    """Return fp32 logits (N, V) of states that `answer_states` gave."""
    base = causal(network)
    return (base.get_output_embeddings()(hidden) if plain_head(base) else hidden).float()


def causal(network: Any) -> Any:
    """Return the transformers network under an adapter."""
    return network.get_base_model() if hasattr(network, "get_base_model") else network


def _forward(network: Any, **inputs: Any) -> Tensor:
    base = causal(network)
    if not plain_head(base):
        return base(use_cache=False, **inputs).logits
    return getattr(base, base.base_model_prefix)(use_cache=False, **inputs).last_hidden_state


def _paths(network: Any, examples: Sequence[Example], packed: Packed) -> Tensor:
    """Score a tree by attention along its paths (`attention`)."""
    with tree_attention(causal(network)):
        out = _forward(network, input_ids=packed.ids, position_ids=packed.positions, chains=packed.chains)
    return out[0, packed.before]


def _masked(network: Any, examples: Sequence[Example], packed: Packed) -> Tensor:
    """Score a tree under its mask."""
    out = _forward(network, input_ids=packed.ids, position_ids=packed.positions, attention_mask=packed.sees)
    return out[0, packed.before]


def _separate(network: Any, examples: Sequence[Example], packed: Packed) -> Tensor:
    """Score right-padded rows: under causal attention no real token sees a pad, so no mask is needed."""
    rows = collate(examples, 0, packed.ids.device)
    return _forward(network, input_ids=rows.ids)[:, :-1][rows.targets[:, 1:]]


def _within_window(network: Any, packed: Packed) -> bool:
    """Whether no row is longer than the window of a model with sliding attention; a tree knows no window."""
    window = getattr(causal(network).config.get_text_config(), "sliding_window", None)
    return not window or int(packed.positions.max()) < window


_WAYS: dict[str, Callable[[Any, Sequence[Example], Packed], Tensor]] = {
    "paths": _paths, "masked": _masked, "separate": _separate
}  # fmt: skip
"""How rows are scored, the fastest first."""
_chosen: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


@torch.no_grad()
def way(network: Any, examples: Sequence[Example], most: int = 4) -> str:
    """Return the first way that gives what separate rows give, found out on the first rows a network must score."""
    base = causal(network)
    if base not in _chosen:
        expected = _answers(network, examples[:most], "separate")
        _chosen[base] = next(name for name in _WAYS if _same(network, examples[:most], name, expected))
        if _chosen[base] == "separate":
            log.warning("%s cannot share prompts between rows; each row is computed apart", type(base).__name__)
        else:
            log.info("%s is scored by the way '%s'", type(base).__name__, _chosen[base])
    return _chosen[base]


def _answers(network: Any, examples: Sequence[Example], name: str) -> Tensor:
    packed = pack(examples, next(network.parameters()).device)
    return token_logps(logits(network, _WAYS[name](network, examples, packed)), packed.targets)


def _same(network: Any, examples: Sequence[Example], name: str, expected: Tensor) -> bool:
    base = causal(network)
    if name == "separate":
        return True
    if getattr(base.config, "_attn_implementation", None) != "sdpa":
        return False
    if name == "paths" and next(base.parameters()).device.type != "cpu":
        return False
    try:
        found = _answers(network, examples, name)
    except (TypeError, ValueError, RuntimeError) as error:  # a model that takes no such mask, or no such attention
        log.info("not the way '%s': %s", name, error)
        return False
    return float((found - expected).abs().mean()) < TOLERANCE


def plain_head(base: Any) -> bool:
    """Whether logits are the output matrix times the trunk's hidden states, and nothing more.

    Gemma 2 caps its logits, Granite and Cohere scale them; such models, and any whose trunk is not found under the
    usual name, are scored through their own forward.
    """
    config = base.config.get_text_config()
    touched = ("final_logit_softcapping", "logits_scaling", "logit_scale", "lm_head_multiplier")
    return hasattr(base, base.base_model_prefix) and not any(getattr(config, name, None) for name in touched)


@torch.no_grad()
def score_all(network: Any, examples: Sequence[Example], token_budget: int = 1024, advance: Advance = silent) -> Scores:
    """Score many examples, sorted by length, without gradients; results in the order given."""
    indexed = [_Indexed(i, e) for i, e in enumerate(examples)]
    logps = torch.zeros(len(examples))
    lengths = torch.zeros(len(examples), dtype=torch.long)
    for group in micro_batches(indexed, token_budget):
        got = score(network, [g.example for g in group])
        index = torch.tensor([g.index for g in group])
        logps[index], lengths[index] = got.logps.float().cpu(), got.lengths.cpu()
        advance(len(group))
    return Scores(logps, lengths)


class _Indexed(NamedTuple):
    index: int
    example: Example

    @property
    def length(self) -> int:
        return self.example.length
