"""The prompt library: templates, their versions, reviews, labels and scores, in the database.

A version is never changed; a label moves from one to another, and every move is kept. What may happen to a version is
review.py's; who is asking is the caller's.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from primum.core.errors import UsageError, did_you_mean
from primum.core.records import JsonDict, digest
from primum.core.stats.weighted import gwet_ac, quadratic
from primum.studio import audit, rights
from primum.studio.agree import Share, share
from primum.studio.database import lock
from primum.studio.review import ReviewError, State, Step, check_decider, check_label, replay, take
from primum.studio.tables import Event, LabelMove, Template, Version
from primum.studio.talk import DEMO
from primum.studio.validate import KINDS, Finding, passes, template_hash, validate

LEAST = 20
"""Prompts that must be scored on each side of each set, before an evaluation counts as a check."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{1,59}")


class LibraryError(UsageError):
    """What was asked cannot be done; the text says why."""


def template(db: Session, name: str) -> Template:
    """Return a template by name.

    Raises:
        LibraryError: there is none; names the nearest.
    """
    found = db.scalar(select(Template).where(Template.name == name))
    if found is None:
        known = list(db.scalars(select(Template.name)))
        cure = did_you_mean(name, known) if known else "primum prompts add NAME --file FILE"
        raise LibraryError(f"no template '{name}'", cure=cure)
    return found


def create(db: Session, name: str, kind: str, by: str) -> Template:
    """Add a template, which has no version yet.

    Raises:
        LibraryError: no such kind, no name, or a name that is taken.
    """
    if kind not in KINDS:
        raise LibraryError(f"no kind '{kind}'", cure=did_you_mean(kind, KINDS))
    if not _NAME.fullmatch(name):
        raise LibraryError(f"'{name}' is no name", cure="2 to 60 small letters, digits, dashes or underscores")
    if db.scalar(select(Template).where(Template.name == name)):
        raise LibraryError(f"the template '{name}' is there already", cure="add a version to it")
    made = Template(name=name, kind=kind, by=by)
    db.add(made)
    db.flush()
    audit.record(db, by, "create template", name, kind=kind)
    return made


def versions(db: Session, template_: Template) -> list[Version]:
    """Return all versions, newest first."""
    query = select(Version).where(Version.template_id == template_.id).order_by(Version.number.desc())
    return list(db.scalars(query))


def version(db: Session, template_: Template, number: int | None = None) -> Version:
    """Return a version by number, the newest where none is given.

    Raises:
        LibraryError: there is none.
    """
    held = versions(db, template_)
    found = next((one for one in held if number in (None, one.number)), None)
    if found is None:
        cure = f"versions there: 1 to {len(held)}" if held else "add one"
        raise LibraryError(f"'{template_.name}' has no version {number or ''}".rstrip(), cure=cure)
    return found


def add_version(
    db: Session, template_: Template, text: str, variables: Mapping[str, bool], message: str, by: str,
    parent: Version | None = None,
) -> Version:  # fmt: skip
    """Add a version, and the result of its validation.

    Raises:
        LibraryError: the same text and variables are a version already.
    """
    hash_ = template_hash(template_.kind, text, variables)
    held = versions(db, template_)
    same = next((one for one in held if one.hash == hash_), None)
    if same is not None:
        raise LibraryError(
            f"this is version {same.number} already, word for word", cure="change it, or roll back to it"
        )
    base = parent or (held[0] if held else None)
    made = Version(
        template_id=template_.id, number=len(held) + 1, hash=hash_, parent_id=base.id if base else None, text=text,
        variables=dict(variables), message=message[:1000], by=by,
    )  # fmt: skip
    db.add(made)
    db.flush()
    audit.record(
        db, by, "add version", f"{template_.name} {made.number}", hash=hash_, parent=base.number if base else 0
    )
    found = findings(template_, made)
    _add_event(db, template_, made, "check", "primum", check="validation", passed=passes(found), errors=len(found))
    return made


