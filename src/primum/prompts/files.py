"""Rows of files: JSONL, CSV and Parquet, each row with the place it came from, so that an error can name it.

Files are data: nothing in them is evaluated or used as a path. JSONL and Parquet are read a stretch at a time,
CSV whole.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from primum.core.errors import BadInputError, MissingExtraError
from primum.core.records import JsonDict

SUFFIXES = (".jsonl", ".csv", ".parquet")
STRETCH = 1024
"""Rows of Parquet that are read together."""
_HALF_SURROGATE = re.compile("[\ud800-\udfff]")


class Row(NamedTuple):
    """One row and its place, `file:line` (in Parquet, which has no lines: `file:row`).

    `folder` is where the files lie that it names (pictures, recordings), as a rule its own file's; None: nowhere.
    """

    where: str
    values: JsonDict
    folder: Path | None = None


def read_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a file, or of every JSONL, CSV and Parquet file of a folder in order of name.

    Raises:
        BadInputError: nothing there, an unknown kind of file, text that is not UTF-8, a broken line.
        MissingExtraError: Parquet without pyarrow.
    """
    if path.is_dir():
        for file in sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES):
            yield from read_rows(file)
        return
    readers = {".jsonl": jsonl_rows, ".csv": csv_rows, ".parquet": parquet_rows}
    if not path.is_file():
        raise BadInputError("no such file", where=str(path), cure="check the path")
    if path.suffix.lower() not in readers:
        problem = f"cannot read a '{path.suffix}' file"
        raise BadInputError(problem, where=str(path), cure="give JSONL (one JSON object a line), CSV or Parquet")
    yield from readers[path.suffix.lower()](path)


def read_utf8(path: Path) -> str:
    """Return a file's text without a byte order mark.

    Raises:
        BadInputError: the file cannot be read, or is not UTF-8; names the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"cannot read: {error.strerror}", where=str(path), cure="check the path") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # `error.object` is what was decoded: the codec may have cut the mark off, never a line.
        line = bytes(error.object)[: error.start].count(b"\n") + 1
        raise BadInputError("not UTF-8", where=f"{path}:{line}", cure="save the file as UTF-8") from error


def jsonl_rows(path: Path) -> Iterator[Row]:
    """Yield the objects of a JSONL file; blank lines are passed over."""
    try:
        with path.open("rb") as file:  # lines of bytes end at \n alone: U+2028 may stand inside a JSON string
            for number, data in enumerate(file, 1):
                line = _decoded(data, f"{path}:{number}", "utf-8-sig" if number == 1 else "utf-8")
                if line.strip():
                    yield Row(f"{path}:{number}", _json_object(line, f"{path}:{number}"), path.parent)
    except OSError as error:
        raise BadInputError(f"cannot read: {error.strerror}", where=str(path), cure="check the path") from error


def _decoded(data: bytes, where: str, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadInputError("not UTF-8", where=where, cure="save the file as UTF-8") from error


def _json_object(line: str, where: str) -> JsonDict:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"broken JSON ({error})", where=where, cure="each line must be one JSON object") from error
    if not isinstance(row, dict):
        raise BadInputError("not a JSON object", where=where, cure='like {"prompt": "..."}')
    return row


def csv_rows(path: Path, *, comments: bool = False) -> Iterator[Row]:
    """Yield the rows of a CSV file with a header; a row that spans lines is named by its first.

    Args:
        path: the file.
        comments: pass over leading lines that start with "#".
    """
    lines = read_utf8(path).split("\n")
    skipped = 0
    while comments and lines[skipped].startswith("#"):
        skipped += 1
    reader = csv.reader(io.StringIO("\n".join(lines[skipped:]), newline=""), strict=True)
    header: list[str] | None = None
    line = skipped + 1
    try:
        for values in reader:
            where, line = f"{path}:{line}", skipped + reader.line_num + 1
            if header is None:
                header = [name.strip() for name in values]
            elif any(values):
                yield Row(where, _named(header, values, where), path.parent)
    except csv.Error as error:
        raise BadInputError(f"broken CSV ({error})", where=f"{path}:{line}", cure="quote texts with commas") from error


def _named(header: list[str], values: list[str], where: str) -> JsonDict:
    if len(values) != len(header):
        problem = f"broken CSV: {len(values)} fields where the header has {len(header)}"
        raise BadInputError(problem, where=where, cure='put texts with commas or line ends in "quotes"')
    return dict(zip(header, values, strict=True))


def parquet_rows(path: Path) -> Iterator[Row]:
    """Yield the rows of a Parquet file (needs pyarrow)."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow, which reads Parquet,", "parquet") from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows = (values for batch in file.iter_batches(STRETCH) for values in batch.to_pylist())
            for number, values in enumerate(rows, 1):
                yield Row(f"{path}:row {number}", values, path.parent)
    except (pyarrow.ArrowException, OSError) as error:
        raise BadInputError(f"broken Parquet ({error})", where=str(path), cure="write the file again") from error


def text_of(value: Any, name: str, row: Row) -> str:
    """Return a field's text.

    Raises:
        BadInputError: it is no text, or holds half of a surrogate pair, which no tokenizer takes.
    """
    if not isinstance(value, str):
        raise BadInputError(f"field '{name}' holds {_kind(value)}, not text", where=row.where, cure="give a string")
    if _HALF_SURROGATE.search(value):
        problem = f"field '{name}' holds half of a surrogate pair, which is no character"
        raise BadInputError(problem, where=row.where, cure="repair or remove the character")
    return value


def _kind(value: Any) -> str:
    kinds = {type(None): "nothing", bool: "a truth value", int: "a number", float: "a number", list: "a list"}
    return kinds.get(type(value), "an object")
