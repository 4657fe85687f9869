"""A server that primum starts, finds dead, starts again, and stops: in a process and an environment of its own."""

from __future__ import annotations

import atexit
import contextlib
import http.client
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from primum.core.errors import StepFailedError

WATCH = Path(__file__).with_name("watch.py")
STARTS = 5
"""How often a server is started in one run, at most: one that dies at every start is not worth waiting for."""


@dataclass
class Server:
    """A command that serves HTTP on a port of this machine.

    It ends with this process, however that ends (primum.models.watch).

    Args:
        command: given a port, the command line.
        environment: of the command; secrets go here, where other users do not see them.
        log: what the command says.
        ready: seconds until it must answer /health.
        prepare: called each time it has started and answers.
    """

    command: Callable[[int], Sequence[str]]
    environment: Mapping[str, str]
    log: Path
    ready: float = 900.0
    prepare: Callable[[], object] | None = None
    port: int = field(default_factory=lambda: free_port())
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def ensure(self) -> None:
        """Start the server if it is not running, and wait until it answers.

        Raises:
            StepFailedError: it does not start, or does so no more.
        """
        with self._lock:
            if self._process is not None and self._process.poll() is None:
                return
            if self.starts == STARTS:
                raise self._broken(f"it has ended {STARTS} times")
            self._start()
            self._wait()
            if self.prepare:
                self.prepare()

    def stop(self) -> None:
        """End the server; does nothing where it has ended."""
        process, self._process = self._process, None
        if process is not None and process.stdin is not None:
            process.stdin.close()
            process.wait()

    def _start(self) -> None:
        self.stop()  # lets go of what a dead one left
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(WATCH), *self.command(self.port)],
                stdin=subprocess.PIPE, stdout=log, stderr=log, env=dict(self.environment),
            )  # fmt: skip
        if not self.starts:
            atexit.register(self.stop)
        self.starts += 1

    def _wait(self) -> None:
        until = time.monotonic() + self.ready
        while not healthy(self.port):
            if self._process is None or self._process.poll() is not None:
                raise self._broken("it ended while it started")
            if time.monotonic() > until:
                self.stop()
                raise self._broken(f"it did not answer within {self.ready:g} s")
            time.sleep(0.2)

    def _broken(self, why: str) -> StepFailedError:
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        last = next((line.strip() for line in reversed(text.splitlines()) if "Error" in line), "")
        return StepFailedError(f"the server does not run: {why}", where=str(self.log), cure=last[:300] or "see its log")


def healthy(port: int) -> bool:
    """Return whether a server on this machine says that it is ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    return False


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
