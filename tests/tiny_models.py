"""Tiny random models with a real tokenizer, for runs that must only go through: what they say is babble."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

from primum.models.embedded import embedded_folder

SHAPE: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip


def tiny(folder: Path, seed: int, near: Path | None = None, **shape: Any) -> Path:
    """Save a tiny model; `near`: another one's weights, a little changed; `shape`: other than SHAPE."""
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **{**SHAPE, **shape})
    network = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    if near is not None:
        weights = AutoModelForCausalLM.from_pretrained(near, dtype=torch.bfloat16).state_dict()
        network.load_state_dict({k: v + 0.01 * torch.randn_like(v) for k, v in weights.items()})
        network.tie_weights()
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
