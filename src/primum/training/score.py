"""The one scoring function: log-probability of answer tokens, for losses, references and evaluation.

Rows are laid into one tree (`packed`), so that what they share is computed once; the output matrix is applied only
where an answer token is predicted; the reduction is in fp32. A model for which the tree gives other numbers than
separate rows (found out once, on the first rows) is scored on separate rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from primum.core.progress import Advance, silent
from primum.models.head import logits_of, output_matrix, plain_head
from primum.models.load import tower
from primum.models.seeing import looked_at, moved
from primum.training import flex
from primum.training.attention import tree_attention
from primum.training.batches import collate, indexed_batches, micro_batches
from primum.training.below import ROOM, Below, first_that_learns, held
from primum.training.block import fuse_blocks, fused_blocks
from primum.training.examples import Example
from primum.training.packed import Packed, pack, walk
from primum.training.recompute import recomputes

log = logging.getLogger(__name__)
CHUNK = 64 << 20
"""Bytes of fp32 probabilities that are held at a time where the output matrix is frozen."""
TOLERANCE, SHARE = 0.1, 0.05
"""Nats per answer token, in the mean, that a tree may differ from separate rows, or that share of what the model says
of them where this is more: above the rounding of bf16 (.02 to .05 of 3 nats a token; .15 of 5 where a model was
fine-tuned to something else), far below what a wrong mask or position does (more than .5)."""


class Scores(NamedTuple):
    """Log-probabilities (nats): summed over each answer (B,), or of each token (N,); and answer tokens a row (B,)."""

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
    return Scores(per_row(answer_logps(network, states), states), states.lengths)


def token_scores(network: Any, examples: Sequence[Example]) -> Scores:
    """Score each answer token of rows: log-probabilities (N,), row after row, and answer tokens a row (B,)."""
    states = answer_states(network, examples)
    return Scores(answer_logps(network, states), states.lengths)


def answer_logps(network: Any, states: States) -> Tensor:
    """Return the log-probability (N,), nats, of each answer token; under a frozen output matrix a chunk at a time."""
    head = frozen_head(network)
    if head is None:
        return token_logps(logits(network, states.hidden), states.targets)
    return cast(Tensor, _Answers.apply(states.hidden, head, states.targets))


def per_row(values: Tensor, states: States) -> Tensor:
    """Sum a value per answer token (N,) to one per row (B,)."""
    return values.new_zeros(len(states.lengths)).index_add(0, states.owner, values)


def token_logps(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the log-probability of each target (N,) under logits (N, V)."""
    return -torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def frozen_head(network: Any) -> Tensor | None:
    """Return the output matrix (V, D) where it is all that follows the trunk, and does not learn."""
    matrix = output_matrix(causal(network))
    return None if matrix is None or matrix.requires_grad else matrix


