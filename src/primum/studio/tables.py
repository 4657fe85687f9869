"""What the studio keeps, as tables. What people did is append-only: a trigger of the database refuses to change it.

Texts that a model wrote lie in JSON columns, written as ASCII: neither a null byte nor a lone surrogate reaches the
database, which PostgreSQL would refuse.
"""

from __future__ import annotations

import datetime
import json
from typing import Any

from sqlalchemy import Boolean, Float, ForeignKey, Index, Integer, String, Text, TypeDecorator, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Json(TypeDecorator[Any]):
    """Any JSON value as ASCII text: the same bytes on every database."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        """Write the value."""
        return None if value is None else json.dumps(value, ensure_ascii=True, sort_keys=True)

    def process_result_value(self, value: str | None, dialect: Any) -> Any:
        """Read it back."""
        return None if value is None else json.loads(value)


class Base(DeclarativeBase):
    """Base of all tables."""


def now() -> str:
    """Return the time in UTC as ISO text, which sorts as time does on every database."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _id() -> Mapped[int]:
    return mapped_column(Integer, primary_key=True)


class Account(Base):
    """A person, who signs in by a password or by what a provider of identities calls them (`subject`).

    With neither nobody can sign in as them (the one person of a studio without accounts). `blur`: what they want
    blurred (veil.CHOICES).
    """

    __tablename__ = "account"
    __table_args__ = (Index("account_subject", "subject", unique=True),)
    id: Mapped[int] = _id()
    name: Mapped[str] = mapped_column(String(80), unique=True)
    password: Mapped[str] = mapped_column(Text, default="")
    subject: Mapped[str | None] = mapped_column(String(600))
    role: Mapped[str] = mapped_column(String(20))
    active: Mapped[bool] = mapped_column(Boolean, default=True)
    expertise: Mapped[str] = mapped_column(String(200), default="")
    team: Mapped[str] = mapped_column(String(200), default="")
    blur: Mapped[str] = mapped_column(String(10), default="")
    at: Mapped[str] = mapped_column(String(40), default=now)


class SignIn(Base):
    """A browser's session: the hash of its cookie, its CSRF token, and who is signed in."""

    __tablename__ = "sign_in"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    csrf: Mapped[str] = mapped_column(String(64))
    at: Mapped[str] = mapped_column(String(40), default=now)
    seen: Mapped[str] = mapped_column(String(40), default=now)


class Flow(Base):
    """A sign-in by a provider of identities that a browser has begun: the hash of its state, and what answers it."""

    __tablename__ = "flow"
    state: Mapped[str] = mapped_column(String(64), primary_key=True)
    sign_in: Mapped[str] = mapped_column(String(64))
    nonce: Mapped[str] = mapped_column(String(64))
    verifier: Mapped[str] = mapped_column(String(128))
    invitation: Mapped[str | None] = mapped_column(String(64))
    at: Mapped[str] = mapped_column(String(40), default=now)


class Invitation(Base):
    """The hash of an invitation link's token; with `account_id` it sets that account's password anew."""

    __tablename__ = "invitation"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str] = mapped_column(String(20))
    by: Mapped[str] = mapped_column(String(80))
    expires: Mapped[str] = mapped_column(String(40))
    used_by: Mapped[int | None] = mapped_column(ForeignKey("account.id"))
    account_id: Mapped[int | None] = mapped_column(Integer)
    at: Mapped[str] = mapped_column(String(40), default=now)


class Certificate(Base):
    """A person may work in a language and a modality (accounts.MODALITIES), given by an admin.

    With the modality `task`: has passed the test of the task that stands in place of the language.
    """

    __tablename__ = "certificate"
    __table_args__ = (UniqueConstraint("account_id", "language", "modality"),)
    id: Mapped[int] = _id()
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    language: Mapped[str] = mapped_column(String(20))
    modality: Mapped[str] = mapped_column(String(20), default="text")
    by: Mapped[str] = mapped_column(String(80))
    at: Mapped[str] = mapped_column(String(40), default=now)


