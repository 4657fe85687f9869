"""Talks to an OpenAI-compatible endpoint, however faulty it is; the http and vllm engines stand on it.

What may pass is tried again with growing, jittered waits (stamina): 429 with or without Retry-After, 5xx, a connection
that breaks, a body that is cut, is no JSON, is another type, or never ends. Requests under way are halved when the
endpoint is overloaded, and grow again with every success. What does not pass becomes a failed answer with its reason; a
wrong key or address ends the run at once. The key comes from the environment only, and stands in no message.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import io
import json
import logging
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar, cast
from urllib.parse import urlsplit

import stamina

from primum.core.errors import StepFailedError, UsageError
from primum.core.records import JsonDict
from primum.models.sampling import Opening

T = TypeVar("T")
LARGEST = 16 << 20
"""Bytes of an answer, at most: a reply that never ends must."""
LONGEST_WAIT = 60.0
"""Seconds between two attempts, at most, whatever Retry-After asks for."""

logging.getLogger("stamina").addHandler(logging.NullHandler())  # retries are no news on the terminal


class PassingError(Exception):
    """What may pass: `reason` for the record, `after` seconds that the endpoint asked for, and whether it is full."""

    def __init__(self, reason: str, after: float | None = None, *, full: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.after, self.full = reason, after, full


class BrokenError(PassingError):
    """The connection broke, or there was nobody to connect to."""


class RefusedError(Exception):
    """What will not pass for this conversation."""


class _LeftError(Exception):
    """Nobody waits for the answer any more."""


class Ask(NamedTuple, Generic[T]):
    """One thing to ask: the caller's number for it, its JSON body, and what makes an answer of the JSON that comes.

    `read` may raise PassingError or RefusedError.
    """

    number: int
    body: JsonDict
    read: Callable[[JsonDict], T]


@dataclass
class Endpoint:
    """Where requests are sent, and how patiently.

    Args:
        url: up to and including /v1.
        key: sent as a bearer token where it is not empty.
        most: requests under way, at most.
        timeout: seconds for one attempt, reading included.
        attempts: for one answer.
        patience: seconds for one answer, attempts and waits together.
        first_wait: seconds before the second attempt; doubled each time, and jittered.
        revive: called after a connection broke: whoever runs the server looks whether it is still there.
    """

    url: str
    key: str = field(default="", repr=False)
    most: int = 96
    timeout: float = 120.0
    attempts: int = 8
    patience: float = 600.0
    first_wait: float = 0.5
    revive: Callable[[], None] | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """Host and port, as part of a model's name: an endpoint does not say which weights it holds."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}" + (f":{parts.port}" if parts.port else "")

    def answers(self, asks: Iterable[Ask[T]], path: str, fail: Callable[[str], T]) -> Generator[tuple[int, T]]:
        """Send bodies to a path, as many at once as the endpoint bears; yield (number, answer) as answers come.

        Args:
            asks: drawn as there is room.
            path: below the address, like /chat/completions.
            fail: makes an answer of the reason why there is none.
        """
        source, gauge = iter(asks), Gauge(self.most)
        under_way: dict[Future[T], int] = {}
        pool = ThreadPoolExecutor(self.most, thread_name_prefix="endpoint")
        try:
            while True:
                for ask in islice(source, max(0, gauge.allowed - len(under_way))):
                    under_way[pool.submit(self._answer, path, ask, fail, gauge)] = ask.number
                if not under_way:
                    return
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    yield under_way.pop(future), future.result()
        finally:
            gauge.left = True
            pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, path: str, ask: Ask[T], fail: Callable[[str], T], gauge: Gauge) -> T:
        """Ask until there is an answer; what does not pass fails."""
        data = json.dumps(ask.body).encode()

        def waits(error: Exception) -> bool | float:
            if not isinstance(error, PassingError) or gauge.left:
                return False
            gauge.failed(error)
            return True if error.after is None else min(error.after, LONGEST_WAIT)

        attempts = stamina.retry_context(
            on=waits, attempts=self.attempts, timeout=self.patience, wait_initial=self.first_wait,
            wait_max=LONGEST_WAIT / 2, wait_jitter=self.first_wait,
        )  # fmt: skip
        try:
            for attempt in attempts:
                with attempt:
                    gauge.pause()
                    found = ask.read(self.post(path, data, gauge))
                    gauge.succeeded()
                    return found
        except PassingError as error:
            return fail(f"{error.reason} ({self.attempts} attempts)")
        except RefusedError as error:
            return fail(str(error))
        raise AssertionError("stamina gives an answer or raises")

    def post(self, path: str, body: bytes, gauge: Gauge | None = None) -> JsonDict:
        """Send one request and read its answer whole, or fail by the deadline.

        Raises:
            PassingError: it may work when tried again.
            RefusedError: it will not, for this body.
            StepFailedError: it will not, for any.
        """
        try:
            status, headers, data = self._exchange(path, body)
        except BrokenError:
            if self.revive:
                self.revive()
            raise
        if gauge:
            gauge.wait(limit_wait(headers))
        _check_status(status, headers, self._said(data), path)
        return _json(headers.get("Content-Type", ""), data)

    def tell(self, path: str, body: JsonDict) -> tuple[int, str]:
        """Send one request once; return the status and what was said, whatever that is.

        Raises:
            PassingError: there was no whole answer.
        """
        status, _, data = self._exchange(path, json.dumps(body).encode())
        return status, self._said(data)

    def models(self) -> list[str]:
        """Return the names of the models that are served; none where the endpoint does not say."""
        try:
            status, headers, data = self._exchange("/models", None)
            found = _json(headers.get("Content-Type", ""), data).get("data") if status == 200 else []
            return [str(model["id"]) for model in found or []]
        except (PassingError, KeyError, TypeError):
            return []

    def _said(self, data: bytes) -> str:
        """Return the beginning of what an endpoint says of an error; some repeat the key they were sent."""
        text = data[:4096].decode("utf-8", "replace").replace("\n", " ")
        return (text.replace(self.key, "(the key)") if self.key else text)[:200]

    def _exchange(self, path: str, body: bytes | None) -> tuple[int, Any, bytes]:
        """Send one request (GET where there is no body); return status, headers and the whole answer."""
        deadline = time.monotonic() + self.timeout
        parts = urlsplit(self.url + path)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.timeout)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            connection.request("GET" if body is None else "POST", parts.path, body, headers)
            connection.sock = cast(Any, _Timed(connection.sock, deadline))
            with contextlib.closing(connection.getresponse()) as response:
                return response.status, response.headers, _read(response)
        except TimeoutError as error:
            raise PassingError(f"no whole answer within {self.timeout:g} s", full=True) from error
        except ssl.SSLCertVerificationError as error:
            raise StepFailedError(f"the endpoint's certificate is not trusted: {error.verify_message}") from error
        except (OSError, http.client.HTTPException) as error:
            raise BrokenError(f"connection broke ({type(error).__name__})") from error
        finally:
            connection.close()


