"""How large micro-batches are: measured on a tiny network, chosen by hand, kept by a run that goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from primum.models.device import free_memory
from primum.training import fitting
from primum.training.batches import USUAL
from primum.training.examples import Example
from primum.training.fitting import Fit, Line, budget, fitted, line_through
from primum.training.loop import LoopConfig, MicroLoss, Run
from primum.training.recompute import recomputes
from primum.training.score import score
from primum.training.team import Team

GB = 1e9


@pytest.fixture
def tiny() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=64, pad_token_id=0,
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


def rows(count: int = 16) -> list[Example]:
    return [Example((1, 2 + i % 7, 3), tuple(range(10 + i, 14 + i + i % 3))) for i in range(count)]


def run(network: Any, folder: Path, **more: Any) -> Run[Example]:
    def loss(net: Any, micro: Any, scale: float) -> MicroLoss:
        return MicroLoss(-score(net, micro).logps.sum() / scale, {})

    return Run(network, rows(), loss, len, LoopConfig(1e-2, batch_size=8, epochs=2, save_every_seconds=0), folder,
               **more)  # fmt: skip


def test_a_line_through_what_was_measured() -> None:
    assert line_through([(100, 500.0)]) == Line(0.0, 5.0)
    assert line_through([(100, 700.0), (400, 1300.0)]) == Line(500.0, 2.0)
    assert line_through([(100, 100.0), (400, 700.0)]) == Line(0.0, 2.0)  # never less than nothing
    assert line_through([(100, 900.0), (400, 800.0)]) == Line(0.0, 9.0)  # a line that falls says nothing


def test_the_budget_is_what_fits_in_three_binary_digits() -> None:
    line = Line(1 * GB, 1e6)
    assert budget(line, 9 * GB, 32768) == 7168  # 8000 tokens fit: 7 x 1024
    assert budget(line, 8.9 * GB, 32768) == 7168  # a little less memory changes nothing
    assert budget(line, 1.0015 * GB, 32768) == 1  # 1.5 tokens
    assert budget(line, 0.5 * GB, 32768) == 1
    assert budget(line, 100 * GB, 32768) == 32768
    assert budget(line, None, USUAL) == USUAL and budget(None, 9 * GB, USUAL) == 1


def test_under_a_dense_mask_a_gpu_takes_twice_the_width(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    tiny.config.hidden_size = 2048
    assert fitting._most(tiny, gpu) == 32768 and fitting._most(tiny, torch.device("cpu")) == USUAL
    monkeypatch.setattr(fitting, "under_mask", lambda _: True)
    assert fitting._most(tiny, gpu) == 4096
    tiny.config.hidden_size = 64
    assert fitting._most(tiny, gpu) == USUAL


def test_what_a_pass_keeps_is_counted_by_hand() -> None:
    class Square(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(3))

    network, x = Square(), torch.ones(10, 3)
    # x * weight keeps x (10 x 3 x 4 bytes) and the weight, which is no part of it; exp keeps its result
    points = fitting._on_cpu(network, lambda _: (x * network.weight).exp().sum(), rows(1))
    assert points == [(rows(1)[0].length, 240.0)]


def test_on_a_cpu_the_usual_number_stays_unless_memory_is_short(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(micro: Any) -> torch.Tensor:
        return -score(tiny, micro).logps.sum()

    found = fitted(tiny, loss, rows(), 9)
    assert found.token_budget == USUAL and not found.again and found.slope > 1000
    assert found.said().startswith("micro-batches of at most 1,536 tokens: 0.0")
    monkeypatch.setattr(fitting, "free_memory", lambda _: int(2 * 41 * found.slope))
    less = fitted(tiny, loss, rows(), 9)
    assert less.token_budget == 40 and less.slope == found.slope and not recomputes(tiny)
    monkeypatch.setattr(fitting, "free_memory", lambda _: int(2 * 5 * found.slope))  # no row fits
    again = fitted(tiny, loss, rows(), 9)
    assert again.again and recomputes(tiny) and again.slope < found.slope / 2
    assert "compute again" in again.said()


def test_an_unknown_amount_of_memory_is_no_reason_for_more(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "free_memory", lambda _: None)
    found = fitted(tiny, lambda micro: -score(tiny, micro).logps.sum(), rows(), 9)
    assert found.token_budget == USUAL and "free" not in found.said()
    assert Fit(USUAL, False, 0.0, None).said() == "micro-batches of at most 1,536 tokens: not measured"


class Two(Team):
    """A process and another one that needs twice as much and has half of the memory."""

    def gathered(self, value: Any) -> list[Any]:
        return [value, value // 2 if isinstance(value, int) else [2 * part for part in value]]


def test_processes_choose_by_the_one_that_is_worst_off(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def loss(micro: Any) -> torch.Tensor:
        return -score(tiny, micro).logps.sum()

    alone = fitted(tiny, loss, rows(), 9)
    free = int(16 * 41 * alone.slope)  # half of half of it for each of two, half of that may be taken, at twice a token
    monkeypatch.setattr(fitting, "free_memory", lambda _: free)
    found = fitted(tiny, loss, rows(), 9, Two(0, 2))
    assert found == Fit(40, False, 2 * alone.slope, free // 4)


def test_short_memory_while_measuring_is_not_the_end(tiny: Any) -> None:
    def loss(micro: Any) -> torch.Tensor:
        if not recomputes(tiny):
            raise torch.OutOfMemoryError("cuda")
        return -score(tiny, micro).logps.sum()

    found = fitted(tiny, loss, rows(), 9)
    assert found.again and found.token_budget == USUAL

    def broken(_: Any) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        fitted(tiny, broken, rows(), 9)


def test_a_run_says_what_it_found_and_keeps_it(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it was killed before its first state was saved, and memory is another one now."""
    start, told = {k: v.clone() for k, v in tiny.state_dict().items()}, list[str]()
    small = Fit(20, True, 1000.0, 10**6)
    monkeypatch.setattr("primum.training.loop.fitted", lambda *_: small)

    def killed(_: int) -> None:
        raise KeyboardInterrupt

    first = run(tiny, tmp_path, advance=killed, tell=told.append)
    with pytest.raises(KeyboardInterrupt):
        first.train()
    assert told == [small.said()] and first.token_budget == 20
    assert json.loads((tmp_path / "fit.json").read_text())["token_budget"] == 20
    (tmp_path / "resume.json").unlink(missing_ok=True)

    monkeypatch.setattr("primum.training.loop.fitted", lambda *_: Fit(10_000, False, 1.0, None))
    found = []
    for folder in (tmp_path, tmp_path / "anew"):
        tiny.load_state_dict(start)
        seen: list[bool] = []
        again = run(tiny, folder, follow=lambda _, seen=seen: seen.append(recomputes(tiny)))
        again.train()
        found.append((again.token_budget, seen))
    assert found == [(20, [True] * 4), (10_000, [False] * 4)]


