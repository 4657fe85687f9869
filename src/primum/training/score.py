"""The one scoring function: log-probability of answer tokens, for losses, references and evaluation.

The output matrix is applied only where an answer token is predicted; the reduction is in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from primum.core.progress import Advance, silent
from primum.training.batches import Rows, collate, micro_batches
from primum.training.examples import Example


class Scores(NamedTuple):
    """Per row: summed log-probability of the answer (nats) and number of answer tokens, each (B,)."""

    logps: Tensor
    lengths: Tensor


def score(network: Any, rows: Rows) -> Scores:
    """Score the answers of right-padded rows under a causal language model.

    Args:
        network: a transformers causal LM (with adapters or without).
        rows: ids, attention and answer mask, each (B, T).
    """
    keep = rows.targets[:, 1:]
    logits = _answer_logits(network, rows.ids, keep).float()
    token = -torch.nn.functional.cross_entropy(logits, rows.ids[:, 1:][keep], reduction="none")
    owner = keep.nonzero()[:, 0]
    sums = torch.zeros(len(rows.ids), dtype=token.dtype, device=token.device).index_add(0, owner, token)
    return Scores(sums, rows.targets.sum(1))


def _answer_logits(network: Any, ids: Tensor, keep: Tensor) -> Tensor:
    """Return logits (N, V) at the positions before answer tokens.

    Rows are padded on the right: under causal attention no real token sees a pad, so no mask is needed.
    """
    causal = network.get_base_model() if hasattr(network, "get_base_model") else network
    if not plain_head(causal):
        return causal(input_ids=ids, use_cache=False).logits[:, :-1][keep]
    trunk = getattr(causal, causal.base_model_prefix)
    hidden = trunk(input_ids=ids, use_cache=False).last_hidden_state
    return causal.get_output_embeddings()(hidden[:, :-1][keep])


def plain_head(causal: Any) -> bool:
    """Whether logits are the output matrix times the trunk's hidden states, and nothing more.

    Gemma 2 caps its logits, Granite and Cohere scale them; such models, and any whose trunk is not found under the
    usual name, are scored through their own forward.
    """
    config = causal.config.get_text_config()
    touched = ("final_logit_softcapping", "logits_scaling", "logit_scale", "lm_head_multiplier")
    return hasattr(causal, causal.base_model_prefix) and not any(getattr(config, name, None) for name in touched)


@torch.no_grad()
def score_all(
    network: Any, examples: Sequence[Example], pad: int, token_budget: int = 4096, advance: Advance = silent
) -> Scores:
    """Score many examples, sorted by length, without gradients; results in the order given."""
    place = next(network.parameters()).device
    indexed = [_Indexed(i, e) for i, e in enumerate(examples)]
    logps = torch.zeros(len(examples))
    lengths = torch.zeros(len(examples), dtype=torch.long)
    for group in micro_batches(indexed, token_budget):
        got = score(network, collate([g.example for g in group], pad, place))
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
