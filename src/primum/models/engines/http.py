"""Replies from any OpenAI-compatible endpoint (chat completions), however faulty it is.

What may pass is tried again with growing, jittered waits (stamina): 429 with or without Retry-After, 5xx, a connection
that breaks, a body that is cut, is no JSON, is another type, or never ends. Requests under way are halved when the
endpoint is overloaded, and grow again with every success. What does not pass becomes a failed reply with its reason; a
wrong key or address ends the run at once. The key comes from the environment only, and stands in no message.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import logging
import os
import socket
import ssl
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import stamina

from primum.core.errors import StepFailedError, UsageError
from primum.core.records import JsonDict, Messages
from primum.models.sampling import Generated, Opening, Request, Sampling, collect

about = "any OpenAI-compatible endpoint (vLLM, SGLang, llama-server, hosted ones), over HTTP"
rank = 0
cure = "name one: --url http://localhost:8000/v1"
LARGEST = 16 << 20
"""Bytes of an answer, at most: a reply that never ends must."""
LONGEST_WAIT = 60.0
"""Seconds between two attempts, at most, whatever Retry-After asks for."""


def why_not(opening: Opening) -> str | None:
    """Return why it cannot be used, or None."""
    return None if opening.url else "no endpoint was named"


def open_engine(opening: Opening) -> HTTPEngine:
    """Open an endpoint; nothing is sent yet.

    Raises:
        UsageError: no address, or not an http(s) one.
    """
    parts = urlsplit(opening.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"no address of an endpoint: '{opening.url}'", cure="like --url http://localhost:8000/v1")
    key = os.environ.get(opening.key_name, "")
    return HTTPEngine(opening.url.rstrip("/"), opening.model, key, opening.batch_size, opening.timeout)


logging.getLogger("stamina").addHandler(logging.NullHandler())  # retries are no news on the terminal


class PassingError(Exception):
    """What may pass: `reason` for the record, `after` seconds that the endpoint asked for, and whether it is full."""

    def __init__(self, reason: str, after: float | None = None, *, full: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.after, self.full = reason, after, full


class RefusedError(Exception):
    """What will not pass for this conversation."""


@dataclass
class HTTPEngine:
    """An engine over an endpoint.

    Args:
        url: up to and including /v1.
        model: the name under which the endpoint knows the model.
        key: sent as a bearer token where it is not empty.
        most: requests under way, at most.
        timeout: seconds for one attempt, reading included.
        attempts: for one reply.
        patience: seconds for one reply, attempts and waits together.
        first_wait: seconds before the second attempt; doubled each time, and jittered.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    most: int = 96
    timeout: float = 120.0
    attempts: int = 8
    patience: float = 600.0
    first_wait: float = 0.5

    @property
    def model_name(self) -> str:
        """The model's name and where it answers; an endpoint does not say which weights it holds."""
        parts = urlsplit(self.url)
        return f"{self.model}@{parts.hostname}" + (f":{parts.port}" if parts.port else "")

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: int | Sequence[int]) -> list[Generated]:
        """Generate one reply per conversation, in the order given."""
        return collect(self, batch, sampling, seed)

    def stream(self, requests: Iterable[Request], sampling: Sampling) -> Generator[tuple[int, Generated]]:
        """Yield (request index, reply) as replies come."""
        source, gauge = iter(requests), Gauge(self.most)
        under_way: dict[Future[Generated], int] = {}
        pool = ThreadPoolExecutor(self.most, thread_name_prefix="endpoint")
        try:
            while True:
                for request in islice(source, max(0, gauge.allowed - len(under_way))):
                    under_way[pool.submit(self._reply, request, sampling, gauge)] = request.index
                if not under_way:
                    return
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    yield under_way.pop(future), future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _reply(self, request: Request, sampling: Sampling, gauge: Gauge) -> Generated:
        """Ask until there is an answer; what does not pass is a failed reply."""
        body = json.dumps(_body(self.model, request, sampling)).encode()

        def waits(error: Exception) -> bool | float:
            if not isinstance(error, PassingError):
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
                    got = parsed(self._post("/chat/completions", body))
                    gauge.succeeded()
                    return got
        except PassingError as error:
            return Generated("", "error", 0, 0, f"{error.reason} ({self.attempts} attempts)")
        except RefusedError as error:
            return Generated("", "error", 0, 0, str(error))
        raise AssertionError("stamina gives an answer or raises")

    def _post(self, path: str, body: bytes) -> JsonDict:
        """Send one request and read its answer whole, or fail by the deadline."""
        deadline = time.monotonic() + self.timeout
        parts = urlsplit(self.url + path)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=self.timeout)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        try:
            connection.request("POST", parts.path, body, headers)
            line = connection.sock  # getresponse() takes it away from a connection that will close
            with contextlib.closing(connection.getresponse()) as response:
                data = _read(line, response, deadline)
        except TimeoutError as error:
            raise PassingError(f"no whole answer within {self.timeout:g} s", full=True) from error
        except ssl.SSLCertVerificationError as error:
            raise StepFailedError(f"the endpoint's certificate is not trusted: {error.verify_message}") from error
        except (OSError, http.client.HTTPException) as error:
            raise PassingError(f"connection broke ({type(error).__name__})") from error
        finally:
            connection.close()
        _check_status(response.status, response.headers, data, path)
        return _json(response.headers.get("Content-Type", ""), data)


