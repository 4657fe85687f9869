"""Losses as pure functions: tensors in, tensors out. Log-probabilities are sums over answer tokens.

Shapes: (B,) is one value per pair.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


class PreferenceLoss(NamedTuple):
    """Loss and implicit rewards, each (B,)."""

    loss: Tensor
    chosen_reward: Tensor
    rejected_reward: Tensor


def dpo(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
) -> PreferenceLoss:
    """Direct preference optimisation, arXiv:2305.18290, equation 7; with label smoothing, cDPO.

    Args:
        chosen: policy log-probability of the chosen answers, summed over tokens, (B,), nats.
        rejected: the same of the rejected answers.
        ref_chosen: reference log-probability of the chosen answers.
        ref_rejected: the same of the rejected answers.
        beta: pull to the reference; larger stays closer.
        label_smoothing: share of labels taken to be wrong (Mitchell 2023, "A note on DPO with noisy preferences").
    """
    h = (chosen - ref_chosen) - (rejected - ref_rejected)
    loss = -logsigmoid(beta * h) * (1 - label_smoothing) - logsigmoid(-beta * h) * label_smoothing
    return PreferenceLoss(loss, beta * (chosen - ref_chosen).detach(), beta * (rejected - ref_rejected).detach())


def ipo(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float = 0.1
) -> PreferenceLoss:
    """Identity preference optimisation, arXiv:2310.12036, equation 17, on summed log-probabilities."""
    h = (chosen - ref_chosen) - (rejected - ref_rejected)
    loss = (h - 1 / (2 * beta)) ** 2
    return PreferenceLoss(loss, beta * (chosen - ref_chosen).detach(), beta * (rejected - ref_rejected).detach())


def nll(logps: Tensor, lengths: Tensor) -> Tensor:
    """Mean negative log-likelihood per answer token, (B,): the anchor of RPO (arXiv:2404.19733, equation 1)."""
    return -logps / lengths.clamp(min=1)


LN2 = float(torch.log(torch.tensor(2.0)))
