r"""Shards, manifests and the rule that nothing is lost: how records lie on disk.

    RUN/steps/03-sample/
        key.json            what this folder's content is keyed by, written first
        shard-00000.jsonl   one JSON object a line; written to a temporary name, then renamed
        dropped.jsonl       what was left out, each with its reason
        manifest.json       written last: its existence means that the step is done

The key is the hash of (step version, configuration, keys of the inputs). A folder with another key is stale and is
cleared. This file knows nothing of what the records mean.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from primum.core.errors import BadInputError, StepFailedError
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict, digest

T = TypeVar("T")
CHECK = "check --out"


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all (temporary name, fsync, rename).

    Raises:
        StepFailedError: the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", errors="surrogatepass", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk_error(error, path) from error


def disk_error(error: Exception, path: Path) -> StepFailedError:
    """Turn what the system said while a file was written into a message that says what to do."""
    number = system_error(error)
    again = "and run the same command again: it goes on here"
    if number in (errno.ENOSPC, errno.EDQUOT):
        cure = f"free some space (or use --out on another disk) {again}"
        return StepFailedError("the disk is full", where=str(path), cure=cure)
    said = getattr(error, "strerror", None) or (os.strerror(number) if number else str(error))
    cure = f"raise the limit (ulimit -f) or use --out on another disk, {again}"
    return StepFailedError(f"cannot write: {said}", where=str(path), cure=cure if number == errno.EFBIG else CHECK)


def system_error(error: Exception) -> int | None:
    """Return the system's number of an error; libraries in Rust, and `shutil.copytree`, have it in their words only."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = re.search(r"(?:os error|\[Errno) (\d+)[\])]", str(error))
    return int(found[1]) if found else None


def share_weights(folder: Path) -> None:
    """Give a folder's safetensors files the permissions that any new file gets.

    Their library writes them for their owner alone, so that a server under another account could not read a model.
    """
    plain = folder / ".permissions"
    plain.touch()
    mode = stat.S_IMODE(plain.stat().st_mode)
    plain.unlink()
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n")


def printable(document: Any) -> str:
    """Return one JSON document; half a character (a lone surrogate), which no output takes, as its number."""
    text = json.dumps(document, indent=2, ensure_ascii=False, default=str)
    whole = text.encode("utf-8", "ignore").decode() == text
    return text if whole else json.dumps(document, indent=2, default=str)


def write_jsonl(path: Path, rows: Iterable[JsonDict]) -> None:
    """Write one JSON object a line, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_json(path: Path, cure: str = "delete this file and run the command again") -> Any:
    """Read one JSON document that we wrote.

    Args:
        path: of the document.
        cure: what to do where somebody broke it since.

    Raises:
        BadInputError: it is broken; names the file and the cure.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8", errors="surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"broken JSON ({error})", where=str(path), cure=cure) from error


def read_jsonl(path: Path) -> Iterator[tuple[int, JsonDict]]:
    """Yield (line number from 1, object) of a JSONL file; blank lines are passed over.

    Raises:
        BadInputError: the file is missing, or a line is no JSON object; names file and line.
    """
    if not path.is_file():
        raise BadInputError("no such file", where=str(path), cure="check the path")
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogatepass"))
            except UnicodeDecodeError as error:
                raise BadInputError("not UTF-8", where=f"{path}:{number}", cure="save the file as UTF-8") from error
            except (ValueError, RecursionError) as error:
                cure = "each line must be one JSON object"
                raise BadInputError(f"broken JSON ({error})", where=f"{path}:{number}", cure=cure) from error
            if not isinstance(row, dict):
                raise BadInputError("not a JSON object", where=f"{path}:{number}", cure='like {"prompt": "..."}')
            yield number, row


def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(model: str) -> str:
    """Return what tells a folder's or file's weights from others: names, sizes and times; "" for names elsewhere."""
    path = Path(model)
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    return digest([[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files if f.is_file()]) if files else ""


class Stage:
    """One step's folder: shards that were finished, what was dropped, and the manifest when all is done."""

    def __init__(self, folder: Path, key: JsonDict) -> None:
        self.folder, self.key_facts, self.key = folder, key, digest(key)
        self._dropped: list[JsonDict] = []
        held = folder / "key.json"
        if folder.exists() and (not held.exists() or read_json(held)["key"] != self.key):
            shutil.rmtree(folder)
        if not held.exists():
            write_json(held, {"key": self.key, "facts": key})
        for leftover in folder.glob("*.partial"):
            leftover.unlink()

    @property
    def manifest(self) -> JsonDict | None:
        """What the finished step wrote, or None where it is not done."""
        path = self.folder / "manifest.json"
        return read_json(path) if path.exists() else None

    def path(self, name: str) -> Path:
        """A file of this step."""
        return self.folder / name

    def shard(self, index: int) -> list[JsonDict] | None:
        """The rows of a finished shard, or None."""
        path = self.folder / f"shard-{index:05d}.jsonl"
        return [row for _, row in read_jsonl(path)] if path.exists() else None

    def write_shard(self, index: int, rows: Iterable[JsonDict]) -> None:
        """Write a shard, whole or not at all."""
        write_jsonl(self.folder / f"shard-{index:05d}.jsonl", rows)

    def rows(self) -> list[JsonDict]:
        """All rows of all shards, in order."""
        paths = sorted(self.folder.glob("shard-*.jsonl"))
        return [row for path in paths for _, row in read_jsonl(path)]

    def drop(self, row: JsonDict, reason: str) -> None:
        """Leave a record out, for a named reason; it is written beside the shards and counted."""
        self._dropped.append({"reason": reason, **row})

    def finish(self, **summary: Any) -> JsonDict:
        """Write what was dropped, then the manifest: the step is done."""
        write_jsonl(self.folder / "dropped.jsonl", self._dropped)
        counts = dict(Counter(row["reason"] for row in self._dropped))
        manifest = {"key": self.key, "dropped": counts, **summary}
        write_json(self.folder / "manifest.json", manifest)
        return manifest

    def map(
        self,
        items: Sequence[T],
        size: int,
        work: Callable[[int, Sequence[T]], list[JsonDict]],
        advance: Advance = silent,
    ) -> list[JsonDict]:
        """Run `work(shard index, items)` on each slice of `size` items not yet on disk; return all rows in order.

        The result does not depend on where an earlier run was killed, if `work` depends on its arguments only.
        """
        rows: list[JsonDict] = []
        for index, start in enumerate(range(0, len(items), size)):
            part = items[start : start + size]
            done = self.shard(index)
            if done is None:
                done = work(index, part)
                self.write_shard(index, done)
            rows += done
            advance(len(part))
        return rows
