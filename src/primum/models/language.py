"""Which tensors of a checkpoint are the language model's, and how they are called inside of it.

The same language model lies in checkpoints under many names: alone, as the tower of a vision-language model, and of
that in the layouts of several versions of transformers. Inside, its tensors are always called alike (`layers.0...`),
so that two checkpoints can be compared, or the tower of one with a model of text.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from primum.core.errors import UsageError
from primum.models.load import quiet, reader_of, sees, unreadable

HEAD = "lm_head.weight"
"""What the output matrix is called here, under whatever name a model has it."""


def folder_sees(folder: Path) -> bool:
    """Return whether a model folder holds a vision-language model.

    Raises:
        UsageError: its settings cannot be read.
    """
    return sees(_config(folder))


def skeleton(folder: Path) -> Any:
    """Return the network of a model folder without its weights.

    Raises:
        UsageError: its settings cannot be read, or a package is missing that it is built with.
    """
    config = _config(folder)
    try:
        with quiet(), torch.device("meta"):
            return reader_of(config).from_config(config, trust_remote_code=False)
    except (ValueError, ImportError) as error:
        raise unreadable(str(folder), error) from error


def _config(folder: Path) -> Any:
    try:
        with quiet():
            return AutoConfig.from_pretrained(str(folder), trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise unreadable(str(folder), error) from error


def language_names(network: Any, names: Iterable[str], where: str) -> dict[str, str]:
    """Return the tensors of the language model: own name -> name inside of the language model.

    Its embedding says where it lies: of all places that hold a tensor of that name, the one that also holds most of the
    others is it (the vision tower has layers of the same names, but elsewhere).

    Args:
        network: the model; its weights are not looked at.
        names: of all tensors, as a checkpoint or the network itself has them.
        where: the checkpoint, for the error.

    Raises:
        UsageError: there is no embedding of the language model among them.
    """
    names, inner = list(names), network.get_decoder()
    inside = dict(inner.named_parameters())
    matrix = network.get_input_embeddings().weight
    embedding = next((name for name, tensor in inside.items() if tensor is matrix), "embed_tokens.weight")
    held = set(names)
    places = [own.removesuffix(embedding) for own in names if f".{own}".endswith(f".{embedding}")]
    if not places:
        cure = "is it a whole checkpoint? Loading and saving it once with plain transformers gives it the usual names"
        raise UsageError(f"no tensor is the language model's embedding ({embedding})", where=where, cure=cure)
    place = max(places, key=lambda one: sum(one + name in held for name in inside))
    parts = {name.partition(".")[0] for name in inside}
    found = {own: own.removeprefix(place) for own in names if own.startswith(place)}
    found = {own: name for own, name in found.items() if name.partition(".")[0] in parts}
    return found | {own: HEAD for own in names if f".{own}".endswith(f".{_head(network)}")}


def _head(network: Any) -> str:
    """Return the name of the output matrix in memory, without the parts of the network that it lies in."""
    head = network.get_output_embeddings()
    name = next((name for name, module in network.named_modules() if module is head and name), "lm_head")
    return name.rpartition(".")[2] + ".weight"
