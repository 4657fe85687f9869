"""The evidence file: which bytes went in and came out, by sha256, beside settings, versions and the decision."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from primum.core.records import digest
from primum.core.store import file_sha256
from primum.report.words import Facts

COPIED = ("primum", "created", "title", "model", "budget", "seed", "settings", "versions", "machine", "decision")
SHA256 = 64  # hex digits: the whole hash, not its beginning


def evidence(facts: Facts, files: Mapping[str, Path]) -> dict[str, Any]:
    """Return what a reader needs to check that these files made this decision; keys in a stable order.

    Args:
        facts: the facts of the run (report.json).
        files: name (data, templates, adapter, checkpoint, ...) to a file or folder; one that is missing is said to be.

    Returns:
        A JSON object. A folder's sha256 is taken over its files' names and hashes, sorted by name.
    """
    return {
        **{key: facts.get(key) for key in COPIED},
        "settings_sha256": digest(facts.get("settings"), SHA256),
        "facts_sha256": digest(facts, SHA256),
        "judges": sorted(map(_judge, facts.get("judges") or []), key=lambda judge: str(judge["id"])),
        "files": {name: _hashed(files[name]) for name in sorted(files)},
    }


def _judge(judge: Mapping[str, Any]) -> dict[str, Any]:
    return {key: judge.get(key) for key in ("id", "revision", "template_hash")}


def _hashed(path: Path) -> dict[str, Any]:
    if path.is_file():
        return {"name": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}
    if not path.is_dir():
        return {"name": path.name, "missing": True}
    inside = sorted(found for found in path.rglob("*") if found.is_file())
    hashes = {found.relative_to(path).as_posix(): file_sha256(found) for found in inside}
    whole = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
    return {"name": path.name, "bytes": sum(f.stat().st_size for f in inside), "sha256": whole, "files": hashes}
