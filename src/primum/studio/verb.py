"""`primum studio`: serve the pages, check the audit log, invite people, bring items in and take votes out."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field

from primum.core import taxonomy
from primum.core.config import Config
from primum.core.errors import Exit, MissingExtraError, StepFailedError, UsageError, did_you_mean
from primum.core.hosts import LOOPBACK

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from primum.studio.database import Database
    from primum.studio.oidc import Provider
    from primum.studio.tables import Task

POLICY = "policy.yaml"
NEEDED = ("starlette", "uvicorn", "sqlalchemy", "alembic", "argon2", "python_multipart")


class StudioConfig(Config):
    """What to do, and where everything is."""

    action: str = Field(
        "serve",
        description="serve the pages; verify the audit log; invite a person; import items; sample a round of items "
        "from two models; export votes (serve, verify, invite, import, round, export)",
        json_schema_extra={"positional": True},
    )
    port: int = Field(8321, ge=0, le=65535, description="port of the pages; 0 takes a free one")
    host: str = Field("127.0.0.1", description="address to listen on; any but loopback needs accounts")
    data: str = Field("studio", description="folder for the database and the project's policy file")
    database: str | None = Field(
        None, description="SQLAlchemy URL of a PostgreSQL database, in place of SQLite in the data folder"
    )
    runs: str = Field("runs", description="folder with the runs that the run pages show")
    model: tuple[str, ...] = Field(
        ("embedded",), description="model that people talk to; the first is the newest; 'demo' plays one"
    )
    url: str | None = Field(None, description="address under which browsers reach it, like https://studio.example.org")
    accounts: bool = Field(False, description="everybody must sign in, also on loopback and before the first account")
    oidc_issuer: str | None = Field(
        None,
        description="address of an OpenID Connect provider by which people sign in, like https://login.example.org; "
        "its client secret is read from PRIMUM_OIDC_SECRET",
    )
    oidc_client: str | None = Field(None, description="this studio's client id at the provider")
    oidc_role: Literal["viewer", "annotator", "editor", "reviewer", "admin"] | None = Field(
        None, description="role of whoever signs in by the provider for the first time; without it they need an "
        "invitation"
    )  # fmt: skip
    oidc_label: str | None = Field(None, description="what the button calls the provider; its host name without it")
    idle_minutes: int = Field(30, ge=1, le=720, description="after how long without a request a person is signed out")
    role: str = Field("annotator", description="invite: role of the new account (the first must be admin)")
    user: str | None = Field(None, description="invite: a person who has an account and needs a new password")
    head: str | None = Field(None, description="verify: hash noted earlier, which must still be in the log")
    task: str | None = Field(None, description="import, round, export: name of the task")
    file: str | None = Field(
        None,
        description="import: file or run folder to read; round: file of prompts, 'embedded' without one; "
        "export: file to write",
    )
    judge: tuple[str, ...] = Field(
        (),
        description="round, import: judges; what they disagree on most is voted on first, what one calls harmful is "
        "blurred (round: rules and probe where none is named)",
    )
    reward: str | None = Field(
        None,
        description="round, import: reward model that scores the replies: a folder of primum train reward, a hub id",
    )
    limit: int = Field(100, ge=1, le=100_000, description="round: prompts at most")
    tokens: int = Field(160, ge=8, le=4096, description="round: longest reply, in tokens")
    seed: int = Field(0, description="round: seed of the sampling")
    kind: Literal["prefer", "rate"] | None = Field(
        None, description="import: what people do in a new task: compare replies (prefer), or rate one reply (rate)"
    )
    overlap: int | None = Field(None, ge=1, le=50, description="import: people an item (a new task: 1, or 3 to rate)")
    qualify: int | None = Field(None, ge=0, le=100, description="import: gold items in the test that opens the task")
    pass_mark: float | None = Field(None, gt=0, le=1, description="import: share of them right, to pass (0.8)")
    modality: Literal["text", "image", "audio"] | None = Field(
        None, description="import: modality of items that name none (a new task: text)"
    )
    dialogues: bool = Field(
        False, description="export: red-team dialogues in place of votes, for primum redteam --campaign"
    )
    format: str = Field(
        "trl", description="export: trl, replies, preferences, records, events, label-studio, argilla or csv"
    )


def run_verb(config: StudioConfig, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Do what was asked; serving ends with Ctrl-C.

    Raises:
        MissingExtraError: the extra [studio] is not installed.
        UsageError: an address without accounts, a port in use, a folder that cannot be used.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingExtraError(f"the studio ({', '.join(missing)})", "studio")
    from primum.studio.round_verb import round_

    actions = {
        "serve": _serve, "verify": _verify, "invite": _invite, "import": _import, "round": round_, "export": _export,
    }  # fmt: skip
    if config.action not in actions:
        raise UsageError(f"the studio cannot '{config.action}'", cure=did_you_mean(config.action, actions))
    folder = _folder(config)
    database = _database(config, folder)
    try:
        with taxonomy.using(folder / POLICY):
            return actions[config.action](config, folder, database, json_output)
    finally:
        database.close()


def _folder(config: StudioConfig) -> Path:
    folder = Path(config.data)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UsageError(f"cannot use this folder: {error.strerror}", where=config.data, cure="check --data") from error
    return folder


def _database(config: StudioConfig, folder: Path) -> Database:
    from primum.studio.database import FILE, Database, sqlite_url

    if config.action in ("verify", "export") and not config.database and not (folder / FILE).exists():
        raise UsageError("there is no studio in this folder", where=str(folder), cure="check --data")
    made = Database(config.database or sqlite_url(folder))
    made.migrate()
    if not config.database:
        (folder / FILE).chmod(0o600)
    return made


# ---------------------------------------------------------------- serve


def _serve(config: StudioConfig, folder: Path, database: Database, json_output: bool) -> tuple[int, dict[str, Any]]:
    import uvicorn

    from primum.studio.app import build
    from primum.studio.talk import Talkers
    from primum.studio.web import Studio

    _check_address(config, database)
    listening = _listen(config.host, config.port)
    port = listening.getsockname()[1]
    url = config.url or f"http://{'127.0.0.1' if config.host in LOOPBACK else config.host}:{port}"
    provider = _provider(config, url)
    studio = Studio(
        database, Talkers(config.model), Path(config.runs), taxonomy.named() or folder / POLICY, secure=url.startswith("https://"),
        with_accounts=config.accounts or provider is not None or config.host not in LOOPBACK,
        idle_minutes=config.idle_minutes, provider=provider,
    )  # fmt: skip
    app = build(studio, _hosts(config, url))
    print(f"primum studio: {url}  (Ctrl-C stops it)\n  data: {database.shown}", file=sys.stderr, flush=True)
    # the site trusts no proxy's headers: behind one, every visitor has its address, and --url gives the name
    settings = uvicorn.Config(
        app, log_level="warning", server_header=False, proxy_headers=False, access_log=False, timeout_keep_alive=30,
        lifespan="off",
    )  # fmt: skip
    uvicorn.Server(settings).run(sockets=[listening])
    return Exit.PASSED, {"url": url, "database": database.shown}


def _provider(config: StudioConfig, url: str) -> Provider | None:
    if not config.oidc_issuer:
        return None
    if importlib.util.find_spec("authlib") is None:
        raise MissingExtraError("signing in by a provider (authlib)", "studio")
    from primum.studio import oidc

    secret = os.environ.get(oidc.SECRET, "")
    return oidc.provider(config.oidc_issuer, config.oidc_client, url, secret, config.oidc_role, config.oidc_label)


def _check_address(config: StudioConfig, database: Database) -> None:
    from primum.studio import accounts

    if config.host in LOOPBACK:
        return
    with database.reading() as db:
        if accounts.has_accounts(db):
            return
    if config.oidc_issuer:  # everybody must sign in, so that nobody is let in before the first account
        return
    cure = (
        f"make an admin first: primum studio invite --role admin --data {config.data}, then serve on loopback and join"
    )
    raise UsageError("without accounts the studio listens on loopback only", where=f"--host {config.host}", cure=cure)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        problem = f"cannot listen on {host}:{port} ({error.strerror})"
        raise UsageError(problem, cure="give another --port; 0 takes a free one") from error
    return listening


def _hosts(config: StudioConfig, url: str) -> tuple[str, ...]:
    from primum.studio.security import OWN_NAMES

    named = (urlsplit(url).hostname or "").lower()
    return tuple(dict.fromkeys((*OWN_NAMES, config.host.lower(), f"[{named}]" if ":" in named else named)))


# ---------------------------------------------------------------- from the terminal


def _verify(config: StudioConfig, folder: Path, database: Database, json_output: bool) -> tuple[int, dict[str, Any]]:
    from primum.studio import audit

    with database.reading() as db:
        found = audit.verify(db, config.head)
    if not json_output:
        for finding in found.findings:
            print(f"{finding.where}: {finding.problem}")
        print(
            f"{found.lines} lines, {found.votes} votes; {'TAMPERED' if found.findings else 'INTACT'}; head {found.head}"
        )
    document = {"intact": not found.findings, "lines": found.lines, "votes": found.votes, "head": found.head,
                "findings": [finding._asdict() for finding in found.findings]}  # fmt: skip
    return (Exit.GATE_FAILED if found.findings else Exit.PASSED), document


def _invite(config: StudioConfig, folder: Path, database: Database, json_output: bool) -> tuple[int, dict[str, Any]]:
    from primum.studio import accounts

    with database.writing() as db:
        if not accounts.has_accounts(db) and config.role != "admin" and not config.user:
            raise UsageError("the first account must be an admin's", cure="primum studio invite --role admin")
        token = _reset(db, config.user) if config.user else accounts.invite(db, config.role, "terminal")
    base = (config.url or f"http://127.0.0.1:{config.port}").rstrip("/")
    link = f"{base}/join/{token}"
    if not json_output:
        print(link)
    return Exit.PASSED, {"link": link, "role": config.role, "days": accounts.INVITATION_DAYS}


def _reset(db: Session, name: str) -> str:
    from sqlalchemy import select

    from primum.studio import accounts
    from primum.studio.tables import Account

    known = {account.name: account for account in db.scalars(select(Account).where(Account.password != ""))}
    if name not in known:
        raise UsageError(f"nobody is called '{name}'", where="--user", cure=did_you_mean(name, known))
    return accounts.reset(db, known[name], "terminal")


def _import(config: StudioConfig, folder: Path, database: Database, json_output: bool) -> tuple[int, dict[str, Any]]:
    from sqlalchemy import select

    from primum.studio import annotate, incoming, runs
    from primum.studio.round_verb import prioritised, score
    from primum.studio.tables import Task

    path = _file(config)
    if not path.exists():
        raise UsageError("no such file", where=str(path), cure="check --file")
    name = config.task or path.stem
    with database.reading() as db:
        held = db.scalar(select(Task.kind).where(Task.name == name[:120]))
    single = (held or config.kind) == "rate"
    if path.is_dir() and single:
        raise UsageError("a run's replies are compared, not rated", where="--task", cure="name another task")
    found = runs.items(path) if path.is_dir() else incoming.read(path.name, path.read_bytes(), single=single)
    found = prioritised(found, config, json_output)  # judges are slow: nobody waits for them
    with database.writing() as db:
        task = _task(config, db, name)
        added = annotate.add_items(db, task, found, "terminal")
        task_id = task.id
    scored = score(config, database, task_id, json_output)
    if not json_output:
        known = f"{added.known} were there already ({added.changed} changed)"
        print(f"task '{name}': {added.items} items came in, {known}, {added.votes} votes, {scored} items scored")
    return Exit.PASSED, {"task": name, **added._asdict(), "scored": scored}


def _task(config: StudioConfig, db: Session, name: str) -> Task:
    """Return the task to bring items into: made where there is none, else changed where the settings say so."""
    from primum.studio import annotate

    settings = {"overlap": config.overlap, "qualify": config.qualify, "pass_mark": config.pass_mark,
                "modality": config.modality}  # fmt: skip
    task = annotate.task_named(db, name, "terminal", config.kind or "prefer", **settings)
    if config.kind and task.kind != config.kind:
        problem = f"the task '{name}' is there already, to {annotate.KINDS[task.kind]}"
        raise UsageError(problem, where="--kind", cure="give another --task")
    annotate.change_task(db, task, "terminal", **settings)
    return task


def _export(config: StudioConfig, folder: Path, database: Database, json_output: bool) -> tuple[int, dict[str, Any]]:
    from sqlalchemy import select

    from primum.studio import agree, outgoing
    from primum.studio.tables import Task

    if config.dialogues:
        return _export_dialogues(config, database, json_output)
    if config.format not in outgoing.FORMATS:
        raise UsageError(f"no format '{config.format}'", cure=did_you_mean(config.format, outgoing.FORMATS))
    with database.reading() as db:
        known = {task.name: task for task in db.scalars(select(Task))}
        task = known.get(config.task or "")
        if task is None:
            raise UsageError(
                f"no task '{config.task or ''}'", where="--task", cure=did_you_mean(config.task or "", known)
            )
        made = outgoing.of_task(db, task, config.format)
        numbers = agree.json_summary(agree.summary(db, task))
    path = _written(config.file or made.name, made.text)
    if not json_output:
        left = "; ".join(f"{reason}: {count}" for reason, count in made.left_out.items()) or "nothing"
        print(f"{path}: {made.rows} rows; left out: {left}")
    return Exit.PASSED, {"file": str(path), "rows": made.rows, "left_out": made.left_out, "summary": numbers}


def _export_dialogues(config: StudioConfig, database: Database, json_output: bool) -> tuple[int, dict[str, Any]]:
    from primum.studio import dialogues

    with database.reading() as db:
        made = dialogues.campaign(db)
    path = _written(config.file or "dialogues.csv", made.text)
    if not json_output:
        print(f"{path}: {made.rows} dialogues; left out: {made.open} not ended\n  primum redteam --no-machine "
              f"--campaign {path}")  # fmt: skip
    return Exit.PASSED, {"file": str(path), "rows": made.rows, "left_out": {"not ended": made.open}}


def _written(name: str, text: str) -> Path:
    from primum.core.store import write_text

    path = Path(name)
    if path.is_dir():
        raise StepFailedError("this is a folder", where=str(path), cure="give --file the name of a file")
    write_text(path, text)
    return path


def _file(config: StudioConfig) -> Path:
    if not config.file:
        raise UsageError("which file?", where="--file", cure=f"primum studio {config.action} --file FILE --task NAME")
    return Path(config.file)
