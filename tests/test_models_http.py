"""The HTTP engine against a local endpoint that fails in every way that is known: nothing is lost, and it ends."""

from __future__ import annotations

import email.utils
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from faulty_endpoint import FAULTS, SLOW_FAULTS, each_once, endpoint
from primum.core.errors import StepFailedError, UsageError
from primum.core.records import Messages, system, user
from primum.judging.ask import Endpoint as JudgesEndpoint
from primum.judging.ask import chat
from primum.models.endpoint import Endpoint, Gauge, PassingError, limit_wait, retry_after
from primum.models.engines.http import HTTPEngine, open_engine, parsed
from primum.models.likelihood import Continuation, echoed_text
from primum.models.runner import Asked, Plan, draw_all, replies
from primum.models.sampling import Opening, Request, Sampling


def engine(url: str, **more: Any) -> HTTPEngine:
    return HTTPEngine(Endpoint(url, **{"most": 8, "timeout": 1.0, "first_wait": 0.02, **more}), "m")


def asked(count: int) -> list[Messages]:
    return [(user(f"number {i}"),) for i in range(count)]


def test_every_fault_passes_and_every_reply_arrives_in_its_place() -> None:
    faults = FAULTS + SLOW_FAULTS
    started = time.monotonic()
    with endpoint(each_once(faults)) as server:
        got = engine(server.url, timeout=2.0)(asked(3 * len(faults)), Sampling(0.0, 8), seed=1)
        assert [r.text for r in got] == [f"number {i}"[::-1] for i in range(3 * len(faults))]
        assert len(server.seen) >= 6 * len(faults)  # each was asked at least twice
    assert {r.finish for r in got} == {"stop"} and time.monotonic() - started < 30


@pytest.mark.parametrize("fault", [*FAULTS, *SLOW_FAULTS])
def test_a_fault_that_stays_is_a_failed_reply_with_its_reason(fault: str) -> None:
    with endpoint(lambda body: fault if "1" in body["messages"][-1]["content"] else None) as server:
        patient = engine(server.url, attempts=2, timeout=0.4 if fault in SLOW_FAULTS else 20.0)
        good, bad = patient(asked(2), Sampling(0.0, 8), seed=1)
    assert (good.text, good.finish) == ("0 rebmun", "stop")
    reasons = {
        "full": "status 429", "full_for_a_second": "status 429", "broken": "status 500", "reset": "connection broke",
        "truncated": "cut", "malformed": "no JSON", "no_completion": "no chat completion", "page": "text/html",
        "endless": "no whole answer", "stall": "no whole answer", "slow_headers": "no whole answer",
        "infinite": "no chat completion", "odd_limits": "status 429",
    }  # fmt: skip
    assert bad.finish == "error" and bad.text == "" and reasons[fault] in bad.error.replace("IncompleteRead", "cut")


def test_what_cannot_pass_is_asked_once() -> None:
    for fault, reason in (("too_long", "the prompt is too long"), ("filtered", "content filter")):
        with endpoint(lambda _, fault=fault: fault) as server:
            (got,) = engine(server.url)(asked(1), Sampling(0.0, 8), seed=1)
            assert got.finish == "error" and reason in got.error and len(server.seen) == 1


def test_a_wrong_key_ends_the_run_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    with endpoint(lambda _: "no_key") as server:
        opened = open_engine(Opening(model="m", url=server.url, key_name="MY_KEY", batch_size=2))
        with pytest.raises(StepFailedError, match="refuses the key") as caught:
            opened(asked(3), Sampling(0.0, 8), seed=1)
        assert server.seen[0][2]["Authorization"] == "Bearer sk-very-secret"
    assert "sk-very-secret" not in str(caught.value) + repr(opened)


@pytest.mark.parametrize("client", ["sampling", "judging"])
def test_a_key_is_sent_clean_or_not_at_all(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """http.client shows a header that it refuses, and with it the key."""

    def ask(url: str) -> str:
        if client == "judging":
            return chat(JudgesEndpoint(url, "m", "MY_KEY", retries=0))(asked(1))[0].text
        return open_engine(Opening("m", url=url, key_name="MY_KEY"))(asked(1), Sampling(0.0, 8), 1)[0].text

    monkeypatch.setenv("MY_KEY", "sk-very-secret\n")  # as a file of a secret ends
    with endpoint() as server:
        assert ask(server.url) == "0 rebmun"
        assert server.seen[0][2]["Authorization"] == "Bearer sk-very-secret"
        for key in ("sk-very\nsecret", "sk-very\u2013secret"):
            monkeypatch.setenv("MY_KEY", key)
            with pytest.raises(UsageError, match=r"the key in \$MY_KEY") as caught:
                ask(server.url)
            assert "secret" not in str(caught.value) and len(server.seen) == 1
        for url, says in (("http://me:pass@x/v1", "a name or a password"), ("http://x/v1?api=1", "ends in a query")):
            with pytest.raises(UsageError, match=says) as caught:
                ask(url)
            assert "pass@" not in str(caught.value)


def test_an_endpoint_that_repeats_the_key_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with endpoint(lambda _: "repeats_the_key") as server:
        (got,) = open_engine(Opening("m", url=server.url))(asked(1), Sampling(0.0, 8), 1)
    assert got.error == "status 400: no such key: Bearer (the key)"


def test_a_run_that_is_left_lets_go_of_its_threads() -> None:
    with endpoint(lambda body: None if body["messages"][-1]["content"] == "number 0" else "full") as server:
        patient = engine(server.url, most=3, attempts=1000, first_wait=0.01)
        stream = patient.stream((Request(i, m, i) for i, m in enumerate(asked(3))), Sampling(0.0, 8))
        assert next(stream)[0] == 0
        stream.close()
        until = time.monotonic() + 60
        while any(thread.name.startswith("endpoint") for thread in threading.enumerate()):
            assert time.monotonic() < until
            time.sleep(0.02)


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -(10**400), "-1"])
def test_log_probabilities_that_are_none_may_pass(odd: Any) -> None:
    answer = {"choices": [{"logprobs": {"token_logprobs": [None, odd, -1.0], "text_offset": [0, 1, 2]}}]}
    with pytest.raises(PassingError, match="are none"):
        echoed_text(0)(answer)
    with pytest.raises(PassingError, match="where its tokens lie"):
        echoed_text(0)({"choices": [{"logprobs": {"token_logprobs": [None, -1.0], "text_offset": [0, "x"]}}]})


