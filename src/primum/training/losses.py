"""Losses as pure functions: tensors in, tensors out. Log-probabilities are sums over answer tokens.

Shapes: (B,) is one value per pair.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

LN2 = math.log(2)


class PreferenceLoss(NamedTuple):
    """Loss and implicit rewards, each (B,)."""

    loss: Tensor
    chosen_reward: Tensor
    rejected_reward: Tensor


class Answers(NamedTuple):
    """Log-probabilities of a batch of pairs, summed over answer tokens, each (B,), nats.

    chosen, rejected: under the policy. ref_chosen, ref_rejected: the same under the reference.
    """

    chosen: Tensor
    rejected: Tensor
    ref_chosen: Tensor
    ref_rejected: Tensor

    @property
    def gain(self) -> Tensor:
        """How much more the policy prefers the chosen answer than the reference does: h of the papers."""
        return (self.chosen - self.ref_chosen) - (self.rejected - self.ref_rejected)

    def rewarded(self, loss: Tensor, beta: float) -> PreferenceLoss:
        """Put the implicit rewards, beta times the log-ratio to the reference, beside a loss."""
        chosen, rejected = self.chosen - self.ref_chosen, self.rejected - self.ref_rejected
        return PreferenceLoss(loss, beta * chosen.detach(), beta * rejected.detach())


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
    given = Answers(chosen, rejected, ref_chosen, ref_rejected)
    h = beta * given.gain
    return given.rewarded(-logsigmoid(h) * (1 - label_smoothing) - logsigmoid(-h) * label_smoothing, beta)


def hinge(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float = 0.1
) -> PreferenceLoss:
    """Hinge on the normalised likelihood, max(0, 1 - beta h): RSO, arXiv:2309.06657, section 3.3 (hinge-norm)."""
    given = Answers(chosen, rejected, ref_chosen, ref_rejected)
    return given.rewarded(torch.relu(1 - beta * given.gain), beta)


def ipo(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float = 0.1,
    lengths: tuple[Tensor, Tensor] | None = None,
) -> PreferenceLoss:
    """Identity preference optimisation, arXiv:2310.12036, equation 17 (there beta is tau).

    Args:
        chosen: as in `dpo`, and so are the next three.
        rejected: see chosen.
        ref_chosen: see chosen.
        ref_rejected: see chosen.
        beta: the regression target is 1 / (2 beta).
        lengths: answer tokens of chosen and rejected, each (B,): log-ratios are then means over tokens, as TRL has it.
            None: sums, as the equation says.
    """
    given = Answers(chosen, rejected, ref_chosen, ref_rejected)
    h = given.gain
    if lengths is not None:
        of_chosen, of_rejected = (count.clamp(min=1) for count in lengths)
        h = (chosen - ref_chosen) / of_chosen - (rejected - ref_rejected) / of_rejected
    return given.rewarded((h - 1 / (2 * beta)) ** 2, beta)


def safe_dpo(
    given: Answers, chosen_unsafe: Tensor, rejected_unsafe: Tensor, beta: float, delta: float
) -> PreferenceLoss:
    """SafeDPO, arXiv:2505.20065, equation 12: a safe answer must lead an unsafe one by `delta` more.

    The pairs must have been through `safe_order`: an unsafe answer never stands as chosen against a safe one.

    Args:
        given: log-probabilities.
        chosen_unsafe: (B,), 1 where the chosen answer is unsafe.
        rejected_unsafe: the same of the rejected answers.
        beta: as in `dpo`.
        delta: the lead, at least 0; 0 is DPO on the ordered pairs.
    """
    lead = delta * (rejected_unsafe.to(given.chosen.dtype) - chosen_unsafe.to(given.chosen.dtype))
    return given.rewarded(-logsigmoid(beta * given.gain - lead), beta)


SafeOrder = Literal["keep", "swap", "drop"]


def safe_order(chosen_unsafe: bool, rejected_unsafe: bool) -> SafeOrder:
    """Return what SafeDPO does to a pair first (arXiv:2505.20065): an unsafe winner over a safe loser is swapped.

    A pair of two unsafe answers is dropped.
    """
    if chosen_unsafe and rejected_unsafe:
        return "drop"
    return "swap" if chosen_unsafe else "keep"


class UnpairedLoss(NamedTuple):
    """Loss and implicit reward, each (B,)."""

    loss: Tensor
    reward: Tensor


def kto(
    logps: Tensor,
    reference: Tensor,
    desirable: Tensor,
    kl: Tensor,
    beta: float = 0.1,
    weights: tuple[float, float] = (1.0, 1.0),
) -> UnpairedLoss:
    """Kahneman-Tversky optimisation on answers that are good or bad, arXiv:2402.01306, equations 7 and 8.

    Args:
        logps: policy log-probability of the answers, (B,), nats.
        reference: the same under the reference.
        desirable: (B,), True where the answer is good.
        kl: the reference point z, one number, at least 0 (`kto_point`); no gradient goes through it.
        beta: risk aversion: how fast the value saturates.
        weights: of good and of bad answers (lambda of the paper).
    """
    ratio, point = logps - reference, kl.detach()
    good, bad = torch.sigmoid(beta * (ratio - point)), torch.sigmoid(beta * (point - ratio))
    loss = torch.where(desirable, weights[0] * (1 - good), weights[1] * (1 - bad))
    return UnpairedLoss(loss, beta * ratio.detach())


def kto_point(logps: Tensor, reference: Tensor) -> Tensor:
    """Estimate KTO's reference point on answers to other prompts of the batch: max(0, mean log-ratio).

    arXiv:2402.01306, section 4.1.
    """
    return (logps - reference).mean().clamp(min=0).detach()


def orpo(chosen: Tensor, rejected: Tensor, lengths: tuple[Tensor, Tensor], weight: float = 0.1) -> PreferenceLoss:
    """Odds ratio preference optimisation, arXiv:2403.07691, equations 4, 6 and 7; needs no reference.

    The likelihood of an answer is there its mean over tokens; the first term is the chosen answer's NLL per token.

    Args:
        chosen: as in `dpo`.
        rejected: as in `dpo`.
        lengths: answer tokens of chosen and rejected, each (B,).
        weight: of the odds ratio (lambda of the paper).
    """
    c, r = (logps / count.clamp(min=1) for logps, count in zip((chosen, rejected), lengths, strict=True))
    odds = (c - r) - (_log1mexp(c) - _log1mexp(r))
    return PreferenceLoss(-c - weight * logsigmoid(odds), weight * c.detach(), weight * r.detach())


def _log1mexp(x: Tensor) -> Tensor:
    """Return log(1 - exp(x)) of x < 0 without cancellation (Maechler 2012, "Accurately computing log(1 - exp(-|a|))").

    An answer that is certain (x = 0) has infinite odds; it is taken as the nearest number below, or it has no gradient.
    """
    x = x.clamp(max=-torch.finfo(x.dtype).tiny)
    near = x > -LN2
    inner = torch.where(near, x, -torch.ones_like(x))  # where() alone lets the gradient of the other branch be nan
    outer = torch.where(near, -torch.ones_like(x), x)
    return torch.where(near, torch.log(-torch.expm1(inner)), torch.log1p(-torch.exp(outer)))


def constrained(logps: Tensor, reference: Tensor, beta: Tensor) -> Tensor:
    """Constrained fine-tuning of answer tokens, (N,): arXiv:2406.05946, equation 3, -2/beta log sigmoid(beta gain).

    The gradient at a token is that of its log-likelihood times 2 (1 - sigmoid(beta gain)): 1 where the model is where
    its reference is, and the faster towards 0 beyond it the larger beta is.

    Args:
        logps: policy log-probability of each token, nats.
        reference: the same under the reference.
        beta: pull to the reference at each token, above 0.
    """
    return -2 / beta * logsigmoid(beta * (logps - reference))


def nll(logps: Tensor, lengths: Tensor) -> Tensor:
    """Mean negative log-likelihood per answer token, (B,): the anchor of RPO (arXiv:2404.19733, equation 1)."""
    return -logps / lengths.clamp(min=1)


def folded(logps: Tensor, tokens: Tensor) -> Tensor:
    """Return the log-shares (N, k + 1) of some tokens, and of all others taken as one.

    Args:
        logps: log-probabilities (N, V), nats.
        tokens: ids (N, k).
    """
    known = logps.gather(-1, tokens)
    rest = (1 - known.exp().sum(-1, keepdim=True)).clamp(min=1e-9)  # of rounding it may be below nothing
    return torch.cat([known, rest.log()], -1)


def generalised_jsd(teacher: Tensor, student: Tensor, beta: float) -> Tensor:
    """Generalised Jensen-Shannon divergence of two distributions, (N,) nats: arXiv:2306.13649, section 2.

    beta KL(teacher || m) + (1 - beta) KL(student || m) with m = beta teacher + (1 - beta) student. At 0 and 1, where
    that is nothing, it is what the divergence over beta, or over 1 - beta, tends to: KL(teacher || student) at 0,
    KL(student || teacher) at 1.

    Args:
        teacher: log-probabilities (N, K), all finite.
        student: the same of who learns.
        beta: 0 covers all that the teacher may say, 1 keeps to what it most likely says.

    Raises:
        ValueError: beta is not from 0 to 1.
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta is {beta}, not from 0 to 1")
    if beta == 0:
        return _kl(teacher, student)
    if beta == 1:
        return _kl(student, teacher)
    mixed = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    return beta * _kl(teacher, mixed) + (1 - beta) * _kl(student, mixed)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """Return KL(p || q) of log-probabilities (N, K), (N,)."""
    return (p.exp() * (p - q)).sum(-1)
