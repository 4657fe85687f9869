"""Which weights learn: LoRA by default (arXiv:2106.09685), or all; and how they are saved and merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from primum.models.load import Model, quiet


def add_lora(model: Model, rank: int, alpha: int, seed: int) -> Any:
    """Return the network with a fresh LoRA adapter on every linear layer; adapter weights are fp32.

    The product of a fresh adapter is zero: the network answers as before.
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    with quiet():
        network = get_peft_model(model.network, config)
    network.base_model.enable_input_dtype_casting = False
    for module in network.modules():  # the products run in the base's format; only the masters are fp32
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False
    return network


def trainable(network: Any) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that learn, by name."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def save_adapter(network: Any, folder: Path, base: str) -> None:
    """Save the adapter (safetensors) with the name of the base it belongs to."""
    network.peft_config["default"].base_model_name_or_path = base
    with quiet():
        network.save_pretrained(str(folder))


def save_merged(network: Any, tokenizer: Any, folder: Path) -> None:
    """Merge the adapter into the weights and save a folder that plain transformers loads."""
    with quiet():
        merged = network.merge_and_unload() if hasattr(network, "merge_and_unload") else network
        merged.save_pretrained(str(folder), safe_serialization=True)
        tokenizer.save_pretrained(str(folder))


def save_weights(network: Any, path: Path) -> None:
    """Save what learns, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    save_file({name: p.detach().contiguous().clone() for name, p in trainable(network).items()}, partial)
    partial.replace(path)


def load_weights(network: Any, path: Path) -> None:
    """Load what `save_weights` saved, bit for bit."""
    tensors = load_file(path)
    with torch.no_grad():
        for name, p in trainable(network).items():
            p.copy_(tensors[name])