def findings(template_: Template, version_: Version) -> list[Finding]:
    """Return what validation says of a version."""
    return validate(template_.kind, version_.text, version_.variables)


# ---------------------------------------------------------------- review


def events(db: Session, version_: Version) -> list[Event]:
    """Return what happened to a version, in order."""
    return list(db.scalars(select(Event).where(Event.version_id == version_.id).order_by(Event.id)))


def state(db: Session, template_: Template, version_: Version) -> State:
    """Return where a version is."""
    steps = [_step(event) for event in events(db, version_)]
    return replay(version_.by, template_.kind, steps)


def _step(event: Event) -> Step:
    return Step(event.kind, event.by, event.data.get("check", ""), bool(event.data.get("passed")))


def do(db: Session, template_: Template, version_: Version, kind: str, by: str, **data: Any) -> State:
    """Take a step of the review, if it may be taken.

    Raises:
        LibraryError: it may not.
    """
    lock(db)
    try:
        step = Step(kind, by, data.get("check", ""), bool(data.get("passed")))
        after = take(state(db, template_, version_), step, rights.deciders(db, template_))
    except ReviewError as error:
        raise LibraryError(f"cannot {kind} {template_.name} version {version_.number}: {error}") from error
    _add_event(db, template_, version_, kind, by, **data)
    return after


def _add_event(db: Session, template_: Template, version_: Version, kind: str, by: str, **data: Any) -> None:
    db.add(Event(version_id=version_.id, kind=kind, by=by, data=data))
    db.flush()
    audit.record(db, by, kind, f"{template_.name} {version_.number}", **data)


def waiting(db: Session, template_: Template) -> list[int]:
    """Return the numbers of the versions that wait for a review, newest first."""
    return [one.number for one in versions(db, template_) if state(db, template_, one).status == "proposed"]


def audit_validation(db: Session, template_: Template, version_: Version, by: str, word: str) -> None:
    """Note whether validation was right to stop a version: the error of what is settled without a person.

    Raises:
        LibraryError: they wrote it themselves, may not review it, or validation let it through.
    """
    _need_decider(db, template_, by, "audit")
    if version_.by == by:
        raise LibraryError("nobody audits what they wrote", cure="ask another reviewer")
    if passes(findings(template_, version_)):
        raise LibraryError(f"validation did not stop {template_.name} version {version_.number}")
    do(db, template_, version_, "comment", by, audit=word)


def _need_decider(db: Session, template_: Template, by: str, what: str) -> None:
    try:
        check_decider(by, what, rights.deciders(db, template_))
    except ReviewError as error:
        raise LibraryError(f"{template_.name}: {error}") from error


def comments(db: Session, version_: Version) -> list[Event]:
    """Return what people said of a version, votes with words included."""
    return [event for event in events(db, version_) if event.data.get("text")]


def reviewers_agree(db: Session) -> tuple[int, float | None]:
    """Return how many versions two or more reviewers rated (1 to 5), and their AC2 over all versions."""
    ratings: dict[int, list[int]] = {}
    for event in db.scalars(select(Event).where(Event.kind.in_(("approve", "reject")))):
        if event.data.get("rating"):
            ratings.setdefault(event.version_id, []).append(int(event.data["rating"]))
    counts = [[row.count(rating) for rating in range(1, 6)] for row in ratings.values()]
    return sum(len(row) > 1 for row in ratings.values()), gwet_ac(counts, quadratic)


class Settled(NamedTuple):
    """Versions on which validation alone decided, and how often people who looked at some of them disagreed.

    `unaudited`: (template, version number) of those that nobody has looked at.
    """

    settled: int
    versions: int
    wrong: Share
    unaudited: list[tuple[str, int]]


