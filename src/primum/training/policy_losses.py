"""Policy gradients as pure functions: advantages, the clipped objective, the critic's loss, and estimates of KL.

Shapes: (N,) one value a token of all replies laid end to end, `owner` (N,) the reply of each token; (B,) one a reply.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Clipped(NamedTuple):
    """Loss per token (N,), ratio per token (N,), and which tokens were clipped (N,)."""

    loss: Tensor
    ratio: Tensor
    clipped: Tensor


def clipped_policy(logps: Tensor, old: Tensor, advantages: Tensor, clip: float = 0.2) -> Clipped:
    """Return the clipped surrogate, to be minimised (arXiv:1707.06347, equation 7).

    Args:
        logps: log-probabilities of the tokens under the policy (N,), nats.
        old: the same under the policy that drew them.
        advantages: (N,).
        clip: how far a ratio is followed.
    """
    ratio = torch.exp(logps - old)
    plain, held = ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages
    return Clipped(-torch.minimum(plain, held), ratio, held < plain)


def clipped_value(values: Tensor, old: Tensor, returns: Tensor, clip: float = 0.2) -> Tensor:
    """Return half the squared error of the critic, no better than if it had moved at most `clip` (N,).

    As in the baselines of arXiv:1707.06347 (arXiv:2005.12729, section 2).
    """
    held = old + (values - old).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns) ** 2, (held - returns) ** 2)


class Advantages(NamedTuple):
    """Advantages and returns of one reply, each (T,)."""

    advantages: Tensor
    returns: Tensor


def gae(rewards: Tensor, values: Tensor, gamma: float = 1.0, decay: float = 0.95) -> Advantages:
    """Return generalised advantages of one reply (arXiv:1506.02438, equation 16); nothing comes after its last token.

    delta_t = r_t + gamma V_{t+1} - V_t; A_t = delta_t + gamma lambda A_{t+1}; returns = A + V.

    Args:
        rewards: (T,).
        values: the critic's (T,), of the state before each token.
        gamma: discount.
        decay: lambda.
    """
    advantages, ahead = torch.zeros_like(rewards), rewards.new_zeros(())
    for t in reversed(range(len(rewards))):
        following = values[t + 1] if t + 1 < len(rewards) else rewards.new_zeros(())
        ahead = rewards[t] + gamma * following - values[t] + gamma * decay * ahead
        advantages[t] = ahead
    return Advantages(advantages, advantages + values)


def rloo(rewards: Tensor) -> Tensor:
    """Return REINFORCE leave-one-out advantages (arXiv:2402.14740, equation 8).

    Args:
        rewards: (P, K): K replies to each of P prompts.

    Returns:
        (P, K): each reward less the mean of the others of its prompt.

    Raises:
        ValueError: fewer than two replies to a prompt: there is no other to compare with.
    """
    count = rewards.shape[1]
    if count < 2:
        raise ValueError("leave-one-out needs at least two replies to a prompt")
    others = (rewards.sum(1, keepdim=True) - rewards) / (count - 1)
    return rewards - others


def reinforce_pp(rewards: Tensor, penalties: Sequence[Tensor]) -> list[Tensor]:
    """Return REINFORCE++ advantages, a tensor a reply (arXiv:2501.03262, equations 5 and 6).

    A token's return is the reply's reward less the penalties from that token on, whitened over all tokens.

    Args:
        rewards: (B,).
        penalties: of each token, beta times its estimate of KL, a tensor (T,) a reply.
    """
    returns = [reward - p.flip(0).cumsum(0).flip(0) for reward, p in zip(rewards, penalties, strict=True)]
    flat = torch.cat(returns)
    spread = torch.rsqrt(flat.var() + 1e-8) if len(flat) > 1 else flat.new_zeros(())
    return [(one - flat.mean()) * spread for one in returns]


class Divergence(NamedTuple):
    """Estimates of KL(policy || reference) per token from tokens that the policy drew (Schulman 2020).

    k1 is unbiased and may be negative; k3 is unbiased and never negative.
    """

    k1: Tensor
    k3: Tensor


def divergence(logps: Tensor, reference: Tensor) -> Divergence:
    """Return both estimates, (N,) each: log r and (1/r - 1) + log r for r = policy / reference."""
    log_ratio = logps - reference
    return Divergence(log_ratio, torch.expm1(-log_ratio) + log_ratio)
