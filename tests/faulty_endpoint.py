"""A local OpenAI-compatible endpoint that can be told to misbehave, one fault a request, in every way that is known."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STALL = 10.0


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """An honest answer: the last user turn upside down."""
    text = body["messages"][-1]["content"][::-1]
    usage = {"prompt_tokens": len(text), "completion_tokens": len(text)}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"choices": [choice], "usage": usage}


def saying(reply: Callable[[str], str], prompt_tokens: int = 10) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Answer with what `reply` makes of the last user turn; each word of it is a token."""

    def said(body: dict[str, Any]) -> dict[str, Any]:
        text = reply(body["messages"][-1]["content"])
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"prompt_tokens": prompt_tokens, "completion_tokens": len(text.split())}}

    return said


def echoed(body: dict[str, Any]) -> dict[str, Any]:
    """The prompt's words as tokens, -1/8 a letter (the space before a word belongs to it), and one word more."""
    words = [(m.start(), m.group()) for m in re.finditer(r" ?\S+", body["prompt"] + " end")]
    logps = [None, *(-len(word.strip()) / 8 for _, word in words[1:])]
    facts = {"tokens": [w for _, w in words], "token_logprobs": logps, "text_offset": [at for at, _ in words]}
    return {"choices": [{"index": 0, "text": "", "logprobs": facts, "finish_reason": "length"}], "usage": {}}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None: ...

    def do_POST(self) -> None:
        server: Any = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.seen.append((time.monotonic(), body, dict(self.headers)))
            fault = server.fault(body)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            honest = echoed if self.path.endswith("/v1/completions") else server.answer
            getattr(self, f"do_{fault}")(body) if fault else self.send(200, json.dumps(honest(body)).encode())

    def send(self, status: int, data: bytes, kind: str = "application/json", **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", headers.pop("length", str(len(data))))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def do_full(self, body: Any) -> None:
        self.send(429, b'{"error": "slow down"}')

    def do_full_for_a_second(self, body: Any) -> None:
        self.send(429, b"{}", Retry_After="1")

    def do_broken(self, body: Any) -> None:
        self.send(500, b"<html>oops</html>", "text/html")

    def do_reset(self, body: Any) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True

    def do_truncated(self, body: Any) -> None:
        data = json.dumps(answer(body)).encode()
        self.send(200, data[: len(data) // 2], length=str(len(data)))
        self.close_connection = True

    def do_malformed(self, body: Any) -> None:
        self.send(200, json.dumps(answer(body)).encode()[:-3])

    def do_no_completion(self, body: Any) -> None:
        self.send(200, b'{"object": "list", "choices": []}')

    def do_page(self, body: Any) -> None:
        self.send(200, b"<html>please log in</html>", "text/html")

    def do_endless(self, body: Any) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.close_connection = True
        while True:
            self.wfile.write(b" ")
            time.sleep(0.05)

    def do_stall(self, body: Any) -> None:
        time.sleep(STALL)
        self.send(200, json.dumps(answer(body)).encode())

    def do_slow_headers(self, body: Any) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-More: ")
        self.close_connection = True
        while True:
            self.wfile.write(b"x")
            time.sleep(0.05)

    def do_infinite(self, body: Any) -> None:
        self.send(200, json.dumps({**answer(body), "usage": {"prompt_tokens": float("inf")}}).encode())

    def do_odd_limits(self, body: Any) -> None:
        limits = {"x_ratelimit_remaining_requests": "0", "x_ratelimit_reset_requests": "1.2.3s"}
        self.send(429, b"{}", Retry_After="Mon, 01 Jan 0001 00:00:00 -0000", **limits)

    def do_repeats_the_key(self, body: Any) -> None:
        self.send(400, b"no such key: " + self.headers["Authorization"].encode())

    def do_too_long(self, body: Any) -> None:
        self.send(400, b'{"error": "the prompt is too long"}')

    def do_no_key(self, body: Any) -> None:
        self.send(401, b'{"error": "who are you?"}')

    def do_filtered(self, body: Any) -> None:
        found = answer(body)
        found["choices"][0]["finish_reason"] = "content_filter"
        self.send(200, json.dumps(found).encode())


FAULTS = ("full", "full_for_a_second", "broken", "reset", "truncated", "malformed", "no_completion", "page",
          "infinite", "odd_limits")  # fmt: skip
SLOW_FAULTS = ("endless", "stall", "slow_headers")


def each_once(faults: Sequence[str]) -> Callable[[dict[str, Any]], str | None]:
    """Misbehave in one way at the first time a text is asked, in turn; then answer."""
    asked: Counter[str] = Counter()

    def fault(body: dict[str, Any]) -> str | None:
        text = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        asked[text] += 1
        return faults[(len(asked) - 1) % len(faults)] if asked[text] == 1 else None

    return fault


@contextlib.contextmanager
def endpoint(
    fault: Callable[[dict[str, Any]], str | None] = lambda _: None,
    answer: Callable[[dict[str, Any]], dict[str, Any]] = answer,
) -> Iterator[Any]:
    """Serve on a free port while the block runs; `seen` holds (time, body, headers) of every request."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.lock, server.seen, server.fault = True, threading.Lock(), [], fault
    server.answer = answer
    server.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
