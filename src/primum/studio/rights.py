"""Who may edit a template and who may decide on its versions: a person's role, and the names that it is kept to.

A template that names nobody is open to every editor and to every reviewer; the role is needed in either case. Admins
may do both, so that no list can lock a template up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sqlalchemy import select
from sqlalchemy.orm import Session

from primum.core.errors import UsageError, did_you_mean
from primum.studio import audit
from primum.studio.accounts import RIGHTS as ROLE_OF
from primum.studio.accounts import may
from primum.studio.tables import Account, Template, TemplateGrant, TemplateReviewer

TABLES: Mapping[str, type[TemplateGrant] | type[TemplateReviewer]] = MappingProxyType(
    {"edit": TemplateGrant, "review": TemplateReviewer}
)
"""A right that can be given by template -> the table of those who have it."""


def _named(db: Session, template_: Template, right: str) -> list[Account]:
    table = TABLES[right]
    query = select(Account).join(table, table.account_id == Account.id).where(table.template_id == template_.id)
    return list(db.scalars(query.order_by(Account.name)))


def granted(db: Session, template_: Template, right: str) -> list[str]:
    """Return the names of those to whom a right is kept, empty where everybody of the role has it."""
    return [account.name for account in _named(db, template_, right)]


def has(db: Session, template_: Template, right: str, account: Account) -> bool:
    """Return whether a person has a right ("edit", "review") on a template."""
    if may(account, "admin"):
        return True
    named = granted(db, template_, right)
    return may(account, right) and (not named or account.name in named)


def deciders(db: Session, template_: Template) -> frozenset[str] | None:
    """Return the names of those who may decide on a template's versions, or None where it is kept to nobody."""
    named = _named(db, template_, "review")
    if not named:
        return None
    everybody = db.scalars(select(Account)).all()
    reviewers = [account.name for account in named if may(account, "review")]
    return frozenset([*reviewers, *(account.name for account in everybody if may(account, "admin"))])


def grant(db: Session, template_: Template, right: str, names: Sequence[str], by: str) -> None:
    """Keep a right on a template to some people; nobody named: everybody of the role has it.

    Args:
        db: a session that writes.
        template_: the template.
        right: "edit" or "review".
        names: the people.
        by: who does it.

    Raises:
        UsageError: a name that nobody has, or somebody whose role has not the right at all.
    """
    known = {account.name: account for account in db.scalars(select(Account))}
    for name in names:
        if name not in known:
            raise UsageError(f"nobody is called '{name}'", cure=did_you_mean(name, known))
        if not may(known[name], right):
            role, least = known[name].role, ROLE_OF[right]
            raise UsageError(f"{name} is {role}: to {right} takes the role {least}", cure="give the role first")
    table = TABLES[right]
    for row in db.scalars(select(table).where(table.template_id == template_.id)):
        db.delete(row)
    db.flush()
    db.add_all(table(template_id=template_.id, account_id=known[name].id) for name in dict.fromkeys(names))
    db.flush()
    audit.record(db, by, "grant", template_.name, right=right, names=list(names))
