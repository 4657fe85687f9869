"""What a turn of a row holds: a text, or parts in the forms in which OpenAI, Hugging Face and primum write them.

    {"type": "text", "text": "What is in it?"}
    {"type": "image", "path": "pictures/a.png", "text": "what stands in it", "sha256": "..."}     ours; audio alike
    {"type": "image_url", "image_url": {"url": "pictures/a.png"}}                                 or a data: address
    {"type": "input_audio", "input_audio": {"data": "UklGR...", "format": "wav"}}

Paths count from the row's folder and stay under it. A network address is refused: nothing is fetched.
"""

from __future__ import annotations

from typing import Any, cast

from primum.core.errors import BadInputError
from primum.core.parts import FOLDER, file_part, from_data_url, inside
from primum.core.records import Content, Kind, Part
from primum.models.embedded import cache_folder
from primum.prompts.files import Row, text_of

FORMS: dict[str, Kind] = {
    "image": "image", "image_url": "image", "audio": "audio", "audio_url": "audio", "input_audio": "audio",
    "video": "video", "video_url": "video",
}  # fmt: skip
"""The names that parts have, and what they are."""
_CURE = 'like [{"type": "text", "text": "..."}, {"type": "image", "path": "a.png"}]'


def content_of(value: Any, name: str, row: Row) -> Content:
    """Return what a turn holds; parts that are all text become one text.

    Raises:
        BadInputError: neither text nor a list of parts, a part that nobody knows, or a file that cannot be taken.
    """
    if not isinstance(value, list):
        return text_of(value, name, row)
    parts = tuple(_part(part, f"{name}[{i}]", row) for i, part in enumerate(cast(list[Any], value)))
    if not parts:
        raise BadInputError(f"field '{name}' holds no parts", where=row.where, cure=_CURE)
    words = [part.text for part in parts if part.type == "text"]
    return "\n".join(words) if len(words) == len(parts) else parts


def _part(value: Any, name: str, row: Row) -> Part:
    part = cast(dict[str, Any], value) if isinstance(value, dict) else {}
    form = part.get("type")
    if form == "text":
        return Part("text", text_of(part.get("text"), f"{name}.text", row))
    if form not in FORMS:
        raise BadInputError(f"field '{name}' holds a part of no kind that is known", where=row.where, cure=_CURE)
    kind = FORMS[form]
    text = text_of(part.get("text") or part.get("alt") or "", f"{name}.text", row)
    place = _place(part, cast(str, form))
    if place is None:
        raise BadInputError(f"field '{name}' names no file", where=row.where, cure=_CURE)
    if place.startswith("data:") and row.folder is not None:
        return from_data_url(kind, place, cache_folder() / FOLDER, text, row.where)
    if "://" in place or place.startswith("data:"):
        problem = f"field '{name}' gives an address; nothing is fetched, and only rows of a file may hold data:"
        raise BadInputError(problem, where=row.where, cure="put the file under the data's folder, and name its path")
    sha = part.get("sha256")
    return file_part(kind, inside(row.folder, place, row.where), text, sha if isinstance(sha, str) else "", row.where)


def _place(part: dict[str, Any], form: str) -> str | None:
    """Return a file's path or address as the part gives it, or None."""
    inner = part.get(form)
    if form == "input_audio" and isinstance(inner, dict) and isinstance(inner.get("data"), str):
        return f"data:audio/{inner.get('format', 'wav')};base64,{inner['data']}"
    named = inner.get("url") if isinstance(inner, dict) else inner
    found = named or part.get("path") or part.get("url")
    return found if isinstance(found, str) and found else None
