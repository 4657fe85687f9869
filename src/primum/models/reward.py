"""A reward model in a folder: a trunk that transformers loads as any model, and a linear head for each name beside it.

The score of an answer is read at its last token, never at a pad; prompts and answers are cut as they were in training.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from primum.core.errors import BadInputError
from primum.core.records import JsonDict, Messages
from primum.core.store import share_weights, write_json
from primum.models.chat import encode, encode_answer
from primum.models.load import Model, load

ABOUT = "reward.json"
WEIGHTS = "heads.safetensors"
BATCH = 16


class Heads(nn.Module):
    """Named linear heads (D -> 1) in fp32, with the scale of the states taken out first."""

    def __init__(self, width: int, names: Sequence[str], seed: int = 0) -> None:
        super().__init__()
        self.names = tuple(names)
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, len(self.names))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(self.linear.weight.shape, generator=generator) / width)
            self.linear.bias.zero_()

    def forward(self, states: Tensor) -> Tensor:
        """Return raw scalars (N, heads) of states (N, D)."""
        return self.linear(self.norm(states.float()))


@dataclass(frozen=True)
class RewardFolder:
    """A reward model that was saved: its trunk, its heads, and the longest prompt and answer in tokens."""

    model: Model
    heads: Heads
    prompt_tokens: int
    answer_tokens: int

    @property
    def names(self) -> tuple[str, ...]:
        """The heads, in the order of their scores."""
        return self.heads.names

    @torch.inference_mode()
    def scores(
        self, prompts: Sequence[Messages], answers: Sequence[str], ended: Sequence[bool]
    ) -> list[dict[str, float]]:
        """Return the raw score of each head for each answer; the sigmoid of one lies in (0, 1).

        Args:
            prompts: what was asked.
            answers: the replies.
            ended: whether each ends where its author ended, not where a limit cut it.
        """
        tokenizer, rows = self.model.tokenizer, list[list[int]]()
        for ids, text, end in zip(encode(prompts, tokenizer), answers, ended, strict=True):
            answer = encode_answer(text, tokenizer, end=end)[: self.answer_tokens]
            rows.append([*ids[-self.prompt_tokens :], *answer])
        found: list[dict[str, float]] = []
        for start in range(0, len(rows), BATCH):
            raw = self.heads(self._last(rows[start : start + BATCH])).tolist()
            found += [dict(zip(self.names, row, strict=True)) for row in raw]
        return found

    def _last(self, rows: Sequence[Sequence[int]]) -> Tensor:
        network, place = self.model.network, self.model.place
        lengths = torch.tensor([len(row) for row in rows], device=place)
        ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long, device=place)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = torch.tensor(row, device=place)
        mask = torch.arange(ids.shape[1], device=place)[None] < lengths[:, None]
        trunk: Any = getattr(network, network.base_model_prefix)
        hidden = trunk(input_ids=ids, attention_mask=mask.long(), use_cache=False).last_hidden_state
        return cast(Tensor, hidden[torch.arange(len(rows), device=place), lengths - 1])


def is_reward(name: str) -> bool:
    """Return whether a folder holds a reward model that `save_heads` made."""
    return (Path(name) / ABOUT).is_file()


def save_heads(heads: Heads, folder: Path, prompt_tokens: int, answer_tokens: int) -> None:
    """Write the heads beside a trunk that is saved there."""
    save_file({name: p.detach().cpu().contiguous() for name, p in heads.state_dict().items()}, folder / WEIGHTS)
    share_weights(folder)
    write_json(folder / ABOUT, {"heads": heads.names, "prompt_tokens": prompt_tokens, "answer_tokens": answer_tokens})


def load_reward(name: str) -> RewardFolder:
    """Load a reward model that was saved.

    Raises:
        BadInputError: a file of it is missing or broken.
        UsageError: its trunk cannot be loaded.
    """
    folder = Path(name)
    try:
        about: JsonDict = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        weights = load_file(folder / WEIGHTS)
        names, limits = tuple(map(str, about["heads"])), (int(about["prompt_tokens"]), int(about["answer_tokens"]))
        heads = Heads(int(weights["linear.weight"].shape[1]), names)
        heads.load_state_dict(weights)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        cure = "give the folder that primum train reward wrote, whole"
        raise BadInputError(f"not a whole reward model: {error}", where=str(folder), cure=cure) from error
    model = load(name)
    return RewardFolder(model, heads.to(model.place).eval(), *limits)
