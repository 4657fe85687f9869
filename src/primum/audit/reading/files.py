"""What the user named to inputs in a fixed order, and an input to a stream of bytes.

Local files and folders, http(s) addresses, files, folders and patterns at any address that fsspec opens (s3 with s3fs,
gs with gcsfs, ...), and hub data sets (`hub:ID[@CONFIG][:SPLIT]`, streamed).
The kind is known by the first bytes where the name does not tell: a name is data, not a promise.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, NamedTuple

from primum.audit.reading.blocks import Stream, remote_errors
from primum.core.errors import BadInputError, MissingExtraError

Kind = Literal["jsonl", "text", "warc", "parquet", "hub", "unknown"]
SUFFIXES: dict[str, Kind] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".txt": "text", ".text": "text", ".md": "text",
    ".warc": "warc", ".wet": "warc", ".parquet": "parquet",
}  # fmt: skip
PACKED = (".gz", ".zst", ".bz2", ".xz")
CURE = "a folder must hold " + ", ".join(SUFFIXES) + " files (.gz, .zst, .bz2, .xz too)"
MAGIC = {b"\x1f\x8b": "gz", b"\x28\xb5\x2f\xfd": "zst", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
WEB = ("http://", "https://")
ADDRESS = re.compile(r"(?i)[a-z][a-z0-9+.\-]*://")
MAGIC_SIGNS = re.compile(r"[*?\[]")
STATE = (
    "etag", "size", "mtime", "lastmodified", "last_modified", "created", "updated", "md5hash", "crc32c", "generation",
    "versionid", "version_id",
)  # fmt: skip
"""What file systems say of one state of a file, in lower case."""
WEB_STATE = ("ETag", "Last-Modified", "Content-Length")
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
        return self.kind == "hub" or ADDRESS.match(self.place) is not None

    def identity(self) -> list[Any]:
        """What tells one state of the input from another: name, size, time, and a remote one's tags.

        A hub data set has its name alone; a server that tells nothing of a file leaves its address alone.
        """
        if self.remote:
            return [self.name, self.place, *_state(self)]
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
        elif corpus.startswith(WEB):
            found.append(Input(PurePosixPath(corpus.partition("?")[0]).name or "index", corpus, kind_of(corpus)))
        elif ADDRESS.match(corpus):
            found += _at_address(corpus)
        else:
            found += _local(Path(corpus), out)
    taken: dict[str, int] = {}
    unique: list[Input] = []
    for one in found:
        taken[one.name] = taken.get(one.name, 0) + 1
        name = one.name if taken[one.name] == 1 else f"{taken[one.name]}-{one.name}"
        unique.append(one._replace(name=name))
    return unique


def _at_address(address: str) -> list[Input]:
    """Return the file, or the files of a folder or pattern, at an address of fsspec's, in order of their names."""
    system, path = _file_system(address)
    pattern = MAGIC_SIGNS.search(path)
    try:
        if pattern:
            folder, files = path[: path.rfind("/", 0, pattern.start()) + 1], system.glob(path)
        elif kind_of(path) is None and system.isdir(path):
            folder, files = path.rstrip("/") + "/", system.find(path)
        else:
            return [Input(PurePosixPath(path).name or "index", address, kind_of(path))]
    except remote_errors() as error:
        raise BadInputError(
            f"cannot be listed ({str(error)[:200]})", where=address, cure="check the address"
        ) from error
    names = {file: file.removeprefix(folder) for file in sorted(files)}
    shown = {file: name for file, name in names.items() if not any(part.startswith(".") for part in name.split("/"))}
    if not any(kind_of(name) for name in shown.values()):
        raise BadInputError("no file to audit at this address", where=address, cure=CURE)
    return [Input(name, str(system.unstrip_protocol(file)), kind_of(name) or "unknown") for file, name in shown.items()]


def _file_system(address: str) -> tuple[Any, str]:
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(address)
    except ImportError as error:
        raise MissingExtraError(f"what reads {address.partition(':')[0]} addresses ({error})", "audit") from error
    except ValueError as error:
        raise BadInputError(str(error), where=address, cure="an address that fsspec knows") from error