def test_the_settings_are_sent() -> None:
    with endpoint() as server:
        engine(server.url)([(system("Be kind."), user("Hi"))], Sampling(0.7, 33, top_p=0.9, top_k=5), seed=[12])
        body = server.seen[0][1]
    assert body["messages"] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert {k: body[k] for k in ("model", "max_tokens", "temperature", "top_p", "top_k", "seed")} == {
        "model": "m", "max_tokens": 33, "temperature": 0.7, "top_p": 0.9, "top_k": 5, "seed": 12,
    }  # fmt: skip


def test_retry_after_is_kept_by_all_requests() -> None:
    with endpoint(each_once(["full_for_a_second"])) as server:
        engine(server.url)(asked(1), Sampling(0.0, 8), seed=1)
        first, second = (at for at, _, _ in server.seen)
    assert second - first >= 1.0


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after({"Retry-After": "3"}) == 3.0
    assert retry_after({}) is None and retry_after({"Retry-After": "soon"}) is None
    soon = email.utils.formatdate(time.time() + 20, usegmt=True)
    assert retry_after({"Retry-After": soon}) == pytest.approx(20, abs=2)
    assert retry_after({"Retry-After": email.utils.formatdate(0, usegmt=True)}) == 0.0


def test_the_gauge_halves_once_a_second_and_grows_by_one_a_round() -> None:
    gauge = Gauge(16)
    for _ in range(5):
        gauge.failed(PassingError("status 429", full=True))
    assert gauge.allowed == 8
    for _ in range(9):  # 8 successes raise 8 by nearly one, the ninth passes it
        gauge.succeeded()
    assert gauge.allowed == 9
    for _ in range(1000):
        gauge.succeeded()
    assert gauge.allowed == 16


def test_a_used_up_limit_is_waited_for() -> None:
    # the headers as OpenAI documents them
    full = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m0.5s",
            "x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6h"}  # fmt: skip
    assert limit_wait(full) == 60.5
    assert limit_wait({**full, "x-ratelimit-remaining-tokens": "0"}) == 6 * 3600
    assert limit_wait({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms"}) == 0.02
    assert limit_wait({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "7.5"}) == 7.5
    assert limit_wait({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "1s"}) is None


def test_likelihoods_sum_what_follows_the_context() -> None:
    # the endpoint gives each word the log-probability -1/8 of its letters, and none to the first
    with endpoint(each_once(["broken"])) as server:
        got = engine(server.url).likelihoods(
            [Continuation("one three", " fifteen"), Continuation("one ", "three five"), Continuation("", "one three")]
        )
        body = server.seen[-1][1]
    assert [(one.logp, one.tokens) for one in got] == [(-7 / 8, 1), (-9 / 8, 2), (-5 / 8, 1)]
    assert body["echo"] is True and body["logprobs"] == 1
    with pytest.raises(UsageError, match="conversation"):
        engine("http://x/v1").likelihoods([Continuation((user("Hi"),), "Hello")])


@pytest.mark.parametrize("answer", [{}, {"choices": []}, {"choices": [{}]}, {"choices": [{"message": "x"}]},
                                    {"choices": [{"message": {"content": 3}}]}, {"choices": {"a": 1}}])  # fmt: skip
def test_an_answer_of_another_shape_may_pass(answer: dict[str, Any]) -> None:
    with pytest.raises(PassingError):
        parsed(answer)


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://x/v1", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="no address"):
        open_engine(Opening(url=url))


def test_failed_replies_are_kept_and_can_be_drawn_again(tmp_path: Path) -> None:
    from primum.models.runner import reopen_failed

    prompts = [Asked(str(i), m) for i, m in enumerate(asked(10))]
    plan = Plan(Sampling(0.0, 8), shard=4)
    with endpoint(lambda body: "broken" if body["messages"][-1]["content"][-1] in "37" else None) as server:
        run = engine(server.url, attempts=2)
        tally = draw_all(tmp_path, {"k": 1}, prompts, plan, lambda: run, lambda *_: None)
    assert (tally.replies, dict(tally.failed)) == (10, {"status 500 (2 attempts)": 2})
    assert reopen_failed(tmp_path) == 2
    with endpoint() as server:
        run = engine(server.url)
        tally = draw_all(tmp_path, {"k": 1}, prompts, plan, lambda: run, lambda *_: None)
        assert len(server.seen) == 2 and not tally.failed
    assert [row["text"] for row in replies(tmp_path)] == [f"number {i}"[::-1] for i in range(10)]
