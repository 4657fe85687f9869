"""Where the studio's tables are: SQLite in the data folder, or any PostgreSQL named by a URL.

SQLite: write-ahead log, every commit synced to the disk before it is acknowledged, and a writer takes its lock at the
start of its transaction, so that two writers wait for each other and never fail half-way.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError
from sqlalchemy.orm import Session

from primum.core.errors import StepFailedError, UsageError

FILE = "studio.sqlite3"
_LOCK = 0x7072_696D  # PostgreSQL's advisory lock of this program


class Database:
    """An engine and the two ways to use it: to read, and to write.

    Args:
        url: SQLAlchemy's URL.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            self.engine = _engine(url)
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            cure = "like postgresql+psycopg://user:password@host/name (pip install 'primum[postgres]')"
            raise UsageError(f"this database URL cannot be used ({error})", where="--database", cure=cure) from error

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite."""
        return self.engine.dialect.name == "sqlite"

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextlib.contextmanager
    def writing(self) -> Iterator[Session]:
        """A session that is committed at the end, or rolled back where an error leaves it."""
        bind = self.engine.execution_options(writes=True)
        with Session(bind, expire_on_commit=False) as session, session.begin():
            yield session

    def migrate(self, revision: str = "head") -> None:
        """Bring the tables to a revision: forward by default, back where an older one is named.

        Raises:
            StepFailedError: the database cannot be reached, or is of a newer primum.
        """
        try:
            with self.engine.connect() as connection:
                if not self.is_sqlite:
                    connection.execute(text(f"SELECT pg_advisory_lock({_LOCK})"))
                config = alembic_config()
                config.attributes["connection"] = connection
                ahead = revision == "head" or (revision != "base" and revision > (current(connection) or ""))
                (command.upgrade if ahead else command.downgrade)(config, revision)
                connection.commit()
        except OperationalError as error:
            first = str(error.orig).strip().splitlines()[0]
            raise StepFailedError(
                f"the database cannot be opened: {first}", where=self.shown, cure="check --data, --database and rights"
            ) from error

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return self.engine.url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Give all connections back."""
        self.engine.dispose()


def alembic_config() -> AlembicConfig:
    """Return Alembic's configuration: the migrations inside this package."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def current(connection: Any) -> str | None:
    """Return the revision that the database has."""
    from alembic.runtime.migration import MigrationContext

    return MigrationContext.configure(connection).get_current_revision()


def sqlite_url(folder: Path) -> str:
    """Return the URL of the SQLite file in the data folder."""
    return f"sqlite:///{(folder / FILE).absolute()}"


def lock(session: Session) -> None:
    """Wait until no other transaction writes what must be written one after the other (SQLite: already so)."""
    if session.get_bind().dialect.name != "sqlite":
        session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK + 1})"))


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_size=10, max_overflow=30, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"timeout": 30, "check_same_thread": False})
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where the driver guesses
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Any) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
