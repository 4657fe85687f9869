"""How a judge asks a model: a batch of conversations in, one answer each out, errors as answers and not as exceptions.

`endpoint` speaks the OpenAI chat protocol to any server, local or remote; `engine` asks a model in memory. An answer
may carry the log-probabilities of the first token's best candidates. What a judge writes to a judge is not trusted: a
reply under judgement is put between markers that it cannot contain (`fenced`).
"""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

from primum.core.records import JsonDict, Messages, digest
from primum.models.endpoint import address, key_of

RETRY_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
MAX_ANSWER = 2_000_000
"""Bytes read of a server's answer: a hostile or broken server cannot fill the memory."""


class Tokens(NamedTuple):
    """Tokens that were read and written for an answer, as whoever answered counts them."""

    prompt: int
    answer: int


class Answer(NamedTuple):
    """What came back: text and, where the server gives them, log-probabilities of the first token; or an error.

    tokens: what it took, where that is told.
    """

    text: str
    logprobs: Mapping[str, float] | None = None
    error: str | None = None
    tokens: Tokens | None = None


Ask = Callable[[Sequence[Messages]], list[Answer]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible server.

    Args:
        url: up to and with /v1.
        model: the model's name there.
        key_env: the environment variable that holds the key; unset or empty: no key is sent.
        timeout: seconds to wait for one answer.
        retries: further attempts after a timeout, a dropped connection or a busy server.
        workers: requests at a time.
        max_tokens: longest answer.
        pause: seconds before the first further attempt; doubled each time.
    """

    url: str
    model: str
    key_env: str = "OPENAI_API_KEY"
    timeout: float = 60.0
    retries: int = 3
    workers: int = 8
    max_tokens: int = 64
    pause: float = 0.5

    def __post_init__(self) -> None:
        address(self.url)
        key_of(self.key_env)


def chat(place: Endpoint) -> Ask:
    """Return a function that asks a chat endpoint, greedily and with log-probabilities where it has them."""

    def ask(batch: Sequence[Messages]) -> list[Answer]:
        with ThreadPoolExecutor(max_workers=place.workers) as pool:
            return list(pool.map(partial(_chat, place), batch))

    return ask


def _chat(place: Endpoint, messages: Messages) -> Answer:
    body: JsonDict = {
        "model": place.model, "messages": [{"role": m.role, "content": m.text} for m in messages],
        "temperature": 0, "max_tokens": place.max_tokens, "logprobs": True, "top_logprobs": 10,
    }  # fmt: skip
    answer = post(place, "/chat/completions", body)
    if isinstance(answer, str):
        return Answer("", error=answer)
    try:
        choice = answer["choices"][0]
        text = choice["message"].get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        return Answer("", error="the server's answer holds no choice")
    if not isinstance(text, str):
        return Answer("", error="the server's answer holds no text")
    return Answer(text, _logprobs(choice), tokens=_tokens(answer))


def _tokens(answer: Mapping[str, Any]) -> Tokens | None:
    """Return what the server says that the answer took; None where it does not say."""
    usage = answer.get("usage")
    try:
        return Tokens(int(usage["prompt_tokens"]), int(usage["completion_tokens"]))  # type: ignore[index]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def completions(place: Endpoint) -> Ask:
    """Return a function that sends the last message as a whole prompt: no chat template is put around it."""

    def ask(batch: Sequence[Messages]) -> list[Answer]:
        with ThreadPoolExecutor(max_workers=place.workers) as pool:
            return list(pool.map(partial(_complete, place), [messages[-1].text for messages in batch]))

    return ask


def _complete(place: Endpoint, prompt: str) -> Answer:
    body: JsonDict = {
        "model": place.model,
        "prompt": prompt,
        "temperature": 0,
        "max_tokens": place.max_tokens,
        "logprobs": 5,
    }
    answer = post(place, "/completions", body)
    if isinstance(answer, str):
        return Answer("", error=answer)
    try:
        choice = answer["choices"][0]
        text = choice["text"]
    except (KeyError, IndexError, TypeError):
        return Answer("", error="the server's answer holds no choice")
    if not isinstance(text, str):
        return Answer("", error="the server's answer holds no text")
    return Answer(text, _first_token(choice), tokens=_tokens(answer))


def _first_token(choice: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the first token's candidates in the form of the completions endpoint; None where there are none."""
    try:
        found = {str(token): float(p) for token, p in choice["logprobs"]["top_logprobs"][0].items()}
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None
    return {token: p for token, p in found.items() if not math.isnan(p)} or None


def _logprobs(choice: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the first content token's candidates; None where the server gave none, or in a shape not known."""
    try:
        tokens = cast(list[dict[str, Any]], choice["logprobs"]["content"])
        first = next(token for token in tokens if str(token["token"]).strip())
        listed = cast(list[dict[str, Any]], first["top_logprobs"])
        found = {str(c["token"]): float(c["logprob"]) for c in listed}
    except (KeyError, TypeError, ValueError, StopIteration, AttributeError):
        return None
    return {token: p for token, p in found.items() if not math.isnan(p)} or None


def post(place: Endpoint, path: str, body: JsonDict) -> JsonDict | str:
    """Return the server's JSON answer, or in one line why there is none (after the retries)."""
    failed = "no attempt"
    for attempt in range(place.retries + 1):
        if attempt:
            time.sleep(min(30.0, place.pause * 2 ** (attempt - 1)))
        try:
            return _send(place, path, body)
        except urllib.error.HTTPError as error:
            failed = f"the server answered {error.code}"
            if error.code not in RETRY_STATUS:
                break
        except (OSError, ValueError) as error:  # a dropped or refused connection, a timeout, broken JSON
            failed = f"{type(error).__name__}: {error}".splitlines()[0][:120]
    return f"no answer: {failed}"


def _send(place: Endpoint, path: str, body: JsonDict) -> JsonDict:
    headers = {"Content-Type": "application/json"}
    key = key_of(place.key_env)
    if key:
        headers["Authorization"] = f"Bearer {key}"
    data = json.dumps(body).encode("utf-8", "replace")
    request = urllib.request.Request(place.url.rstrip("/") + path, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=place.timeout) as answer:
        read = json.loads(answer.read(MAX_ANSWER).decode("utf-8", "replace"))
    if not isinstance(read, dict):
        raise ValueError("the answer is no JSON object")
    return cast(JsonDict, read)


def fenced(text: str) -> str:
    """Return the text between markers that do not occur in it and cannot be guessed by who wrote it.

    The marker is a hash of the text itself: writing it down inside the text would change it.
    """
    mark = digest(text, 12)
    return f"<<<{mark}\n{text}\n{mark}>>>"
