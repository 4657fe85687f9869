"""`primum prompts`: the library from the terminal. It writes the same versions, reviews and log lines as the pages."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from primum.core import taxonomy
from primum.core.config import Config
from primum.core.errors import BadInputError, Exit, MissingExtraError, UsageError, did_you_mean
from primum.studio import prompts_measure as measure
from primum.studio import prompts_review as review
from primum.studio import prompts_who as who

if TYPE_CHECKING:
    from primum.studio.database import Database
    from primum.studio.tables import Template, Version

BEGINS, NEEDS_NONE = ("add", "import", "suggest"), ("list", "check")
"""Actions that may begin a library where there is none, and those that answer without one."""
_HEAD = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
Result = tuple[int, dict[str, Any]]


class PromptsConfig(Config):
    """What to do with which template."""

    action: str = Field(
        "list",
        description="list, show, log, diff, comments, leaderboard, labels, status, check, add, propose, comment, "
        "approve, reject, merge, withdraw, audit, label, rollback, rights, evaluate, compare, suggest, export, import",
        json_schema_extra={"positional": True},
    )
    name: str | None = Field(None, description="the template", json_schema_extra={"positional": True})
    data: str = Field("studio", description="the studio's data folder")
    database: str | None = Field(None, description="SQLAlchemy URL, in place of SQLite in the data folder")
    number: int | None = Field(
        None,
        ge=1,
        description="version (the newest where none is given; rollback: the newest older one; suggest: the one "
        "to beat, else production)",
    )
    against: int | None = Field(None, ge=1, description="diff, compare: the other version (its parent)")
    file: str | None = Field(None, description="add, check: file with the text; export, import: folder")
    kind: str = Field("preprompt", description="add, check: preprompt, answer or rubric, for a new template")
    variables: str = Field("", description="add, check: declared variables, like 'prompt, category:trusted'")
    message: str = Field("", description="what changed, and why; of a review or a comment: its words")
    rating: int | None = Field(None, ge=1, le=5, description="approve, reject: 1 bad to 5 very good")
    verdict: str = Field("", description="audit: right or wrong, whether validation had to stop the version")
    label: str = Field("production", description="label, rollback: production or staging")
    editors: str | None = Field(None, description="rights: who may edit, with commas; '' for every editor")
    reviewers: str | None = Field(None, description="rights: who may review, with commas; '' for every reviewer")
    user: str = Field("", description="who does it, where people have accounts (asks for the password)")
    model: str = Field("embedded", description="evaluate, suggest: the model")
    judge: str = Field("rules", description="evaluate, suggest: the judge")
    size: int = Field(24, ge=2, le=500, description="evaluate, suggest: harmful prompts in each of both sets")
    seed: int = Field(0, description="evaluate, suggest: seed of the sampling")
    set: tuple[str, ...] = Field(
        (), description="evaluate, compare: what stands in a slot, like name=value (suggest too)"
    )


def run_verb(config: PromptsConfig, json_output: bool) -> Result:
    """Do what was asked.

    Raises:
        MissingExtraError: the extra [studio] is not installed.
        UsageError: no such template, version or action; a step that may not be taken.
    """
    if importlib.util.find_spec("sqlalchemy") is None or importlib.util.find_spec("alembic") is None:
        raise MissingExtraError("the prompt library", "studio")
    if config.action not in ACTIONS:
        raise UsageError(f"no action '{config.action}'", cure=did_you_mean(config.action, ACTIONS))
    database = _open(config)
    try:
        with taxonomy.using(Path(config.data) / "policy.yaml"):
            code, document, text = ACTIONS[config.action](config, database)
    finally:
        database.close()
    if not json_output:
        print(text)
    return code, document


def _open(config: PromptsConfig) -> Database:
    from primum.studio.database import FILE, Database, sqlite_url

    folder, url = Path(config.data), config.database or sqlite_url(Path(config.data))
    if not config.database and not (folder / FILE).exists():
        if config.action in BEGINS:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        elif config.action in NEEDS_NONE:
            url = "sqlite://"  # an empty library in memory: asking leaves nothing behind
        else:
            cure = "check --data; `primum prompts add NAME --file FILE` begins a library"
            raise UsageError("there is no prompt library in this folder", where=config.data, cure=cure)
    made = Database(url)
    made.migrate()
    return made


# ---------------------------------------------------------------- read


def _list(config: PromptsConfig, database: Database) -> tuple[int, dict[str, Any], str]:
    from sqlalchemy import select

    from primum.studio import library
    from primum.studio.tables import Template

    rows: list[dict[str, Any]] = []
    with database.reading() as db:
        for one in db.scalars(select(Template).order_by(Template.name)):
            held = {version.id: version.number for version in library.versions(db, one)}
            marks = {label: held[at] for label, at in library.labels(db, one).items()}
            waiting = library.waiting(db, one)
            rows.append({"name": one.name, "kind": one.kind, "versions": len(held), "waiting": waiting, **marks})
    lines = [
        f"{row['name']:<32} {row['kind']:<10} {row['versions']:>3} versions   production "
        f"{row.get('production', '-')}   staging {row.get('staging', '-')}"
        + (f"   waits for review: {', '.join(map(str, row['waiting']))}" if row["waiting"] else "")
        for row in rows
    ]
    return Exit.PASSED, {"templates": rows}, "\n".join(lines) or "no template yet: primum prompts add NAME --file FILE"


def _show(config: PromptsConfig, database: Database) -> tuple[int, dict[str, Any], str]:
    from primum.studio import library

    with database.reading() as db:
        template, version = who.found(config, db)
        state = library.state(db, template, version)
        document = _document(template, version) | {"state": state.status, "missing": state.missing,
                                                   "scores": library.scores(db, version)}  # fmt: skip
    return Exit.PASSED, document, version.text


def _document(template: Template, version: Version) -> dict[str, Any]:
    return {"name": template.name, "kind": template.kind, "number": version.number, "hash": version.hash,
            "variables": version.variables, "by": version.by, "at": version.at, "message": version.message,
            "text": version.text}  # fmt: skip


def _log(config: PromptsConfig, database: Database) -> tuple[int, dict[str, Any], str]:
    from primum.studio import library

    rows: list[dict[str, Any]] = []
    with database.reading() as db:
        template = library.template(db, who.named(config))
        for version in reversed(library.versions(db, template)):
            status = library.state(db, template, version).status
            rows.append({"number": version.number, "state": status, "by": version.by, "message": version.message,
                         "hash": version.hash,
                         "events": [f"{e.by}: {e.kind}" for e in library.events(db, version)]})  # fmt: skip
    lines = [f"{row['number']:>3}  {row['hash']}  {row['state']:<9}  {row['by']:<12}  {row['message']}" for row in rows]
    return Exit.PASSED, {"name": template.name, "versions": rows}, "\n".join(lines)


def _diff(config: PromptsConfig, database: Database) -> tuple[int, dict[str, Any], str]:
    from primum.studio import library
    from primum.studio.tables import Version

    with database.reading() as db:
        template, version = who.found(config, db)
        if config.against:
            other = library.version(db, template, config.against)
        else:
            other = db.get(Version, version.parent_id) if version.parent_id else None
        changed = library.diff(other.text if other else "", version.text)
    text = "\n".join(f"{line.mark} {line.text}" for line in changed)
    return Exit.PASSED, {"from": other.number if other else 0, "to": version.number, "diff": text}, text


def _check(config: PromptsConfig, database: Database) -> tuple[int, dict[str, Any], str]:
    from primum.studio import library
    from primum.studio.validate import passes, validate

    if config.file:
        text, variables, kind = _read(config, Path(config.file))
        found = validate(kind, text, variables)
    else:
        with database.reading() as db:
            found = library.findings(*who.found(config, db))
    lines = [f"{one.level}: line {one.line}: {one.text}\n  cure: {one.cure}" for one in found]
    document = {"passed": passes(found), "findings": [one._asdict() for one in found]}
    code = Exit.PASSED if passes(found) else Exit.GATE_FAILED
    return code, document, "\n".join(lines) or "nothing found"


# ---------------------------------------------------------------- write


def _read(config: PromptsConfig, path: Path) -> tuple[str, dict[str, bool], str]:
    """Return text, variables and kind of a file; its YAML head, where it has one, says the last two."""
    import yaml

    from primum.prompts.files import read_utf8
    from primum.studio.validate import KINDS, parse_variables

    text, variables, kind = read_utf8(path).replace("\r\n", "\n"), config.variables, config.kind
    head = _HEAD.match(text)
    if head:
        try:
            facts = yaml.safe_load(head[1])
        except yaml.YAMLError as error:
            raise BadInputError(
                "the head is no valid YAML", where=f"{path}:1", cure="kind: ..., variables: ..."
            ) from error
        facts = facts if isinstance(facts, dict) else {}
        variables, kind, text = str(facts.get("variables") or ""), str(facts.get("kind") or kind), text[head.end() :]
    if kind not in KINDS:
        raise UsageError(f"no kind '{kind}'", where=str(path), cure=did_you_mean(kind, KINDS))
    try:
        return text.rstrip(), parse_variables(variables), kind
    except ValueError as error:
        raise BadInputError(str(error), where=str(path), cure="like: prompt, category:trusted") from error


def _add(config: PromptsConfig, database: Database) -> tuple[int, dict[str, Any], str]:
    if not config.file:
        raise UsageError("which text?", where="--file", cure=f"primum prompts add {who.named(config)} --file FILE")
    text, variables, kind = _read(config, Path(config.file))
    with database.writing() as db:
        account = who.person(config, db)
        template, version = who.put(db, account, who.named(config), kind, text, variables, config.message)
    said = f"{template.name} version {version.number}, a draft ({version.hash})"
    return Exit.PASSED, _document(template, version), said


# ---------------------------------------------------------------- files, for git


def _export(config: PromptsConfig, database: Database) -> tuple[int, dict[str, Any], str]:
    """Write the production (else the newest) version of every template as NAME.md with a head."""
    from sqlalchemy import select

    from primum.core.store import write_text
    from primum.studio import library
    from primum.studio.tables import Template, Version

    folder = Path(config.file or "prompts")
    written: list[str] = []
    with database.reading() as db:
        for one in db.scalars(select(Template).order_by(Template.name)):
            at = library.labels(db, one).get("production")
            version = db.get(Version, at) if at else library.version(db, one)
            if version is not None:
                declared = ", ".join(n + (":trusted" if trusted else "") for n, trusted in version.variables.items())
                facts = f'kind: {one.kind}\nvariables: "{declared}"\nversion: {version.number}\nhash: {version.hash}'
                head = f"---\n{facts}\n---\n"
                write_text(folder / f"{one.name}.md", head + version.text + "\n")
                written.append(f"{one.name}.md")
    return Exit.PASSED, {"folder": str(folder), "files": written}, f"{len(written)} files in {folder}"


def _import(config: PromptsConfig, database: Database) -> tuple[int, dict[str, Any], str]:
    """Read NAME.md files; a text that is a version already adds nothing."""
    from sqlalchemy import select

    from primum.studio import library
    from primum.studio.tables import Template
    from primum.studio.validate import template_hash

    folder = Path(config.file or "prompts")
    paths = sorted(folder.glob("*.md")) if folder.is_dir() else [folder]
    added: list[str] = []
    with database.writing() as db:
        account = who.person(config, db)
        for path in paths:
            text, variables, kind = _read(config, path)
            held = db.scalar(select(Template).where(Template.name == path.stem))
            hashes = {version.hash for version in library.versions(db, held)} if held else set[str]()
            if template_hash(held.kind if held else kind, text, variables) not in hashes:
                _, made = who.put(db, account, path.stem, kind, text, variables, config.message or f"from {path.name}")
                added.append(f"{path.stem} {made.number}")
    return Exit.PASSED, {"added": added, "read": len(paths)}, f"{len(paths)} files read, {len(added)} new versions"


ACTIONS: dict[str, Callable[[PromptsConfig, Database], tuple[int, dict[str, Any], str]]] = {
    "list": _list, "show": _show, "log": _log, "diff": _diff, "comments": review.comments,
    "leaderboard": review.leaderboard, "labels": review.labels, "status": review.status, "check": _check, "add": _add,
    "comment": review.comment, "audit": review.audit, "label": review.label, "rollback": review.label,
    "rights": review.rights,
    "evaluate": measure.evaluate, "compare": measure.compare, "suggest": measure.suggest,
    "export": _export, "import": _import,
    **dict.fromkeys(review.STEPS, review.step),
}  # fmt: skip
