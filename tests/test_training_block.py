"""Blocks in one piece: numbers and gradients of the plain network, whatever learns and whatever is swapped."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from primum.models.load import Model
from primum.training.adapter import add_lora, trainable
from primum.training.below import beginning
from primum.training.examples import Example
from primum.training.packed import pack
from primum.training.score import (
    _WAYS,
    _Answers,
    answer_states,
    causal,
    logits,
    note_below,
    score,
    token_logps,
    way,
)
from tiny_models import COMPARED, ROWS


def plain(config: type = LlamaConfig, dtype: torch.dtype = torch.float64, **more: Any) -> Any:
    torch.manual_seed(0)
    net = AutoModelForCausalLM.from_config(config(**COMPARED, **more), attn_implementation="sdpa").to(dtype).eval()
    for name, p in net.named_parameters():
        if "norm" in name or "bias" in name:  # fresh ones are 1 and 0, which would hide a wrong use
            p.data.add_(0.3 * torch.randn_like(p))
    return net


def adapted(config: type = LlamaConfig, dtype: torch.dtype = torch.float64, start: float = 0.0, **more: Any) -> Any:
    net = add_lora(Model(plain(config, dtype, **more), None, "tiny", "tiny", "0"), 4, 8, seed=0, start=start)
    for p in trainable(net).values():
        p.data.copy_(0.1 * torch.randn_like(p))
    return net.to(dtype) if dtype == torch.float64 else net


def gradients(net: Any, name: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    net.zero_grad()
    packed = pack(ROWS)
    logps = token_logps(logits(net, _WAYS[name](net, ROWS, packed)), packed.targets)
    (logps * torch.linspace(0.5, 2, len(logps))).sum().backward()
    return logps.detach(), {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("config", [LlamaConfig, Qwen2Config, Qwen3Config, MistralConfig])
@pytest.mark.parametrize("start", [0.0, 0.4])
def test_adapters_learn_what_they_learn_on_separate_rows(config: type, start: float) -> None:
    net = adapted(config, start=start)
    assert way(net, ROWS) == "blocks"
    found, expected = gradients(net, "blocks"), gradients(net, "separate")
    assert torch.allclose(found[0], expected[0], atol=1e-5)
    assert found[1].keys() == expected[1].keys() == trainable(net).keys()
    for key, grad in expected[1].items():
        assert grad.abs().max() > 0 and torch.allclose(found[1][key], grad, atol=1e-5), key


def test_layers_with_biases() -> None:
    net = adapted(attention_bias=True, mlp_bias=True)
    assert way(net, ROWS) == "blocks"
    assert torch.allclose(gradients(net, "blocks")[0], gradients(net, "separate")[0], atol=1e-5)


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU has no products in bf16")
def test_bf16_stays_as_near_to_fp64_as_separate_rows_do() -> None:
    exact = gradients(adapted(), "separate")[0]
    net = adapted(dtype=torch.bfloat16)
    assert way(net, ROWS) == "blocks"
    apart = {name: (gradients(net, name)[0] - exact).abs().mean() for name in ("blocks", "separate")}
    assert apart["blocks"] < 1.5 * apart["separate"] + 1e-3 < 0.2


def test_a_network_that_learns_as_a_whole_is_not_scored_in_pieces_without_gradients() -> None:
    net = plain()
    with torch.no_grad():
        kept = score(net, ROWS).logps
    learned = score(net, ROWS).logps
    assert torch.allclose(learned, kept, atol=1e-5)
    learned.sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_another_architecture_goes_another_way() -> None:
    assert way(plain(GemmaConfig), ROWS) == "paths"


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_what_is_merged_or_switched_off_counts_at_once(dtype: torch.dtype) -> None:
    """Copies of matrices are made anew when their layers are merged or exchanged."""
    net = adapted(dtype=dtype)
    near = 1e-5 if dtype == torch.float64 else 0.4

    def apart() -> float:
        packed = pack(ROWS)
        expected = token_logps(logits(net, _WAYS["separate"](net, ROWS, packed)), packed.targets)
        found = token_logps(logits(net, answer_states(net, ROWS).hidden), packed.targets)
        return float((found - expected).abs().max())

    with_adapter = score(net, ROWS).logps
    with net.disable_adapter():
        assert apart() < near
        assert (score(net, ROWS).logps - with_adapter).abs().max() > 1e-2
    assert apart() < near
    net = net.merge_and_unload()
    assert apart() < near
    for p in net.model.layers.parameters():
        p.mul_(1.5)
    assert apart() < near


def test_gradients_of_answers_are_those_of_cross_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("primum.training.score.CHUNK", 4 * 20 * 3)  # three rows at a time
    random = torch.Generator().manual_seed(0)
    head, targets = torch.randn(20, 6, generator=random), torch.randint(20, (8,), generator=random)
    weights, found = torch.randn(8, generator=random), []
    for logp in (lambda h: _Answers.apply(h, head, targets), lambda h: token_logps(h @ head.T, targets)):
        hidden = torch.randn(8, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()
        got = logp(hidden)
        (got * weights).sum().backward()
        found.append((got.detach(), hidden.grad))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5)


def learned(net: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    net.zero_grad()
    logps = score(net, ROWS).logps
    (logps * torch.linspace(0.5, 2, len(logps))).sum().backward()
    return logps.detach(), {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("config", [LlamaConfig, Qwen2Config, Qwen3Config, MistralConfig])
def test_a_pass_that_begins_at_the_adapter_gives_the_numbers_and_gradients_of_a_whole_one(config: type) -> None:
    net = adapted(config, start=0.4)
    whole = learned(net)
    below = note_below(net, ROWS)
    assert below is not None and below.first == round(0.4 * COMPARED["num_hidden_layers"])
    bottom = causal(net).get_input_embeddings().weight
    kept, bottom.data = bottom.data, torch.full_like(bottom, torch.nan)  # what is below is not computed again
    with beginning(causal(net), below):
        begun = learned(net)
        part = score(net, ROWS[2:0:-1]).logps
        with net.disable_adapter():
            off = score(net, ROWS).logps
        assert bool(score(net, [Example((1, 2), (9,))]).logps.isnan())  # a row that was not noted is computed whole
    bottom.data = kept
    assert torch.allclose(begun[0], whole[0], atol=1e-10)
    assert begun[1].keys() == whole[1].keys()
    assert all(torch.allclose(begun[1][name], grad, atol=1e-10) for name, grad in whole[1].items())
    assert torch.allclose(part, whole[0][[2, 1]], atol=1e-10)
    with net.disable_adapter():
        assert torch.allclose(off, score(net, ROWS).logps, atol=1e-10)
    assert torch.allclose(learned(net)[0], whole[0], atol=1e-10)


def test_nothing_is_noted_where_the_first_block_learns_or_states_have_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert note_below(adapted(), ROWS) is None
    net = adapted(start=0.4)
    net.get_base_model().get_input_embeddings().weight.requires_grad_(True)
    assert note_below(net, ROWS) is None
    net.get_base_model().get_input_embeddings().weight.requires_grad_(False)
    assert note_below(net, ROWS) is not None
    monkeypatch.setattr("primum.training.score.ROOM", 100)
    assert note_below(net, ROWS) is None