def endpoint(opening: Opening) -> Endpoint:
    """Return the endpoint that an opening names; nothing is sent yet.

    Raises:
        UsageError: no address, not an http(s) one, one that holds a password, or a key that cannot be sent.
    """
    return Endpoint(address(opening.url), key_of(opening.key_name), most=opening.width, timeout=opening.timeout)


def address(url: str) -> str:
    """Return an endpoint's address without a slash at its end.

    Raises:
        UsageError: it is none; or it holds what is not written down (an address stands in a run's records).
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise UsageError("no address of an endpoint", cure="like --url http://localhost:8000/v1") from None
    if parts.username is not None or parts.password is not None:
        cure = "put the key into the environment, and name the variable with --key-name"
        raise UsageError("the address holds a name or a password, which would be written down", cure=cure)
    if parts.query or parts.fragment:
        raise UsageError("the address ends in a query (?...), which requests cannot keep", cure="end it at /v1")
    if not good:
        raise UsageError(f"no address of an endpoint: '{url}'", cure="like --url http://localhost:8000/v1")
    return url.rstrip("/")


def key_of(name: str) -> str:
    """Return the key that an environment variable holds, "" where it is not set.

    Raises:
        UsageError: it cannot stand in a header; the key itself is not shown.
    """
    key = os.environ.get(name, "").strip()  # files of secrets end in a line break
    if not (key.isascii() and key.isprintable()):
        raise UsageError(f"the key in ${name} holds a character that no key has", cure="set it anew, on one line")
    return key


def served_name(model: str, served: Sequence[str]) -> str:
    """Return what a running server calls the model: the name given, or the only one there is.

    Raises:
        UsageError: it serves several others.
    """
    if model in served or not served:
        return model
    if len(served) > 1:
        raise UsageError(f"the endpoint does not serve '{model}'", cure=f"MODEL is one of: {', '.join(served)}")
    return served[0]


class _Timed:
    """Stands in for a socket that http.client reads an answer from: it must be there whole by a deadline.

    A socket's own timeout starts anew with every byte, in the headers too.
    """

    def __init__(self, line: socket.socket, deadline: float) -> None:
        self._line, self._deadline = line, deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return the file that the answer is read from; the socket lives as long as it."""
        del mode  # it only reads
        return io.BufferedReader(_TimedFile(self._line, self._deadline))

    def close(self) -> None:
        """Let go of the socket."""
        self._line.close()


