"""Plain fine-tuning on answers: no prompt carries loss, every answer weighs the same. What several methods end with."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.training import losses
from primum.training.alarms import Alarms
from primum.training.examples import Example
from primum.training.loop import LoopConfig, MicroLoss, Run
from primum.training.score import score


def learn_answers(
    config: LoopConfig, network: Any, rows: Sequence[Example], folder: Path, advance: Advance = silent,
    groups: Sequence[Hashable] | None = None,
) -> tuple[list[JsonDict], Alarms]:  # fmt: skip
    """Train on the mean NLL of each answer's tokens; return the log (nats per token) and the alarms.

    Rows with the same key in `groups` are in one step, where what they begin with is computed once.
    """

    def loss(network: Any, micro: Sequence[Example], scale: float) -> MicroLoss:
        logps, lengths = score(network, micro)
        each = losses.nll(logps, lengths)
        return MicroLoss(each.sum() / scale, {"nll": each.sum()})

    run = Run(network, rows, loss, len, config, folder, advance=advance, groups=groups)
    return run.train(), run.alarms
