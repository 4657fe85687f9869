"""How the small servers of this project take an address, serve until Ctrl-C, and answer in JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

from primum.core.errors import StepFailedError, UsageError
from primum.core.hosts import LOOPBACK

S = TypeVar("S", bound=ThreadingHTTPServer)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: on this machine alone, unless its user opened it to the network.

    Raises:
        UsageError: an address that other machines reach, and nobody said that they may.
    """

    host: str
    port: int
    open_to_network: bool = False

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and not self.open_to_network:
            cure = "add --open-to-network, or use 127.0.0.1"
            raise UsageError(f"'{self.host}' is open to other machines", cure=cure)


def serve(address: Address, make: Callable[[tuple[str, int]], S], what: str, path: str) -> str:
    """Serve until Ctrl-C; return the server's address.

    Args:
        address: where; port 0 takes a free one.
        make: binds the server.
        what: is served, in words.
        path: of the address that is told and returned.

    Raises:
        StepFailedError: the port is taken.
    """
    try:
        server = make((address.host, address.port))
    except OSError as error:
        cure = "give another --port (0 takes a free one)"
        raise StepFailedError(f"cannot listen on port {address.port}: {error.strerror}", cure=cure) from error
    url = f"http://{address.host}:{server.server_address[1]}{path}"
    print(f"{what} at {url} (Ctrl-C ends)", file=sys.stderr, flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
    return url


class JsonHandler(BaseHTTPRequestHandler):
    """Answers with JSON, and logs nothing: requests hold prompts and replies, which are private."""

    server_version, sys_version = "primum", ""

    def answer(self, status: int, value: Any) -> None:
        """Send one JSON document."""
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of requests."""