class _TimedFile(io.RawIOBase):
    """What a socket receives until a deadline."""

    def __init__(self, line: socket.socket, deadline: float) -> None:
        super().__init__()
        self._line, self._deadline = line, deadline
        self._file = line.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what has come, or wait for it until the deadline."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._line.settimeout(left)
        return self._file.readinto(buffer)

    def close(self) -> None:
        """Let go of the socket."""
        super().close()
        self._file.close()


def _read(response: http.client.HTTPResponse) -> bytes:
    """Read a body whole."""
    pieces: list[bytes] = []
    size = 0
    while piece := response.read1(1 << 16):
        pieces.append(piece)
        size += len(piece)
        if size > LARGEST:
            raise PassingError(f"an answer of over {LARGEST >> 20} MB")
    if response.length:  # Content-Length promised more
        raise PassingError("the answer was cut")
    return b"".join(pieces)


def _check_status(status: int, headers: Any, said: str, path: str) -> None:
    """Sort a status into what is fine, what may pass, what will not, and what ends the run."""
    if status == 200:
        return
    if status in (408, 409, 425, 429) or status >= 500:
        raise PassingError(f"status {status}", retry_after(headers), full=status in (429, 503, 529))
    if status in (401, 403):
        cure = "put its key into the environment, and name the variable with --key-name"
        raise StepFailedError(f"the endpoint refuses the key (status {status})", cure=cure)
    if status == 404:
        raise StepFailedError(f"the endpoint knows no {path} or no such model: {said}", cure="check --url and MODEL")
    raise RefusedError(f"status {status}: {said}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that Retry-After asks to wait (a number, or a date: RFC 9110, 10.2.3), or None."""
    text = (headers.get("Retry-After") or "").strip()
    if not text:
        return None
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):
        return None


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|$)", re.ASCII)


def limit_wait(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until a used-up limit is filled again, or None.

    By OpenAI's x-ratelimit-* headers (1s, 6m0s; others send bare seconds).
    """
    waits: list[float] = []
    for kind in ("requests", "tokens"):
        if (headers.get(f"x-ratelimit-remaining-{kind}") or "").strip() == "0":
            text = (headers.get(f"x-ratelimit-reset-{kind}") or "").strip()[:40]
            waits += [sum(float(n) * _UNITS[unit] for n, unit in _PART.findall(text))]
    return max(waits, default=None)


def _json(kind: str, data: bytes) -> JsonDict:
    if "json" not in kind.lower():
        raise PassingError(f"an answer of type '{kind[:60]}' instead of JSON")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PassingError("an answer that is no JSON") from error
    if not isinstance(found, dict):
        raise PassingError("an answer that is no JSON object")
    return found


class Gauge:
    """How many requests may be under way: halved when the endpoint is full, one more for each full round of successes.

    (Additive increase, multiplicative decrease, as in TCP: Chiu and Jain 1989.) `left`: the run is over, and threads
    that wait for another attempt give up.
    """

    def __init__(self, most: int) -> None:
        self._most, self._level = most, float(most)
        self.left = False
        self._halved, self._until = 0.0, 0.0

    @property
    def allowed(self) -> int:
        """Requests that may be under way now."""
        return max(1, int(self._level))

    def succeeded(self) -> None:
        """One request was answered."""
        self._level = min(self._most, self._level + 1 / self._level)

    def failed(self, error: PassingError) -> None:
        """One request failed; of many that fail at once, the first one halves."""
        now = time.monotonic()
        self.wait(error.after)
        if error.full and now - self._halved > 1:
            self._halved, self._level = now, max(1.0, self._level / 2)

    def wait(self, seconds: float | None) -> None:
        """Let nobody ask for some seconds from now."""
        if seconds:
            self._until = max(self._until, time.monotonic() + min(seconds, LONGEST_WAIT))

    def pause(self) -> None:
        """Wait as long as the endpoint asked all of its callers to; ends the thread's work when nobody waits for it."""
        while not self.left and (left := self._until - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
        if self.left:
            raise _LeftError
