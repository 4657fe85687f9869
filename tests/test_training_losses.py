"""Losses against values worked by hand (reference: spec, section 0) and against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

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


def test_nll_is_per_token() -> None:
    assert losses.nll(torch.tensor([-6.0, -1.0]), torch.tensor([3, 0])).tolist() == [2.0, 1.0]


def test_training_stops_unless_the_first_loss_is_ln2() -> None:
    from primum.core.errors import StepFailedError

    check_ln2({"dpo": 0.6935})
    with pytest.raises(StepFailedError, match="not ln 2"):
        check_ln2({"dpo": 0.5})
