"""Plain fine-tuning on answers: no prompt carries loss, every answer weighs the same. What several methods end with."""

from __future__ import annotations

from collections.abc import Sequence
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
    config: LoopConfig, network: Any, rows: Sequence[Example], folder: Path, advance: Advance = silent
) -> tuple[list[JsonDict], Alarms]:
    """Train on the mean NLL of each answer's tokens; return the log (nats per token) and the alarms."""

    def loss(network: Any, micro: Sequence[Example], scale: float) -> MicroLoss:
        logps, lengths = score(network, micro)
        each = losses.nll(logps, lengths)
        return MicroLoss(each.sum() / scale, {"nll": each.sum()})

    run = Run(network, rows, loss, len, config, folder, advance=advance)
    return run.train(), run.alarms
