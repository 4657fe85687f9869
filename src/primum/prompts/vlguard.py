"""VLGuard's rows (Zong et al. 2024, arXiv:2402.02207): pictures with instructions, harmless and harmful.

    FOLDER/train.json, FOLDER/test.json     a list of {"id", "image", "safe", "instr-resp": [...]} and, of pictures that
                                            are not safe, "harmful_category" and "harmful_subcategory"
    FOLDER/train/, FOLDER/test/             the pictures (train.zip and test.zip, unpacked)

A picture that is not safe has one {"instruction", "response"}; a safe one a {"safe_instruction", "response"} and an
{"unsafe_instruction", "response"}. The test rows make three splits: `safe_safes` (a safe picture, a harmless
instruction), `safe_unsafes` (a safe picture, a harmful instruction) and `unsafes` (a picture that is not safe). What is
known of a picture is what its row says of it: safe, or of which category of harm.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from primum.core.errors import BadInputError, UsageError, did_you_mean
from primum.core.parts import file_part, inside
from primum.core.records import Intent, Message, Part, Prompt
from primum.prompts.files import Row, read_utf8, text_of
from primum.prompts.rows import GENERAL, OTHER

SOURCE, LICENCE = "vlguard", "see the set's card"
CATEGORIES = {
    "personal data": "privacy", "sexually explicit": "sexual_content", "violence": "violent_crime",
    "disinformation": "disinformation", "political": "disinformation",
    "sex": "hate", "race": "hate", "discrimination by sex": "hate", "discrimination by race": "hate",
    "privacy": "privacy", "deception": "disinformation", "discrimination": "hate", "hateful speech": "hate",
}  # fmt: skip
"""VLGuard's subcategories, and where a row names none its categories, in the policy's words."""
_CURE = "unpack train.zip and test.zip beside train.json and test.json"


class Split(NamedTuple):
    """One of the test splits: which pictures, which key holds what is asked, and how the asking is meant."""

    safe: bool
    key: str
    intent: Intent


SPLITS = {
    "safe_safes": Split(True, "safe_instruction", "benign"),
    "safe_unsafes": Split(True, "unsafe_instruction", "harmful"),
    "unsafes": Split(False, "instruction", "harmful"),
}


def vlguard(folder: Path, part: str, split: str | None = None) -> Iterator[Prompt]:
    """Yield the prompts of VLGuard, each with the answer that it gives.

    Args:
        folder: where it lies.
        part: `train` or `test`; the test part is only measured with.
        split: one of `SPLITS`; None: all, row by row.

    Raises:
        UsageError: no such part or split.
        BadInputError: a file is missing or broken; names it and the row.
    """
    for name, known in ((part, ("train", "test")), (split, tuple(SPLITS))):
        if name is not None and name not in known:
            raise UsageError(f"VLGuard has no '{name}'", cure=did_you_mean(name, known))
    wanted = [SPLITS[split]] if split else list(SPLITS.values())
    for row in _rows(folder / f"{part}.json"):
        if not isinstance(row.values.get("safe"), bool):
            raise BadInputError("'safe' is neither true nor false", where=row.where, cure="fetch the set again")
        for one in wanted:
            if one.safe == row.values["safe"]:
                yield from _prompts(row, one, part)


def training_rows(folder: Path) -> Iterator[Row]:
    """Yield VLGuard's training part as rows of answers (`prompt`, `completion`), each instruction with its picture.

    Raises:
        BadInputError: train.json is missing or broken; names the row.
    """
    for row in _rows(folder / "train.json"):
        picture = {"type": "image", "path": row.values.get("image"), "text": _known(row)}
        for pair in _pairs(row):
            said = next((pair[one.key] for one in SPLITS.values() if one.key in pair), None)
            content = [picture, {"type": "text", "text": said}]
            values = {"prompt": [{"role": "user", "content": content}], "completion": pair.get("response")}
            yield Row(row.where, values, row.folder)


def _pairs(row: Row) -> list[dict[str, Any]]:
    """Return a row's instructions with their responses."""
    given = row.values.get("instr-resp")
    pairs = [one for one in cast(list[Any], given) if isinstance(one, dict)] if isinstance(given, list) else []
    if not pairs:
        raise BadInputError("no 'instr-resp'", where=row.where, cure="fetch the set again")
    return cast(list[dict[str, Any]], pairs)


def _rows(path: Path) -> Iterator[Row]:
    if not path.is_file():
        raise BadInputError("no VLGuard rows", where=str(path), cure=_CURE)
    try:
        content = json.loads(read_utf8(path))
    except ValueError as error:
        raise BadInputError(f"broken JSON ({error})", where=str(path), cure="fetch the set again") from error
    if not isinstance(content, list) or not all(isinstance(one, dict) for one in cast(list[Any], content)):
        raise BadInputError("not a list of objects", where=str(path), cure="fetch the set again")
    for number, values in enumerate(cast(list[dict[str, Any]], content), 1):
        yield Row(f"{path}:item {number}", values, path.parent / path.stem)


def _prompts(row: Row, one: Split, part: str) -> Iterator[Prompt]:
    found = [pair for pair in _pairs(row) if one.key in pair]
    if not found:
        raise BadInputError(f"no '{one.key}' in 'instr-resp'", where=row.where, cure="fetch the set again")
    picture = _picture(row)
    for pair in found:
        asked = Message("user", (picture, Part("text", text_of(pair[one.key], one.key, row))))
        tags = (*(("benchmark",) if part == "test" else ()), next(name for name, s in SPLITS.items() if s == one))
        answer = pair.get("response")
        yield Prompt(
            (asked,), one.intent, _category(row, one), source=f"{SOURCE}/{part}", licence=LICENCE,
            split="test" if part == "test" else "train", tags=tags, answer=answer if isinstance(answer, str) else None,
        )  # fmt: skip


def _picture(row: Row) -> Part:
    name = text_of(row.values.get("image"), "image", row)
    return file_part("image", inside(row.folder, name, row.where), _known(row), where=row.where)


def _known(row: Row) -> str:
    """Return what the row says of its picture: no text judge can look at it."""
    if row.values.get("safe"):
        return "a harmless picture"
    named = [str(row.values[key]) for key in ("harmful_category", "harmful_subcategory") if row.values.get(key)]
    return "a harmful picture" + (f" ({', '.join(named)})" if named else "")


def _category(row: Row, one: Split) -> str:
    if one.intent == "benign":
        return GENERAL
    named = (str(row.values.get(key) or "").lower() for key in ("harmful_subcategory", "harmful_category"))
    return next((CATEGORIES[name] for name in named if name in CATEGORIES), OTHER)