class _Answers(torch.autograd.Function):
    """Log-probabilities (N,) of answer tokens from states (N, D) under a frozen output matrix.

    The gradient of a token's log-probability is known as soon as its probabilities are: W' (onehot - p). It is taken
    at once, so that no logits are kept, a few rows at a time (`CHUNK`); backward only weighs it.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
        logps = hidden.new_empty(len(hidden), dtype=torch.float32)
        pulls = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        rows = max(1, CHUNK // (4 * len(head)))
        for at in range(0, len(hidden), rows):
            part = slice(at, at + rows)
            each = torch.log_softmax(logits_of(hidden[part], head), -1, dtype=torch.float32)
            logps[part] = each.gather(1, targets[part, None])[:, 0]
            if pulls is not None:
                each.exp_()[torch.arange(len(each), device=each.device), targets[part]] -= 1
                pulls[part] = each.neg_().to(head.dtype) @ head
        ctx.save_for_backward(pulls)
        return logps

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (pulls,) = ctx.saved_tensors
        return (pulls * grad[:, None]).to(pulls.dtype), None, None


def answer_states(network: Any, examples: Sequence[Example]) -> States:
    """Return the network's last hidden states before each answer token, row after row.

    Where the network does more after its trunk than multiply (`plain_head`), the states are its logits.
    """
    if any(one.seen for one in examples):
        each = [_looking(network, one) if one.seen else answer_states(network, [one]) for one in examples]
        return _joined(each)
    place = _place(network)
    packed = pack(examples, place)
    name = way(network, examples, _learns(network)) if _within_window(network, packed) else "separate"
    if name == "blocks" and recomputes(network):
        name = "paths"  # a block in one piece keeps all
    hidden = _WAYS[name](network, examples, packed)
    return States(hidden, packed.targets, packed.owner, packed.lengths)


def critic_states(network: Any, examples: Sequence[Example], states: States) -> Tensor:
    """Return the trunk's hidden states (N, D) before each answer token, which a critic's head reads.

    They are `states.hidden`, but of a network that does more after its trunk than multiply: there those are logits.
    """
    base = causal(network)
    if plain_head(base):
        return states.hidden
    rows = collate(examples, 0, states.hidden.device)
    hidden = trunk(base)(input_ids=rows.ids, use_cache=False).last_hidden_state
    return hidden[:, :-1][rows.targets[:, 1:]]


def _looking(network: Any, one: Example) -> States:
    """Return the states of a row with pictures, by the whole model; what it sees with has no gradient."""
    base = causal(network)
    given = looked_at(base.name_or_path, one.seen or ())
    place, (known,) = next(base.parameters()).device, given["input_ids"].tolist()
    if tuple(known) != one.prompt[: len(known)]:
        raise ValueError("the model's processor reads these pictures in another way than when the row was made")
    rest = torch.tensor([(*one.prompt, *one.answer)[len(known) :]])
    more = {"input_ids": rest, "attention_mask": torch.ones_like(rest)}
    inputs = {
        name: torch.cat([value, more.get(name, torch.zeros_like(rest)).to(value)], 1)
        if value.shape == given["input_ids"].shape else value
        for name, value in given.items()
    }  # fmt: skip
    inputs = moved(inputs, place, base.dtype)
    if plain_head(base):
        out = getattr(base, base.base_model_prefix)(use_cache=False, **inputs).last_hidden_state
    else:
        out = base(use_cache=False, **inputs).logits
    count, start = len(one.answer), len(one.prompt) - 1
    targets = torch.tensor(one.answer, device=place)
    lengths = torch.tensor([count], device=place)
    return States(out[0, start : start + count], targets, torch.zeros_like(targets), lengths)


def _joined(each: Sequence[States]) -> States:
    """Return states of several batches as those of one, row after row."""
    starts = accumulate((len(one.lengths) for one in each), initial=0)
    owner = torch.cat([one.owner + start for one, start in zip(each, starts, strict=False)])
    hidden, targets, lengths = (
        torch.cat(list(part)) for part in zip(*(one[:2] + one[3:] for one in each), strict=True)
    )
    return States(hidden, targets, owner, lengths)


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
    return trunk(base)(use_cache=False, **inputs).last_hidden_state


def trunk(base: Any) -> Any:
    """Return a network without its output matrix; of a vision-language model its language tower."""
    inner = tower(base)
    return getattr(base, base.base_model_prefix) if inner is base else inner


def _blocks(network: Any, examples: Sequence[Example], packed: Packed) -> Tensor:
    """Score a tree by blocks in one piece (`block`), from the first that learns where those below are noted."""
    below = held(causal(network))
    states = below.laid(examples) if below else None
    given = {"input_ids": packed.ids} if below is None or states is None else {
        "inputs_embeds": states[None], "span": (below.first, None)
    }  # fmt: skip
    return _whole(network, packed, **given)[0, packed.before]


def _whole(network: Any, packed: Packed, **given: Any) -> Tensor:
    with tree_attention(causal(network)):
        return _forward(network, position_ids=packed.positions, chains=packed.chains, whole_blocks=True, **given)


@torch.no_grad()
def note_below(network: Any, examples: Sequence[Example], advance: Advance = silent) -> Below | None:
    """Compute once what the blocks below the first adapter make of rows; `below.beginning` lets steps begin there.

    Returns:
        None where nothing can be gained or held: no block is frozen below the first that learns, rows are not scored by
        blocks in one piece, or their states need more than `below.ROOM`.
    """
    base, rows = causal(network), list(dict.fromkeys(examples))
    ours = shares_prompts(network, rows[:4]) and way(network, rows[:4], _learns(network)) == "blocks"
    first = first_that_learns(base, fused_blocks(base)) if ours else 0
    need = sum(row.length for row in rows) * base.get_input_embeddings().weight[0].nbytes
    if not first or need > ROOM or any(row.seen for row in rows):
        return None
    states: dict[Example, Tensor] = {}
    for group in micro_batches(rows, 2048):
        packed, heard = pack(group, _place(network)), list[Tensor]()
        _whole(network, packed, input_ids=packed.ids, span=(0, first), heard=heard)
        states |= {row: heard[0][places] for row, places in zip(group, walk(group).places, strict=True)}
        advance(len(group))
    return Below(first, states)


def _paths(network: Any, examples: Sequence[Example], packed: Packed) -> Tensor:
    """Score a tree by attention along its paths (`attention`)."""
    with tree_attention(causal(network)):
        out = _forward(network, input_ids=packed.ids, position_ids=packed.positions, chains=packed.chains)
    return out[0, packed.before]


def _flex(network: Any, examples: Sequence[Example], packed: Packed) -> Tensor:
    """Score a tree by FlexAttention (`flex`), which a GPU computes without its mask."""
    tree = flex.padded(packed)
    with tree_attention(causal(network)):
        out = _forward(network, input_ids=tree.ids, position_ids=tree.positions, tree_mask=tree.mask)
    return out[0, packed.before]


def _masked(network: Any, examples: Sequence[Example], packed: Packed) -> Tensor:
    """Score a tree under its mask."""
    out = _forward(network, input_ids=packed.ids, position_ids=packed.positions, attention_mask=packed.sees)
    return out[0, packed.before]


def _separate(network: Any, examples: Sequence[Example], packed: Packed) -> Tensor:
    """Score right-padded rows: under causal attention no real token sees a pad, so no mask is needed."""
    rows = collate(examples, 0, packed.ids.device)
    return _forward(network, input_ids=rows.ids)[:, :-1][rows.targets[:, 1:]]


def shares_prompts(network: Any, examples: Sequence[Example]) -> bool:
    """Whether rows like these are laid into one tree (`packed`) for this network; rows with pictures are not."""
    if not examples or any(one.seen for one in examples):
        return False
    packed = pack(examples, _place(network))
    return _within_window(network, packed) and way(network, examples) != "separate"


def plain_way(network: Any, examples: Sequence[Example], packed: Packed) -> Tensor:
    """Return the states of a tree as `answer_states` does, every layer called as a module: hooks on layers are heard.

    Raises:
        ValueError: rows of this network do not share a tree (`shares_prompts`).
    """
    name = way(network, examples, _learns(network))
    if name == "separate":
        raise ValueError("rows of this network do not share a tree")
    return _WAYS["paths" if name == "blocks" else name](network, examples, packed)


def _within_window(network: Any, packed: Packed) -> bool:
    """Whether no row is longer than the window of a model with sliding attention; a tree knows no window."""
    window = getattr(causal(network).config.get_text_config(), "sliding_window", None)
    return not window or int(packed.positions.max()) < window


_WAYS: dict[str, Callable[[Any, Sequence[Example], Packed], Tensor]] = {
    "blocks": _blocks, "paths": _paths, "flex": _flex, "masked": _masked, "separate": _separate
}  # fmt: skip
"""How rows are scored, the fastest first."""
CPU, GPU = ("blocks", "paths"), ("flex",)
"""Ways of one kind of device only."""
ELSEWHERE = "for another kind of device"
_chosen: WeakKeyDictionary[Any, dict[bool, str]] = WeakKeyDictionary()


def under_mask(network: Any) -> bool:
    """Whether a network was found to share rows under a dense mask only."""
    return "masked" in _chosen.get(causal(network), {}).values()


def _learns(network: Any) -> bool:
    """Whether weights under the adapter learn just now; blocks in one piece have gradients for adapters only."""
    base = causal(network)
    return torch.is_grad_enabled() and any(p.requires_grad and "lora_" not in n for n, p in base.named_parameters())


@torch.no_grad()
def way(network: Any, examples: Sequence[Example], learns: bool = False, most: int = 4) -> str:
    """Return the first way that gives what separate rows give, found out on the first rows a network must score.

    Args:
        network: the network.
        examples: rows; the first `most` are scored in each way until one fits.
        learns: whether weights other than adapters need gradients.
        most: rows to compare.
    """
    base = causal(network)
    known = _chosen.setdefault(base, {})
    if learns not in known:
        expected = _answers(network, examples[:most], "separate")
        faults = dict[str, str]()
        for name in [name for name in _WAYS if name != "blocks" or not learns]:
            why = _unfit(network, examples[:most], name, expected)
            if not why:
                _announce(type(base).__name__, name, faults, again=name in known.values())
                known[learns] = name
                break
            faults[name] = why
    return known[learns]


def _announce(model: str, name: str, faults: dict[str, str], again: bool) -> None:
    """Say by which way a model is scored; warn, once and with the reasons, of one whose cost is a square or a prompt.

    What another kind of device would have done (`ELSEWHERE`) is no reason.
    """
    costs = {
        "masked": "is scored under a dense mask, which takes memory and time with the square of a pass's tokens",
        "separate": "cannot share prompts between rows; each row is computed apart",
    }
    if name not in costs or again:
        log.info("%s is scored by the way '%s'", model, name)
        return
    reasons: dict[str, str] = {}
    for one, why in faults.items():
        if why != ELSEWHERE:
            reasons.setdefault(why, f"not the way '{one}': {why}")
    log.warning("%s %s (%s)", model, costs[name], "; ".join(reasons.values()))


def _answers(network: Any, examples: Sequence[Example], name: str) -> Tensor:
    packed = pack(examples, _place(network))
    return token_logps(logits(network, _WAYS[name](network, examples, packed)), packed.targets)


def _unfit(network: Any, examples: Sequence[Example], name: str, expected: Tensor) -> str | None:
    """Return why a way cannot be taken; None: it can. Separate rows always can."""
    base = causal(network)
    if name == "separate":
        return None
    if name in (GPU if _place(base).type == "cpu" else CPU):
        return ELSEWHERE
    attention = getattr(tower(base).config, "_attn_implementation", None)
    if attention != "sdpa":
        return f"transformers computes its attention as '{attention}', not by SDPA"
    if name == "blocks" and not fuse_blocks(base):
        return "its blocks are not of a shape that is known"
    return _fault(network, examples, name, expected)


def _fault(network: Any, examples: Sequence[Example], name: str, expected: Tensor) -> str | None:
    """Return why a way cannot be taken: what was raised, or how far its numbers are off; None: it can."""
    if name == "flex" and (why := _flex_fault(causal(network))):
        return why
    try:
        found = _answers(network, examples, name)
    except flex.FAULTS as error:  # a model that takes no such mask, or no such attention
        return str(error)
    apart = float((found - expected).abs().mean())
    allowed = max(TOLERANCE, SHARE * float(expected.abs().mean()))
    return None if apart < allowed else f"log-probabilities are {apart:.2g} nats a token off"


def _flex_fault(base: Any) -> str | None:
    """Try FlexAttention, backward too, on heads like those of the model; return why it cannot be used."""
    config = base.config.get_text_config()
    heads = getattr(config, "num_attention_heads", None) or 8
    keys = getattr(config, "num_key_value_heads", None) or heads
    size = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 64 * heads) // heads
    return flex.fault(heads, keys, size, base.dtype, _place(base))


def _place(network: Any) -> torch.device:
    return next(network.parameters()).device


@torch.no_grad()
def score_all(network: Any, examples: Sequence[Example], token_budget: int = 1024, advance: Advance = silent) -> Scores:
    """Score many examples without gradients, passes as `cut_rows` cuts them; results in the order given."""
    logps = torch.zeros(len(examples))
    lengths = torch.zeros(len(examples), dtype=torch.long)
    for group in indexed_batches(examples, token_budget, shares_prompts(network, examples[:4])):
        got = score(network, [g.example for g in group])
        index = torch.tensor([g.index for g in group])
        logps[index], lengths[index] = got.logps.float().cpu(), got.lengths.cpu()
        advance(len(group))
    return Scores(logps, lengths)
