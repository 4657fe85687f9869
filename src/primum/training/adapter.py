"""Which weights learn: LoRA by default (arXiv:2106.09685), or all; and how they are saved and merged."""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.utils.hub import cached_file

from primum.core.store import share_weights
from primum.models.load import Model, quiet, sees, tower
from primum.models.saving import writing


def add_lora(model: Model, rank: int, alpha: int, seed: int, start: float = 0.0) -> Any:
    """Return the network with a fresh LoRA adapter on the linear layers of its blocks; adapter weights are fp32.

    Of a vision-language model the blocks of its language tower learn, and nothing of what it sees with.

    The product of a fresh adapter is zero: the network answers as before.

    Args:
        model: network and tokenizer.
        rank: of the adapter.
        alpha: its scale times its rank.
        seed: of its first weights.
        start: share of the depth below which blocks stay as they are; nothing is computed backward there.
    """
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    depth = model.network.config.get_text_config().num_hidden_layers
    blocks = list(range(round(start * depth), depth)) if start else None
    names = targets(model.network, blocks)
    config = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=names,
        layers_to_transform=None if isinstance(names, str) else blocks, task_type="CAUSAL_LM",
    )  # fmt: skip
    with quiet():
        network = get_peft_model(model.network, config)
    fuse(network)
    return network


def targets(network: Any, blocks: Sequence[int] | None = None) -> list[str] | str:
    """Return what PEFT shall adapt: names of layers; of a vision-language model a pattern for its language tower's.

    Args:
        network: a transformers network.
        blocks: only these; the pattern holds them (PEFT takes no list of blocks beside a pattern), names do not.
    """
    inner = tower(network)
    if inner is network:
        return linear_names(network)
    prefix = next(name for name, module in network.named_modules() if module is inner)
    block = rf"\D*\.({'|'.join(map(str, blocks))})\." if blocks else ""  # "layers.7.": the first number is the block's
    return rf"{re.escape(prefix)}\.{block}(.*\.)?({'|'.join(linear_names(inner))})"


def all_learn(network: Any) -> Any:
    """Let all weights learn; of a vision-language model those of its language tower and its output matrix."""
    if not sees(network.config):
        return network.requires_grad_(True)
    network.requires_grad_(False)
    for part in (tower(network), network.get_output_embeddings()):
        part.requires_grad_(True)
    return network


def linear_names(network: Any) -> list[str]:
    """Return the names that linear layers have within their blocks; the output matrix is none of them."""
    head = network.get_output_embeddings()
    linear = (name for name, m in network.named_modules() if isinstance(m, torch.nn.Linear) and m is not head)
    return sorted({name.rpartition(".")[2] for name in linear})


def fuse(network: Any) -> int:
    """Make every plain LoRA layer add its product in place; return how many layers were changed.

    PEFT computes W x + (B A x) * s with two more passes over an output as wide as the layer, and casts x to the
    adapter's fp32. Here the masters stay fp32, the products run in the base's format, and the sum is the matrix
    product's own accumulation. The numbers are the same up to rounding (tests/test_training_adapter.py).
    """
    from peft.tuners.lora.layer import Linear

    changed = 0
    for layer in network.modules():
        if isinstance(layer, Linear) and not layer.fan_in_fan_out and isinstance(layer.base_layer, torch.nn.Linear):
            layer.forward = functools.partial(_forward, layer)  # type: ignore[method-assign]
            changed += 1
    return changed


def _forward(layer: Any, x: Tensor) -> Tensor:
    base, name = layer.base_layer, layer.active_adapters[0]
    if layer.disable_adapters or layer.merged:
        return base(x)
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    return cast(Tensor, _LowRank.apply(x, base.weight, base.bias, a, b, layer.scaling[name]))


class _LowRank(torch.autograd.Function):
    """y = W x + b + s B A x with a frozen W (arXiv:2106.09685, equation 3); gradients for x, A and B."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, s: float) -> Tensor:
        low_a, low_b = a.to(x.dtype), (b * s).to(x.dtype)
        rows = x.reshape(-1, x.shape[-1])
        y = torch.nn.functional.linear(rows, w, bias)
        inner = rows @ low_a.T
        y.addmm_(inner, low_b.T)
        ctx.save_for_backward(rows, inner, w, low_a, low_b)
        ctx.s = s
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, inner, w, low_a, low_b = ctx.saved_tensors
        dy = grad.reshape(-1, grad.shape[-1])
        inner_grad = dy @ low_b
        dx = None
        if ctx.needs_input_grad[0]:
            dx = (dy @ w).addmm_(inner_grad, low_a).view(*grad.shape[:-1], -1)
        return dx, None, None, (inner_grad.T @ rows).float(), (dy.T @ inner).float() * ctx.s, None


def trainable(network: Any) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that learn, by name."""
    return {name: p for name, p in network.named_parameters() if p.requires_grad}


def save_adapter(network: Any, folder: Path, base: str) -> None:
    """Save the adapter (safetensors) with the name of the base it belongs to."""
    network.peft_config["default"].base_model_name_or_path = base
    with quiet():  # without this argument peft asks the hub whether the base has its own vocabulary
        network.save_pretrained(str(folder), selected_adapters=["default"], save_embedding_layers=False)
    share_weights(folder)


def save_merged(network: Any, tokenizer: Any, folder: Path) -> None:
    """Merge the adapter into the weights and save a folder that plain transformers loads, as the class it came from."""
    with quiet():
        merged = network.merge_and_unload() if hasattr(network, "merge_and_unload") else network
        merged.save_pretrained(str(folder), safe_serialization=True)
        tokenizer.save_pretrained(str(folder))
    share_weights(folder)
    if sees(merged.config):
        _save_processor(merged.name_or_path, folder)


def _save_processor(source: str, folder: Path) -> None:
    """Copy the files that say how a vision-language model's pictures are cut."""
    for name in ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"):
        found = cached_file(source, name, _raise_exceptions_for_missing_entries=False)
        if found is not None:
            shutil.copyfile(found, folder / name)


def save_weights(network: Any, path: Path) -> None:
    """Save what learns, whole or not at all."""
    write_tensors({name: p.detach().contiguous().clone() for name, p in trainable(network).items()}, path)


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file, whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with writing(path):
        save_file(tensors, partial)
        partial.replace(path)


def load_weights(network: Any, path: Path) -> None:
    """Load what `save_weights` saved, bit for bit."""
    put_weights(network, load_file(path))


@torch.no_grad()
def put_weights(network: Any, tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors into the weights that learn, by name."""
    for name, p in trainable(network).items():
        p.copy_(tensors[name])
