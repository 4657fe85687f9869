"""One of several processes that learn together: started by test_training_team.py with torchrun's variables set."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from primum.training.examples import Example
from primum.training.loop import LoopConfig, MicroLoss, Run
from primum.training.team import team


class Words(nn.Module):
    """A network of two matrices in float64: what differs between runs is the order of addition alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Embedding(30, 8, dtype=torch.float64)
        self.last = nn.Linear(8, 30, dtype=torch.float64)
        self.unused = nn.Linear(2, 2, dtype=torch.float64)


def rows() -> list[Example]:
    """Rows of different lengths."""
    return [Example(tuple(range(1 + i % 3)), tuple((i * j) % 30 for j in range(1 + i % 5))) for i in range(13)]


def likelihood(network: Any, micro: Any, scale: float) -> MicroLoss:
    """Minus the log-probability of each answer given its prompt's first token, and the number of answers."""
    limit = int(os.environ.get("SHORT_ON", "-1"))
    if limit == int(os.environ.get("RANK", "0")) and sum(e.length for e in micro) > 12:
        raise torch.OutOfMemoryError("short here")
    total: Tensor = torch.zeros((), dtype=torch.float64)
    for one in micro:
        logps = network.last(network.first(torch.tensor(one.prompt[0]))).log_softmax(-1)
        total = total - logps[torch.tensor(one.answer)].sum()
    return MicroLoss(total / scale, {"answers": torch.tensor(float(len(micro)))})


def main(folder: Path, stop_after: int) -> None:
    """Learn, and save the weights of the leading process."""
    own = team(cpu=True)
    network = Words()
    seen = 0

    def advance(_: int) -> None:
        nonlocal seen
        seen += 1
        if stop_after and seen >= stop_after:
            os._exit(9)  # nothing is cleaned up

    config = LoopConfig(1e-2, batch_size=6, epochs=3, token_budget=16, save_every_seconds=0, average=0.5)
    run = Run(network, rows(), likelihood, lambda e: float(sum(len(x.answer) for x in e)), config, folder, team=own,
              advance=advance)  # fmt: skip
    log = run.train()
    assert len(set(own.gathered(str([p.tolist() for p in network.parameters()])))) == 1  # the same weights everywhere
    if own.leads:
        torch.save(network.state_dict(), folder / "weights.pt")
        torch.save([row["loss"] for row in log], folder / "losses.pt")
    own.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