class LogLine(Base):
    """One line of the audit log; `hash` covers the line and the hash before it."""

    __tablename__ = "audit_log"
    n: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[str] = mapped_column(String(40))
    actor: Mapped[str] = mapped_column(String(80))
    action: Mapped[str] = mapped_column(String(60))
    object: Mapped[str] = mapped_column(String(200))
    details: Mapped[Any] = mapped_column(Json)
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class Guideline(Base):
    """What annotators are asked to do; a vote names its version."""

    __tablename__ = "guideline"
    __table_args__ = (UniqueConstraint("task_id", "version"),)
    id: Mapped[int] = _id()
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"))
    version: Mapped[int] = mapped_column(Integer)
    text: Mapped[Any] = mapped_column(Json)
    by: Mapped[str] = mapped_column(String(80))
    at: Mapped[str] = mapped_column(String(40), default=now)


class Task(Base):
    """A set of items that people vote on (`prefer`) or rate (`rate`), each item by `overlap` people.

    `qualify`: how many gold items open the task to a person, who must agree with a share of `pass_mark` of them.
    `certified`: only people certified for an item's language and modality get it. `modality`: of items that come in
    without one. `variants`: how many answer a prompt that is written here; 0: none is.
    """

    __tablename__ = "task"
    id: Mapped[int] = _id()
    name: Mapped[str] = mapped_column(String(120), unique=True)
    kind: Mapped[str] = mapped_column(String(20))
    overlap: Mapped[int] = mapped_column(Integer, default=1)
    qualify: Mapped[int] = mapped_column(Integer, default=0)
    pass_mark: Mapped[float] = mapped_column(Float, default=0.8)
    certified: Mapped[bool] = mapped_column(Boolean, default=False)
    modality: Mapped[str] = mapped_column(String(20), default="text")
    variants: Mapped[int] = mapped_column(Integer, default=0)
    newest: Mapped[str] = mapped_column(String(200), default="")
    by: Mapped[str] = mapped_column(String(80))
    at: Mapped[str] = mapped_column(String(40), default=now)


class Round(Base):
    """A batch of a task's items, sampled from the newest model and the one before it on the same prompts."""

    __tablename__ = "round"
    __table_args__ = (UniqueConstraint("task_id", "number"),)
    id: Mapped[int] = _id()
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"))
    number: Mapped[int] = mapped_column(Integer)
    newest: Mapped[str] = mapped_column(String(200))
    previous: Mapped[str] = mapped_column(String(200))
    by: Mapped[str] = mapped_column(String(80))
    at: Mapped[str] = mapped_column(String(40), default=now)


class Item(Base):
    """One prompt with the replies to compare; `gold` is the outcome that is known to be right, where one is.

    `taken`: how many people have it or have voted on it (a skip does not count). `rewards`: a reward model's score of
    each reply, by the reply's id, where one was given; `harm`: the p(harmful) that judges gave it.
    """

    __tablename__ = "item"
    __table_args__ = (
        UniqueConstraint("task_id", "key"),
        Index("ix_item_open", "task_id", "taken", "priority", "id"),
    )
    id: Mapped[int] = _id()
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"))
    key: Mapped[str] = mapped_column(String(16))
    prompt: Mapped[Any] = mapped_column(Json)
    replies: Mapped[Any] = mapped_column(Json)
    gold: Mapped[Any] = mapped_column(Json, nullable=True)
    has_gold: Mapped[bool] = mapped_column(Boolean, default=False)
    language: Mapped[str] = mapped_column(String(20), default="en")
    modality: Mapped[str] = mapped_column(String(20), default="text")
    priority: Mapped[float] = mapped_column(Float, default=0.0)
    round: Mapped[int] = mapped_column(Integer, default=1)
    rewards: Mapped[Any] = mapped_column(Json, nullable=True)
    harm: Mapped[Any] = mapped_column(Json, nullable=True)
    taken: Mapped[int] = mapped_column(Integer, default=0)
    at: Mapped[str] = mapped_column(String(40), default=now)


class Assignment(Base):
    """An item given to a person, with the order in which its replies are shown (indices into the item's replies)."""

    __tablename__ = "assignment"
    __table_args__ = (UniqueConstraint("item_id", "account_id"),)
    id: Mapped[int] = _id()
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"), index=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"))
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    shown: Mapped[Any] = mapped_column(Json)
    open: Mapped[bool] = mapped_column(Boolean, default=True)
    at: Mapped[str] = mapped_column(String(40), default=now)