def _read(line: socket.socket, response: http.client.HTTPResponse, deadline: float) -> bytes:
    """Read a body by a deadline: a socket's own timeout starts anew with every byte."""
    pieces: list[bytes] = []
    size = 0
    while piece := _piece(line, response, deadline):
        pieces.append(piece)
        size += len(piece)
        if size > LARGEST:
            raise PassingError(f"an answer of over {LARGEST >> 20} MB")
    if response.length:  # Content-Length promised more
        raise PassingError("the answer was cut")
    return b"".join(pieces)


def _piece(line: socket.socket, response: http.client.HTTPResponse, deadline: float) -> bytes:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    line.settimeout(left)
    return response.read1(1 << 16)


def _check_status(status: int, headers: Any, data: bytes, path: str) -> None:
    """Sort a status into what is fine, what may pass, what will not, and what ends the run."""
    if status == 200:
        return
    said = data[:200].decode("utf-8", "replace").replace("\n", " ")
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
    except ValueError:
        return None


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


def _body(model: str, request: Request, sampling: Sampling) -> JsonDict:
    body: JsonDict = {
        "model": model,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "max_tokens": sampling.max_new_tokens,
        "temperature": sampling.temperature,
        "seed": request.seed % (1 << 31),
    }
    if sampling.top_p < 1:
        body["top_p"] = sampling.top_p
    if sampling.top_k:
        body["top_k"] = sampling.top_k  # not OpenAI's own, but vLLM, SGLang and llama-server take it
    return body


def parsed(answer: JsonDict) -> Generated:
    """Return the reply that an answer holds.

    Raises:
        PassingError: it is no chat completion.
        RefusedError: the endpoint's own filter kept the reply.
    """
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        content = message.get("content")
        text = content if content is not None else message.get("refusal") or ""
        usage = answer.get("usage") or {}
        counts = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise PassingError("an answer that is no chat completion") from error
    if not isinstance(text, str):
        raise PassingError("an answer whose content is no text")
    if choice.get("finish_reason") == "content_filter":
        raise RefusedError("the endpoint's content filter kept the reply")
    finish = "length" if choice.get("finish_reason") == "length" else "stop"
    return Generated(text.strip(), finish, *counts)


class Gauge:
    """How many requests may be under way: halved when the endpoint is full, one more for each full round of successes.

    (Additive increase, multiplicative decrease, as in TCP: Chiu and Jain 1989.)
    """

    def __init__(self, most: int) -> None:
        self._most, self._level = most, float(most)
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
        if error.after:
            self._until = max(self._until, now + min(error.after, LONGEST_WAIT))
        if error.full and now - self._halved > 1:
            self._halved, self._level = now, max(1.0, self._level / 2)

    def pause(self) -> None:
        """Wait as long as the endpoint asked all of its callers to."""
        while (left := self._until - time.monotonic()) > 0:
            time.sleep(min(left, 1.0))
