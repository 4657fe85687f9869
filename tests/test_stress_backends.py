"""Real backends of fewer bits: a GGUF file holds what its formats say; torchao's weights are its own, or nothing."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, GPTNeoXConfig, LlamaConfig

from primum.models.load import Model, load
from primum.models.sampling import Sampling
from primum.stress import backends
from primum.stress.backends import group_of, through_gguf, through_torchao
from primum.stress.layers import Layer, linear_layers
from primum.stress.setting import Aids, Lesson, Setup, Shape, SkippedError
from primum.stress.tampers import quantize
from tiny_models import tiny

SHAPE: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
AIDS = Aids([], [], lambda kind, many, model, wrap: Lesson([]), Shape())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("models") / "m", 0)


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def of(network: Any) -> Model:
    return Model(network, None, "tiny", "tiny", "0")


def llama() -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(LlamaConfig(**SHAPE)).eval()


def q4_0(weight: torch.Tensor) -> torch.Tensor:
    """The format's own formula: d = the entry of largest magnitude over -8, kept in 16 bits; 16 levels (q - 8) d.

    In fp32, as llama.cpp computes it: a weight between two levels falls where fp32 lets it.
    """
    blocks = weight.float().numpy().reshape(-1, 32)
    d = (blocks[np.arange(len(blocks)), np.abs(blocks).argmax(1)] / np.float32(-8))[:, None]
    q = np.clip(np.floor(blocks * (np.float32(1) / d) + np.float32(8.5)), 0, 15)
    return torch.from_numpy(((q - 8) * d.astype(np.float16)).astype(np.float32)).reshape(weight.shape)


def q8_0(weight: torch.Tensor) -> torch.Tensor:
    """d = the largest magnitude over 127, kept in 16 bits; q is the nearest whole number, halves away from 0."""
    blocks = weight.float().numpy().reshape(-1, 32)
    d = np.abs(blocks).max(1, keepdims=True) / np.float32(127)
    scaled = blocks * (np.float32(1) / d)
    q = np.sign(scaled) * np.floor(np.abs(scaled) + 0.5)
    return torch.from_numpy((q * d.astype(np.float16)).astype(np.float32)).reshape(weight.shape)


def test_q4_0_of_a_file_by_hand_and_by_its_formula_everywhere(saved: Path, room: Path) -> None:
    model = load(str(saved), torch.float32, "cpu")
    row = torch.zeros(32)
    row[:7] = torch.tensor([4.0, 1.0, 0.6, -3.9, 0.24, -0.3, -1.8])
    layer = linear_layers(model.network)[-2]
    assert layer.name.endswith("up_proj")
    layer.module.weight.data[0] = row
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    facts = through_gguf(model, "Q4_0")
    # d = 4 / -8 = -0.5, which 16 bits hold; x / d + 8.5, cut to 0..15:
    # 4 -> 0.5 -> 0; 1 -> 6.5 -> 6; 0.6 -> 7.3 -> 7; -3.9 -> 16.3 -> 15; 0.24 -> 8.02 -> 8; -0.3 -> 9.1 -> 9;
    # -1.8 -> 12.1 -> 12; and (q - 8) d:
    assert layer.module.weight[0].tolist() == [4.0, 1.0, 0.5, -3.5, 0.0, -0.5, -2.0] + [0.0] * 25
    matrices = {f"{one.name}.weight" for one in linear_layers(model.network)}
    for name, tensor in model.network.state_dict().items():
        expected = before[name] if tensor.ndim == 1 else (q4_0 if name in matrices else q8_0)(before[name])
        assert torch.equal(tensor, expected), name
    assert facts["bytes"] > 49152 * 34 and list(room.iterdir()) == []  # a block of 32 takes 34 bytes in Q8_0


def test_q8_0_of_a_file_by_its_formula_everywhere(saved: Path, room: Path) -> None:
    model = load(str(saved), torch.float32, "cpu")
    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    setup = Setup(model, Sampling(0.0, 4))
    assert [point.label for point in quantize.tamper(setup, "gguf Q8_0", AIDS)] == ["gguf Q8_0"]
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor, before[name] if tensor.ndim == 1 else q8_0(before[name])), name
    assert list(room.iterdir()) == []


def test_what_cannot_be_written_as_gguf_is_not_measured_and_no_file_stays(
    saved: Path, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    other = AutoModelForCausalLM.from_config(GPTNeoXConfig(**SHAPE))
    with pytest.raises(SkippedError, match="gpt_neox"):
        through_gguf(of(other), "Q4_0")

    def full(model: Model, path: Path, precision: str) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("primum.models.gguf_file.write_gguf", full)
    with pytest.raises(SkippedError, match="No space left"):
        through_gguf(load(str(saved), torch.float32, "cpu"), "Q4_0")
    assert list(room.iterdir()) == []


def test_without_torchao_the_cell_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    network = llama()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SkippedError, match=r"torchao is not installed: pip install 'primum\[torchao\]'"):
        list(quantize.tamper(Setup(of(network), Sampling(0.0, 4)), "torchao int4", AIDS))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_what_torchao_passes_over_is_not_measured_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    fake = ModuleType("torchao.quantization")
    fake.quantize_ = lambda network, config, filter_fn: asked.append(config)  # type: ignore[attr-defined]
    fake.Int8WeightOnlyConfig = lambda **more: ("int8", more)  # type: ignore[attr-defined]
    fake.IntxWeightOnlyConfig = lambda **more: ("intx", more)  # type: ignore[attr-defined]
    fake.PerGroup = lambda size: size  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchao", ModuleType("torchao"))
    monkeypatch.setitem(sys.modules, "torchao.quantization", fake)
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda name: name)
    for precision in ("int8", "int4"):
        with pytest.raises(SkippedError, match=r"torchao left .*q_proj. as it was"):
            through_torchao(of(llama()), precision)
    assert [one[0] for one in asked] == ["int8", "intx"] and asked[1][1]["granularity"] == 32


@pytest.mark.parametrize(("widths", "group"), [((576, 1536), 64), ((256, 128), 128), ((32, 64), 32)])
def test_a_group_of_torchao_divides_every_row(widths: tuple[int, ...], group: int) -> None:
    def layers(*sizes: int) -> list[Layer]:
        return [Layer(str(size), SimpleNamespace(weight=torch.empty(1, size))) for size in sizes]

    assert group_of(layers(*widths)) == group
    with pytest.raises(SkippedError, match="33"):
        group_of(layers(*widths, 33))


@pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")
@pytest.mark.parametrize(("precision", "levels"), [("int8", 127), ("int4", 7.5)])
def test_torchao_holds_each_matrix_within_a_step_and_the_model_still_speaks(precision: str, levels: float) -> None:
    network = llama()
    layers = linear_layers(network)
    before = {one.name: one.module.weight.detach().clone() for one in layers}
    facts = through_torchao(of(network), precision)
    assert facts["matrices"] == len(layers) == 7
    width = 32 if precision == "int4" else None
    for one in layers:
        held, old = one.module.weight.dequantize(), before[one.name]
        step = old.reshape(-1, width or old.shape[1]).abs().amax(1, keepdim=True) / levels
        error = (held - old).reshape(step.shape[0], -1).abs()
        assert bool((error <= step * 1.01).all()) and float(error.max()) > 0
    with torch.no_grad():
        assert network.generate(torch.tensor([[2, 3]]), max_new_tokens=2, do_sample=False).shape[1] > 2
