"""A model's name to a folder of safetensors: folders as they are, everything else is loaded once and written out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from primum.core.errors import UsageError
from primum.core.records import JsonDict
from primum.core.store import file_sha256, read_json, write_json
from primum.models.embedded import embedded_folder
from primum.repair.checkpoint import INDEX, SINGLE, Checkpoint

if TYPE_CHECKING:
    import torch

MARK = "source.json"


class Unpacked(NamedTuple):
    """A checkpoint, and whether it was written out for us (an adapter, a GGUF file, a hub's model)."""

    checkpoint: Checkpoint
    made: bool


def unpacked(name: str, folder: Path) -> Unpacked:
    """Return the checkpoint of a model.

    An adapter is merged into its base, a GGUF file dequantised, a hub's model fetched; that is written to `folder` once
    and needs the model in memory once.

    Args:
        name: `embedded`, a folder, an adapter's folder, a .gguf file or a hub id.
        folder: where a model that is no safetensors folder is written.

    Raises:
        UsageError: no such model, or no weights in the folder.
    """
    if name == "embedded":
        return Unpacked(Checkpoint(embedded_folder()), False)
    path = Path(name)
    if path.is_dir() and not (path / "adapter_config.json").is_file():
        found = Checkpoint(path)
        _ = found.entries  # a folder without weights is told now
        return Unpacked(found, False)
    return Unpacked(_written(name, folder), True)


def _written(name: str, folder: Path) -> Checkpoint:
    mark, key = folder / MARK, _key(name)
    if mark.is_file() and read_json(mark) == key and (folder / SINGLE).is_file() | (folder / INDEX).is_file():
        return Checkpoint(folder)
    from primum.models.load import load
    from primum.training.adapter import save_merged

    model = load(name, _format(name))
    partial = folder.with_name(folder.name + ".partial")
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    save_merged(model.network, model.tokenizer, partial)
    write_json(partial / MARK, key)
    partial.rename(folder)
    return Checkpoint(folder)


def _format(name: str) -> torch.dtype:
    """Return the number format that a model (of an adapter, its base) is stored in; fp32 where nothing says.

    Not the fastest one here: what is written would be rounded on some machines and not on others.
    """
    import torch
    from transformers import AutoConfig

    from primum.models.load import adapter_base, quiet

    place = adapter_base(name)
    try:
        with quiet():
            config: Any = cast(Any, AutoConfig).from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError):  # a GGUF file, exact in fp32 alone; or no model, as loading will say
        return torch.float32
    return config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32


def _key(name: str) -> JsonDict:
    """Return what says that a written copy is still of the same source: of an adapter also its scale and its base."""
    path = Path(name)
    if path.is_file():
        return {"name": name, "sha256": file_sha256(path)}
    if not path.is_dir():
        return {"name": name}
    settings, adapter = path / "adapter_config.json", path / "adapter_model.safetensors"
    if not settings.is_file():
        return {"name": name, "stamp": Checkpoint(path).stamp}
    if not adapter.is_file():
        cure = "save the adapter as safetensors; pickled weights are not read"
        raise UsageError("the adapter has no adapter_model.safetensors", where=name, cure=cure)
    from primum.models.load import base_of

    own = {"sha256": file_sha256(adapter), "settings": file_sha256(settings)}
    return {"name": name, **own, "base": _key(base_of(path))}


def template_of(checkpoint: Checkpoint) -> str | None:
    """Return the chat template as text: from its own file, the tokenizer or the processor; None where there is none."""
    own = checkpoint.folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    for settings in (checkpoint.folder / name for name in ("tokenizer_config.json", "chat_template.json")):
        found = json.loads(settings.read_text(encoding="utf-8")).get("chat_template") if settings.is_file() else None
        if isinstance(found, str):
            return found
    return None
