"""An input to blocks, whatever it is: JSONL and text as they are, WARC by records, Parquet and hub rows as JSONL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from primum.audit.reading.blocks import Block, DamagedError, Stream, line_blocks, remote_errors
from primum.audit.reading.document import Skipped, failed
from primum.audit.reading.files import Input, Kind, opened, stream_of
from primum.audit.reading.warc import BEGIN, warc_blocks
from primum.core.errors import MissingExtraError
from primum.core.hub import hub_name

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
    except remote_errors() as error:
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
    kind = one.kind or ("warc" if first.startswith(BEGIN) else "jsonl" if first.lstrip()[:1] == b"{" else "text")
    if kind == "warc":
        blocks = warc_blocks(stream, one.name, limits.block, limits.longest)
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


def _rows(name: str, rows: Iterable[dict[str, Any] | Skipped], limits: Limits) -> Iterator[Part]:
    """Turn rows into blocks of JSON lines; a value that JSON has no word for becomes its string.

    A row that cannot be told leaves an empty line, so that the others keep their numbers.
    """
    held, first, number, size = list[bytes](), 1, 0, 0
    skipped: list[Skipped] = []
    try:
        for number, row in enumerate(rows, 1):
            line = row if isinstance(row, Skipped) else _json_line(row)
            if isinstance(line, Skipped):
                skipped.append(line._replace(where=f"{name}:{number}"))
                line = b"\n"
            held.append(line)
            size += len(line)
            if size >= limits.block:
                yield Part("jsonl", Block(first, b"".join(held), tuple(skipped)))
                held, skipped, first, size = [], [], number + 1, 0
    except DamagedError as error:
        skipped.append(Skipped(f"{name}:{number + 1}", "damaged_file", str(error)))
    if held or skipped:
        yield Part("jsonl", Block(first, b"".join(held), tuple(skipped)))


def _json_line(row: dict[str, Any]) -> bytes | Skipped:
    try:
        return json.dumps(row, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass") + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        return failed("", error)


def _parquet_rows(file: BinaryIO) -> Iterator[dict[str, Any] | Skipped]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow, which reads Parquet,", "parquet") from error
    try:
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=1000):
            yield from batch_rows(batch)
    except (pyarrow.ArrowException, OSError) as error:
        raise DamagedError(f"broken Parquet ({error})") from error


def batch_rows(batch: Any) -> Iterator[dict[str, Any] | Skipped]:
    """Yield the rows of a record batch; where one cannot be told in Python (text that is no UTF-8), only that is lost.

    Args:
        batch: a pyarrow.RecordBatch.
    """
    try:
        rows = batch.to_pylist()
    except (ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            invalid = isinstance(error, UnicodeDecodeError)
            yield Skipped("", "invalid_utf8", "a text of the row") if invalid else failed("", error)
            return
        middle = batch.num_rows // 2
        yield from batch_rows(batch.slice(0, middle))
        yield from batch_rows(batch.slice(middle))
    else:
        yield from rows


def _hub_rows(place: str) -> Iterator[dict[str, Any]]:
    _, name, *split = place.split(":")
    wanted = hub_name(name)
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError("datasets, which streams from the hub,", "hub") from error
    try:
        yield from datasets.load_dataset(*wanted.told, split=split[0] if split else "train", streaming=True)  # type: ignore
    except (ValueError, RuntimeError, *remote_errors()) as error:
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise DamagedError(f"cannot stream from the hub ({said})") from error
