r"""WARC files to blocks of whole records (WARC/1.x: header lines, a blank line, Content-Length bytes, two line ends).

What is no record is passed over up to the next line that begins one, so a bad header loses its own record alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from primum.audit.reading.blocks import Block, DamagedError, Stream
from primum.audit.reading.document import Skipped

BEGIN = b"WARC/"
_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*(\d{1,15})[ \t]*\r?$")
_NEXT, _END = b"\nWARC/1.", b"\r\n\r\n"
_NOTHING = b"WARC/1.0\r\nContent-Length: 0\r\n\r\n\r\n\r\n"
"""Stands where a record was passed over, so that the others keep their numbers."""
HEADER = 1 << 16
"""Bytes of a header at most."""


def content_length(head: bytes) -> int | None:
    """Return how many bytes follow a header; None where it does not say so, or says two different things."""
    found = set(map(int, _LENGTH.findall(head)))
    return found.pop() if len(found) == 1 else None


def warc_blocks(stream: Stream, name: str, size: int, longest: int) -> Iterator[Block]:
    """Yield blocks of whole records, in bounded memory; `first_line` counts records.

    Args:
        stream: the bytes.
        name: the file's name, for what is passed over.
        size: bytes of a block, about.
        longest: a longer record is passed over.
    """
    source = _Records(stream, longest)
    held, first, number, much = list[bytes](), 1, 0, 0
    skipped: list[Skipped] = []
    while True:
        try:
            record = source.next()
        except DamagedError as error:
            skipped.append(Skipped(f"{name}:record {number + 1}", "damaged_file", str(error)))
            break
        if record is None:
            break
        number += 1
        if isinstance(record, tuple):
            skipped.append(Skipped(f"{name}:record {number}", *record))
            record = _NOTHING
        held.append(record)
        much += len(record)
        if much >= size:
            yield Block(first, b"".join(held), tuple(skipped))
            held, skipped, first, much = [], [], number + 1, 0
    if held or skipped:
        yield Block(first, b"".join(held), tuple(skipped))


class _Records:
    """A stream read record by record."""

    def __init__(self, stream: Stream, longest: int) -> None:
        self._stream, self._held, self._longest = stream, bytearray(), longest

    def next(self) -> bytes | tuple[str, str] | None:
        """Return the next record, or reason and detail of what was passed over, or None at the end.

        Raises:
            DamagedError: the stream cannot be read any further, or ends inside a record.
        """
        if not self._blanks():
            return None
        head = self._head()
        length = content_length(head) if head.startswith(BEGIN) else None
        if length is None:
            wrong = "no WARC header" if not head.startswith(BEGIN) else "no Content-Length, or two different ones"
            return self._broken(wrong)
        if length > self._longest:
            del self._held[: len(head)]
            self._skip(length)
            return "record_too_long", f"{length:,} bytes"
        whole = self._fill(len(head) + length)
        if whole and self._ends(len(head) + length):
            return self._cut(len(head) + length) + _END
        if not whole and self._held.find(_NEXT, 1) < 0:
            raise DamagedError("the file ends inside a record")
        return self._broken("its Content-Length is not the record's")

    def _blanks(self) -> bool:
        """Pass over blanks; return whether anything follows."""
        while not self._held.lstrip():
            self._held.clear()
            if not self._more():
                return False
        del self._held[: len(self._held) - len(self._held.lstrip())]
        return True

    def _head(self) -> bytes:
        """Return the bytes up to a blank line, which stay; nothing where there is no blank line in HEADER bytes."""
        while (at := self._held.find(_END, 0, HEADER)) < 0 and len(self._held) < HEADER and self._more():
            pass
        return bytes(self._held[: at + len(_END)]) if at >= 0 else b""

    def _ends(self, at: int) -> bool:
        """Return whether a record may end at a place: a blank line follows, or a record begins, or the stream ends."""
        self._fill(at + len(BEGIN))
        rest = bytes(self._held[at : at + len(BEGIN)])
        return rest.startswith((_END, BEGIN)) or not rest.strip()

    def _broken(self, wrong: str) -> tuple[str, str]:
        """Pass over what is no record, up to the next line that begins one."""
        while (at := self._held.find(_NEXT, 1)) < 0:
            del self._held[: -len(_NEXT)]
            if not self._more():
                self._held.clear()
                return "broken_record", wrong
        del self._held[: at + 1]
        return "broken_record", wrong

    def _skip(self, size: int) -> None:
        """Pass over a record that is too long, in constant memory; where a record begins sooner, up to there."""
        mark = _END + _NEXT[1:]
        while size > 0:
            if len(self._held) < len(mark) and not self._more():
                if len(self._held) < size:
                    raise DamagedError("the file ends inside a record")
                del self._held[:size]
                return
            at = self._held.find(mark, 0, size)
            if at >= 0:
                del self._held[:at]
                return
            gone = min(size, max(len(self._held) - len(mark) + 1, 1))
            del self._held[:gone]
            size -= gone

    def _fill(self, size: int) -> bool:
        while len(self._held) < size:
            if not self._more():
                return False
        return True

    def _more(self) -> bool:
        """Take on a chunk; return whether there was one."""
        data = self._stream.chunk()
        self._held += data
        return bool(data)

    def _cut(self, size: int) -> bytes:
        data = bytes(self._held[:size])
        del self._held[:size]
        return data
