"""Real backends of fewer bits: what ships a model writes or holds the weights, and these are what is measured.

GGUF     a whole file, as llama.cpp is given one, in a temporary folder; read back, it is deleted. Matrices of the
         blocks are in the format that is named, embeddings and head in Q8_0, vectors in fp32.
torchao  tensors that torchao holds in fewer bits and multiplies with, in the matrices of the blocks; in memory only.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from primum.core.errors import MissingExtraError, UsageError
from primum.stress.layers import Layer, linear_layers
from primum.stress.setting import SkippedError

if TYPE_CHECKING:
    from primum.models.gguf_file import Precision
    from primum.models.load import Model

GROUPS = (128, 64, 32)
"""Inputs that share a scale in torchao's int4: the most that divide every matrix's."""


def through_gguf(model: Model, precision: str) -> dict[str, float]:
    """Put into a model the weights that its own GGUF file holds, each rounded to the model's number format.

    Args:
        model: its weights are replaced.
        precision: Q8_0 or Q4_0.

    Returns:
        The file's size in bytes (`bytes`).

    Raises:
        SkippedError: the architecture cannot be written, or the file found no room.
    """
    from primum.models.gguf_file import write_gguf
    from primum.models.load import gguf_model

    with tempfile.TemporaryDirectory(prefix="primum-gguf-") as folder:
        path = Path(folder) / f"{precision}.gguf"
        try:
            write_gguf(model, path, cast("Precision", precision))
        except UsageError as error:
            raise SkippedError(error.problem) from error
        except OSError as error:
            raise SkippedError(f"the GGUF file could not be written: {error.strerror or error}") from error
        size = path.stat().st_size
        held = gguf_model(path, model.network.dtype).state_dict()
    model.network.load_state_dict(held)
    return {"bytes": size}


def through_torchao(model: Model, precision: str) -> dict[str, float]:
    """Let torchao hold the matrices of a model's blocks: int8 a scale a row, int4 a scale a group of inputs.

    Args:
        model: its matrices are replaced by torchao's tensors.
        precision: int8 or int4.

    Returns:
        How many matrices torchao holds (`matrices`), and of int4 how many inputs share a scale (`group`).

    Raises:
        SkippedError: torchao is not installed, or left a matrix as it was.
    """
    if importlib.util.find_spec("torchao") is None:
        missing = MissingExtraError("torchao", "torchao")
        raise SkippedError(f"{missing.problem}: {missing.cure}")
    from torchao.quantization import quantize_

    layers = linear_layers(model.network)
    group = group_of(layers) if precision == "int4" else None
    ours = {id(layer.module) for layer in layers}
    plain = {layer.name: type(layer.module.weight) for layer in layers}
    quantize_(model.network, _settings(group), filter_fn=lambda module, _: id(module) in ours)
    for layer in layers:  # torchao passes over what it cannot hold: that must not be measured under its name
        if type(layer.module.weight) is plain[layer.name]:
            raise SkippedError(f"torchao left '{layer.name}' as it was")
    return {"matrices": len(layers), **({"group": group} if group else {})}


def group_of(layers: Sequence[Layer]) -> int:
    """Return the largest group of inputs that divides the rows of all layers.

    Raises:
        SkippedError: there is none.
    """
    widths = {layer.module.weight.shape[1] for layer in layers}
    found = next((group for group in GROUPS if not any(width % group for width in widths)), None)
    if found is None:
        raise SkippedError(f"rows of {', '.join(map(str, sorted(widths)))} numbers are no multiples of {GROUPS[-1]}")
    return found


def _settings(group: int | None) -> Any:
    """Return torchao's settings. Its other int4 packings need a certain GPU; this one runs wherever torch does."""
    import torch
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup

    if group is None:
        return Int8WeightOnlyConfig(set_inductor_config=False)
    return IntxWeightOnlyConfig(weight_dtype=getattr(torch, "int4"), granularity=PerGroup(group))  # noqa: B009 - torch's stubs lack it
