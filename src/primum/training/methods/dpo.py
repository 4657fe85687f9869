"""Direct preference optimisation and its variants, anchored to what came before it.

The anchor is the NLL of the chosen answer, or the warm start's own loss on rows that come along (`Replay`): a hundred
pairs alone teach a small model to decline whatever looks like them, their benign twins included.

The reference is the policy as it stands when training begins: with a fresh adapter that is the adapter switched off.
It is scored once, before the first step, so the first loss is ln 2 to rounding, or training stops.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from primum.core.config import Config as Base
from primum.core.errors import StepFailedError
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.training import losses
from primum.training.alarms import Alarms
from primum.training.examples import Example, PairExample
from primum.training.keeping import KeepConfig, Kept, keeping_loss, openers
from primum.training.loop import LoopConfig, MicroLoss, Run, places
from primum.training.score import score, score_all

about = "direct preference optimisation (arXiv:2305.18290) with an anchor: NLL, or the warm start's own loss"


Loss = Literal["sigmoid", "hinge", "ipo", "safe"]


class Config(Base):
    """DPO (arXiv:2305.18290, equation 7) plus alpha times the chosen answer's NLL per token (arXiv:2404.19733)."""

    beta: float = Field(default=0.1, gt=0, description="pull to the reference; larger stays closer")
    nll_weight: float = Field(default=1.0, ge=0, description="weight of the NLL anchor on chosen answers")
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5, description="share of labels taken to be wrong (cDPO)")
    loss: Loss = Field(
        default="sigmoid", description="sigmoid is DPO; hinge; ipo; safe is SafeDPO, of pairs with safety flags"
    )
    ipo_mean: bool = Field(default=False, description="ipo: mean log-probabilities, as TRL has it, instead of sums")
    delta: float = Field(default=2.0, ge=0, description="safe: how far a safe answer must lead an unsafe one")
    learning_rate: float = Field(default=5e-5, gt=0, description="peak learning rate of the adapter")
    epochs: float = Field(default=1.0, gt=0, description="passes over the pairs")
    batch_size: int = Field(default=16, gt=0, description="pairs and replayed rows per optimizer step")


class Referenced(NamedTuple):
    """A pair with its reference log-probabilities (nats, summed over answer tokens)."""

    pair: PairExample
    ref_chosen: float
    ref_rejected: float

    @property
    def length(self) -> int:
        """Tokens of both rows."""
        return self.pair.length


@dataclass(frozen=True)
class Replay:
    """Rows of the warm start that are learned and kept on; those of a pair's group are in its step.

    Args:
        rows: learned and kept (`training.keeping`).
        groups: a key for each; one that no pair has would make steps without a pair.
        config: how they weigh against each other.
        weight: of their loss, a row against a pair.
    """

    rows: Sequence[Kept]
    groups: Sequence[Hashable]
    config: KeepConfig
    weight: float = 1.0


def reference(network: Any, pairs: Sequence[PairExample], advance: Advance = silent) -> list[Referenced]:
    """Score all pairs under the policy as it stands: the reference of the training that follows."""
    rows: list[Example] = [side for pair in pairs for side in (pair.chosen, pair.rejected)]
    network.eval()
    logps = score_all(network, rows, advance=advance).logps.tolist()
    return [Referenced(p, c, r) for p, c, r in zip(pairs, logps[::2], logps[1::2], strict=True)]


