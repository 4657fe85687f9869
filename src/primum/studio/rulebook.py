"""The project's policy file: a version for every change, checked before it is kept, signed by functions.

It begins as the policy that ships with primum and lies as policy.yaml in the data folder, where git can keep it.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import select
from sqlalchemy.orm import Session

from primum.core.errors import BadInputError
from primum.core.records import digest
from primum.core.store import write_text
from primum.core.taxonomy import Category, Policy, policy
from primum.prompts.files import read_utf8
from primum.studio import audit
from primum.studio.tables import PolicyVersion, SignOff

FUNCTIONS = ("legal", "policy", "civil rights", "ethics", "safety")
"""Who signs: the cross-functional teams of Llama 2 (arXiv:2307.09288, section 4.2)."""
RISKS = ("illicit", "hateful", "unqualified")


def shipped() -> str:
    """Return the policy that ships with primum."""
    return resources.files("primum.core").joinpath("policy.yaml").read_text(encoding="utf-8")


def check(text: str) -> dict[str, Any]:
    """Return the policy as data.

    Raises:
        BadInputError: no YAML, or something that every policy has is missing; names line or key.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark else "policy.yaml"
        raise BadInputError("no valid YAML", where=where, cure="check colons and indentation") from error
    if not isinstance(raw, dict):
        raise BadInputError("no policy", where="policy.yaml", cure="keys: version, expected, avoid, categories")
    for key in ("expected", "avoid"):
        if not isinstance(raw.get(key), list) or not raw[key] or not all(isinstance(v, str) for v in raw[key]):
            raise BadInputError(f"'{key}' is no list of sentences", where=key, cure="one line each, with a dash")
    if not isinstance(raw.get("categories"), dict) or not raw["categories"]:
        raise BadInputError(
            "there are no categories", where="categories", cure="like fraud: {name: ..., risk: illicit}"
        )
    for name, row in raw["categories"].items():
        if not isinstance(row, dict) or not isinstance(row.get("name"), str) or row.get("risk") not in RISKS:
            raise BadInputError(
                "needs a name and a risk", where=f"categories: {name}", cure="risk: " + ", ".join(RISKS)
            )
    if raw.get("version") in (None, ""):
        raise BadInputError("the policy has no version", where="version", cure='like version: "2"')
    _check_overlays(raw)
    return raw


def in_force(path: Path) -> Policy:
    """Return the project's policy: the file where there is one (people edit it here, or in git), else the shipped one.

    Raises:
        BadInputError: the file does not hold together.
    """
    if not path.is_file():
        return policy()
    return _parsed(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _parsed(path: Path, _: int) -> Policy:
    raw = check(read_utf8(path))
    categories = {
        str(name): Category(
            str(name), row["name"], row["risk"], row.get("mlcommons"), bool(row.get("held_out", False))
        ) for name, row in raw["categories"].items()
    }  # fmt: skip
    return Policy(str(raw["version"]), digest(raw), categories, tuple(raw["expected"]), tuple(raw["avoid"]))


def _check_overlays(raw: dict[str, Any]) -> None:
    """`languages` may say, per language, other expected or avoided behaviour."""
    overlays = raw.get("languages") or {}
    fits = isinstance(overlays, dict) and all(
        isinstance(row, dict) and set(row) <= {"expected", "avoid"} and all(isinstance(v, list) for v in row.values())
        for row in overlays.values()
    )
    if not fits:
        cure = "like languages: {de: {avoid: [...]}}"
        raise BadInputError("a language has expected and avoid, both lists", where="languages", cure=cure)


def history(db: Session) -> list[PolicyVersion]:
    """Return all versions, newest first."""
    return list(db.scalars(select(PolicyVersion).order_by(PolicyVersion.id.desc())))


def save(db: Session, path: Path, text: str, message: str, by: str) -> PolicyVersion:
    """Keep a version and write the file.

    Raises:
        BadInputError: the policy does not hold together, or nothing changed.
    """
    check(text)
    hash_ = digest(text)
    if db.scalar(select(PolicyVersion.id).where(PolicyVersion.hash == hash_)):
        raise BadInputError("these words are a version already", where="policy.yaml", cure="change something")
    made = PolicyVersion(hash=hash_, text=text, message=message, by=by)
    db.add(made)
    db.flush()
    audit.record(db, by, "policy", str(made.id), hash=hash_)
    write_text(path, text)
    return made


def sign(db: Session, version: PolicyVersion, function: str, by: str) -> None:
    """Sign a version for a function; once each."""
    known = select(SignOff.id).where(SignOff.policy_id == version.id, SignOff.function == function)
    if db.scalar(known) is None:
        db.add(SignOff(policy_id=version.id, function=function, by=by))
        audit.record(db, by, "sign policy", str(version.id), function=function)


def signatures(db: Session, version: PolicyVersion) -> dict[str, SignOff]:
    """Return function -> who signed."""
    return {row.function: row for row in db.scalars(select(SignOff).where(SignOff.policy_id == version.id))}
