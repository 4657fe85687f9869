"""A method applied to a checkpoint: read, changed and written one tensor at a time, with what is needed to undo it."""

from __future__ import annotations

import shutil
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from primum.core.catalogue import member
from primum.core.errors import UsageError
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.core.store import file_sha256, write_json
from primum.repair.checkpoint import (
    FLOATS,
    Checkpoint,
    changeable,
    counterpart,
    other_files,
    to_bytes,
    write_like,
)
from primum.repair.given import Given, Method, Part, Setting

if TYPE_CHECKING:
    from torch import Tensor

UNDO, UNDO_BYTES = "undo.json", "undo.zip"
ROLES = {
    "parent": "the aligned model that was fine-tuned (--parent)",
    "base": "the pretrained model that the parent was aligned from (--base)",
    "unaligned": "a twin of the parent made unsafe (--unaligned)",
    "safe": "a fine-tune of the parent on safety data (--safe)",
    "patched": "the fine-tuned model after one safe answer",
    "gradient": "the gradient of safe answers at the fine-tuned model",
}


@dataclass
class Tally:
    """What a method did to a model, summed while it writes."""

    changed: int = 0
    kept: Counter[str] = field(default_factory=Counter[str])
    squared: float = 0.0
    squared_tuned: float = 0.0
    facts: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    most_held: int = 0

    @property
    def relative(self) -> float:
        """Norm of the change over the norm of the weights."""
        return (self.squared / self.squared_tuned) ** 0.5 if self.squared_tuned else 0.0


def write(
    name: str, setting: Setting, models: Mapping[str, Checkpoint], out: Path, undo: Path | None = None,
    advance: Advance = silent,
) -> JsonDict:  # fmt: skip
    """Write the checkpoint that a method makes of the fine-tuned one; return what it did and what it cost.

    Args:
        name: of the method (primum list repairs).
        setting: how it is applied.
        models: role -> checkpoint; "tuned" and what the method needs.
        out: the folder of the new checkpoint; replaced as a whole where it exists.
        undo: the folder that gets undo.json and undo.zip; None keeps nothing to undo with.
        advance: told of tensors written.

    Raises:
        UsageError: a model is missing, the models do not belong together, or `out` is one of them.
        StepFailedError: the disk is full or the folder cannot be written.
    """
    method, tuned = cast(Method, member("repairs", name)), models["tuned"]
    _check(name, method, models, out)
    started, tally = time.monotonic(), Tally()
    making = out.with_name(out.name + ".partial")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    archive = _archive(undo)
    for file in tuned.files:
        content = partial(_content, method, setting, models, tally, archive, advance)
        write_like(tuned, file, making / file, content)
    for path in other_files(tuned.folder, tuned.files):
        shutil.copyfile(path, making / path.name)
    if archive is not None and undo is not None:
        archive.close()
        _finish_undo(undo, tuned, making)
    shutil.rmtree(out, ignore_errors=True)
    making.rename(out)
    return _report(name, setting, tuned, tally, time.monotonic() - started, undo)


def forget_undo(folder: Path) -> None:
    """Take away what an earlier run kept to undo with: it speaks of a checkpoint that is there no more."""
    for name in (UNDO, UNDO_BYTES):
        (folder / name).unlink(missing_ok=True)


def relative_change(tuned: Checkpoint, other: Checkpoint) -> float:
    """Return how far another checkpoint lies from the fine-tuned one: the norm of the change over that of the weights.

    Of tensors that both hold, as for what a method writes; one tensor of each is in memory.
    """
    tally = Tally()
    for name in changeable(tuned):
        if tuned.entries[name].dtype not in FLOATS or _fits(tuned, other, name):
            continue
        own = counterpart(tuned, other, name) or name
        rows = min(_rows(tuned, name), _rows(other, own))
        part = Part(name, tuned.entries[name].shape, {"tuned": _reader(tuned, name, rows)})
        _count(tally, part, Given(_reader(other, own, rows)()))
    return tally.relative


def _check(name: str, method: Method, models: Mapping[str, Checkpoint], out: Path) -> None:
    for role in method.needs:
        if role not in models:
            raise UsageError(f"{name} needs {ROLES[role]}", cure=f"give --{role} MODEL, or take another method")
    for role, model in models.items():
        inside = out.resolve()
        if model.folder.resolve() == inside or model.folder.resolve().is_relative_to(inside):
            cure = "give another --out; what it holds is replaced"
            raise UsageError(f"the {role} model lies in the folder to be written", where=str(out), cure=cure)
    for role in method.needs:
        _belongs(models["tuned"], models[role], role)


def _belongs(tuned: Checkpoint, other: Checkpoint, role: str) -> None:
    own = list(changeable(tuned))
    shared = [name for name in own if _fits(tuned, other, name) is None]
    if len(shared) < len(own) / 2:
        cure = f"is --{role} really of the same architecture and size?"
        problem = f"only {len(shared)} of {len(own)} tensors have the same name and shape in the {role} model"
        raise UsageError(problem, where=str(other.folder), cure=cure)