class Vote(Base):
    """A `Preference` (or, of a rating, a `Verdict`) as it was given, or the taking back of one. Append-only.

    `token` is that of the page on which it was given: a second press of the button is the same vote.
    """

    __tablename__ = "vote"
    __table_args__ = (Index("ix_vote_of_person", "account_id", "task_id", "undoes"),)
    id: Mapped[int] = _id()
    token: Mapped[str] = mapped_column(String(64), unique=True)
    task_id: Mapped[int] = mapped_column(ForeignKey("task.id"), index=True)
    item_id: Mapped[int] = mapped_column(ForeignKey("item.id"), index=True)
    assignment_id: Mapped[int | None] = mapped_column(ForeignKey("assignment.id"), index=True)
    account_id: Mapped[int | None] = mapped_column(ForeignKey("account.id"), index=True)
    undoes: Mapped[int | None] = mapped_column(ForeignKey("vote.id"), unique=True)
    record: Mapped[Any] = mapped_column(Json)
    at: Mapped[str] = mapped_column(String(40), default=now)


class Demonstration(Base):
    """A prompt with the answer that a person wrote for it."""

    __tablename__ = "demonstration"
    id: Mapped[int] = _id()
    prompt: Mapped[Any] = mapped_column(Json)
    answer: Mapped[Any] = mapped_column(Json)
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    at: Mapped[str] = mapped_column(String(40), default=now)


class DemonstrationReview(Base):
    """What a reviewer said of a demonstration: the four checks, the answer as it is to be used, a note. Append-only."""

    __tablename__ = "demonstration_review"
    id: Mapped[int] = _id()
    demonstration_id: Mapped[int] = mapped_column(ForeignKey("demonstration.id"), unique=True)
    approved: Mapped[bool] = mapped_column(Boolean)
    checks: Mapped[Any] = mapped_column(Json)
    answer: Mapped[Any] = mapped_column(Json)
    note: Mapped[str] = mapped_column(Text, default="")
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))
    at: Mapped[str] = mapped_column(String(40), default=now)


class Template(Base):
    """A prompt template: a safety preprompt, an answer template or a judge's rubric."""

    __tablename__ = "template"
    id: Mapped[int] = _id()
    name: Mapped[str] = mapped_column(String(80), unique=True)
    kind: Mapped[str] = mapped_column(String(20))
    by: Mapped[str] = mapped_column(String(80))
    at: Mapped[str] = mapped_column(String(40), default=now)


class TemplateGrant(Base):
    """A person who may edit a template; where a template has none, every editor may."""

    __tablename__ = "template_grant"
    __table_args__ = (UniqueConstraint("template_id", "account_id"),)
    id: Mapped[int] = _id()
    template_id: Mapped[int] = mapped_column(ForeignKey("template.id"))
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))


class TemplateReviewer(Base):
    """A person who may decide on a template's versions; where a template has none, every reviewer may."""

    __tablename__ = "template_reviewer"
    __table_args__ = (UniqueConstraint("template_id", "account_id"),)
    id: Mapped[int] = _id()
    template_id: Mapped[int] = mapped_column(ForeignKey("template.id"))
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"))


class Version(Base):
    """One version of a template. Append-only; `hash` covers kind, text and variables."""

    __tablename__ = "version"
    __table_args__ = (UniqueConstraint("template_id", "number"), UniqueConstraint("template_id", "hash"))
    id: Mapped[int] = _id()
    template_id: Mapped[int] = mapped_column(ForeignKey("template.id"), index=True)
    number: Mapped[int] = mapped_column(Integer)
    hash: Mapped[str] = mapped_column(String(16))
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("version.id"))
    text: Mapped[Any] = mapped_column(Json)
    variables: Mapped[Any] = mapped_column(Json)
    message: Mapped[str] = mapped_column(Text, default="")
    by: Mapped[str] = mapped_column(String(80))
    at: Mapped[str] = mapped_column(String(40), default=now)


class Event(Base):
    """One step of a version's review (review.py has the states). Append-only."""

    __tablename__ = "event"
    id: Mapped[int] = _id()
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"), index=True)
    kind: Mapped[str] = mapped_column(String(20))
    by: Mapped[str] = mapped_column(String(80))
    data: Mapped[Any] = mapped_column(Json)
    at: Mapped[str] = mapped_column(String(40), default=now)


