"""Who asks `primum prompts` for what: the person, what they may do, and the template and version that they mean."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING

from primum.core.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from primum.studio.prompts_verb import PromptsConfig
    from primum.studio.tables import Account, Template, Version

PASSWORD = "PRIMUM_STUDIO_PASSWORD"


def person(config: PromptsConfig, db: Session) -> Account:
    """Return who does it: where people have accounts, one of them, by password."""
    from primum.studio import accounts

    if not accounts.has_accounts(db):
        return accounts.local_account(db)
    if not config.user:
        raise UsageError("people have accounts here: who are you?", where="--user", cure="give --user NAME")
    password = os.environ.get(PASSWORD) or getpass.getpass(f"password of {config.user}: ")
    found = accounts.sign_in(db, config.user, password)
    if found is None:
        raise UsageError("name or password is wrong", where="--user")
    return found


def allowed(account: Account, right: str) -> None:
    """Refuse who has not the right."""
    from primum.studio import accounts

    if not accounts.may(account, right):
        raise UsageError(f"this needs the role {accounts.RIGHTS[right]}; {account.name} is {account.role}")


def allowed_on(db: Session, account: Account, template: Template, right: str) -> None:
    """Refuse who has not the right ("edit", "review") on the template."""
    from primum.studio import rights

    allowed(account, right)
    if not rights.has(db, template, right, account):
        cure = f"who may {right} it: " + ", ".join(rights.granted(db, template, right))
        raise UsageError(f"{account.name} may not {right} '{template.name}'", cure=cure)


def named(config: PromptsConfig) -> str:
    """Return the name of the template that is asked for."""
    if not config.name:
        raise UsageError("which template?", cure=f"primum prompts {config.action} NAME")
    return config.name


def found(config: PromptsConfig, db: Session) -> tuple[Template, Version]:
    """Return the template and the version that are asked for."""
    from primum.studio import library

    template = library.template(db, named(config))
    return template, library.version(db, template, config.number)


def put(
    db: Session,
    account: Account,
    name: str,
    kind: str,
    text: str,
    variables: dict[str, bool],
    message: str,
    parent: Version | None = None,
) -> tuple[Template, Version]:
    """Add a version to a template, which is made where there is none of that name."""
    from sqlalchemy import select

    from primum.studio import library
    from primum.studio.tables import Template

    allowed(account, "edit")
    template = db.scalar(select(Template).where(Template.name == name)) or library.create(db, name, kind, account.name)
    allowed_on(db, account, template, "edit")
    return template, library.add_version(db, template, text, variables, message, account.name, parent)
