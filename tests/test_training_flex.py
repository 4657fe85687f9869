"""Attention over a tree as a GPU computes it: what sees what, in which blocks, and the numbers of separate rows.

FlexAttention is run uncompiled here. torch refuses its backward pass on a CPU in a check of its inputs alone; without
the check it is computed.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GemmaConfig, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from primum.training import flex, score
from primum.training.examples import Example
from primum.training.packed import pack, tour
from primum.training.recompute import recompute
from tiny_models import COMPARED, ROWS

SHAPE = COMPARED | {"num_hidden_layers": 2}


@pytest.fixture
def backward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.nn.attention.flex_attention._FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *_: None)


def network(config: type = LlamaConfig) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config(**SHAPE), attn_implementation="sdpa").double().eval()


def drawn(seed: int, count: int = 6, longest: int = 12) -> list[Example]:
    """Rows of few different tokens, which share much and part anywhere."""
    rng = random.Random(seed)
    return [
        Example(tuple(rng.choices((1, 2), k=rng.randint(1, longest))), tuple(rng.choices((1, 2), k=rng.randint(1, 5))))
        for _ in range(count)
    ]


def gradients(net: Any, name: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
    net.zero_grad()
    packed = pack(ROWS)
    logps = score.token_logps(score.logits(net, score._WAYS[name](net, ROWS, packed)), packed.targets)
    (logps * torch.linspace(0.5, 2, len(logps))).sum().backward()
    return logps.detach(), [p.grad.clone() for p in net.parameters() if p.grad is not None]


def test_a_walk_through_a_tree_by_hand() -> None:
    # 0: 1, 1: 1-2, 2: 1-2-3, 3: 1-6, 4: 1-6-7, 5: 1-2-9, 6: 8. The walk: 0 1 2 5 3 4 6.
    packed = pack([Example((1, 2), (3, 4)), Example((1, 6), (7, 8)), Example((1, 2), (9, 9)), Example((8,), (8,))])
    walk = tour(packed)
    assert walk.first.tolist() == [0, 1, 2, 4, 5, 3, 6]
    assert walk.last.tolist() == [6, 4, 3, 6, 6, 4, 7]


@pytest.mark.parametrize("seed", range(6))
def test_tokens_and_blocks_see_what_the_dense_mask_says(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flex, "BLOCK", 4)
    packed = pack(drawn(seed))
    tree, count = flex.padded(packed), packed.ids.shape[1]
    whole = tree.ids.shape[1]
    assert whole % 4 == 0 and tree.ids[0, :count].tolist() == packed.ids[0].tolist()
    dense = torch.eye(whole, dtype=torch.bool)
    dense[:count, :count] = packed.sees[0, 0]
    place = torch.arange(whole)
    assert torch.equal(tree.mask.mask_mod(place[:1], place[:1], place[:, None], place[None]), dense)

    pairs = dense.view(whole // 4, 4, whole // 4, 4).sum((1, 3))
    mask, part, full = tree.mask, (pairs > 0) & (pairs < 16), pairs == 16
    listed = ((mask.kv_num_blocks, mask.kv_indices, part), (mask.full_kv_num_blocks, mask.full_kv_indices, full))
    for counts, order, expected in listed:
        assert counts is not None and order is not None
        for row, (number, columns) in enumerate(zip(counts[0, 0].tolist(), order[0, 0].tolist(), strict=True)):
            assert sorted(columns[:number]) == expected[row].nonzero()[:, 0].tolist()


def test_a_block_that_is_seen_as_a_whole_is_listed_so() -> None:
    rows = [Example(tuple(range(300)), (1, 1)), Example(tuple(range(300)), (2, 2))]
    mask = flex.padded(pack(rows)).mask  # 302 tokens and 82 pads, which see nothing of the 302
    assert mask.full_kv_num_blocks is not None and mask.full_kv_num_blocks[0, 0].tolist() == [0, 1, 0]
    assert mask.kv_num_blocks[0, 0].tolist() == [1, 1, 3] and mask.shape == (1, 1, 384, 384)


@pytest.mark.usefixtures("backward")
@pytest.mark.parametrize("config", [LlamaConfig, Qwen2Config, Qwen3Config, MistralConfig, GemmaConfig])
def test_numbers_and_gradients_are_those_of_separate_rows(config: type) -> None:
    net = network(config)
    found, expected = gradients(net, "flex"), gradients(net, "separate")
    assert torch.allclose(found[0], expected[0], atol=1e-5)
    assert len(found[1]) == len(expected[1]) > 10
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found[1], expected[1], strict=True))


@pytest.mark.usefixtures("backward")
@pytest.mark.parametrize("name", ["paths", "flex"])
def test_layers_that_compute_again_see_the_same_tree(name: str) -> None:
    net = network()
    expected = gradients(net, "separate")
    assert recompute(net)
    found = gradients(net, name)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found[1], expected[1], strict=True))
    assert net.config._attn_implementation == "sdpa"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are scored as on a GPU: in none of a CPU's ways."""
    monkeypatch.setattr(score, "GPU", ())
    monkeypatch.setattr(score, "_WAYS", {k: v for k, v in score._WAYS.items() if k not in score.CPU})


@pytest.mark.usefixtures("gpu", "backward")
def test_a_gpu_goes_without_the_dense_mask() -> None:
    assert score.way(network(), ROWS) == "flex"


@pytest.mark.usefixtures("gpu")
def test_where_the_kernel_has_no_backward_pass_the_dense_mask_is_left(caplog: pytest.LogCaptureFixture) -> None:
    assert score.way(network(), ROWS) == "masked"  # torch refuses here, as it does on a GPU without Triton
    assert "not the way 'flex': NotImplementedError" in caplog.text and "square of a pass's tokens" in caplog.text


@pytest.mark.usefixtures("gpu")
def test_a_kernel_with_other_numbers_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def causal(q: Any, k: Any, v: Any, _mask: Any, scale: float) -> torch.Tensor:
        attention = torch.nn.functional.scaled_dot_product_attention
        return attention(q, k, v, is_causal=True, scale=scale, enable_gqa=True).transpose(1, 2)

    monkeypatch.setattr(flex, "attend", causal)
    assert score.way(network(), ROWS) == "masked" and "off those under the dense mask" in caplog.text