class LabelMove(Base):
    """A label (production, staging) set on a version; the last move counts. Append-only."""

    __tablename__ = "label_move"
    id: Mapped[int] = _id()
    template_id: Mapped[int] = mapped_column(ForeignKey("template.id"), index=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("version.id"))
    label: Mapped[str] = mapped_column(String(20))
    by: Mapped[str] = mapped_column(String(80))
    at: Mapped[str] = mapped_column(String(40), default=now)


class Dialogue(Base):
    """A red-teamer's talk with a model, and what they said of it.

    `expertise` and `team` are those of the person when they began it.
    """

    __tablename__ = "dialogue"
    id: Mapped[int] = _id()
    account_id: Mapped[int] = mapped_column(ForeignKey("account.id"), index=True)
    model: Mapped[str] = mapped_column(String(200))
    vector: Mapped[str] = mapped_column(String(40), default="")
    category: Mapped[str] = mapped_column(String(40), default="")
    degree: Mapped[int] = mapped_column(Integer, default=0)
    note: Mapped[str] = mapped_column(Text, default="")
    expertise: Mapped[str] = mapped_column(String(200), default="")
    team: Mapped[str] = mapped_column(String(200), default="")
    closed: Mapped[bool] = mapped_column(Boolean, default=False)
    at: Mapped[str] = mapped_column(String(40), default=now)


class Turn(Base):
    """One turn of a dialogue; `broke`: this reply violates the policy. `seconds` since the turn before it."""

    __tablename__ = "turn"
    id: Mapped[int] = _id()
    dialogue_id: Mapped[int] = mapped_column(ForeignKey("dialogue.id"), index=True)
    role: Mapped[str] = mapped_column(String(20))
    text: Mapped[Any] = mapped_column(Json)
    broke: Mapped[bool] = mapped_column(Boolean, default=False)
    seconds: Mapped[float] = mapped_column(Float, default=0.0)
    at: Mapped[str] = mapped_column(String(40), default=now)


class Sheet(Base):
    """Replies of a run drawn at random for people to label; `rows` holds them with what the judge said."""

    __tablename__ = "sheet"
    id: Mapped[int] = _id()
    run: Mapped[str] = mapped_column(String(400))
    judge: Mapped[str] = mapped_column(String(80))
    facts: Mapped[Any] = mapped_column(Json)
    rows: Mapped[Any] = mapped_column(Json)
    by: Mapped[str] = mapped_column(String(80))
    at: Mapped[str] = mapped_column(String(40), default=now)


class SheetLabel(Base):
    """A person's label of one row of a sheet; the last one counts. Append-only."""

    __tablename__ = "sheet_label"
    id: Mapped[int] = _id()
    sheet_id: Mapped[int] = mapped_column(ForeignKey("sheet.id"), index=True)
    row: Mapped[int] = mapped_column(Integer)
    label: Mapped[str] = mapped_column(String(20))
    by: Mapped[str] = mapped_column(String(80))
    at: Mapped[str] = mapped_column(String(40), default=now)


class PolicyVersion(Base):
    """One version of the project's policy file. Append-only."""

    __tablename__ = "policy_version"
    id: Mapped[int] = _id()
    hash: Mapped[str] = mapped_column(String(16), unique=True)
    text: Mapped[Any] = mapped_column(Json)
    message: Mapped[str] = mapped_column(Text, default="")
    by: Mapped[str] = mapped_column(String(80))
    at: Mapped[str] = mapped_column(String(40), default=now)


class SignOff(Base):
    """A person signs a version of the policy for their function (legal, policy, ...). Append-only."""

    __tablename__ = "sign_off"
    __table_args__ = (UniqueConstraint("policy_id", "function"),)
    id: Mapped[int] = _id()
    policy_id: Mapped[int] = mapped_column(ForeignKey("policy_version.id"))
    function: Mapped[str] = mapped_column(String(40))
    by: Mapped[str] = mapped_column(String(80))
    at: Mapped[str] = mapped_column(String(40), default=now)


APPEND_ONLY = (
    "audit_log", "vote", "demonstration_review", "guideline", "version", "event", "label_move", "sheet",
    "sheet_label", "policy_version", "sign_off",
)  # fmt: skip
"""Tables whose rows no statement may change or remove (a trigger says so; migrations put it there)."""
