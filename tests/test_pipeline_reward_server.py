"""The reward server speaks OpenRLHF's format, refuses what is not, and a run folder without a reward model says so."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from primum.core.errors import UsageError
from primum.pipeline import reward_server
from primum.pipeline.reward_server import CombinedReward, Said, answer, reply_of, server


class Rule:
    """A rule in place of a model: long replies help, and a tagged prompt takes the safety score."""

    special = ("<|endoftext|>", "<|end|>", "<s>")

    def __call__(
        self, prompts: Sequence[str], replies: Sequence[Said], tagged: Sequence[bool]
    ) -> list[dict[str, float]]:
        helps = [min(1.0, len(reply.text) / 10) for reply in replies]
        return [
            {"reward": 0.9 if tag else h, "safety": 0.9, "helpfulness": h} for h, tag in zip(helps, tagged, strict=True)
        ]


rule = Rule()


@pytest.fixture
def address() -> Iterator[str]:
    with server(rule, port=0) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_address[1]}/get_reward"
        serving.shutdown()


def post(address: str, data: bytes) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data), timeout=10) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_a_reward_comes_back_for_each_query(address: str) -> None:
    body = {"query": ["Hi? 12345", "Bad? no"], "prompts": ["Hi? ", "Bad? "], "labels": ["", "harmful"]}
    status, found = post(address, json.dumps(body).encode())
    assert status == 200
    assert found["rewards"] == found["scores"] == [0.5, 0.9]  # the prompt is cut off the query
    assert found["extra_logs"] == {"safety": [0.9, 0.9], "helpfulness": [0.5, 0.2]}


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'{"query": "x", "prompts": "y"}',
        b'{"query": ["x"], "prompts": []}',
        b'{"query": [3], "prompts": [4]}',
    ],
)
def test_what_is_no_request_is_refused_and_the_server_goes_on(address: str, body: bytes) -> None:
    assert post(address, body)[0] == 400
    assert post(address, b'{"query": ["a b"], "prompts": ["a "]}')[0] == 200


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("Hi? yes", ("yes", True)),  # decoded without special tokens: nobody knows
        ("<s>Hi? yes<|end|><|endoftext|><|endoftext|>", ("yes", True)),  # the end, and pads
        ("<s>Hi? yes and", ("yes and", False)),  # cut by a limit
        ("Hi? <|end|>", ("", True)),
    ],
)
def test_special_tokens_of_a_query_are_no_words_of_the_reply(query: str, said: tuple[str, bool]) -> None:
    assert reply_of(query, "Hi? ", rule.special) == said


def test_a_query_of_another_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="begin with its prompt"):
        answer(rule, {"query": ["Ho? yes"], "prompts": ["Hi? "]})


def test_labels_must_fit() -> None:
    with pytest.raises(ValueError, match="labels"):
        answer(rule, {"query": ["x"], "prompts": ["x"], "labels": ["a", "b"]})


def test_a_folder_without_a_reward_model_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no reward model"):
        CombinedReward(tmp_path)
    monkeypatch.delenv("PRIMUM_REWARD_RUN", raising=False)
    reward_server._from_environment.cache_clear()
    with pytest.raises(UsageError, match="PRIMUM_REWARD_RUN"):
        reward_server.compute_score("x", "reply", "harmful", {"question": "Why?"})
    with pytest.raises(ValueError, match="question"):
        reward_server.compute_score("x", "reply", "harmful", {})
