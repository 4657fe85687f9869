"""A stream of bytes to blocks of whole lines, in bounded memory; a line without end and a bomb are passed over.

Where the blocks are cut depends on the bytes only: neither on how many workers there are nor on an earlier run.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from lzma import LZMAError
from typing import BinaryIO, NamedTuple

from primum.audit.reading.document import Skipped

CHUNK = 1 << 20
BOMB_RATIO, BOMB_FROM = 200, 64 << 20
"""A stream that gives more than so many bytes for each byte read is a bomb; looked at after the first 64 MB.

Text compresses 3 to 20 times, logs rarely 100 times.
"""


class Block(NamedTuple):
    """Whole lines of a file: where the first one is (from 1), and what was passed over before the next block."""

    first_line: int
    data: bytes
    skipped: tuple[Skipped, ...] = ()


class DamagedError(Exception):
    """A stream that cannot be read any further; says why."""


@dataclass
class Stream:
    """Bytes to be read, with what can go wrong turned into `DamagedError`.

    Args:
        read: returns at most n bytes, none at the end.
        raw: the compressed file, whose position tells how much was read; None where nothing is compressed.
    """

    read: Callable[[int], bytes]
    raw: BinaryIO | None = None
    given: int = 0
    _broken: str = field(default="", init=False)

    def chunk(self) -> bytes:
        """Return CHUNK bytes (fewer at the end or before a damage, never lost ones).

        Raises:
            DamagedError: the data is damaged here, or a bomb.
        """
        if self._broken:
            raise DamagedError(self._broken)
        parts: list[bytes] = []
        room = CHUNK
        while room > 0:
            try:
                part = self.read(min(room, 1 << 16))
            except (
                EOFError,
                ValueError,
                zlib.error,
                LZMAError,
                HTTPException,
                *remote_errors(),
                *_zstd_errors(),
            ) as error:
                self._broken = f"{type(error).__name__}: {str(error) or 'unreadable'}"
                break
            if not part:
                break
            parts.append(part)
            room -= len(part)
        return self._counted(b"".join(parts))

    def _counted(self, data: bytes) -> bytes:
        self.given += len(data)
        if not data and self._broken:
            raise DamagedError(self._broken)
        if self.raw is not None and self.given > BOMB_FROM and self.given > BOMB_RATIO * max(self.raw.tell(), 1):
            raise DamagedError(f"a compression bomb: more than {BOMB_RATIO} bytes for each byte of the file")
        return data


def _zstd_errors() -> tuple[type[Exception], ...]:
    try:
        from zstandard import ZstdError
    except ImportError:
        return ()
    return (ZstdError,)


def remote_errors() -> tuple[type[Exception], ...]:
    """Return what opening, listing and reading files may raise; file systems of the cloud have errors of their own."""
    known = (
        ("botocore.exceptions", "BotoCoreError"), ("google.auth.exceptions", "GoogleAuthError"),
        ("aiohttp", "ClientError"),
    )  # fmt: skip
    return (OSError, *(getattr(sys.modules[module], name) for module, name in known if module in sys.modules))


def _cut(held: bytearray, size: int) -> int:
    """Return where a block of about `size` bytes ends, behind a line's end; 0 where that is not known yet."""
    if len(held) < size:
        return 0
    return held.rfind(b"\n", 0, size) + 1 or held.find(b"\n", size) + 1


def line_blocks(stream: Stream, name: str, size: int, longest: int) -> Iterator[Block]:
    """Yield blocks of about `size` bytes that end where a line ends.

    Args:
        stream: the bytes.
        name: the file's name, for what is passed over.
        size: bytes of a block; one line may be longer.
        longest: a line of more bytes is passed over, in constant memory.
    """
    line, skipped = 1, list[Skipped]()
    held, endless = bytearray(), False
    while True:
        try:
            data = stream.chunk()
        except DamagedError as error:
            at = line + held.count(b"\n")
            skipped.append(Skipped(f"{name}:{at}", "damaged_file", str(error)))
            break
        if not data:
            break
        if endless:
            stop = data.find(b"\n")
            if stop < 0:
                continue
            data, line, endless = data[stop + 1 :], line + 1, False
        held += data
        while cut := _cut(held, size):
            yield Block(line, bytes(held[:cut]), tuple(skipped))
            line, skipped = line + held.count(b"\n", 0, cut), []
            del held[:cut]
        if len(held) > longest and b"\n" not in held:
            skipped.append(Skipped(f"{name}:{line}", "line_too_long", f"more than {longest:,} bytes"))
            held, endless = bytearray(), True
    if held or skipped:
        yield Block(line, bytes(held), tuple(skipped))