def test_a_run_that_goes_on_from_a_saved_step_computes_again_too(tiny: Any, tmp_path: Path) -> None:
    (tmp_path / "fit.json").write_text(json.dumps(Fit(20, True, 1000.0, None)._asdict()))
    start = {k: v.clone() for k, v in tiny.state_dict().items()}
    whole = run(tiny, tmp_path)
    whole.train()
    bits = {k: v.clone() for k, v in tiny.state_dict().items()}

    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "fit.json").write_text((tmp_path / "fit.json").read_text())
    steps: list[bool] = []

    def advance(_: int) -> None:
        steps.append(recomputes(tiny))
        if len(steps) == 3:
            raise KeyboardInterrupt

    tiny.load_state_dict(start)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path / "again", advance=advance).train()
    tiny.load_state_dict(start)
    tiny.eval()
    (tmp_path / "again" / "fit.json").unlink()  # the saved state alone says it
    after: list[bool] = []
    rest = run(tiny, tmp_path / "again", follow=lambda _: after.append(recomputes(tiny)))
    rest.train()
    assert after == [True, True] and rest.token_budget == 20
    assert all(torch.equal(bits[k], v) for k, v in tiny.state_dict().items())


def test_the_free_memory_of_this_machine_is_a_part_of_it() -> None:
    free = free_memory(torch.device("cpu"))
    assert free is None or 0 < free < 1 << 50
    assert free_memory(torch.device("meta")) is None
