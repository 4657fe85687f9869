"""The project's policy file: a version for every change, checked before it is kept, signed by functions.

It begins as the policy that ships with primum and lies as policy.yaml in the data folder, where git can keep it; or it
is the file that PRIMUM_POLICY names, which every command reads.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from primum.core import taxonomy
from primum.core.errors import BadInputError, UsageError
from primum.core.records import digest
from primum.core.store import write_text
from primum.core.taxonomy import Policy, check, shipped
from primum.prompts.files import read_utf8
from primum.studio import audit
from primum.studio.tables import Account, PolicyVersion, SignOff, now

FUNCTIONS = ("legal", "policy", "civil rights", "ethics", "safety")
"""Who signs: the cross-functional teams of Llama 2 (arXiv:2307.09288, section 4.2)."""
BROUGHT_BACK = "# brought back:"


def in_force(path: Path) -> Policy:
    """Return the project's policy: the file where there is one (people edit it here, or in git), else the shipped one.

    Raises:
        BadInputError: the file does not hold together.
    """
    return taxonomy.read(path) if path.is_file() else taxonomy.shipped_policy()


class State(NamedTuple):
    """What is in force, and whether the database holds it.

    Attributes:
        text: of the file, or of the shipped policy where there is none.
        problem: why the file does not hold together, else empty.
        newest: the newest version in the database.
        differs: whether the file is not that version: somebody edited it, or there is none.
    """

    text: str
    problem: str
    newest: PolicyVersion | None
    differs: bool


def state(db: Session, path: Path) -> State:
    """Return where file and database stand."""
    held = history(db)
    newest = held[0] if held else None
    text = read_utf8(path) if path.is_file() else shipped()
    try:
        check(text)
        problem = ""
    except BadInputError as error:
        problem = str(error)
    return State(text, problem, newest, text != (newest.text if newest else shipped()))


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


def restore(db: Session, path: Path, version: PolicyVersion, reason: str, by: str) -> PolicyVersion:
    """Bring an older version back: its words as a new version, with a first line that says whence and why.

    Raises:
        BadInputError: the old words do not hold together any more.
    """
    lines = [line for line in version.text.split("\n") if not line.startswith(BROUGHT_BACK)]
    line = f"{BROUGHT_BACK} the version of {version.at} ({version.hash}), on {now()}: {' '.join(reason.split())}"
    return save(db, path, "\n".join([line, *lines]), f"brought back: {reason}", by)


def sign(db: Session, version: PolicyVersion, function: str, by: Account) -> None:
    """Sign a version for a function; once each.

    A person signs for one function: five signatures are to be five people's judgement. An admin may sign for more,
    where a project has fewer people; the log says so.

    Raises:
        UsageError: the person has signed this version for another function.
    """
    signed = signatures(db, version)
    other = next((name for name, row in signed.items() if row.by == by.name and name != function), None)
    if other and by.role != "admin":
        cure = "let somebody else sign; an admin may sign for several"
        raise UsageError(f"you have signed this version for {other}", cure=cure)
    if function not in signed:
        db.add(SignOff(policy_id=version.id, function=function, by=by.name))
        more = {"also": other} if other else {}
        audit.record(db, by.name, "sign policy", str(version.id), function=function, **more)


def signatures(db: Session, version: PolicyVersion) -> dict[str, SignOff]:
    """Return function -> who signed."""
    return {row.function: row for row in db.scalars(select(SignOff).where(SignOff.policy_id == version.id))}