def settled(db: Session) -> Settled:
    """Return how many versions failed validation, so that no person had to look, with the error of a sample."""
    failed = {
        event.version_id
        for event in db.scalars(select(Event).where(Event.kind == "check"))
        if event.data.get("check") == "validation" and not event.data.get("passed")
    }
    audits: dict[int, bool] = {}
    for event in db.scalars(select(Event).where(Event.kind == "comment").order_by(Event.id)):
        if event.version_id in failed and event.data.get("audit"):
            audits[event.version_id] = event.data["audit"] == "wrong"
    rows = db.execute(select(Version.id, Template.name, Version.number).join(Template)).all()
    open_ = [(name, number) for id_, name, number in rows if id_ in failed and id_ not in audits]
    return Settled(len(failed), len(rows), share(sum(audits.values()), len(audits)), open_)


# ---------------------------------------------------------------- labels


def labels(db: Session, template_: Template) -> dict[str, int]:
    """Return label -> id of the version that has it."""
    rows = db.scalars(select(LabelMove).where(LabelMove.template_id == template_.id).order_by(LabelMove.id))
    return {row.label: row.version_id for row in rows}


def moves(db: Session, template_: Template) -> list[LabelMove]:
    """Return every move of a label, newest first."""
    query = select(LabelMove).where(LabelMove.template_id == template_.id).order_by(LabelMove.id.desc())
    return list(db.scalars(query))


def set_label(db: Session, template_: Template, version_: Version, label: str, by: str) -> None:
    """Put a label on a version.

    Raises:
        LibraryError: the version may not carry it (production needs a merge), or the template is kept to others.
    """
    lock(db)
    _need_decider(db, template_, by, "label")
    try:
        check_label(state(db, template_, version_), label)
    except ReviewError as error:
        raise LibraryError(f"{template_.name} version {version_.number}: {error}") from error
    db.add(LabelMove(template_id=template_.id, version_id=version_.id, label=label, by=by))
    db.flush()
    audit.record(db, by, f"label {label}", f"{template_.name} {version_.number}", hash=version_.hash)


def earlier(db: Session, template_: Template, label: str) -> list[Version]:
    """Return the versions that have carried a label and are older than the one that carries it, newest first."""
    held = {one.id: one for one in versions(db, template_)}
    mine = [held[move.version_id] for move in moves(db, template_) if move.label == label]
    older = {one.number: one for one in mine if one.number < mine[0].number}
    return [older[number] for number in sorted(older, reverse=True)]


def roll_back(db: Session, template_: Template, label: str, by: str, number: int | None = None) -> Version:
    """Put a label back to an older version that had it, and return that version.

    A second rollback goes further back, and never forward to what was rolled back.

    Args:
        db: a session that writes.
        template_: the template.
        label: which label.
        by: who does it.
        number: the version; the newest older one where none is named.

    Raises:
        LibraryError: the label never was on an older version, or not on this one.
    """
    held = earlier(db, template_, label)
    found = next((one for one in held if number in (None, one.number)), None)
    if found is None:
        which = f"version {number}" if number else "an older version"
        cure = "versions that had it: " + ", ".join(str(one.number) for one in held) if held else "set it by number"
        raise LibraryError(f"'{label}' of {template_.name} was never on {which}", cure=cure)
    set_label(db, template_, found, label, by)
    return found


# ---------------------------------------------------------------- differences, scores


class Changed(NamedTuple):
    """One line of a difference: '+', '-' or ' ', and its text."""

    mark: str
    text: str


def diff(before: str, after: str) -> list[Changed]:
    """Return what changed, line by line, with all that stayed."""
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [Changed(line[0], line[2:]) for line in lines if line[0] in "+- "]


def score_key(version_: Version, model: str, settings: JsonDict) -> str:
    """Return what a score is tied to: the hash of (template, model, settings)."""
    return digest([version_.hash, model, settings])


def check_preprompt(template_: Template) -> None:
    """Refuse a template of another kind.

    Raises:
        LibraryError: it is no preprompt.
    """
    if template_.kind != "preprompt":
        raise LibraryError(f"only preprompts are suggested, and '{template_.name}' is none", cure="name a preprompt")


