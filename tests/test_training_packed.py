"""The tree of tokens: laid out as worked out by hand, and with the numbers and gradients of separate rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from primum.training.examples import Example
from primum.training.packed import Chain, pack
from primum.training.score import _WAYS, _fault, answer_states, logits, score, token_logps, way

SHAPE: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64, "sliding_window": None, "pad_token_id": 0,
}  # fmt: skip


def network(config: type = LlamaConfig, attention: str = "sdpa", **more: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config(**{**SHAPE, **more}), attn_implementation=attention).double().eval()


def rows() -> list[Example]:
    return [
        Example((1, 2, 3, 4), (10, 11, 12)),
        Example((1, 2, 3, 4), (10, 13)),
        Example((1, 2, 5), (10, 11, 12, 14)),
        Example((6,), (7,)),
    ]


def test_a_prompt_with_two_answers_is_laid_out_once() -> None:
    packed = pack([Example((1, 2), (3, 4)), Example((1, 2), (3, 5)), Example((1, 6), (7, 8))])
    # 0: 1, 1: 1-2, 2: 1-2-3, 3: 1-6, 4: 1-6-7; the last tokens (4, 5, 8) predict nothing
    assert packed.ids.tolist() == [[1, 2, 3, 6, 7]]
    assert packed.positions.tolist() == [[0, 1, 2, 1, 2]]
    assert packed.before.tolist() == [1, 2, 1, 2, 3, 4]
    assert packed.targets.tolist() == [3, 4, 3, 5, 7, 8]
    assert packed.owner.tolist() == [0, 0, 1, 1, 2, 2]
    assert packed.sees[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 0, 0, 1, 0],
        [1, 0, 0, 1, 1],
    ]


def test_a_tree_is_cut_into_chains() -> None:
    packed = pack([Example((1, 2), (3, 4)), Example((1, 2), (3, 5)), Example((1, 6), (7, 8)), Example((1, 2), (9, 9))])
    # row 1 adds nothing (its last token predicts nothing); row 2 leaves row 0's chain after token 0; row 3 after 1
    assert packed.chains == (Chain(0, 3, ((0, 3),)), Chain(3, 5, ((0, 1), (3, 5))), Chain(5, 6, ((0, 2), (5, 6))))


def test_a_long_chain_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pack(rows())
    monkeypatch.setattr("primum.training.packed.LONGEST", 2)
    cut = pack(rows())
    assert torch.equal(cut.sees, whole.sees) and cut.ids.tolist() == whole.ids.tolist()
    assert max(c.end - c.start for c in cut.chains) == 2 and len(cut.chains) > len(whole.chains)
    net = network()
    assert torch.allclose(_WAYS["paths"](net, rows(), cut), _WAYS["masked"](net, rows(), whole), atol=1e-6)


@pytest.mark.parametrize("name", ["paths", "masked"])
@pytest.mark.parametrize("config", [LlamaConfig, Qwen2Config, Qwen3Config, MistralConfig, GemmaConfig])
def test_numbers_and_gradients_equal_those_of_separate_rows(config: type, name: str) -> None:
    net, examples = network(config), rows()
    assert way(net, examples, learns=True) == "paths"
    found = []
    for each in (name, "separate"):
        net.zero_grad()
        packed = pack(examples)
        logps = token_logps(logits(net, _WAYS[each](net, examples, packed)).double(), packed.targets)
        logps.sum().backward()
        found.append((logps.detach(), {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-5)
    assert found[0][1].keys() == found[1][1].keys() and found[0][1]
    for key, grad in found[0][1].items():
        assert torch.allclose(grad, found[1][1][key], atol=1e-5), key


def test_a_model_that_cannot_is_scored_on_separate_rows(caplog: pytest.LogCaptureFixture) -> None:
    eager, sdpa = network(attention="eager"), network()
    assert way(eager, rows()) == "separate" and way(sdpa, rows()) == "blocks"
    assert "cannot share prompts" in caplog.text and "as 'eager', not by SDPA" in caplog.text
    with torch.no_grad():
        assert score(eager, rows()).logps.tolist() == pytest.approx(score(sdpa, rows()).logps.tolist(), abs=1e-5)


def test_a_dense_mask_on_a_cpu_is_told_once_and_with_the_reasons(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = _WAYS["paths"]
    monkeypatch.setitem(_WAYS, "paths", lambda *given: 1000 * right(*given))
    net = network(GemmaConfig)
    caplog.set_level("INFO")
    assert way(net, rows()) == way(net, rows(), learns=True) == "masked"
    (warned,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "under a dense mask, which takes memory and time with the square" in warned
    assert "'blocks': its blocks are not of a shape" in warned and "'paths': log-probabilities are" in warned
    assert "flex" not in warned  # that it is no GPU is no reason


@pytest.mark.parametrize("kind", [MistralConfig, Gemma3TextConfig])
def test_rows_longer_than_a_sliding_window_are_scored_apart(kind: type) -> None:
    torch.manual_seed(0)
    config = kind(**{**SHAPE, "sliding_window": 3})
    net = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").double().eval()
    with torch.no_grad():
        got = score(net, rows()).logps.tolist()
        alone = [score(net, [row]).logps.item() for row in rows()]
        wide = score(network(kind, sliding_window=4096), rows()).logps.tolist()
    assert got == pytest.approx(alone, abs=1e-5) and got != pytest.approx(wide, abs=1e-3)


def test_states_come_row_after_row() -> None:
    states = answer_states(network(), rows())
    assert states.targets.tolist() == [10, 11, 12, 10, 13, 10, 11, 12, 14, 7]
    assert states.lengths.tolist() == [3, 2, 4, 1]


@pytest.mark.parametrize(
    ("said", "apart", "fits"), [(1.0, 0.09, True), (1.0, 0.12, False), (5.0, 0.2, True), (5.0, 0.3, False)]
)
def test_a_tree_may_differ_by_rounding_which_grows_with_what_a_model_finds_unlikely(
    monkeypatch: pytest.MonkeyPatch, said: float, apart: float, fits: bool
) -> None:
    monkeypatch.setattr("primum.training.score._answers", lambda *_: torch.full((7,), -said - apart))
    found = _fault(network(), rows(), "paths", torch.full((7,), -said))
    assert found is None if fits else found == f"log-probabilities are {apart:.2g} nats a token off"
