"""Regression heads on a chat checkpoint: one trunk, a scalar for each name (helpfulness, safety, value of a state).

The trunk is an adapter of the model's own base weights, so that policy, reference and reward model share one copy of
them; a head is a linear layer that takes the place of the output matrix (arXiv:2307.09288, section 3.2.2). The score of
an answer is read at its last token, never at a pad.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from primum.core.records import Messages
from primum.models.chat import encode
from primum.models.head import plain_head
from primum.models.reward import Heads
from primum.training.adapter import fuse, linear_names, load_weights, trainable
from primum.training.batches import collate, micro_batches
from primum.training.examples import Example, Limits, example
from primum.training.score import answer_states, causal

ADAPTER = "reward"
RANK = 8
LIMITS = Limits(prompt=1024, answer=1024)
"""Tokens that are read of a prompt (its end) and of an answer (its beginning)."""
AFTER = 0
"""Any token: the state before it is the state of the answer's last token."""


class RewardModel(nn.Module):
    """A trunk (a PEFT network whose adapter `adapter` is its own) with named heads."""

    def __init__(self, network: Any, heads: Heads, adapter: str = ADAPTER) -> None:
        super().__init__()
        self.network, self.heads, self.adapter = network, heads, adapter
        self._taken: Path | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The heads, in the order of their columns."""
        return self.heads.names

    def put_on(self) -> None:
        """Let the trunk's adapter be the one that answers and learns."""
        self.network.set_adapter(self.adapter)

    def give_back(self) -> None:
        """Let the policy's adapter answer again."""
        self.network.set_adapter("default")

    def take(self, weights: Path | None) -> None:
        """Put on the trunk's adapter with the weights of a file, read once."""
        self.put_on()
        if weights is not None and weights != self._taken:
            load_weights(self, weights)
            self._taken = weights
        self.eval()

    def raw(self, examples: Sequence[Example]) -> Tensor:
        """Return raw scalars (B, heads), read at the last token of each answer; with gradients."""
        return self.heads(last_states(self.network, examples))

    @torch.no_grad()
    def scores(
        self, prompts: Sequence[Messages], answers: Sequence[str], ended: Sequence[bool], tokenizer: Any
    ) -> list[list[float]]:
        """Return scores in (0, 1), a list of one a head for each answer; long ones are cut (`LIMITS`)."""
        rows = encode(prompts, tokenizer)
        examples = [
            example(row, answer, tokenizer, LIMITS, ends=end)
            for row, answer, end in zip(rows, answers, ended, strict=True)
        ]
        return self.score_examples(examples)

    @torch.no_grad()
    def score_examples(self, examples: Sequence[Example], token_budget: int = 1024) -> list[list[float]]:
        """Return scores in (0, 1) of rows, in their order."""
        order = {id(one): i for i, one in enumerate(examples)}
        found: dict[int, list[float]] = {}
        for group in micro_batches(examples, token_budget):
            for one, row in zip(group, torch.sigmoid(self.raw(group)).tolist(), strict=True):
                found[order[id(one)]] = row
        return [found[i] for i in range(len(examples))]


def last_states(network: Any, examples: Sequence[Example]) -> Tensor:
    """Return the trunk's state (B, D) at the last token of each row; an empty answer is read at its prompt's end."""
    base = causal(network)
    if plain_head(base):
        longer = [Example(one.prompt, (*one.answer, AFTER)) for one in examples]
        states = answer_states(network, longer)
        return states.hidden[states.lengths.cumsum(0) - 1]
    rows = collate(examples, 0, next(network.parameters()).device)
    hidden = getattr(base, base.base_model_prefix)(input_ids=rows.ids, use_cache=False).last_hidden_state
    ends = torch.tensor([one.length - 1 for one in examples], device=hidden.device)
    return hidden[torch.arange(len(examples), device=hidden.device), ends]


def add_reward(network: Any, names: Sequence[str], seed: int, start: float = 0.0) -> RewardModel:
    """Add a reward model to a network that has a policy's adapter; the policy stays as it is.

    Args:
        network: a PEFT network with the adapter "default".
        names: of the heads.
        seed: of the first weights.
        start: share of the depth below which the trunk is the base itself.
    """
    add_adapter(network, ADAPTER, RANK, seed, start)
    width = causal(network).config.get_text_config().hidden_size
    heads = Heads(width, names, seed).to(next(network.parameters()).device)
    return RewardModel(network, heads)


def with_heads(network: Any, names: Sequence[str], seed: int) -> RewardModel:
    """Make a network with one adapter a reward model: that adapter is its trunk's, and there is no policy."""
    width = causal(network).config.get_text_config().hidden_size
    heads = Heads(width, names, seed).to(next(network.parameters()).device)
    return RewardModel(network, heads, adapter="default")


def add_adapter(network: Any, name: str, rank: int, seed: int, start: float = 0.0) -> None:
    """Add one more LoRA adapter to a PEFT network; its product is zero, and the policy's adapter stays on."""
    from peft import LoraConfig

    torch.manual_seed(seed)
    base = causal(network)
    depth = base.config.get_text_config().num_hidden_layers
    blocks = list(range(round(start * depth), depth)) if start else None
    targets = network.peft_config["default"].target_modules or linear_names(base)
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=targets, layers_to_transform=blocks,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    network.add_adapter(name, config)
    fuse(network)
    network.set_adapter("default")


def copy_adapter(network: Any, source: str, target: str) -> None:
    """Copy the weights of one adapter into another of the same shape: a policy is frozen where it stands."""
    named = dict(network.named_parameters())
    with torch.no_grad():
        for name, p in named.items():
            if f".{source}." in name:
                named[name.replace(f".{source}.", f".{target}.")].copy_(p)


@contextmanager
def adapter_on(network: Any, name: str | None) -> Iterator[None]:
    """Let another adapter answer for a while; None lets the base itself answer. The policy's is put on again."""
    try:
        if name is None:
            with network.disable_adapter():
                yield
        else:
            network.set_adapter(name)
            yield
    finally:
        network.set_adapter("default")


def heads_of(path: Path) -> int:
    """Return how many heads a saved reward model has."""
    return int(load_file(path)["heads.linear.bias"].shape[0])


def learned(model: RewardModel) -> list[str]:
    """Return the names of what learns: the trunk's adapter and the heads."""
    return sorted(trainable(model))
