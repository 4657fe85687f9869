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
from primum.audit.names.recognizers import Recognizer
from primum.audit.names.step import find_names, merged
from primum.audit.notes import Note
from primum.audit.pii.scan import mask, scan
from primum.audit.pii.span import Span
from primum.audit.reading.files import PACKED, Input
from primum.audit.reading.records import whole
from primum.core.store import disk_error

KEPT = ("id", "source")
"""Fields in which only addresses are hidden: the rows would lose their names."""
JSON_LINES = tuple(kind + packed for kind in (".jsonl", ".ndjson", ".json") for packed in ("", *PACKED))


def masked_rows(
    regions: tuple[str, ...], names: Recognizer | None = None
) -> Callable[[Sequence[Note]], dict[str, bytes]]:
    """Return what writes a block's rows with placeholders in place of personal information, in every text field.

    Args:
        regions: countries whose national phone formats are known.
        names: also masks the names of people, in the documents that were read for names.
    """

    def rename(field: str) -> str:
        return hidden(field, regions)

    def write(notes: Sequence[Note]) -> dict[str, bytes]:
        named = _named(notes, names) if names else {}

        def hide(text: str) -> str:
            spans = scan(text, regions)
            return mask(text, merged(spans, named[text]) if text in named else spans)

        return {".masked": b"".join(_masked(note, hide, rename) for note in notes)}

    return write


def _named(notes: Sequence[Note], of: Recognizer) -> dict[str, list[Span]]:
    """Return the names in every text of the rows that were read for names; their documents' are known already."""
    known = {note.document.text: note.names for note in notes if note.names is not None}
    texts = {text for note in notes if note.names is not None for text in texts_of(_row(note))} - set(known)
    rest = sorted(texts)
    return known | dict(zip(rest, find_names(of, list(map(whole, rest))), strict=True))


def _row(note: Note) -> dict[str, Any]:
    document = note.document
    return document.row or {"id": document.id, "text": document.text, "source": document.source}


def _masked(note: Note, hide: Callable[[str], str], rename: Callable[[str], str]) -> bytes:
    clean = {
        rename(key): rename(value) if key in KEPT and isinstance(value, str) else map_texts(value, hide, rename)
        for key, value in _row(note).items()
    }
    return json.dumps(clean, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def map_texts(value: Any, change: Callable[[str], str], rename: Callable[[str], str] = str) -> Any:
    """Return a value of a row with every text in it changed, names of fields too, however deep it lies."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [map_texts(one, change, rename) for one in cast(list[Any], value)]
    if isinstance(value, dict):
        return {rename(key): map_texts(one, change, rename) for key, one in cast(dict[str, Any], value).items()}
    return value


def texts_of(row: dict[str, Any]) -> list[str]:
    """Return every text of a row that may be masked."""
    found: list[str] = []
    map_texts([value for key, value in row.items() if key not in KEPT], lambda text: found.append(text) or text)
    return found


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
