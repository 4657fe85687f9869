"""The audit log: who did what, each line chained to the one before by its hash.

hash_n = SHA-256(hash_{n-1} || canonical JSON of line n). Changing, removing or inserting a line breaks every hash after
it. A log cut at its end cannot be told from a shorter one by itself: keep the head's hash elsewhere and give it to
`primum studio verify --head`.

A vote's line carries the digest of its record, so that a changed or missing vote is found as well.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from primum.core.records import digest
from primum.studio.database import lock
from primum.studio.tables import LogLine, Vote, now

START = "0" * 64
VOTE = "vote"


def record(session: Session, actor: str, action: str, object_: str = "", **details: Any) -> LogLine:
    """Append a line, in the transaction of what it tells of: both are kept, or neither."""
    lock(session)
    last = session.execute(select(LogLine.n, LogLine.hash).order_by(LogLine.n.desc()).limit(1)).first()
    n, previous = (last.n + 1, last.hash) if last else (1, START)
    line = LogLine(
        n=n, at=now(), actor=actor, action=action, object=object_[:200], details=details, previous=previous, hash=""
    )
    line.hash = line_hash(line)
    session.add(line)
    session.flush()
    return line


def line_hash(line: LogLine) -> str:
    """Return the hash that the line must have."""
    facts = [line.n, line.at, line.actor, line.action, line.object, line.details]
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256((line.previous + text).encode("ascii")).hexdigest()


class Finding(NamedTuple):
    """What is wrong, and at which line of the log (or which vote)."""

    where: str
    problem: str


class Verified(NamedTuple):
    """What the check found: the number of lines, the hash of the last, and every fault."""

    lines: int
    votes: int
    head: str
    findings: list[Finding]


def verify(session: Session, head: str | None = None) -> Verified:
    """Recompute every hash, and compare every vote with its line.

    Args:
        session: a session that reads.
        head: a hash noted earlier, which must still be in the log.
    """
    findings: list[Finding] = []
    previous, expected, seen, logged = START, 1, {START}, dict[int, tuple[int, str]]()
    for line in session.scalars(select(LogLine).order_by(LogLine.n)):
        findings += _line(line, expected, previous)
        previous, expected = line.hash, line.n + 1
        seen.add(line.hash)
        if line.action == VOTE:
            logged[int(line.details.get("vote", 0))] = (line.n, str(line.details.get("digest")))
    if head and head not in seen:
        findings.append(
            Finding("the end", f"the head {head[:12]} noted earlier is not in the log: it was cut or rewritten")
        )
    votes, faults = _votes(session, logged)
    return Verified(expected - 1, votes, previous, findings + faults)


def _line(line: LogLine, expected: int, previous: str) -> list[Finding]:
    where = f"line {line.n}"
    found: list[Finding] = []
    if line.n != expected:
        found.append(Finding(where, f"lines {expected} to {line.n - 1} are missing"))
    if line.previous != previous:
        found.append(Finding(where, "does not follow the line before it"))
    if line.hash != line_hash(line):
        found.append(Finding(where, "was changed: its hash does not fit what it says"))
    return found


def _votes(session: Session, logged: dict[int, tuple[int, str]]) -> tuple[int, list[Finding]]:
    found: list[Finding] = []
    held = 0
    for vote in session.scalars(select(Vote).order_by(Vote.id)):
        held += 1
        n, wanted = logged.pop(vote.id, (0, ""))
        if not n:
            found.append(Finding(f"vote {vote.id}", "is not in the log"))
        elif vote_digest(vote) != wanted:
            found.append(Finding(f"vote {vote.id}", f"was changed: it does not fit line {n}"))
    found += [Finding(f"vote {vote}", f"is missing: line {n} tells of it") for vote, (n, _) in sorted(logged.items())]
    return held, found


def vote_digest(vote: Vote) -> str:
    """Return the digest of all that a vote says."""
    return digest([vote.token, vote.item_id, vote.account_id, vote.undoes, vote.record], 32)
