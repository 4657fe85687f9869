"""Where benchmarks' rows come from: the public data folder, a file, or a hub id; and small helpers to read them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from primum.core.errors import BadInputError
from primum.core.records import Intent, Prompt, user
from primum.prompts.files import Row, read_rows
from primum.prompts.shared import default_data_dir

T = TypeVar("T")


def data_dir() -> Path:
    """Return $PRIMUM_DATA, else the folder of public data sets."""
    named = os.environ.get("PRIMUM_DATA")
    return Path(named) if named else default_data_dir()


def find(source: Path | None, default: str, what: str, cure: str | None = None) -> Path:
    """Return the file or folder to read: the user's, else the usual one under the data folder.

    Raises:
        BadInputError: it is not there.
    """
    path = source or data_dir() / default
    if not path.exists():
        wanted = f"put {default} into the folder that PRIMUM_DATA names, or give --data FILE"
        raise BadInputError(f"no {what}", where=str(path), cure=cure or wanted)
    return path


def rows_of(source: Path | None, hub: str | None, default: str, what: str) -> Iterator[Row]:
    """Yield rows of a file, or of a hub data set where the source is written `hub:ID[@CONFIG][:SPLIT]`.

    A benchmark whose rows are not in the public data folder (`hub` says where they are published) needs the user's
    word: nothing is fetched unasked.

    Raises:
        BadInputError: nothing there.
    """
    if source is not None and str(source).startswith("hub:"):
        from primum.prompts.sources import hub_rows

        _, name, *rest = str(source).split(":")
        yield from hub_rows(name, rest[0] if rest else "train")
        return
    cure = f"give --data FILE (JSONL, CSV or Parquet), or --data {hub} to fetch it (needs primum[hub])" if hub else None
    yield from read_rows(find(source, default, what, cure))


def field(row: Row, *names: str) -> str:
    """Return the first of these fields that holds text.

    Raises:
        BadInputError: none does; names the place and the fields that are there.
    """
    for name in names:
        value = row.values.get(name)
        if isinstance(value, str) and value.strip():
            return value
    there = ", ".join(map(str, row.values)) or "none"
    raise BadInputError(f"no text in '{names[0]}'", where=row.where, cure=f"fields there: {there}")


def asked(text: str, intent: Intent, category: str, source: str, licence: str, tags: Sequence[str] = ()) -> Prompt:
    """Return a prompt of one user turn, which belongs to a benchmark: it is never trained on."""
    kept = ("benchmark", *tags)
    return Prompt((user(text),), intent, category, source=source, licence=licence, split="test", tags=kept)


def spread(items: Sequence[T], key: Callable[[T], Any]) -> Iterator[T]:
    """Yield items in turn from each group, so that a run over the first few sees all groups."""
    groups: dict[Any, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    for turn in range(max(map(len, groups.values()), default=0)):
        yield from (group[turn] for group in groups.values() if turn < len(group))
