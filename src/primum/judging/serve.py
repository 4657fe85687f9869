"""Any judge as a moderation endpoint in OpenAI's format: POST /v1/moderations.

    {"input": "text" | ["text", ...] | [{"prompt": ..., "reply": ...}, ...], "model": "embedded"}

answers {"id", "model", "results": [{"flagged", "categories", "category_scores", "primum": verdict}]}. A text alone is
judged as a reply whose prompt is not known. Where the judge cannot say, `flagged` is null and `primum.unscored` says
why: a client that takes null for false has decided that for itself.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import Any, cast

from primum.core.errors import PrimumError
from primum.core.records import JsonDict, Verdict, digest, to_json
from primum.core.serving import JsonHandler
from primum.judging import Exchange
from primum.judging.options import ChosenJudge
from primum.judging.rows import to_exchange
from primum.prompts.files import Row

MAX_BODY = 8_000_000
MAX_INPUTS = 2048
FLAG_FROM = 0.5


class BadRequest(Exception):
    """What is wrong with a request, for the client."""


class ModerationServer(ThreadingHTTPServer):
    """The server; one judgement at a time, since a model in memory serves one caller."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], judge: ChosenJudge) -> None:
        self.judge, self.lock = judge, threading.Lock()
        super().__init__(address, _Handler)

    def moderate(self, body: Any) -> JsonDict:
        """Return the answer to a request's JSON.

        Raises:
            BadRequest: the request has another shape.
        """
        exchanges = read_inputs(body)
        with self.lock:
            verdicts = self.judge(exchanges)
        results = [result(verdict) for verdict in verdicts]
        return {"id": "modr-" + digest([body, self.judge.id], 24), "model": self.judge.id, "results": results}


def read_inputs(body: Any) -> list[Exchange]:
    """Return a request's exchanges.

    Raises:
        BadRequest: no input, too many, or one of another shape.
    """
    given = cast(dict[str, Any], body).get("input") if isinstance(body, dict) else None
    items = cast(list[Any], given) if isinstance(given, list) else [given]
    if given is None or not items:
        raise BadRequest("'input' must be a text, a list of texts, or a list of {prompt, reply}")
    if len(items) > MAX_INPUTS:
        raise BadRequest(f"at most {MAX_INPUTS} inputs a request")
    return [_exchange(item, i) for i, item in enumerate(items)]


def _exchange(item: Any, i: int) -> Exchange:
    values: JsonDict = {"reply": item} if isinstance(item, str) else cast(JsonDict, item)
    if not isinstance(values, dict):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise BadRequest(f"input {i} is neither a text nor an object")
    if values.get("type") == "text":  # one of OpenAI's typed parts
        values = {"reply": values.get("text")}
    try:
        return to_exchange(Row(f"input {i}", {"prompt": "", **values, "id": i})).exchange
    except PrimumError as error:
        raise BadRequest(str(error).splitlines()[0]) from error


def result(verdict: Verdict) -> JsonDict:
    """Return one verdict in OpenAI's format."""
    harmful, hateful = verdict.p_harmful, verdict.p_hateful
    unscored = verdict.behaviour is None
    flags = {"harmful": _flag(harmful, unscored), "hate": _flag(hateful, unscored)}
    if verdict.behaviour == "harmful_compliance":
        flags["harmful"] = True
    for _, name in verdict.categories:
        flags[name] = True
    flagged = None if unscored else any(flags.values())
    scores = {"harmful": harmful, "hate": hateful}
    return {"flagged": flagged, "categories": flags, "category_scores": scores, "primum": to_json(verdict)}


def _flag(share: float | None, unscored: bool) -> bool | None:
    return None if unscored else (share or 0.0) >= FLAG_FROM


class _Handler(JsonHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        if self.path in ("/health", "/v1/models"):
            judge = cast(ModerationServer, self.server).judge.id
            self.answer(HTTPStatus.OK, {"object": "list", "data": [{"id": judge, "object": "model"}]})
        else:
            self._fail(HTTPStatus.NOT_FOUND, "POST /v1/moderations")

    def do_POST(self) -> None:
        if self.path.rstrip("/") not in ("/v1/moderations", "/moderations"):
            self._fail(HTTPStatus.NOT_FOUND, "POST /v1/moderations")
            return
        try:
            found = cast(ModerationServer, self.server).moderate(self._body())
        except BadRequest as error:
            self._fail(HTTPStatus.BAD_REQUEST, str(error))
        except PrimumError as error:
            self._fail(HTTPStatus.SERVICE_UNAVAILABLE, error.problem)
        else:
            self.answer(HTTPStatus.OK, found)

    def _body(self) -> Any:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            raise BadRequest(f"a body of at most {MAX_BODY:,} bytes, with its Content-Length")
        try:
            return json.loads(self.rfile.read(int(length)).decode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise BadRequest("the body is no JSON") from error

    def _fail(self, status: HTTPStatus, message: str) -> None:
        self.answer(status, {"error": {"message": message, "type": "invalid_request_error", "code": int(status)}})


def flagged(results: Sequence[JsonDict]) -> int:
    """Return how many results are flagged."""
    return sum(one["flagged"] is True for one in results)
