"""From shards to the files a user reads: attributes in Dolma's layout, masked documents, what was skipped.

    OUT/attributes/primum/NAME       one line a document: id, source, attributes
    OUT/masked/NAME                  the documents with placeholders for personal information
    OUT/skipped.jsonl                place and reason of every record that could not be read

The file of an input that was packed is packed likewise, so that it has the same name as its documents.
"""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, BinaryIO, cast

from primum.audit.hiding import hidden
from primum.audit.notes import Note
from primum.audit.pii.scan import mask, scan
from primum.audit.reading.files import PACKED, Input
from primum.core.store import disk_error

JSON_LINES = tuple(kind + packed for kind in (".jsonl", ".ndjson", ".json") for packed in ("", *PACKED))


def masked_rows(regions: tuple[str, ...]) -> Callable[[Sequence[Note]], dict[str, bytes]]:
    """Return what writes a block's rows with placeholders in place of personal information, in every text field."""

    def write(notes: Sequence[Note]) -> dict[str, bytes]:
        return {".masked": b"".join(_masked(note, regions) for note in notes)}

    return write


def _masked(note: Note, regions: tuple[str, ...]) -> bytes:
    document = note.document
    row = document.row or {"id": document.id, "text": document.text, "source": document.source}
    clean = {
        hidden(key, regions): hidden(value, regions)
        if key in ("id", "source") and isinstance(value, str)
        else mask_value(value, regions)
        for key, value in row.items()
    }
    return json.dumps(clean, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def mask_value(value: Any, regions: tuple[str, ...]) -> Any:
    """Return a value of a row with every text in it masked, names of fields too, however deep it lies."""
    if isinstance(value, str):
        return mask(value, scan(value, regions))
    if isinstance(value, list):
        return [mask_value(one, regions) for one in cast(list[Any], value)]
    if isinstance(value, dict):
        return {hidden(key, regions): mask_value(one, regions) for key, one in cast(dict[str, Any], value).items()}
    return value


def output_name(name: str) -> str:
    """Return the name of an input's JSON-lines output: its own where it is JSON lines, otherwise with .jsonl."""
    clean = "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))
    return clean if clean.lower().endswith(JSON_LINES) else clean + ".jsonl"


def gather(work: Path, stems: Sequence[str], inputs: Sequence[Input], suffix: str, folder: Path) -> list[str]:
    """Join the shards of each input into one file under a folder; return the files' paths.

    Raises:
        StepFailedError: the disk is full or cannot be written.
    """
    by_input: dict[int, list[Path]] = {number: [] for number in range(len(inputs))}
    for stem in stems:
        by_input[int(stem.partition("-")[0])].append(work / (stem + suffix))
    written: list[str] = []
    for number, paths in by_input.items():
        path = folder / output_name(inputs[number].name)
        join(paths, path, path.suffix.lower())
        written.append(str(path))
    return written


def join(parts: Iterable[Path], path: Path, packed: str = "") -> None:
    """Write files one after the other into one, whole or not at all, in constant memory.

    Args:
        parts: the files.
        path: of the one that is written.
        packed: how: one of PACKED, or anything else for as they are.

    Raises:
        StepFailedError: the disk is full or cannot be written.
    """
    temporary = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as raw, _packer(raw, packed) as into:
            for part in parts:
                with part.open("rb") as file:
                    shutil.copyfileobj(file, into, 1 << 20)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def _packer(raw: BinaryIO, packed: str) -> Any:
    """Return what packs into an open file; the same content gives the same bytes."""
    if packed == ".gz":
        return gzip.GzipFile("", "wb", 6, raw, mtime=0)  # no time and no name inside
    if packed == ".bz2":
        return bz2.BZ2File(raw, "wb")
    if packed == ".xz":
        return lzma.LZMAFile(raw, "wb", preset=1)
    if packed == ".zst":
        from zstandard import ZstdCompressor  # it is here: the input was read by it

        return ZstdCompressor().stream_writer(raw, closefd=False)
    return nullcontext(raw)
