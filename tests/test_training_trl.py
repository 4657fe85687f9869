"""Losses against TRL's own code, where it is installed (`pip install 'primum[trl]'`): values and gradients."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from primum.training import losses

PAIRS, WIDTH = 32, 12


@pytest.fixture(autouse=True)
def trl(monkeypatch: pytest.MonkeyPatch) -> Any:
    """TRL, of which experimental trainers warn as they are imported."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    return pytest.importorskip("trl", exc_type=ImportError)


def draw(*shape: int) -> Tensor:
    return -5 * torch.rand(*shape, dtype=torch.float64)


class Batch:
    """Log-probabilities of tokens (2 PAIRS, WIDTH), those of answers of random lengths not zero; and a reference."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.lengths = torch.randint(1, WIDTH + 1, (2 * PAIRS,))
        self.mask = torch.arange(WIDTH) < self.lengths[:, None]
        self.tokens = draw(2 * PAIRS, WIDTH).requires_grad_()
        self.reference = draw(2 * PAIRS) * self.lengths

    @property
    def logps(self) -> Tensor:
        return (self.tokens * self.mask).sum(1)

    def gradient(self, loss: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(loss, self.tokens, retain_graph=True)
        return found

    def model(self, **_: Any) -> Any:
        """Return what TRL's fused head gives; the numbers that are only logged are zero."""
        nothing = torch.zeros(2 * PAIRS, WIDTH)
        return SimpleNamespace(
            log_probs=self.tokens * self.mask, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool()
        )

    @property
    def inputs(self) -> dict[str, Tensor]:
        ids = torch.ones(2 * PAIRS, WIDTH + 1, dtype=torch.long)
        return {"input_ids": ids, "attention_mask": ids, "completion_mask": torch.cat([ids[:, :1] * 0, self.mask], 1)}


def trainer(**more: Any) -> Any:
    """What a trainer of TRL looks up on itself while it computes a loss."""
    alone = SimpleNamespace(device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x)
    return SimpleNamespace(
        accelerator=alone, model=SimpleNamespace(training=True), aux_loss_enabled=False, precompute_ref_logps=True,
        _metrics=defaultdict(lambda: defaultdict(list)), _total_train_tokens=0, _tp_size=1, **more,
    )  # fmt: skip


@pytest.mark.parametrize("beta", [0.05, 0.1, 0.5])
@pytest.mark.parametrize("name", ["sigmoid", "hinge", "ipo"])
def test_losses_of_pairs_are_those_that_trl_computes(name: str, beta: float) -> None:
    from trl import DPOTrainer

    batch = Batch()
    ref_chosen, ref_rejected = batch.reference.chunk(2)
    own = trainer(
        ld_alpha=None, f_divergence_type="reverse_kl", loss_types=[name], loss_weights=[1.0], beta=beta,
        label_smoothing=0.0, use_weighting=False,
    )  # fmt: skip
    inputs = {**batch.inputs, "ref_chosen_logps": ref_chosen, "ref_rejected_logps": ref_rejected}
    expected: Tensor = DPOTrainer._compute_loss(own, batch.model, inputs, False)
    given = losses.Answers(*batch.logps.chunk(2), ref_chosen, ref_rejected)
    of_chosen, of_rejected = batch.lengths.chunk(2)
    if name == "ipo":
        found = losses.ipo(*given, beta, (of_chosen, of_rejected))
    else:
        found = {"sigmoid": losses.dpo, "hinge": losses.hinge}[name](*given, beta)
    assert found.loss.mean().item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.allclose(batch.gradient(found.loss.mean()), batch.gradient(expected), rtol=1e-10, atol=1e-14)
    rewards = own._metrics["train"]
    assert found.chosen_reward.mean().item() == pytest.approx(rewards["rewards/chosen"][0], rel=1e-12)
    assert found.rejected_reward.mean().item() == pytest.approx(rewards["rewards/rejected"][0], rel=1e-12)


@pytest.mark.parametrize("raised", [0.0, 40.0])
def test_kto_is_what_trl_computes(raised: float) -> None:
    from trl import KTOTrainer

    batch = Batch()
    other, good = draw(2 * PAIRS), torch.arange(2 * PAIRS) % 3 == 0
    other_reference = draw(2 * PAIRS) - raised  # a reference point of nought, and one above it
    own = trainer(
        calculate_KL=True, loss_type="kto", beta=0.1, desirable_weight=1.5, undesirable_weight=0.5,
        _compute_kl_logps=lambda *_: other,
    )  # fmt: skip
    inputs = {**batch.inputs, "label": good, "ref_logps": batch.reference, "ref_KL_logps": other_reference}
    expected: Tensor = KTOTrainer._compute_loss(own, batch.model, inputs, False)
    point = losses.kto_point(other, other_reference)
    assert point.item() == pytest.approx(own._metrics["train"]["kl"][0], rel=1e-12)
    assert (point > 1) == (raised > 0)
    found = losses.kto(batch.logps, batch.reference, good, point, 0.1, (1.5, 0.5)).loss.mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.allclose(batch.gradient(found), batch.gradient(expected), rtol=1e-10, atol=1e-14)
