"""The warm start in closed form: the regression against its other form, and what it does to a small network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from primum.training.examples import Example
from primum.training.line import Openers, draw_line
from primum.training.linear_start import Going, StartConfig, odds, ridge, sites, start

OPENER, SIGN, END = 60, 7, 1


@pytest.fixture
def network() -> Any:
    """A random network of four blocks with a fresh adapter."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    return get_peft_model(LlamaForCausalLM(config).float().eval(), lora)


def prompts(harmful: bool, count: int, seed: int) -> list[Example]:
    """Prompts that end alike; harmful ones hold one sign near their end."""
    random = np.random.default_rng(seed)
    rows = [random.integers(10, 14, 6).tolist() for _ in range(count)]
    for row in rows:
        if harmful:
            row[random.integers(4, 6)] = SIGN
    return [Example((2, *row, END), (OPENER, 5, 6)) for row in rows]


@pytest.mark.parametrize("rows", [40, 1100])
def test_ridge_is_the_one_solved_by_columns(rows: int) -> None:
    """(Z'Z / F + p) v = Z'y / F with Z in units of its spread, solved by numpy."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(rows, 7)) * np.arange(1, 8), random.normal(size=rows)
    spread = x.std(0, ddof=1) + 1e-3
    z = x / spread
    expected = np.linalg.solve(z.T @ z / 7 + 0.3 * np.eye(7), z.T @ y / 7) / spread
    found = ridge(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32), 0.3)
    assert found.tolist() == pytest.approx(expected.tolist(), abs=1e-4)


def test_a_start_declines_harmful_prompts_it_has_not_seen_and_leaves_benign_ones(network: Any) -> None:
    unseen = prompts(True, 60, 8), prompts(False, 60, 9)
    before = [odds(network, side, [OPENER]) for side in unseen]
    found = start(StartConfig(), network, prompts(True, 300, 1), prompts(False, 300, 2), [OPENER])
    assert found is not None and found.blocks == 4
    after = [odds(network, side, [OPENER]) for side in unseen]
    rise = [(b - a).mean().item() for a, b in zip(before, after, strict=True)]
    assert rise[0] > 2 and rise[0] - rise[1] > 1
    harm, fine = after
    assert (harm[:, None] > fine[None]).float().mean() > 0.9, "area under the curve"
    assert abs((before[0][:, None] > before[1][None]).float().mean() - 0.5) < 0.25, "it was not so before"
    assert found.before + 2 < found.after < 0.5


def test_a_start_leaves_other_places_alone(network: Any) -> None:
    rows = torch.tensor([row.prompt for row in prompts(True, 50, 8)])
    with torch.no_grad():
        before = network(rows).logits.log_softmax(-1)
        start(StartConfig(), network, prompts(True, 300, 1), prompts(False, 300, 2), [OPENER])
        after = network(rows).logits.log_softmax(-1)
    moved = (after - before)[..., OPENER]
    assert moved[:, :-1].mean().abs() < moved[:, -1].mean() / 4


def replies(count: int, seed: int) -> list[Example]:
    """Benign prompts with answers in which the last token of the template stands again."""
    random = np.random.default_rng(seed)
    made = [[*random.integers(10, 14, 3).tolist(), END, *random.integers(10, 14, 2).tolist()] for _ in range(count)]
    return [Example(row.prompt, tuple(text)) for row, text in zip(prompts(False, count, seed), made, strict=True)]


def test_a_line_is_not_drawn_before_later_sentences(network: Any) -> None:
    """What the opener gains behind a break within an answer, and where the answer begins."""
    rows = replies(60, 8)
    ids = torch.tensor([row.prompt + row.answer for row in rows])
    inside, begin = len(rows[0].prompt) + 3, len(rows[0].prompt) - 1
    assert (ids[:, inside] == END).all() and (ids[:, begin] == END).all()
    start(StartConfig(), network, prompts(True, 300, 1), prompts(False, 300, 2), [OPENER])
    saved = {name: p.detach().clone() for name, p in network.named_parameters()}

    def gained(going: Going | None) -> tuple[float, float]:
        with torch.no_grad():
            for name, p in network.named_parameters():
                p.copy_(saved[name])
            before = network(ids).logits.log_softmax(-1)[..., OPENER]
            draw_line(network, prompts(True, 80, 3), prompts(False, 80, 4), Openers([OPENER]), 0.4, going=going)
            moved = network(ids).logits.log_softmax(-1)[..., OPENER] - before
        return moved[:, inside].mean().item(), moved[:, begin].mean().item()

    (careless, first), (careful, still) = gained(None), gained(Going(replies(200, 3), {END}))
    assert careless > first / 2 > 0.2, "the same token stands there"
    assert careful / still < 0.7 * careless / first, (careless, first, careful, still)


def test_a_start_reads_nothing_off_answers_that_go_on(network: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two breaks an answer and one other place, each with a wanted value of nought, beside one elsewhere a prompt."""
    seen: list[torch.Tensor] = []

    def watched(rows: torch.Tensor, wanted: torch.Tensor, penalty: float) -> torch.Tensor:
        seen.append(wanted)
        return ridge(rows, wanted, penalty)

    monkeypatch.setattr("primum.training.linear_start.ridge", watched)
    told: list[int] = []
    double = [Example(row.prompt, (*row.answer, *row.answer)) for row in replies(50, 3)]
    arguments = (prompts(True, 60, 1), prompts(False, 40, 2), [OPENER], 0, told.append)
    start(StartConfig(), network, *arguments)
    start(StartConfig(), network, *arguments, going=Going([*double, Example((2, 10, END), (10,))], {END}))
    monkeypatch.setattr("primum.training.linear_start.ELSEWHERE", 17)
    start(StartConfig(), network, *arguments)
    without, within, few = seen
    assert len(without) == 45 + 40 + 45 + 40, "a quarter of the harmful prompts is left to measure on"
    assert len(within) == len(without) + 3 * 50 and without.sum() == within.sum() == 45
    assert sum(told) == 3 * 85 + 51 and len(few) == 45 + 40 + 17


