"""Our LoRA forward against PEFT's own, and what is saved against what was trained."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from primum.models.load import Model
from primum.training.adapter import add_lora, fuse, load_weights, save_adapter, save_merged, save_weights, trainable


def tiny_model(dtype: torch.dtype = torch.float32) -> Model:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, attention_bias=True,
    )  # fmt: skip
    return Model(LlamaForCausalLM(config).to(dtype).eval(), _NoTokenizer(), "tiny", "tiny", "0")


class _NoTokenizer:
    def save_pretrained(self, folder: str) -> None:
        """There is none to save."""


def lively(network: Any) -> Any:
    """Give the adapter weights that do something: a fresh B is zero."""
    torch.manual_seed(1)
    with torch.no_grad():
        for p in trainable(network).values():
            p.normal_(std=0.1)
    return network


IDS = torch.arange(1, 13).view(2, 6)


def test_fused_forward_and_gradients_equal_peft() -> None:
    fused = lively(add_lora(tiny_model(), 4, 8, seed=0))
    plain = copy.deepcopy(fused)
    for module in plain.modules():
        module.__dict__.pop("forward", None)  # PEFT's own forward again
    found = []
    for network in (fused, plain):
        out = network(IDS).logits
        out.square().sum().backward()
        found.append((out.detach(), {n: p.grad for n, p in trainable(network).items()}))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert found[0][1].keys() == found[1][1].keys() and found[0][1]
    for name, grad in found[0][1].items():
        assert torch.allclose(grad, found[1][1][name], rtol=1e-3, atol=1e-4), name


def test_every_linear_layer_is_fused() -> None:
    network = add_lora(tiny_model(), 4, 8, seed=0)
    assert fuse(network) == 2 * 7  # q, k, v, o, gate, up, down in each of two layers


def test_a_fresh_adapter_changes_nothing() -> None:
    model = tiny_model()
    before = model.network(IDS).logits.detach().clone()
    assert torch.equal(add_lora(model, 4, 8, seed=0)(IDS).logits, before)


def test_masters_are_fp32_under_a_bf16_base() -> None:
    network = lively(add_lora(tiny_model(torch.bfloat16), 4, 8, seed=0))
    network(IDS).logits.float().sum().backward()
    weights = trainable(network).values()
    assert {p.dtype for p in weights} == {torch.float32} == {p.grad.dtype for p in weights}


def test_merged_model_answers_as_the_adapter_does_in_plain_transformers(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = tiny_model()
    network = lively(add_lora(model, 4, 8, seed=0))
    expected = network(IDS).logits.detach().clone()
    save_adapter(network, tmp_path / "adapter", "tiny")
    save_merged(network, model.tokenizer, tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").eval()
    assert torch.allclose(merged(IDS).logits, expected, atol=1e-4)
    assert {p.name for p in (tmp_path / "adapter").glob("*.safetensors")} == {"adapter_model.safetensors"}
    assert not list(tmp_path.rglob("*.bin"))
    # another account may serve the model: weights are as readable as the files beside them
    for folder, plain in (("adapter", "adapter_config.json"), ("merged", "config.json")):
        modes = {path.stat().st_mode for path in (tmp_path / folder).glob("*.safetensors")}
        assert modes == {(tmp_path / folder / plain).stat().st_mode}
        assert not (tmp_path / folder / ".permissions").exists()


def test_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    network = lively(add_lora(tiny_model(), 4, 8, seed=0))
    kept = {n: p.detach().clone() for n, p in trainable(network).items()}
    save_weights(network, tmp_path / "w.safetensors")
    for p in trainable(network).values():
        p.data.zero_()
    load_weights(network, tmp_path / "w.safetensors")
    assert all(torch.equal(kept[n], p) for n, p in trainable(network).items())


@pytest.mark.parametrize("name", ["model", "adapter"])
def test_no_such_model_names_the_cure(name: str) -> None:
    from primum.core.errors import UsageError
    from primum.models.load import load

    with pytest.raises(UsageError, match="cure"):
        load(f"./no-such-{name}")