def train(
    config: Config,
    network: Any,
    pairs: Sequence[Referenced],
    folder: Path,
    seed: int = 0,
    advance: Advance = silent,
    groups: Sequence[Hashable] | None = None,
    replay: Replay | None = None,
) -> tuple[list[JsonDict], Alarms]:
    """Train on referenced pairs; those with the same key in `groups` are in one step.

    Returns:
        The log (loss, accuracy, margin, rewards and log-probabilities per pair, a row a step) and the alarms.

    Raises:
        StepFailedError: the first DPO loss is not ln 2: the reference is not the policy.
        ValueError: rows are replayed in a group that has no pair.
    """
    keys: Sequence[Hashable] = range(len(pairs)) if groups is None else groups
    replayed: Sequence[Kept] = replay.rows if replay else ()
    if replay and not set(replay.groups) <= set(keys):
        raise ValueError("a replayed row belongs to no pair's group: its step would have no pair")
    loss = objective(config, replay)
    rows: list[Referenced | Kept] = [*pairs, *replayed]
    loop = LoopConfig(config.learning_rate, config.batch_size, config.epochs, seed=seed)
    alarms = Alarms(total=round(len(rows) * config.epochs) // config.batch_size)
    keys = [*keys, *(replay.groups if replay else ())]
    run = Run(network, rows, loss, len, loop, folder, alarms, advance, check_of(config), keys)
    return run.train(), run.alarms


def objective(
    config: Config, replay: Replay | None = None
) -> Callable[[Any, Sequence[Referenced | Kept], float], MicroLoss]:
    """Return the loss of a micro-batch: (network, pairs and rows, what the step's sum is divided by) -> MicroLoss.

    `replay` says how rows that are learned or kept weigh beside the pairs.
    """
    raised = openers(replay.rows) if replay else []

    def loss(network: Any, micro: Sequence[Referenced | Kept], scale: float) -> MicroLoss:
        found = _pair_loss(config, network, [m for m in micro if isinstance(m, Referenced)])
        rows = [m for m in micro if isinstance(m, Kept)]
        if replay and rows:
            more = keeping_loss(replay.config, network, rows, raised)
            found.metrics.update({f"replay_{key}": value for key, value in more.metrics.items()})
            found.counts.update({f"replay_{key}": n for key, n in more.counts.items()})
            found = found._replace(loss=found.loss + replay.weight * more.loss)
        return found._replace(loss=found.loss / scale)

    return loss


def preference(
    config: Config, given: losses.Answers, lengths: Tensor, unsafe: Sequence[tuple[bool, bool]]
) -> losses.PreferenceLoss:
    """Return the preference loss that a configuration names.

    Args:
        config: names the loss and its constants.
        given: log-probabilities of the pairs.
        lengths: answer tokens of all chosen, then of all rejected answers, (2 B,).
        unsafe: whether the chosen and the rejected answer of each pair is unsafe.
    """
    if config.loss == "hinge":
        return losses.hinge(*given, beta=config.beta)
    if config.loss == "ipo":
        of_chosen, of_rejected = lengths.chunk(2)
        return losses.ipo(*given, beta=config.beta, lengths=(of_chosen, of_rejected) if config.ipo_mean else None)
    if config.loss == "safe":
        flags = torch.tensor(unsafe, device=given.chosen.device)
        return losses.safe_dpo(given, flags[:, 0], flags[:, 1], config.beta, config.delta)
    return losses.dpo(*given, beta=config.beta, label_smoothing=config.label_smoothing)


def _pair_loss(config: Config, network: Any, pairs: Sequence[Referenced]) -> MicroLoss:
    if not pairs:
        return MicroLoss(torch.zeros(()), {}, {})
    logps, lengths = score(network, [m.pair.chosen for m in pairs] + [m.pair.rejected for m in pairs])
    chosen, rejected = logps.chunk(2)
    ref_chosen = chosen.new_tensor([m.ref_chosen for m in pairs])
    ref_rejected = chosen.new_tensor([m.ref_rejected for m in pairs])
    given = losses.Answers(chosen, rejected, ref_chosen, ref_rejected)
    pref = preference(config, given, lengths.to(chosen.device), [m.pair.unsafe for m in pairs])
    anchor = losses.nll(chosen, lengths[: len(pairs)])
    margin = pref.chosen_reward - pref.rejected_reward
    benign = places([m.pair.benign for m in pairs], margin.device)
    metrics = {
        "dpo": pref.loss, "nll": anchor, "chosen_reward": pref.chosen_reward,
        "rejected_reward": pref.rejected_reward, "margin": margin, "benign_margin": margin[benign],
        "accuracy": (pref.chosen_reward > pref.rejected_reward).float(),
        "chosen_logp": chosen, "rejected_logp": rejected,
    }  # fmt: skip
    sums = {key: value.sum() for key, value in metrics.items()}
    counts = dict.fromkeys(metrics, len(pairs)) | {"benign_margin": len(benign)}
    return MicroLoss((pref.loss + config.nll_weight * anchor).sum(), sums, counts)


def check_of(config: Config) -> Callable[[JsonDict], None]:
    """Return what the first row of the log must pass."""
    return check_ln2 if config.loss == "sigmoid" else check_start


def check_start(row: JsonDict, tolerance: float = 0.1) -> None:
    """Stop unless the first implicit rewards are zero; the tolerance is bf16 noise between batch shapes.

    Raises:
        StepFailedError: the reference is not the policy at step 0.
    """
    if abs(row["margin"]) > tolerance:
        problem = f"the margin of rewards at step 0 is {row['margin']:.4f}, not 0: the reference is not the policy"
        raise StepFailedError(problem, cure="the reference was made from other weights; delete the train step's folder")


def check_ln2(row: JsonDict, tolerance: float = 0.05) -> None:
    """Stop unless the first DPO loss is ln 2; the tolerance is bf16 noise between batch shapes.

    Raises:
        StepFailedError: the reference is not the policy at step 0.
    """
    if abs(row["dpo"] - losses.LN2) > tolerance:
        problem = f"the DPO loss at step 0 is {row['dpo']:.4f}, not ln 2 = 0.6931: the reference is not the policy"
        raise StepFailedError(problem, cure="the reference was made from other weights; delete the train step's folder")
