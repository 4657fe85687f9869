"""Losses against values worked by hand (reference: spec, section 0) and against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from primum.training import losses
from primum.training.methods.dpo import check_ln2


def one(*values: float) -> list[torch.Tensor]:
    return [torch.tensor([v], dtype=torch.float64) for v in values]


@pytest.mark.parametrize(("beta", "expected"), [(0.1, 0.554355), (0.5, 0.201413)])
def test_dpo_golden(beta: float, expected: float) -> None:
    # h = (-12 - -14) - (-9 - -8) = 3; loss = ln(1 + exp(-beta * 3))
    got = losses.dpo(*one(-12, -9, -14, -8), beta=beta)
    assert got.loss.item() == pytest.approx(expected, abs=1e-6)
    assert got.loss.item() == pytest.approx(math.log1p(math.exp(-3 * beta)), abs=1e-12)


def test_dpo_rewards() -> None:
    got = losses.dpo(*one(-12, -9, -14, -8), beta=0.1)
    assert got.chosen_reward.item() == pytest.approx(0.2)
    assert got.rejected_reward.item() == pytest.approx(-0.1)


def test_dpo_where_policy_is_reference_is_ln2() -> None:
    got = losses.dpo(*one(-5, -7, -5, -7))
    assert got.loss.item() == pytest.approx(0.693147, abs=1e-6)
    assert not (got.chosen_reward > got.rejected_reward).item()  # accuracy counts strictly greater


def test_cdpo_golden() -> None:
    assert losses.dpo(*one(-12, -9, -14, -8), 0.1, 0.1).loss.item() == pytest.approx(0.584355, abs=1e-6)


def test_ipo_golden() -> None:
    # (3 - 1 / (2 * 0.1))^2 = (3 - 5)^2 = 4
    assert losses.ipo(*one(-12, -9, -14, -8), 0.1).loss.item() == pytest.approx(4.0)


def test_rewards_carry_no_gradient() -> None:
    chosen = torch.tensor([-1.0], requires_grad=True)
    got = losses.dpo(chosen, *(t.float() for t in one(-2, -1, -2)))
    assert got.loss.requires_grad and not got.chosen_reward.requires_grad


def random_pairs(count: int = 64) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [-40 * torch.rand(count, generator=draw, dtype=torch.float64) for _ in range(4)]


def lengths(count: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return tuple(torch.randint(1, 40, (count,), generator=draw) for _ in range(2))  # type: ignore[return-value]


def same(found: torch.Tensor, expected: np.ndarray) -> bool:
    return found.numpy() == pytest.approx(expected, rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("beta", [0.05, 0.1, 0.5])
def test_losses_of_pairs_are_those_of_trl(beta: float) -> None:
    """TRL 1.16, DPOTrainer._compute_loss: sigmoid, hinge, ipo (a mean over tokens there); written out in numpy."""
    pairs, counts = random_pairs(), lengths()
    c, r, rc, rr = (t.numpy() for t in pairs)
    delta = (c - rc) - (r - rr)
    assert same(losses.dpo(*pairs, beta).loss, -np.log(expit(beta * delta)))
    assert same(losses.hinge(*pairs, beta).loss, np.maximum(1 - beta * delta, 0))
    mean = (c - rc) / counts[0].numpy() - (r - rr) / counts[1].numpy()
    assert same(losses.ipo(*pairs, beta, counts).loss, (mean - 1 / (2 * beta)) ** 2)
    assert same(losses.ipo(*pairs, beta).loss, (delta - 1 / (2 * beta)) ** 2)
    for got in (losses.dpo(*pairs, beta), losses.hinge(*pairs, beta), losses.ipo(*pairs, beta)):
        assert same(got.chosen_reward, beta * (c - rc))
        assert same(got.rejected_reward, beta * (r - rr))


def test_hinge_by_hand() -> None:
    # h = 3: 1 - 0.1 * 3 = 0.7, and nothing left to gain from beta = 0.5 on
    assert losses.hinge(*one(-12, -9, -14, -8), 0.1).loss.item() == pytest.approx(0.7)
    assert losses.hinge(*one(-12, -9, -14, -8), 0.5).loss.item() == 0


def test_safe_dpo_asks_for_a_lead_only_between_safe_and_unsafe() -> None:
    given = losses.Answers(*(t.expand(3) for t in one(-12, -9, -14, -8)))
    unsafe = (torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]))
    got = losses.safe_dpo(given, *unsafe, beta=0.1, delta=2.0).loss
    # beta h = 0.3; with the lead 0.3 - 2 = -1.7; ln(1 + e^-0.3), ln(1 + e^1.7)
    assert got.tolist() == pytest.approx([0.554355, math.log1p(math.exp(1.7)), 0.554355], abs=1e-6)
    assert torch.equal(losses.safe_dpo(given, *unsafe, 0.1, 0.0).loss, losses.dpo(*given, 0.1).loss)


def test_safe_dpo_orders_pairs() -> None:
    order = [losses.safe_order(c, r) for c in (False, True) for r in (False, True)]
    assert order == ["keep", "keep", "swap", "drop"]


def test_kto_is_that_of_trl_and_by_hand() -> None:
    """TRL 1.16, KTOTrainer: chosen 1 - sigmoid(beta (ratio - kl)), rejected 1 - sigmoid(beta (kl - ratio))."""
    logps, reference, other, other_reference = random_pairs()
    good = torch.arange(64) % 3 == 0
    point = losses.kto_point(other, other_reference)
    assert point.item() == pytest.approx(max(0.0, (other - other_reference).numpy().mean()))
    got = losses.kto(logps, reference, good, point, 0.1, (1.0, 2.0))
    ratio, kl = (logps - reference).numpy(), point.item()
    assert same(got.loss, np.where(good, 1 - expit(0.1 * (ratio - kl)), 2 * (1 - expit(0.1 * (kl - ratio)))))
    # ratio 2, point 1: good 1 - sigmoid(0.5), bad 1 - sigmoid(-0.5)
    hand = losses.kto(*one(-3, -5), torch.tensor([True]), torch.tensor(1.0), 0.5).loss.item()
    assert hand == pytest.approx(1 - 1 / (1 + math.exp(-0.5)))
    assert losses.kto(*one(-3, -5), torch.tensor([False]), torch.tensor(1.0), 0.5).loss.item() == pytest.approx(
        1 - 1 / (1 + math.exp(0.5))
    )
    assert losses.kto_point(*one(-5, -3)).item() == 0


def test_orpo_is_that_of_the_paper() -> None:
    """Equations 4 and 6: odds(y) = P / (1 - P) with P the mean likelihood of a token; -log sigmoid(log odds ratio)."""
    pairs, counts = random_pairs(), lengths()
    c, r = (np.exp(t.numpy() / n.numpy()) for t, n in zip(pairs[:2], counts, strict=True))
    ratio = (c / (1 - c)) / (r / (1 - r))
    assert same(losses.orpo(pairs[0], pairs[1], counts, 0.3).loss, -np.log(c) - 0.3 * np.log(expit(np.log(ratio))))
    # P 1/2 against 1/4: odds 1 and 1/3, ratio 3, sigmoid(ln 3) = 3/4
    hand = losses.orpo(*one(math.log(0.5), 2 * math.log(0.25)), (torch.tensor([1]), torch.tensor([2])), 1.0).loss
    assert hand.item() == pytest.approx(math.log(2) - math.log(0.75))


def test_orpo_has_a_gradient_where_an_answer_is_certain() -> None:
    logps = torch.tensor([0.0, -1e-9, -1e-3, -5.0, -80.0], requires_grad=True)
    loss = losses.orpo(logps, torch.full((5,), -1.0), (torch.ones(5), torch.ones(5))).loss
    loss.sum().backward()
    assert loss.isfinite().all() and logps.grad is not None and logps.grad.isfinite().all()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-60, -0.01), min_size=4, max_size=4), st.floats(0.01, 1), st.floats(0, 0.49))
def test_dpo_turned_round_is_dpo_of_the_wrong_label(values: list[float], beta: float, smoothing: float) -> None:
    """Swapping chosen and rejected and the share of wrong labels leaves the loss as it is."""
    c, r, rc, rr = one(*values)
    flipped = losses.dpo(r, c, rr, rc, beta, 1 - smoothing).loss
    assert losses.dpo(c, r, rc, rr, beta, smoothing).loss.item() == pytest.approx(flipped.item(), abs=1e-9)


def test_nll_is_per_token() -> None:
    assert losses.nll(torch.tensor([-6.0, -1.0]), torch.tensor([3, 0])).tolist() == [2.0, 1.0]


def test_training_stops_unless_the_first_loss_is_ln2() -> None:
    from primum.core.errors import StepFailedError

    check_ln2({"dpo": 0.6935})
    with pytest.raises(StepFailedError, match="not ln 2"):
        check_ln2({"dpo": 0.5})
