"""The fine-tuned checkpoint back from the restored one: the same bytes, checked against the hashes kept of them."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from pathlib import Path

from primum.core.errors import StepFailedError, UsageError
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.core.store import file_sha256, read_json
from primum.repair.checkpoint import Checkpoint, other_files, write_like
from primum.repair.write import UNDO, UNDO_BYTES, xor


def undo(run: Path, restored: Path, out: Path, advance: Advance = silent) -> JsonDict:
    """Write the fine-tuned checkpoint as it was before a method changed it.

    Args:
        run: the folder with undo.json and undo.zip.
        restored: the checkpoint that the method wrote.
        out: the folder of the fine-tuned checkpoint; must not exist.
        advance: told of tensors written.

    Raises:
        UsageError: nothing to undo with, `out` exists, or the checkpoint was changed since.
        StepFailedError: the bytes are not those that were there, or the disk is full.
    """
    kept = _kept(run)
    model = Checkpoint(restored)
    _unchanged(model, kept)
    if out.exists():
        raise UsageError("the folder exists", where=str(out), cure="name a new folder with --out")
    making = out.with_name(out.name + ".partial")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        with zipfile.ZipFile(run / UNDO_BYTES) as archive:
            _write(model, archive, making, advance)
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError) as error:
        raise StepFailedError(f"undo.zip is damaged ({error})", where=str(run), cure=_source(kept)) from error
    for file, hashes in kept["files"].items():
        if file_sha256(making / file) != hashes["tuned"]:
            raise StepFailedError("the bytes are not those of the fine-tuned model", where=file, cure=_source(kept))
    for path in other_files(restored, model.files):
        if path.name != "README.md" or not _ours(path):
            shutil.copyfile(path, making / path.name)
    making.rename(out)
    return {"checkpoint": str(out), "files": len(kept["files"]), "identical": True}


def _ours(card: Path) -> bool:
    return "primum" in card.read_text(encoding="utf-8", errors="replace")


def _kept(run: Path) -> JsonDict:
    if not (run / UNDO).is_file():
        cure = "name the --out folder of a finished primum restore that was run with --undo"
        raise UsageError("nothing to undo with in this folder", where=str(run), cure=cure)
    return read_json(run / UNDO, "this file cannot be mended; take the tuned model from where it came from")


def _unchanged(model: Checkpoint, kept: JsonDict) -> None:
    for file, hashes in kept["files"].items():
        path = model.folder / file
        if not path.is_file() or file_sha256(path) != hashes["restored"]:
            raise UsageError("the restored checkpoint was changed since", where=str(path), cure=_source(kept))


def _source(kept: JsonDict) -> str:
    return f"the fine-tuned model itself was at {kept['tuned']}"


def _write(model: Checkpoint, archive: zipfile.ZipFile, making: Path, advance: Advance) -> None:
    changed = set(archive.namelist())

    def content(name: str) -> bytes:
        advance(1)
        bytes_now = model.raw(name)
        return xor(bytes_now, archive.read(name)) if name in changed else bytes_now

    for file in model.files:
        write_like(model, file, making / file, content)
