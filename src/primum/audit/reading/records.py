"""A block to its documents. Each record that is none is passed over with its place and the reason."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from primum.audit.reading.document import Document, Skipped
from primum.audit.reading.sources import Part
from primum.audit.reading.warc import content_length

TEXT_FIELDS = ("text", "content", "body", "document")
ASKED = ("instruction", "prompt", "question", "query", "input")
ANSWERED = ("output", "response", "completion", "answer", "chosen", "reply")
CHATS = ("messages", "conversations", "conversation")
PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z_.\-]{0,30}\d?")
"""Names of fields that are told where a row cannot be read; others may be somebody's."""
_SURROGATE = re.compile("[\ud800-\udfff]")
_HEADER = re.compile(rb"(?im)^([a-z\-]+):[ \t]*(.*?)[ \t]*\r?$")


class Fields(NamedTuple):
    """Which fields of a row hold the text, the source and the id; an empty name is found by itself."""

    text: str = ""
    source: str = "source"
    id: str = "id"


def documents(part: Part, name: str, longest: int, fields: Fields, unit: str) -> Iterator[Document | Skipped]:
    """Yield a block's documents and what was passed over in it, in order.

    Args:
        part: the block.
        name: the input's name; the source where a row names none, and part of each place.
        longest: a record of more bytes is passed over.
        fields: which fields of a JSON row are read.
        unit: what is one document of a text file: file, line or paragraph.
    """
    yield from part.block.skipped
    if part.kind == "warc":
        yield from _warc(part.block.data, name, part.block.first_line)
    elif part.kind == "text":
        yield from _text(part.block.data, name, part.block.first_line, unit)
    else:
        yield from _jsonl(part.block.data, name, part.block.first_line, longest, fields)


def _jsonl(data: bytes, name: str, first: int, longest: int, fields: Fields) -> Iterator[Document | Skipped]:
    for number, line in enumerate(data.split(b"\n"), first):
        if not line or line.isspace():
            continue
        where = f"{name}:{number}"
        if len(line) > longest:
            yield Skipped(where, "line_too_long", f"more than {longest:,} bytes")
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield Skipped(where, "invalid_utf8", f"byte {error.start} of the line")
        except (ValueError, RecursionError) as error:
            yield Skipped(where, "broken_json", str(error)[:200])
        else:
            yield _document(row, where, name, fields)


def _document(row: Any, where: str, name: str, fields: Fields) -> Document | Skipped:
    if not isinstance(row, dict):
        return Skipped(where, "no_object", "not a JSON object")
    text = text_of(row, fields.text)
    if text is None:
        names = ", ".join(name if PLAIN_NAME.fullmatch(name) else "..." for name in list(row)[:12])
        return Skipped(where, "no_text", f"no field with text (fields: {names})"[:200])
    if not text.strip():
        return Skipped(where, "empty_text", "the text is empty")
    given = row.get(fields.id)
    known = str(given) if isinstance(given, str | int) and not isinstance(given, bool) and given != "" else where
    return Document(known, whole(text), source_of(row, fields.source, name), where, row)


def text_of(row: Mapping[str, Any], wanted: str = "") -> str | None:
    """Return a row's text: a text field, the turns of a chat, or what was asked and answered, one after the other."""
    if wanted:
        value = row.get(wanted)
        return value if isinstance(value, str) else None
    for name in TEXT_FIELDS:
        if isinstance(row.get(name), str):
            return row[name]
    turns = exchange(row)
    return "\n".join(turn for _, turn in turns) if turns else None


def text_fields(row: Mapping[str, Any], wanted: str = "") -> tuple[str, ...]:
    """Return the names of the fields that `text_of` and `exchange` read; none for a document without a row."""
    for name in (wanted,) if wanted else TEXT_FIELDS:
        if isinstance(row.get(name), str):
            return (name,)
    for name in CHATS:
        if isinstance(row.get(name), list):
            return (name,)
    asked = tuple(name for name in ASKED if isinstance(row.get(name), str | list) and row[name])
    return (*asked, *[name for name in ANSWERED if row.get(name)][:1])