def _state(one: Input) -> list[str]:
    """Return what a server says of a file's state; nothing where it cannot be asked (reading it then says why)."""
    from urllib.request import Request, urlopen

    if one.kind == "hub":
        return []
    try:
        if one.place.startswith(WEB):
            asked = Request(one.place, headers={"User-Agent": "primum"}, method="HEAD")
            with urlopen(asked, timeout=TIMEOUT) as answer:
                return [f"{name}={answer.headers[name]}" for name in WEB_STATE if answer.headers[name]]
        system, path = _file_system(one.place)
        system.invalidate_cache()
        facts = {str(key).lower(): value for key, value in system.info(path).items()}
    except (*remote_errors(), HTTPException):
        return []
    return [f"{key}={facts[key]}" for key in STATE if facts.get(key) is not None]


def _local(path: Path, out: Path | None) -> list[Input]:
    if path.is_dir():
        files = [file for file in sorted(path.rglob("*")) if file.is_file() and not _hidden(file, path)]
        if out is not None and out.resolve() != path.resolve():
            files = [file for file in files if not file.resolve().is_relative_to(out.resolve())]
        if not any(kind_of(file.name) for file in files):
            raise BadInputError("no file to audit in this folder", where=str(path), cure=CURE)
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
    system, path = _file_system(one.place)
    with system.open(path, "rb") as file:
        yield file


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
    raw: Any = file if isinstance(file, io.BufferedReader) else _Counted(file)
    buffered = file if isinstance(file, io.BufferedReader) else io.BufferedReader(raw, 1 << 16)
    packed = next((name for magic, name in MAGIC.items() if buffered.peek(8)[:8].startswith(magic)), None)
    if packed is None:
        return Stream(buffered.read), bytes(buffered.peek(512)[:512])
    return Stream(_pieces(_unpacker(packed, buffered)), raw), b""


class _Counted(io.RawIOBase):
    """A file that knows how many bytes were read of it; a web server's answer does not."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._read = file, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._read += len(data)
        return len(data)

    def tell(self) -> int:
        return self._read


ZST_WINDOW, XZ_MEMORY = 1 << 27, 1 << 28
"""Bytes that unpacking may take, whatever a file's header asks for; zstd's and xz's strongest presets need half."""


def _unpacker(packed: str, file: BinaryIO) -> Any:
    if packed == "gz":
        return gzip.GzipFile(fileobj=file)
    if packed == "bz2":
        return bz2.BZ2File(file)
    if packed == "xz":
        return _Members(file, lambda: lzma.LZMADecompressor(memlimit=XZ_MEMORY), 1 << 16)
    try:
        from zstandard import ZstdDecompressor
    except ImportError as error:
        raise MissingExtraError("zstandard, which reads .zst,", "audit") from error
    unpack = ZstdDecompressor(max_window_size=ZST_WINDOW)
    return _Members(file, unpack.decompressobj, 1 << 10)


class _Members:
    """The packed streams of a file, one after the other.

    lzma.LZMAFile takes whatever memory a header asks for, and zstandard's reader does not tell that a frame breaks off.

    Args:
        file: what is packed.
        make: returns what unpacks one stream.
        piece: bytes that are unpacked at a time, where it cannot be told how much to give: a piece of zstd's may
            become 32,000 times as long.
    """

    def __init__(self, file: BinaryIO, make: Callable[[], Any], piece: int) -> None:
        self._file, self._make, self._piece, self._unpack = file, make, piece, make()
        self._bounded = hasattr(self._unpack, "needs_input")

    def read(self, size: int) -> bytes:
        """Return about `size` bytes, none at the end."""
        data = b""
        while not data:
            packed = b""
            if self._unpack.eof:
                packed = self._unpack.unused_data.lstrip(b"\0")  # zeros fill up between streams
                while not packed:
                    if not (more := self._file.read(self._piece)):
                        return b""
                    packed = more.lstrip(b"\0")
                self._unpack = self._make()
            elif not self._bounded or self._unpack.needs_input:
                packed = self._file.read(self._piece)
                if not packed:
                    raise EOFError("the file ends inside its stream")
            data = self._unpack.decompress(packed, size) if self._bounded else self._unpack.decompress(packed)
        return data


def _pieces(unpacked: Any) -> Any:
    """Return a read function that gives what there is before an error, instead of losing it in a larger read."""
    read1 = getattr(unpacked, "read1", unpacked.read)
    return lambda size: read1(size)
