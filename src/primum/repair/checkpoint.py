"""Checkpoint folders of safetensors, read and written one tensor at a time: memory holds one tensor of each model.

The format (8 bytes of header length, a JSON header, the bytes of the tensors) is what safetensors documents. Its own
library writes whole files from memory only, and reads through a mapping whose pages count as the process's memory.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from primum.core.errors import UsageError
from primum.core.store import disk_error

if TYPE_CHECKING:
    from torch import Tensor

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_TORCH = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
FLOATS = ("F64", "F32", "F16", "BF16")
"""Formats that methods change. Packed ones (int4, fp8) hold no plain weights."""
HEAD, EMBEDDING = "lm_head.weight", "embed_tokens.weight"
"""What the output matrix and the embedding are called."""
CURE = "name a folder with model.safetensors, or with model.safetensors.index.json and its shards"


class Entry(NamedTuple):
    """One tensor: the file that holds it, its number format, its shape, and where its bytes lie in the file."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Checkpoint:
    """A model folder on disk. Nothing is read but headers until a tensor is asked for."""

    folder: Path

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The weight files, in order of name.

        Raises:
            UsageError: there are none, or one is missing or damaged.
        """
        index = self.folder / INDEX
        if index.is_file():
            try:
                named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            except (ValueError, KeyError, AttributeError, TypeError) as error:
                raise UsageError("the index of the shards is damaged", where=str(index), cure=CURE) from error
            return tuple(_inside(str(name), index) for name in named)
        if not (self.folder / SINGLE).is_file():
            raise UsageError("no safetensors weights in this folder", where=str(self.folder), cure=CURE)
        return (SINGLE,)

    @cached_property
    def entries(self) -> dict[str, Entry]:
        """Every tensor by name, in the order in which the files hold them."""
        return {name: entry for file in self.files for name, entry in _header(self.folder / file)}

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """config.json; empty where there is none."""
        path = self.folder / "config.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    @property
    def ties(self) -> bool:
        """Whether the output matrix is the embedding."""
        text = self.settings.get("text_config") or {}
        return bool(self.settings.get("tie_word_embeddings", text.get("tie_word_embeddings")))

    @cached_property
    def sees(self) -> bool:
        """Whether it is a vision-language model's: methods change its language tower and leave the rest.

        Raises:
            UsageError: its settings cannot be read.
        """
        parts = (key for key in self.settings if key.endswith("_config") and key != "quantization_config")
        if not any(parts):  # a model of text: transformers need not be loaded to know that
            return False
        from primum.models.language import folder_sees

        return folder_sees(self.folder)

    @cached_property
    def language(self) -> Mapping[str, str]:
        """Own name -> name inside the language model, of each of its tensors; empty without settings.

        Raises:
            UsageError: the settings cannot be read, or no tensor is its embedding.
        """
        if not self.settings:
            return {}
        from primum.models.language import language_names, skeleton

        return language_names(skeleton(self.folder), self.entries, str(self.folder))

    @cached_property
    def held_as(self) -> Mapping[str, str]:
        """Name inside the language model -> own name: `language` the other way round."""
        return {inside: own for own, inside in self.language.items()}

    @property
    def largest_file(self) -> int:
        """Bytes of the largest weight file: what one shard of this model takes."""
        return max((self.folder / file).stat().st_size for file in self.files)

    @property
    def stamp(self) -> list[list[int]]:
        """Size and time of each weight file: what tells new weights from old ones without reading them."""
        stats = [(self.folder / file).stat() for file in self.files]
        return [[one.st_size, one.st_mtime_ns] for one in stats]

    def raw(self, name: str) -> bytes:
        """Return a tensor's bytes as they lie on disk."""
        entry = self.entries[name]
        with (self.folder / entry.file).open("rb") as file:
            file.seek(entry.start)
            return file.read(entry.end - entry.start)

    def tensor(self, name: str) -> Tensor:
        """Return a tensor in its own number format."""
        import torch

        entry = self.entries[name]
        kind = getattr(torch, _TORCH[entry.dtype])
        if not math.prod(entry.shape):
            return torch.zeros(entry.shape, dtype=kind)
        return torch.frombuffer(bytearray(self.raw(name)), dtype=kind).reshape(entry.shape)

    def resolve(self, name: str) -> str | None:
        """Return the name under which this model holds a tensor; a tied output matrix is the embedding; else None."""
        if name in self.entries:
            return name
        if self.ties and name.endswith(HEAD):
            return next((own for own in self.entries if own.endswith(EMBEDDING)), None)
        return None