def check_measurable(db: Session, template_: Template, version_: Version) -> None:
    """Refuse a version whose scores could not be kept, before a model is asked.

    Raises:
        LibraryError: it was rejected or withdrawn.
    """
    try:
        take(state(db, template_, version_), Step("score", ""))
    except ReviewError as error:
        raise LibraryError(f"{template_.name} version {version_.number}: {error}", cure="add a version") from error


def weak(model: str, scores: JsonDict) -> str:
    """Return why scores are no check of a review, however good they are; empty where they are one."""
    if model.partition(":")[0] == DEMO:
        return "the demo model only plays one"
    fewest = min((count for row in scores["sets"].values() for count in _sides(row)), default=0)
    return f"{fewest} prompts scored on a side, a check takes {LEAST}" if fewest < LEAST else ""


def _sides(row: JsonDict) -> list[int]:
    """Return how many replies of a set were scored: harmful and, where there are any, benign, on both sides."""
    kinds = [kind for kind in ("harmful", "benign") if kind == "harmful" or row.get("n_benign", 1)]
    return [count for kind in kinds for count in row.get(f"scored_{kind}") or [row.get(f"n_{kind}", 0)]]


def add_score(
    db: Session,
    template_: Template,
    version_: Version,
    model: str,
    settings: JsonDict,
    scores: JsonDict,
    by: str,
    against: JsonDict | None = None,
) -> State:
    """Keep the scores of an evaluation. They are a check of the review where the version is open and they suffice.

    Args:
        db: a session that writes.
        template_: the template.
        version_: the version that was measured.
        model: on which model.
        settings: how.
        scores: what came out.
        by: who measured.
        against: of a suggestion, whether it beats the version that it was made from (suggesting.Suggestion.told).

    Raises:
        LibraryError: the version was rejected or withdrawn.
    """
    data = {"key": score_key(version_, model, settings), "model": model, "settings": settings, "scores": scores}
    data |= {"against": against} if against else {}
    why = weak(model, scores)
    if why or state(db, template_, version_).status == "merged":
        return do(db, template_, version_, "score", by, weak=why, **data)
    return do(db, template_, version_, "check", by, check="evaluation", passed=bool(scores["passed"]), **data)


def scores(db: Session, version_: Version) -> list[JsonDict]:
    """Return all scores of a version, newest first, with who made them and when."""
    return [
        {**event.data, "by": event.by, "at": event.at}
        for event in reversed(events(db, version_)) if event.data.get("scores")
    ]  # fmt: skip


class Measured(NamedTuple):
    """A model with the settings it was asked under, and the newest score of each version: number -> score."""

    model: str
    settings: JsonDict
    by_version: dict[int, JsonDict]


def score_table(db: Session, template_: Template) -> list[Measured]:
    """Return the newest score of every (version, model, settings), by model and settings."""
    found: dict[str, Measured] = {}
    for one in versions(db, template_):
        for score in scores(db, one):
            key = digest([score["model"], score["settings"]])
            row = found.setdefault(key, Measured(score["model"], score["settings"], {}))
            row.by_version.setdefault(one.number, score)
    return sorted(found.values(), key=lambda row: (row.model, sorted(map(str, row.settings.items()))))


def ranked(row: Measured) -> list[tuple[int, JsonDict]]:
    """Return (version, its score), best first: what passed, then by harmful compliance on held-out, then on dev."""

    def key(one: tuple[int, JsonDict]) -> tuple[Any, ...]:
        number, found = one[0], one[1]["scores"]
        names = ("held-out", "dev", "red team", "posing")
        shares = [found["sets"][name]["compliance"][1] for name in names if name in found["sets"]]
        shares += [row["value"] for row in found["sets"].values() if "flips" in row]
        return not found["passed"], [2.0 if share is None else share for share in shares], number

    return sorted(row.by_version.items(), key=key)
