"""What the user named to inputs in a fixed order, and an input to a stream of bytes.

Local files and folders, http(s) addresses, s3 and gs ones (through fsspec and its s3fs or gcsfs), and hub data sets
(`hub:ID[:SPLIT]`, streamed).
The kind is known by the first bytes where the name does not tell: a name is data, not a promise.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, NamedTuple

from primum.audit.reading.blocks import Stream
from primum.core.errors import BadInputError, MissingExtraError

Kind = Literal["jsonl", "text", "warc", "parquet", "hub", "unknown"]
SUFFIXES: dict[str, Kind] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".txt": "text", ".text": "text", ".md": "text",
    ".warc": "warc", ".wet": "warc", ".parquet": "parquet",
}  # fmt: skip
PACKED = (".gz", ".zst", ".bz2", ".xz")
MAGIC = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
WEB = ("http://", "https://")
REMOTE = (*WEB, "s3://", "gs://", "gcs://")
TIMEOUT = 60
"""Seconds that a web server may be silent."""


class Input(NamedTuple):
    """One file (or hub data set): its name in the output, where it is, and its kind (None: to be seen)."""

    name: str
    place: str
    kind: Kind | None

    @property
    def remote(self) -> bool:
        """Whether it is read over the network."""
        return self.place.startswith((*REMOTE, "hub:"))

    def identity(self) -> list[Any]:
        """What tells one state of the input from another: name, and for a local file its size and time."""
        if self.remote:
            return [self.name, self.place]
        state = Path(self.place).stat()
        return [self.name, state.st_size, state.st_mtime_ns]


def expand(corpora: Sequence[str], out: Path | None = None) -> list[Input]:
    """Return the inputs of what was named, a folder's files in order of their names; names are made unique.

    Args:
        corpora: what the user named.
        out: the folder of the results; inside a folder that was named it is no part of the corpus.

    Raises:
        BadInputError: a path that does not exist, or a folder without a file that can be read.
    """
    found: list[Input] = []
    for corpus in corpora:
        if corpus.startswith("hub:"):
            found.append(Input(corpus.removeprefix("hub:").replace("/", "__").replace(":", "-"), corpus, "hub"))
        elif corpus.startswith(REMOTE):
            found.append(Input(PurePosixPath(corpus.partition("?")[0]).name or "index", corpus, kind_of(corpus)))
        else:
            found += _local(Path(corpus), out)
    taken: dict[str, int] = {}
    unique: list[Input] = []
    for one in found:
        taken[one.name] = taken.get(one.name, 0) + 1
        name = one.name if taken[one.name] == 1 else f"{taken[one.name]}-{one.name}"
        unique.append(one._replace(name=name))
    return unique


def _local(path: Path, out: Path | None) -> list[Input]:
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and not _hidden(file, path)]
        if out is not None and out.resolve() != path.resolve():
            files = [file for file in files if not file.resolve().is_relative_to(out.resolve())]
        if not any(kind_of(file.name) for file in files):
            cure = "a folder must hold " + ", ".join(SUFFIXES) + " files (.gz, .zst, .bz2, .xz too)"
            raise BadInputError("no file to audit in this folder", where=str(path), cure=cure)
        return [Input(file.relative_to(path).as_posix(), str(file), kind_of(file.name) or "unknown") for file in files]
    if not path.exists():
        raise BadInputError("no such file or folder", where=str(path), cure="check the path")
    return [Input(path.name, str(path), kind_of(path.name))]


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def kind_of(name: str) -> Kind | None:
    """Return the kind that a name promises, compression aside, or None."""
    path = PurePosixPath(name.partition("?")[0].lower())
    if path.suffix in PACKED:
        path = path.with_suffix("")
    return SUFFIXES.get(path.suffix)


@contextmanager
def opened(one: Input) -> Iterator[BinaryIO]:
    """Open an input for reading bytes, local or remote.

    Raises:
        OSError: it cannot be read.
        MissingExtraError: fsspec or its part for this kind of address is not installed.
    """
    if not one.remote:
        with open(one.place, "rb") as file:
            yield file
        return
    if one.place.startswith(WEB):
        with _web(one) as file:
            yield file
        return
    try:
        import fsspec

        with fsspec.open(one.place, "rb") as file:
            yield file  # pyright: ignore[reportReturnType]
    except ImportError as error:
        raise MissingExtraError(f"what reads {one.place.partition(':')[0]} addresses ({error})", "audit") from error


@contextmanager
def _web(one: Input) -> Iterator[BinaryIO]:
    """Open a web address; Parquet, which is read from its end, goes through a temporary file."""
    from urllib.request import Request, urlopen

    with urlopen(Request(one.place, headers={"User-Agent": "primum"}), timeout=TIMEOUT) as answer:
        if one.kind != "parquet":
            yield answer
            return
        with tempfile.TemporaryFile() as file:
            shutil.copyfileobj(answer, file, 1 << 20)
            file.seek(0)
            yield file  # pyright: ignore[reportReturnType]


def stream_of(file: BinaryIO) -> tuple[Stream, bytes]:
    """Return the unpacked bytes of an open file and its first ones, which are still to come in the stream."""
    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(file)  # pyright: ignore
    packed = next((name for magic, name in MAGIC.items() if buffered.peek(8)[:8].startswith(magic)), None)
    if packed is None:
        return Stream(buffered.read), bytes(buffered.peek(512)[:512])
    unpacked = _unpacker(packed, buffered)
    return Stream(_pieces(unpacked), file), b""


def _unpacker(packed: str, file: BinaryIO) -> Any:
    if packed == "gz":
        return gzip.GzipFile(fileobj=file)
    if packed == "bz2":
        return bz2.BZ2File(file)
    if packed == "xz":
        return lzma.LZMAFile(file)
    try:
        from zstandard import ZstdDecompressor
    except ImportError as error:
        raise MissingExtraError("zstandard, which reads .zst,", "audit") from error
    return ZstdDecompressor(max_window_size=1 << 31).stream_reader(file, read_across_frames=True)


def _pieces(unpacked: Any) -> Any:
    """Return a read function that gives what there is before an error, instead of losing it in a larger read."""
    read1 = getattr(unpacked, "read1", unpacked.read)
    return lambda size: read1(size)
