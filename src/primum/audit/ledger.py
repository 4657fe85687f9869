"""The source ledger: who has reviewed which source, under which licence, and what was decided.

A file by the user, in any of these shapes (YAML, JSON, JSONL or CSV); keys beside these are kept as notes:

    source: {licence: CC-BY-4.0, reviewer: A. Person, decision: include}     # a mapping of sources
    [{source: ..., licence: ..., reviewer: ..., decision: ...}, ...]          # or a list; or one row a line

A source that is a web address counts by its host, as it does in the corpus.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from primum.audit.reading.records import host
from primum.core.errors import BadInputError

NAMES = ("source", "name", "id", "url")
LICENCE, REVIEWER = ("licence", "license"), ("reviewer", "reviewed_by", "reviewers")
DECISIONS = {
    "include": "include", "included": "include", "accept": "include", "accepted": "include", "approve": "include",
    "approved": "include", "keep": "include", "allow": "include", "allowed": "include", "ok": "include",
    "yes": "include", "use": "include", "pass": "include", "cleared": "include",
    "exclude": "exclude", "excluded": "exclude", "reject": "exclude", "rejected": "exclude",
    "drop": "exclude", "deny": "exclude", "denied": "exclude", "no": "exclude",
}  # fmt: skip
LONGEST = 200
"""Characters of a note that are kept."""
SHAPE = 'like {"web": {"licence": "CC-BY-4.0", "reviewer": "A. Person", "decision": "include"}}'


@dataclass(frozen=True)
class Entry:
    """What the ledger says of a source; an empty text where it says nothing. `decision` is include, exclude or "".

    `notes` are what else stands there, as texts.
    """

    source: str
    licence: str
    reviewer: str
    decision: str
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """What a review lacks; a source is reviewed where nothing is lacking."""
        facts = {"licence": self.licence, "reviewer": self.reviewer, "decision": self.decision}
        return tuple(name for name, value in facts.items() if not value)


def load(path: Path) -> dict[str, Entry]:
    """Return the ledger's entries by source.

    Raises:
        BadInputError: no such file, no shape that is known, or a source that stands twice; says where.
    """
    if not path.is_file():
        raise BadInputError("no such file", where=str(path), cure="check the path given to --ledger")
    try:
        rows = _rows(path, path.read_text(encoding="utf-8-sig"))
    except (ValueError, yaml.YAMLError, UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"cannot read the ledger ({str(error)[:200]})", where=str(path), cure=SHAPE) from error
    entries: dict[str, Entry] = {}
    for number, row in enumerate(rows, 1):
        entry = _entry(row, f"{path}: entry {number}")
        if entries.get(entry.source, entry) != entry:
            cure = "keep one entry; addresses of one host are one source"
            raise BadInputError(f"source '{entry.source}' stands twice", where=f"{path}: entry {number}", cure=cure)
        entries[entry.source] = entry
    return entries


def _rows(path: Path, text: str) -> list[Mapping[str, Any]]:
    if path.suffix.lower() == ".csv":
        return list(csv.DictReader(io.StringIO(text)))
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        values: Any = [json.loads(line) for line in text.split("\n") if line.strip()]
    else:
        values = yaml.safe_load(text)
    if isinstance(values, Mapping) and isinstance(values.get("sources"), list | Mapping):
        values = values["sources"]
    if isinstance(values, Mapping):
        values = [{**(facts if isinstance(facts, Mapping) else {}), "source": name} for name, facts in values.items()]
    if not isinstance(values, list) or not all(isinstance(row, Mapping) for row in cast(list[Any], values)):
        raise ValueError("neither a mapping of sources nor a list of entries")
    return cast(list[Mapping[str, Any]], values)


def _entry(row: Mapping[str, Any], where: str) -> Entry:
    facts = {str(key).strip().lower(): value for key, value in row.items()}
    named = next((name for name in NAMES if _first(facts, (name,))), "")
    if not named:
        raise BadInputError("an entry names no source", where=where, cure=SHAPE)
    decision = facts.get("decision")
    said = {True: "yes", False: "no"}.get(decision, decision) if isinstance(decision, bool) else decision
    reviewed = facts.get("reviewed") is not False
    known = {named, *LICENCE, *REVIEWER, "decision", "reviewed"}
    notes = {key: str(value)[:LONGEST] for key, value in facts.items() if key not in known and value not in (None, "")}
    return Entry(
        host(_first(facts, (named,))),
        _first(facts, LICENCE),
        _first(facts, REVIEWER) if reviewed else "",
        DECISIONS.get(str(said).strip().lower(), ""),
        notes,
    )


def _first(facts: Mapping[str, Any], names: tuple[str, ...]) -> str:
    for name in names:
        value = facts.get(name)
        if isinstance(value, list):
            value = ", ".join(str(one) for one in cast(list[Any], value))
        if isinstance(value, str | int | float) and str(value).strip():
            return str(value).strip()
    return ""
