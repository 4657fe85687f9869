"""What on-policy training needs to go on where it was stopped: weights, optimizer, and the log so far, in one place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from primum.core.records import JsonDict
from primum.core.store import write_json
from primum.training.adapter import write_tensors

MARK = "resume.json"
KEPT = ("step", "exp_avg", "exp_avg_sq")
"""What AdamW keeps of each weight."""


def save(folder: Path, weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, log: list[JsonDict]) -> None:
    """Write the state after an iteration, whole or not at all; the one before it is removed."""
    tensors: dict[str, Tensor] = {}
    for name, p in weights.items():
        tensors[f"weight/{name}"] = p.detach().contiguous().clone()
        for key, value in optimizer.state[p].items():
            tensors[f"{key}/{name}"] = value.detach().contiguous().clone()
    file = f"state-{len(log):06d}.safetensors"
    write_tensors(tensors, folder / file)
    write_json(folder / MARK, {"file": file, "log": log})
    for old in folder.glob("state-*.safetensors"):
        if old.name != file:
            old.unlink()


def finished(folder: Path) -> list[JsonDict]:
    """Return the log of the iterations that `save` wrote; an empty one where nothing was written yet."""
    held = _held(folder)
    return list(held["log"]) if held else []


def _held(folder: Path) -> JsonDict | None:
    mark = folder / MARK
    return json.loads(mark.read_text(encoding="utf-8")) if mark.exists() else None


def load(folder: Path, weights: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> list[JsonDict]:
    """Put back what `save` wrote and return its log; an empty log where nothing was written yet."""
    folder.mkdir(parents=True, exist_ok=True)
    held = _held(folder)
    if held is None:
        return []
    tensors = load_file(folder / held["file"])
    with torch.no_grad():
        for name, p in weights.items():
            p.copy_(tensors[f"weight/{name}"])
            if f"step/{name}" in tensors:
                optimizer.state[p] = {key: tensors[f"{key}/{name}"].to(p.device) for key in KEPT}
    return list(held["log"])