def changeable(model: Checkpoint) -> Iterable[str]:
    """Return the tensors that methods may change: all, of a vision-language model those of its language tower."""
    return model.language if model.sees else model.entries


def counterpart(model: Checkpoint, other: Checkpoint, name: str) -> str | None:
    """Return the name under which another model holds a tensor of this one, or None.

    Where one of them sees, the same tensor of their language models is looked for: a vision-language model may be
    paired with the model of text that it was made from, or with one in another version's layout.
    """
    own = other.resolve(name)
    if own is not None or not (model.sees or other.sees):
        return own
    inside = model.language.get(name, "")
    return other.held_as.get(inside) or (other.held_as.get(EMBEDDING) if other.ties and inside == HEAD else None)


def _inside(name: str, index: Path) -> str:
    """Return a shard's file name; one that leads out of the folder is refused."""
    if Path(name).name != name:
        raise UsageError(f"the index names a file outside its folder: {name!r}", where=str(index), cure=CURE)
    return name


def _header(path: Path) -> list[tuple[str, Entry]]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > path.stat().st_size:
                raise ValueError("the header is longer than the file")
            header: dict[str, Any] = json.loads(file.read(length))
        rows = [(name, facts) for name, facts in header.items() if name != "__metadata__"]
        base = 8 + length
        found = [(name, _entry(path.name, base, facts)) for name, facts in rows]
    except FileNotFoundError as error:
        raise UsageError("a shard that the index names is missing", where=str(path), cure="fetch it again") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        cure = "fetch the file again; pickled weights are not read"
        raise UsageError(f"no safetensors file ({error})", where=str(path), cure=cure) from error
    if found and max(entry.end for _, entry in found) > path.stat().st_size:
        raise UsageError("the file is cut short", where=str(path), cure="fetch it again")
    return sorted(found, key=lambda row: row[1].start)


def _entry(file: str, base: int, facts: Mapping[str, Any]) -> Entry:
    start, end = facts["data_offsets"]
    return Entry(file, facts["dtype"], tuple(facts["shape"]), base + start, base + end)


def write_like(model: Checkpoint, file: str, path: Path, content: Callable[[str], bytes]) -> None:
    """Write a weight file with the header of one of a model's files, a tensor at a time, whole or not at all.

    The header is taken over byte for byte: where every tensor has its old content, the file is the old file.

    Args:
        model: whose file it resembles.
        file: which of its files.
        path: where it is written.
        content: name -> bytes of that tensor, asked for once each, in the order of the file.

    Raises:
        StepFailedError: the disk is full or the folder cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as out:
            out.write(_head(model.folder / file))
            for name, entry in model.entries.items():
                if entry.file == file:
                    data = content(name)
                    if len(data) != entry.end - entry.start:
                        raise ValueError(f"{name}: {len(data)} bytes where {entry.end - entry.start} belong")
                    out.write(data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        length = file.read(8)
        return length + file.read(int.from_bytes(length, "little"))


def to_bytes(tensor: Tensor) -> bytes:
    """Return a tensor's bytes as safetensors keeps them (row by row, little endian)."""
    import torch

    plain = tensor.detach().contiguous().cpu()
    return plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""


def other_files(folder: Path, weights: tuple[str, ...]) -> Iterator[Path]:
    """Yield the files beside the weights that belong to the model: settings, tokenizer, template, licence."""
    for path in sorted(folder.iterdir()):
        ours = path.suffix in (".json", ".jinja", ".txt", ".model", ".md") or path.name.startswith("LICENSE")
        if path.is_file() and ours and path.name not in (*weights, "checksum.json"):
            yield path