def test_a_line_is_drawn_where_it_was_asked_for(network: Any) -> None:
    start(StartConfig(), network, prompts(True, 300, 1), prompts(False, 300, 2), [OPENER])
    harmful, benign = prompts(True, 80, 3), prompts(False, 80, 4)
    first = torch.cat([odds(network, side, [OPENER]) for side in (harmful, benign)])
    line = draw_line(network, harmful, benign, Openers([OPENER]), 0.1)
    assert line is not None
    share = odds(network, benign, [OPENER]).sigmoid().mean().item()
    assert share == pytest.approx(0.1, abs=0.02) and line.after[1] == pytest.approx(share, abs=1e-6)
    again = torch.cat([odds(network, side, [OPENER]) for side in (harmful, benign)])
    assert spearmanr(first.numpy(), again.numpy()).statistic > 0.9, "prompts keep their order"


def test_a_line_moves_both_ways(network: Any) -> None:
    start(StartConfig(), network, prompts(True, 300, 1), prompts(False, 300, 2), [OPENER])
    harmful, benign = prompts(True, 80, 3), prompts(False, 80, 4)
    for share in (0.12, 0.04):
        line = draw_line(network, harmful, benign, Openers([OPENER]), share)
        assert line is not None and line.after[1] == pytest.approx(share, abs=0.02)


def test_a_network_without_such_products_is_left_as_it_is() -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1,
    )  # fmt: skip
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    only_attention = get_peft_model(LlamaForCausalLM(config), lora)
    assert sites(only_attention) == []
    assert start(StartConfig(), only_attention, prompts(True, 99, 1), prompts(False, 99, 2), [OPENER]) is None


def test_too_few_prompts_start_nothing(network: Any) -> None:
    assert start(StartConfig(), network, prompts(True, 9, 1), prompts(False, 99, 2), [OPENER]) is None
    assert draw_line(network, prompts(True, 9, 1), prompts(False, 9, 2), Openers([OPENER]), 0.2) is None