def _fits(tuned: Checkpoint, other: Checkpoint, name: str) -> str | None:
    """Return why a tensor cannot be paired with the other model's, or None. Fewer or more rows are no hindrance."""
    own = counterpart(tuned, other, name)
    if own is None:
        return "not in the other model"
    mine, theirs = tuned.entries[name], other.entries[own]
    if theirs.dtype not in FLOATS:
        return f"of format {theirs.dtype} in the other model"
    alike = mine.shape == theirs.shape or (len(mine.shape) == 2 and mine.shape[1:] == theirs.shape[1:])
    return None if alike else "of another shape in the other model"


def _archive(undo: Path | None) -> zipfile.ZipFile | None:
    if undo is None:
        return None
    undo.mkdir(parents=True, exist_ok=True)
    (undo / UNDO).unlink(missing_ok=True)
    return zipfile.ZipFile(undo / UNDO_BYTES, "w", zipfile.ZIP_DEFLATED, allowZip64=True, compresslevel=1)


def _content(
    method: Method, setting: Setting, models: Mapping[str, Checkpoint], tally: Tally,
    archive: zipfile.ZipFile | None, advance: Advance, name: str,
) -> bytes:  # fmt: skip
    """Return the bytes of one restored tensor, and keep what turns them back."""
    old = models["tuned"].raw(name)
    new = _changed(method, setting, models, tally, name)
    advance(1)
    if new is None or new == old:
        if new is not None:
            tally.kept["as it was"] += 1
        return old
    tally.changed += 1
    if archive is not None:
        archive.writestr(name, xor(old, new))
    return new


def _changed(
    method: Method, setting: Setting, models: Mapping[str, Checkpoint], tally: Tally, name: str
) -> bytes | None:
    tuned = models["tuned"]
    entry = tuned.entries[name]
    why = None if name in changeable(tuned) else "not of the language tower"
    why = why or (None if entry.dtype in FLOATS else f"of format {entry.dtype}")
    others = [role for role in models if role != "tuned"]
    why = why or next((w for role in others if (w := _fits(tuned, models[role], name))), None)
    if why:
        tally.kept[why] += 1
        return None
    whole = tuned.tensor(name)
    names = {role: counterpart(tuned, models[role], name) or name for role in models}
    rows = min(_rows(models[role], own) for role, own in names.items())
    part = Part(name, entry.shape, {role: _reader(models[role], own, rows) for role, own in names.items()})
    given = method.restored(part, setting)
    if given is None:
        tally.kept["left by the method"] += 1
        return None
    _count(tally, part, given)
    whole[:rows] = given.tensor.to(whole.dtype)
    return to_bytes(whole)


def _rows(model: Checkpoint, name: str) -> int:
    shape = model.entries[name].shape
    return shape[0] if shape else 1


def _reader(model: Checkpoint, name: str, rows: int) -> Callable[[], Tensor]:
    def read() -> Tensor:
        found = model.tensor(name).float()
        return found[:rows] if found.dim() else found

    return read


def _count(tally: Tally, part: Part, given: Given) -> None:
    tuned = part.of("tuned")
    tally.squared += float((given.tensor - tuned).double().pow(2).sum())
    tally.squared_tuned += float(tuned.double().pow(2).sum())
    for key, value in given.facts.items():
        tally.facts.setdefault(key, []).append(value)
    held = sum(one.numel() * 4 for one in (*part.held.values(), given.tensor))
    tally.most_held = max(tally.most_held, held)


def xor(a: bytes, b: bytes) -> bytes:
    """Return the bytes in which two of the same length differ: applied again they turn either into the other."""
    import numpy as np

    return (np.frombuffer(a, np.uint8) ^ np.frombuffer(b, np.uint8)).tobytes()


def _finish_undo(undo: Path, tuned: Checkpoint, made: Path) -> None:
    hashes = {file: {"tuned": file_sha256(tuned.folder / file), "restored": file_sha256(made / file)}
              for file in tuned.files}  # fmt: skip
    write_json(undo / UNDO, {"format": 1, "tuned": str(tuned.folder.resolve()), "files": hashes})


def _report(
    name: str, setting: Setting, tuned: Checkpoint, tally: Tally, seconds: float, undo: Path | None
) -> JsonDict:
    return {
        "method": name, "strength": setting.strength, "seconds": round(seconds, 2), "tensors": len(tuned.entries),
        "changed": tally.changed, "kept": dict(tally.kept), "relative_change": tally.relative,
        "bytes": sum((tuned.folder / file).stat().st_size for file in tuned.files),
        "largest_file": tuned.largest_file, "most_held": tally.most_held,
        "undo_bytes": (undo / UNDO_BYTES).stat().st_size if undo else 0,
        "facts": {key: {"least": min(rows), "mean": sum(rows) / len(rows), "most": max(rows)}
                  for key, rows in tally.facts.items()},
    }  # fmt: skip
