"""Pictures and recordings beside the words of a turn: where their files lie, which are taken, and who takes none.

Files are hostile input: they are known by their first bytes, not by their names, have a size limit, and are read only
from under the folder of the data that names them. Nothing is decoded here (`models/pictures.py` does that), and nothing
is fetched.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from primum.core.errors import BadInputError, UsageError
from primum.core.records import Kind, Message, Messages, Part, files_of
from primum.core.store import disk_error

LARGEST = 20 << 20
"""Bytes of one file, at most."""
FOLDER = "files"
"""Where a run folder keeps the files that its records name."""
SUFFIXES = {
    "image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp", "audio/wav": ".wav", "audio/mpeg": ".mp3",
    "audio/flac": ".flac", "video/mp4": ".mp4", "video/webm": ".webm",
}  # fmt: skip
"""Media types that are taken, with the ends of their files' names."""


def media_type(data: bytes) -> str | None:
    """Return a file's media type by its first bytes, or None where it is none that is taken."""
    if data[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(data[8:12])
    if data[4:8] == b"ftyp":
        return "video/mp4"
    known = {
        b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"ID3": "audio/mpeg",
        b"\xff\xfb": "audio/mpeg", b"\xff\xf3": "audio/mpeg", b"\xff\xf2": "audio/mpeg", b"fLaC": "audio/flac",
        b"\x1a\x45\xdf\xa3": "video/webm",
    }  # fmt: skip
    return next((kind for start, kind in known.items() if data.startswith(start)), None)


def file_part(kind: Kind, path: Path, text: str = "", sha256: str = "", where: str = "") -> Part:
    """Return a part for a file.

    Args:
        kind: image, audio or video.
        path: the file.
        text: the words that stand in it or describe it, where known.
        sha256: what the file's hash must be; "": whatever it is.
        where: what names the file, for errors.

    Raises:
        BadInputError: no such file, too large, another kind of file, or not the one whose hash was named.
    """
    data = _read(path, where or str(path))
    _check(kind, data, where or str(path), path.name)
    found = hashlib.sha256(data).hexdigest()
    if sha256 and found != sha256:
        problem = f"'{path.name}' is not the file that was named: its sha256 is {found[:12]}..., not {sha256[:12]}..."
        raise BadInputError(problem, where=where or str(path), cure="bring the file back, or leave its sha256 out")
    return Part(kind, text, str(path), found)


def bytes_of(part: Part) -> bytes:
    """Return a file's bytes, which are those that its part was made of.

    Raises:
        BadInputError: the file has gone, or has changed since.
    """
    data = _read(Path(part.path), part.path)
    if hashlib.sha256(data).hexdigest() != part.sha256:
        cure = "bring the file back as it was, or begin a run of its own"
        raise BadInputError("the file has changed since it was named", where=part.path, cure=cure)
    return data


def _read(path: Path, where: str) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            cure = f"make it smaller than {LARGEST >> 20} MB"
            raise BadInputError(f"'{path.name}' has {size / (1 << 20):.0f} MB", where=where, cure=cure)
        return path.read_bytes()
    except OSError as error:
        problem = f"cannot read '{path}': {error.strerror}"
        raise BadInputError(problem, where=where, cure="check the path, which counts from the data's folder") from error


def _check(kind: Kind, data: bytes, where: str, name: str) -> str:
    found = media_type(data)
    if found is None or not found.startswith(f"{kind}/"):
        taken = ", ".join(t.partition("/")[2] for t in SUFFIXES if t.startswith(f"{kind}/"))
        problem = f"'{name}' is {found or 'no file that is known'}, not a file of kind {kind}"
        raise BadInputError(problem, where=where, cure=f"give one of: {taken}")
    return found


def inside(folder: Path | None, name: str, where: str) -> Path:
    """Return the path of a file that data names: relative to the data's folder, and under it.

    Raises:
        BadInputError: it points elsewhere, or the data has no folder.
    """
    if folder is None:
        cure = "put the rows into a JSONL file, with the files under its folder"
        raise BadInputError(f"'{name}' names a file, and these rows lie in no folder", where=where, cure=cure)
    path = folder / name
    if Path(name).is_absolute() or not path.resolve().is_relative_to(folder.resolve()):
        cure = "put the files under the folder of the data, and name them by their paths from there"
        raise BadInputError(f"'{name}' lies outside the data's folder", where=where, cure=cure)
    return path


def from_data_url(kind: Kind, url: str, folder: Path, text: str, where: str) -> Part:
    """Return a part for a file that stands in a data: address (RFC 2397, base64), kept in a folder by its hash.

    Raises:
        BadInputError: it is no base64, too large, or another kind of file.
    """
    head, comma, body = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise BadInputError("a data: address without base64", where=where, cure="like data:image/png;base64,iVBOR...")
    if len(body) * 3 > LARGEST * 4:
        cure = f"make it smaller than {LARGEST >> 20} MB"
        raise BadInputError(f"a data: address of {len(body) >> 20} MB", where=where, cure=cure)
    try:
        data = base64.b64decode(body, validate=True)
    except binascii.Error as error:
        raise BadInputError(f"broken base64 ({error})", where=where, cure="write the file's bytes as base64") from error
    return stored(kind, data, folder, text, where)


def stored(kind: Kind, data: bytes, folder: Path, text: str = "", where: str = "") -> Part:
    """Keep bytes in a folder under their hash; return the part.

    Raises:
        BadInputError: they are no file of this kind.
        StepFailedError: the disk is full or the folder cannot be written.
    """
    found = _check(kind, data, where or "bytes given", "the file")
    sha = hashlib.sha256(data).hexdigest()
    path = folder / f"{sha}{SUFFIXES[found]}"
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            raise disk_error(error, path) from error
    return Part(kind, text, str(path), sha)


def kept(messages: Messages, folder: Path) -> Messages:
    """Copy the files of a conversation into a run folder; return it with paths from there (files/SHA256.png).

    Raises:
        BadInputError: a file has gone or has changed.
        StepFailedError: the disk is full.
    """
    return _with_files(messages, lambda part: _kept(part, folder))


def _kept(part: Part, folder: Path) -> Part:
    one = stored(part.type, bytes_of(part), folder / FOLDER, part.text, part.path)
    return replace(one, path=f"{FOLDER}/{Path(one.path).name}")


def located(messages: Messages, folder: Path) -> Messages:
    """Return a conversation that was read from a run folder with paths that can be opened from here.

    Raises:
        BadInputError: a path points out of the folder.
    """
    return _with_files(messages, lambda part: replace(part, path=str(inside(folder, part.path, str(folder)))))


def _with_files(messages: Messages, change: Callable[[Part], Part]) -> Messages:
    if not files_of(messages):
        return messages
    return tuple(
        m if isinstance(m.content, str) else
        Message(m.role, tuple(part if part.type == "text" else change(part) for part in m.content))
        for m in messages
    )  # fmt: skip


def takes(messages: Messages, who: str, kinds: tuple[Kind, ...] = (), cure: str = "leave the prompt out") -> Messages:
    """Return a conversation if it holds nothing that its reader does not take.

    Args:
        messages: the conversation.
        who: the reader, by name, for the error.
        kinds: what it takes beside text.
        cure: what the user can do.

    Raises:
        UsageError: it holds another kind of part; names part, reader and cure.
    """
    for part in files_of(messages):
        if part.type not in kinds:
            able = " and ".join(("text", *kinds))
            problem = f"a prompt holds a part of kind {part.type}, and {who} takes {able} only"
            raise UsageError(problem, where=part.path, cure=cure)
    return messages