def exchange(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a fine-tuning row's turns as (role, text): from `messages` or `conversations`, or from named fields."""
    for name in CHATS:
        if isinstance(row.get(name), list):
            return _turns(row[name])
    asked = [row[name] for name in ASKED if isinstance(row.get(name), str) and row[name].strip()]
    if not asked and isinstance(row.get("prompt"), list):
        asked = [text for role, text in _turns(row["prompt"]) if role == "user"]
    answered = next((row[name] for name in ANSWERED if row.get(name)), None)
    if isinstance(answered, list):
        answered = next((text for role, text in reversed(_turns(answered)) if role == "assistant"), None)
    turns = [("user", "\n".join(asked))] if asked else []
    system = row.get("system")
    before = [("system", system)] if isinstance(system, str) and system.strip() else []
    return before + turns + ([("assistant", answered)] if isinstance(answered, str) else []) if turns else []


_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}


def _turns(turns: Sequence[Any]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for turn in turns:
        if isinstance(turn, dict):
            role, text = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
            if isinstance(role, str) and isinstance(text, str):
                found.append((_ROLES.get(role, role), text))
    return found


def whole(text: str) -> str:
    """Return the text with halves of surrogate pairs, which are no characters, replaced one for one."""
    return _SURROGATE.sub("\ufffd", text) if not text.isascii() else text


def source_of(row: Mapping[str, Any], field: str, otherwise: str) -> str:
    """Return a row's source; of an address only the host, so that a crawl's pages make one source a site."""
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        return otherwise
    return host(value.strip())


def host(source: str) -> str:
    """Return the host of a web address, or the text as it is."""
    if source.startswith(("http://", "https://")):
        try:
            return urlsplit(source).hostname or source[:200]
        except ValueError:
            return source[:200]
    return whole(source[:200])


def _text(data: bytes, name: str, first: int, unit: str) -> Iterator[Document | Skipped]:
    pieces = [(first, data)] if unit == "file" else _cut(data, first, unit)
    source = PurePosixPath(name).name
    for number, piece in pieces:
        where = name if unit == "file" else f"{name}:{number}"
        try:
            text = piece.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            yield Skipped(where, "invalid_utf8", f"byte {error.start}")
            continue
        if text.strip():
            yield Document(where, text, source, where, {})
        elif unit == "file":
            yield Skipped(where, "empty_text", "the text is empty")


def _cut(data: bytes, first: int, unit: str) -> Iterator[tuple[int, bytes]]:
    held: list[bytes] = []
    begin = first
    for number, line in enumerate(data.split(b"\n"), first):
        if unit == "line":
            yield number, line
        elif line.strip():
            begin = begin if held else number
            held.append(line)
        elif held:
            yield begin, b"\n".join(held)
            held = []
    if held:
        yield begin, b"\n".join(held)


def _warc(data: bytes, name: str, first: int) -> Iterator[Document | Skipped]:
    at, number = 0, first
    while at < len(data):
        end = data.find(b"\r\n\r\n", at) + 4
        head = data[at:end]
        length = content_length(head) or 0
        facts = {key.decode().lower(): value.decode("utf-8", "replace") for key, value in _HEADER.findall(head)}
        if facts.get("warc-type") == "conversion" or facts.get("content-type", "").startswith("text/plain"):
            yield _warc_document(data[end : end + length], facts, f"{name}:record {number}", name)
        at, number = end + length + 4, number + 1


def _warc_document(body: bytes, facts: Mapping[str, str], where: str, name: str) -> Document | Skipped:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        return Skipped(where, "invalid_utf8", f"byte {error.start} of the record")
    if not text.strip():
        return Skipped(where, "empty_text", "the text is empty")
    address = facts.get("warc-target-uri", "")
    return Document(facts.get("warc-record-id", where), text, host(address) if address else name, where, {})
