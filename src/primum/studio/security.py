"""What guards every request before a page sees it: headers, host names, sizes and rates (plain ASGI).

The Content-Security-Policy lets a page load from this program alone, run no inline script and style, and post nowhere
else. A request for another host name is refused, so that a foreign page cannot reach a local studio through a name that
it points to this machine (DNS rebinding).
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from primum.core.hosts import LOOPBACK

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # same-origin, not no-referrer: with that a browser posts forms with the origin "null"
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "cache-control": "no-store",
}
LARGEST_BODY = 64 * 1024 * 1024
OWN_NAMES = tuple(f"[{host}]" if ":" in host else host for host in LOOPBACK)
"""Hosts as a browser on this machine names them."""


class Guard:
    """Wraps the site.

    Args:
        app: the site.
        hosts: host names, without port, for which it answers.
        https: whether browsers come by HTTPS: then they are told to stay with it.
        largest: bytes of a request's body at most.
    """

    def __init__(self, app: App, hosts: tuple[str, ...], https: bool = False, largest: int = LARGEST_BODY) -> None:
        self.app, self.hosts, self.largest = app, hosts, largest
        self.headers = dict(HEADERS)
        if https:
            self.headers["strict-transport-security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse, one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        sent = self._with_headers(send)
        if _host(headers.get("host", "")) not in self.hosts:
            await _plain(sent, 421, "This studio does not answer under this host name (primum studio --url sets it).")
        elif int(headers.get("content-length") or 0) > self.largest:
            await _plain(sent, 413, f"At most {self.largest // 1_048_576} MB in one request.")
        else:
            await self.app(scope, _limited(receive, self.largest), sent)

    def _with_headers(self, send: Send) -> Send:
        async def sent(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = {name for name, _ in message["headers"]}
                extra = [(k.encode(), v.encode()) for k, v in self.headers.items() if k.encode() not in own]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        return sent


def _host(header: str) -> str:
    """Return the host without its port, in lower case."""
    host = header.lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _limited(receive: Receive, largest: int) -> Receive:
    """Cut a body that is longer than it said (a chunked one says nothing): to the site the client has gone."""
    taken = 0

    async def limited() -> MutableMapping[str, Any]:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return {"type": "http.disconnect"} if taken > largest else message

    return limited


async def _plain(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": (text + "\n").encode()})


class Rate:
    """A token bucket a key: `burst` at once, `per_second` after that. Forgets the keys that were idle longest.

    Args:
        per_second: how fast a bucket fills.
        burst: how much it holds.
        keys: how many keys are kept.
    """

    def __init__(self, per_second: float, burst: float, keys: int = 10_000) -> None:
        self.per_second, self.burst, self.keys = per_second, burst, keys
        self._held: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: str, moment: float | None = None) -> bool:
        """Take one; False where the bucket is empty."""
        moment = time.monotonic() if moment is None else moment
        with self._lock:
            left, since = self._held.pop(key, (self.burst, moment))
            left = min(self.burst, left + (moment - since) * self.per_second)
            allowed = left >= 1
            self._held[key] = (left - 1 if allowed else left, moment)
            if len(self._held) > self.keys:
                self._held.popitem(last=False)
            return allowed
