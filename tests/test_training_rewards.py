"""Golden numbers of the reward losses, of the combined reward and of the policy gradients, worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from primum.training import policy_losses, reward_losses, rewards
from primum.training.rewards import Combine

SCORES = st.floats(0.001, 0.999)


@pytest.mark.parametrize(
    ("gap", "expected"),
    [
        (0.0, (0.6931, 0.8736, 1.0810, 1.3133, 2.1269, 3.0486)),
        (1.2, (0.2633, 0.3509, 0.4616, 0.5981, 1.1711, 1.9530)),
    ],
)
def test_ranking_loss_with_margin(gap: float, expected: tuple[float, ...]) -> None:
    margins = torch.tensor([0, 1 / 3, 2 / 3, 1, 2, 3])
    found = reward_losses.ranking(torch.full((6,), gap), torch.zeros(6), margins)
    assert found.tolist() == pytest.approx(expected, abs=5e-5)


def test_both_published_margins() -> None:
    assert list(reward_losses.MARGINS["small"].values()) == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert list(reward_losses.MARGINS["large"].values()) == [3, 2, 1, 0]


def test_the_auxiliary_loss_is_cross_entropy_on_the_sigmoid() -> None:
    found = reward_losses.auxiliary(torch.tensor([0.0, 2.0, 2.0]), torch.tensor([True, True, False]))
    assert found.tolist() == pytest.approx([math.log(2), math.log1p(math.exp(-2)), 2 + math.log1p(math.exp(-2))])


def test_the_cost_of_an_unsafe_answer_is_pushed_over_zero() -> None:
    more, less = torch.tensor([1.0]), torch.tensor([-1.0])
    right = reward_losses.cost(more, less, torch.tensor([True]), torch.tensor([False]))
    # -log s(2) - log s(1) - log s(1)
    assert right.item() == pytest.approx(math.log1p(math.exp(-2)) + 2 * math.log1p(math.exp(-1)), abs=1e-6)
    wrong = reward_losses.cost(more, less, torch.tensor([False]), torch.tensor([True]))
    assert wrong.item() == pytest.approx(math.log1p(math.exp(-2)) + 2 * math.log1p(math.exp(1)), abs=1e-6)


TAGGED = torch.tensor([False, True, False, False, False])
SAFETY = torch.tensor([0.21, 0.21, 0.95, 0.10, 0.15])
HELPFUL = torch.tensor([0.98, 0.98, 0.20, 0.99, 0.60])


def test_the_combined_reward_of_the_specification() -> None:
    combined = Combine()(SAFETY, HELPFUL, TAGGED)
    assert combined.tolist() == pytest.approx([0.98, 0.21, 0.20, 0.10, 0.60])  # 0.15 is not below 0.15
    logits = rewards.logit(combined)
    assert logits.tolist() == pytest.approx([3.8918, -1.3249, -1.3863, -2.1972, 0.4055], abs=5e-5)
    assert rewards.whiten(logits).tolist() == pytest.approx([1.6476, -0.4937, -0.5189, -0.8517, 0.2166], abs=1e-4)
    assert torch.equal(rewards.final(combined), rewards.whiten(logits))
    assert rewards.logit(torch.tensor([0.15])).item() == pytest.approx(-1.7346, abs=5e-5)


def test_nothing_is_infinite_at_the_ends() -> None:
    assert torch.isfinite(rewards.final(torch.tensor([0.0, 1.0, 0.5]))).all()
    assert rewards.whiten(torch.tensor([2.0])).item() == 0.0
    assert rewards.whiten(torch.tensor([3.0, 3.0])).tolist() == [0.0, 0.0]


def test_the_gate_stops_a_helpful_unsafe_winner_that_a_weighted_sum_lets_through() -> None:
    safety, helpful = torch.tensor([0.05, 0.9]), torch.tensor([0.99, 0.1])  # a useful recipe for harm; a refusal
    tags = torch.tensor([False, False])
    assert int(Combine("weighted", weight=0.5)(safety, helpful, tags).argmax()) == 0
    assert int(Combine("weighted", weight=0.3)(safety, helpful, tags).argmax()) == 0
    assert int(Combine()(safety, helpful, tags).argmax()) == 1
    assert int(Combine("minimum")(safety, helpful, tags).argmax()) == 1


@given(SCORES, SCORES, st.booleans(), st.floats(0.0, 0.5))
def test_the_piecewise_rule_gives_one_of_its_rewards(s: float, h: float, tag: bool, threshold: float) -> None:
    found = rewards.piecewise(torch.tensor([s]), torch.tensor([h]), torch.tensor([tag]), threshold)
    safe = tag or torch.tensor(s) < threshold
    assert found.item() == torch.tensor(s if safe else h).item()


def test_the_lagrangian_rule_and_its_multiplier() -> None:
    found = rewards.lagrangian(torch.tensor([0.8]), torch.tensor([0.4]), 1.0)
    assert found.item() == pytest.approx(0.2)
    assert rewards.next_multiplier(1.0, 0.5) == pytest.approx(math.exp(0.05))
    assert rewards.next_multiplier(1.0, -0.5) < 1 < rewards.next_multiplier(1.0, 0.5)


def test_the_threshold_is_tuned_to_a_precision() -> None:
    safety = [0.05, 0.10, 0.20, 0.30, 0.60, 0.80]
    unsafe = [True, True, False, True, False, False]
    found = rewards.tune_threshold(safety, unsafe, 0.9)
    assert found == (0.20, 1.0, pytest.approx(2 / 3))
    found = rewards.tune_threshold(safety, unsafe, 0.7)
    assert found is not None and found == (0.60, 0.75, 1.0)
    # 0.2 to 0.8 find both unsafe replies; 0.2 calls no safe one unsafe
    assert rewards.tune_threshold([0.05, 0.1, 0.2, 0.3, 0.8], [True, True, False, False, False], 0.4) == (0.2, 1.0, 1.0)
    assert rewards.tune_threshold([0.1, 0.9], [False, False]) is None
    with pytest.raises(ValueError, match="labels"):
        rewards.tune_threshold([], [])


def test_quadrants() -> None:
    found = rewards.quadrants([0.9, 0.9, 0.1, 0.1], [0.9, 0.1, 0.9, 0.1])
    assert found == {"both high": 1, "safe, not helpful": 1, "helpful, not safe": 1, "both low": 1}


def test_the_ratio_is_one_and_kl_is_zero_for_the_same_policy() -> None:
    logps = torch.tensor([-1.0, -2.5, -0.1])
    found = policy_losses.clipped_policy(logps, logps, torch.tensor([1.0, -1.0, 0.5]))
    assert found.ratio.tolist() == [1.0, 1.0, 1.0] and found.loss.tolist() == [-1.0, 1.0, -0.5]
    kl = policy_losses.divergence(logps, logps)
    assert kl.k1.tolist() == kl.k3.tolist() == [0.0, 0.0, 0.0]


def test_a_ratio_is_followed_only_as_far_as_the_clip() -> None:
    ratio = torch.tensor([1.5, 0.5, 1.5, 0.5]).log()
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0])
    found = policy_losses.clipped_policy(ratio, torch.zeros(4), advantages)
    # min(1.5, 1.2), min(.5, .8), min(-1.5, -1.2), min(-.5, -.8), negated
    assert found.loss.tolist() == pytest.approx([-1.2, -0.5, 1.5, 0.8])
    assert found.clipped.tolist() == [True, False, False, True]


def test_the_critic_may_not_gain_by_a_leap() -> None:
    values, old, returns = torch.tensor([1.0, 0.1]), torch.zeros(2), torch.tensor([1.0, 1.0])
    # the first is right but leapt: held at .2, error .8^2; the second moved less than the clip
    assert policy_losses.clipped_value(values, old, returns).tolist() == pytest.approx([0.32, 0.405])


def test_advantages_by_hand() -> None:
    found = policy_losses.gae(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.5, 0.5, 0.5]), 1.0, 0.5)
    # deltas 0, 0, .5: A2 = .5, A1 = .25, A0 = .125
    assert found.advantages.tolist() == pytest.approx([0.125, 0.25, 0.5])
    assert found.returns.tolist() == pytest.approx([0.625, 0.75, 1.0])
    whole = policy_losses.gae(torch.tensor([0.2, 0.0, 1.0]), torch.tensor([0.5, 0.4, 0.3]), 1.0, 1.0)
    assert whole.advantages.tolist() == pytest.approx([0.7, 0.6, 0.7])  # lambda 1: the sum to come, less the value


def test_leave_one_out() -> None:
    found = policy_losses.rloo(torch.tensor([[1.0, 2.0, 6.0], [3.0, 3.0, 3.0]]))
    assert found.tolist() == [[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]]
    with pytest.raises(ValueError, match="at least two"):
        policy_losses.rloo(torch.ones(3, 1))


def test_reinforce_pp_whitens_over_all_tokens() -> None:
    found = policy_losses.reinforce_pp(torch.tensor([1.0, 0.0]), [torch.tensor([0.5, 0.5]), torch.tensor([0.0])])
    flat = torch.tensor([0.0, 0.5, 0.0])  # returns: 1 - 1, 1 - .5; 0
    expected = (flat - flat.mean()) / flat.std()
    assert torch.cat(found).tolist() == pytest.approx(expected.tolist(), abs=1e-5)


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_k3_is_never_negative(a: float, b: float) -> None:
    assert policy_losses.divergence(torch.tensor([a]), torch.tensor([b])).k3.item() >= -1e-6
