"""An input to blocks, whatever it is: JSONL and text as they are, WARC by records, Parquet and hub rows as JSONL."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from primum.audit.reading.blocks import Block, DamagedError, Stream, line_blocks
from primum.audit.reading.document import Skipped
from primum.audit.reading.files import Input, Kind, opened, stream_of
from primum.core.errors import MissingExtraError

_LENGTH = re.compile(rb"(?im)^content-length:\s*(\d{1,15})\s*$")
_WARC = b"WARC/"
TextUnit = str


class Limits(NamedTuple):
    """How a corpus is cut: bytes of a block, the longest record, and what one document of a text file is."""

    block: int = 4 << 20
    longest: int = 32 << 20
    text_unit: TextUnit = "file"


class Part(NamedTuple):
    """A block with the kind of its content."""

    kind: Kind
    block: Block


def parts(one: Input, limits: Limits) -> Iterator[Part]:
    """Yield an input's blocks; what goes wrong with the whole file is an empty block that says so.

    Raises:
        MissingExtraError: an optional part is needed to read it.
    """
    try:
        if one.kind == "hub":
            yield from _rows(one.name, _hub_rows(one.place), limits)
            return
        with opened(one) as file:
            yield from _file_parts(one, file, limits)
    except OSError as error:
        yield _passed_over(one, "unreadable_file", str(error))


def _file_parts(one: Input, file: BinaryIO, limits: Limits) -> Iterator[Part]:
    if one.kind == "unknown":
        yield _passed_over(one, "unknown_kind", "not known by its ending; named by itself it is read as text")
        return
    if one.kind == "parquet":
        yield from _rows(one.name, _parquet_rows(file), limits)
        return
    stream, first = stream_of(file)
    if first.startswith(b"PK\x03\x04"):
        yield _passed_over(one, "archive", "a zip archive; unpack it and name its files")
        return
    kind = one.kind or ("warc" if first.startswith(_WARC) else "jsonl" if first.lstrip()[:1] == b"{" else "text")
    if kind == "warc":
        blocks = warc_blocks(stream, one.name, limits)
    elif kind == "text" and limits.text_unit == "file":
        blocks = _whole(stream, one.name, limits)
    else:
        blocks = line_blocks(stream, one.name, limits.block, limits.longest)
    for block in blocks:
        yield Part(kind, block)


def _passed_over(one: Input, reason: str, detail: str) -> Part:
    """Return an empty block that says why the whole file was not read."""
    return Part("jsonl", Block(1, b"", (Skipped(one.name, reason, detail),)))


def _whole(stream: Stream, name: str, limits: Limits) -> Iterator[Block]:
    held = bytearray()
    try:
        while len(held) <= limits.longest and (data := stream.chunk()):
            held += data
    except DamagedError as error:
        yield Block(1, b"", (Skipped(name, "damaged_file", str(error)),))
        return
    if len(held) > limits.longest:
        detail = f"more than {limits.longest:,} bytes in one document; --text-unit line or paragraph cuts it"
        yield Block(1, b"", (Skipped(name, "file_too_long", detail),))
        return
    yield Block(1, bytes(held))


def _rows(name: str, rows: Iterable[dict[str, Any]], limits: Limits) -> Iterator[Part]:
    """Turn rows into blocks of JSON lines; a value that JSON has no word for becomes its string."""
    held, first, number, size = list[bytes](), 1, 0, 0
    skipped: tuple[Skipped, ...] = ()
    try:
        for number, row in enumerate(rows, 1):
            line = json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass") + b"\n"
            held.append(line)
            size += len(line)
            if size >= limits.block:
                yield Part("jsonl", Block(first, b"".join(held)))
                held, first, size = [], number + 1, 0
    except DamagedError as error:
        skipped = (Skipped(f"{name}:row {number + 1}", "damaged_file", str(error)),)
    if held or skipped:
        yield Part("jsonl", Block(first, b"".join(held), skipped))


def _parquet_rows(file: BinaryIO) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow, which reads Parquet,", "parquet") from error
    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=1000):
            yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DamagedError(f"broken Parquet ({error})") from error


def _hub_rows(place: str) -> Iterator[dict[str, Any]]:
    _, name, *split = place.split(":")
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets, which streams from the hub,", "hub") from error
    try:
        yield from datasets.load_dataset(name, split=split[0] if split else "train", streaming=True)  # type: ignore
    except (ValueError, OSError, RuntimeError) as error:
        raise DamagedError(f"cannot stream from the hub ({str(error).splitlines()[0]})") from error


def warc_blocks(stream: Stream, name: str, limits: Limits) -> Iterator[Block]:
    """Yield blocks of whole WARC records (WARC/1.x: header lines, a blank line, Content-Length bytes, two line ends).

    `first_line` counts records. A record that is too long is passed over in constant memory.
    """
    source = _Bytes(stream)
    held, first, number, size = list[bytes](), 1, 0, 0
    skipped: list[Skipped] = []
    try:
        while (head := source.until(b"\r\n\r\n", 1 << 16)) is not None:
            number += 1
            length = _LENGTH.search(head)
            if not head.lstrip().startswith(_WARC) or not length:
                raise DamagedError("not a WARC record")
            if int(length[1]) > limits.longest:
                skipped.append(Skipped(f"{name}:record {number}", "record_too_long", f"{int(length[1]):,} bytes"))
                source.skip(int(length[1]))
                continue
            held.append(head.lstrip() + source.take(int(length[1])) + b"\r\n\r\n")
            size += len(held[-1])
            if size >= limits.block:
                yield Block(first, b"".join(held), tuple(skipped))
                held, skipped, first, size = [], [], number + 1, 0
    except DamagedError as error:
        skipped.append(Skipped(f"{name}:record {number}", "damaged_file", str(error)))
    if held or skipped:
        yield Block(first, b"".join(held), tuple(skipped))


class _Bytes:
    """A stream read by marks and lengths."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._held = stream, bytearray()

    def until(self, mark: bytes, most: int) -> bytes | None:
        """Return the bytes up to and with a mark, or None where only blanks are left."""
        while (at := self._held.find(mark, len(self._held) - len(self._held.lstrip()))) < 0:
            if len(self._held) > most:
                raise DamagedError("no end of a record's header")
            data = self._stream.chunk()
            if not data:
                if self._held.strip():
                    raise DamagedError("the file ends inside a record's header")
                return None
            self._held += data
        return self._cut(at + len(mark))

    def take(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        while len(self._held) < size:
            data = self._stream.chunk()
            if not data:
                raise DamagedError("the file ends inside a record")
            self._held += data
        return self._cut(size)

    def skip(self, size: int) -> None:
        """Pass over `size` bytes in constant memory."""
        while size > 0:
            if not self._held:
                self._held += self._stream.chunk()
                if not self._held:
                    raise DamagedError("the file ends inside a record")
            size -= len(self._cut(min(size, len(self._held))))

    def _cut(self, size: int) -> bytes:
        data = bytes(self._held[:size])
        del self._held[:size]
        return data
