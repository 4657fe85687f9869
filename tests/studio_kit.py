"""What the studio's tests share: a real server in a thread, and a browser of plain requests."""

from __future__ import annotations

import contextlib
import functools
import html
import http.client
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import sqlalchemy
import uvicorn

from primum.studio.app import build
from primum.studio.database import FILE, Database, sqlite_url
from primum.studio.security import Rate
from primum.studio.talk import Talkers
from primum.studio.web import Studio

HOST = "127.0.0.1"


@dataclass
class Answer:
    """A response, read whole."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def location(self) -> str:
        """Where it leads, without what it says there."""
        return self.headers.get("location", "").partition("?")[0]


@dataclass
class Browser:
    """Keeps cookies and the CSRF token of the last page, follows nothing by itself."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)
    page: str = ""
    host: str = ""

    def send(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        """Send one request as it is."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=60)
        sent = {"Host": self.host or f"{HOST}:{self.port}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection.request(method, path, body or None, sent)
        response = connection.getresponse()
        data = response.read()
        for line in response.headers.get_all("set-cookie") or []:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        connection.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, data.decode("utf-8"))

    def get(self, path: str) -> Answer:
        """Load a page."""
        answer = self.send("GET", path)
        self.page = answer.text
        return answer

    @property
    def csrf(self) -> str:
        """The token on the last page."""
        return self.hidden("csrf")

    def hidden(self, name: str) -> str:
        """A hidden field of the last page."""
        found = re.search(rf'name="{name}" value="([^"]*)"', self.page)
        return html.unescape(found[1]) if found else ""

    def work_fields(self) -> dict[str, str]:
        """The hidden fields of a page of work, as its form sends them."""
        return {name: self.hidden(name) for name in ("token", "undo_token", "assignment", "guideline")}

    def post(self, path: str, _headers: dict[str, str] | None = None, **fields: object) -> Answer:
        """Send a form with the token of the last page."""
        body = urlencode({"csrf": self.csrf, **fields}, doseq=True).encode()
        headers = {"Content_Type": "application/x-www-form-urlencoded", **(_headers or {})}
        return self.send("POST", path, body, **headers)

    def upload(self, path: str, name: str, data: bytes) -> Answer:
        """Send a file with the token of the last page."""
        edge = "edge-7f3a"
        parts = [
            f'--{edge}\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{self.csrf}\r\n'.encode(),
            f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode(),
            data,
            f"\r\n--{edge}--\r\n".encode(),
        ]
        return self.send("POST", path, b"".join(parts), Content_Type=f"multipart/form-data; boundary={edge}")

    def join(self, link: str, name: str, password: str = "a long enough password") -> Answer:
        """Accept an invitation."""
        path = "/join/" + link.rpartition("/join/")[2]
        self.get(path)
        return self.post(path, name=name, password=password, again=password)


@dataclass
class Server:
    """A studio that answers on a port."""

    studio: Studio
    port: int

    def browser(self) -> Browser:
        """Return a browser of its own."""
        return Browser(self.port)

    def invite(self, role: str, name: str) -> Browser:
        """Return a browser in which a new person is signed in."""
        from primum.studio import accounts

        with self.studio.database.writing() as db:
            token = accounts.invite(db, role, "test")
        browser = self.browser()
        assert browser.join(f"/join/{token}", name).status == 303
        return browser


@functools.cache
def _blank() -> Path:
    """Return an empty studio's file, made once: the migrations have tests of their own."""
    folder = Path(tempfile.mkdtemp())
    database = Database(sqlite_url(folder))
    database.migrate()
    database.close()
    return folder / FILE


@contextlib.contextmanager
def serving(folder: Path, url: str = "", kept: bool = False, **settings: object) -> Iterator[Server]:
    """Serve a studio from a folder (or a database URL) until the block ends; `kept`: the one that is there already."""
    if not url and not kept:
        shutil.copy(_blank(), folder / FILE)
    database = Database(url or sqlite_url(folder))
    if url:
        database.migrate()
    talkers = Talkers(("demo",))
    studio = Studio(database, talkers, folder / "runs", folder / "policy.yaml", **settings)  # type: ignore[arg-type]
    studio.requests = Rate(per_second=10_000, burst=10_000)
    listening = socket.create_server((HOST, 0))
    port = listening.getsockname()[1]
    app = build(studio, (HOST, "localhost"))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", server_header=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield Server(studio, port)
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
        database.close()


Rows = dict[str, list[dict[str, object]]]


def fill_at(database: Database, revision: str) -> Rows:
    """Bring a database to a revision and put a row into each of its tables; return what lies there, by table."""
    database.migrate(revision)
    held = sqlalchemy.MetaData()
    held.reflect(database.engine)
    tables = [table for table in held.sorted_tables if table.name != "alembic_version"]
    with database.engine.execution_options(writes=True).begin() as connection:
        for table in tables:
            connection.execute(table.insert().values({column.name: _value(table, column) for column in table.columns}))
    return rows_as(database, {table.name: [{column.name: None for column in table.columns}] for table in tables})


def _value(table: sqlalchemy.Table, column: sqlalchemy.Column) -> object:
    if any(key.column.table is table for key in column.foreign_keys):
        return None  # a vote that undoes none, a version without a parent
    if isinstance(column.type, sqlalchemy.Boolean):
        return True
    if isinstance(column.type, sqlalchemy.Integer):
        return 1
    if isinstance(column.type, sqlalchemy.Float):
        return 0.25
    return f'["{column.name[:4]} \\u00e9"]'[: getattr(column.type, "length", None)]


def rows_as(database: Database, known: Rows) -> Rows:
    """Return the rows of the tables and columns that are known, as they lie there now."""
    with database.engine.connect() as connection:
        return {
            name: [
                dict(row._mapping)
                for row in connection.execute(
                    sqlalchemy.select(*(sqlalchemy.column(one) for one in rows[0])).select_from(sqlalchemy.table(name))
                )
            ]
            for name, rows in known.items()
        }
