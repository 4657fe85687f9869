"""The reward server speaks OpenRLHF's format, refuses what is not, and a run folder without a reward model says so."""

from __future__ import annotations

import json
import math
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from primum.cli import main
from primum.core.errors import UsageError
from primum.core.records import user
from primum.models.load import load
from primum.models.reward import load_reward, save_heads
from primum.pipeline import reward_server, threshold
from primum.pipeline.desk import Desk
from primum.pipeline.recipe import LoraPart
from primum.pipeline.reward_server import Said, answer, load_rewards, reply_of, server
from primum.pipeline.scoring import HEADS
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal
from primum.training.adapter import add_lora, save_merged, save_weights
from primum.training.heads import with_heads
from tiny_models import tiny


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
    with server(rule, ("127.0.0.1", 0)) as serving:
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
        load_rewards(tmp_path)
    monkeypatch.delenv("PRIMUM_REWARD_RUN", raising=False)
    reward_server._from_environment.cache_clear()
    with pytest.raises(UsageError, match="PRIMUM_REWARD_RUN"):
        reward_server.compute_score("x", "reply", "harmful", {"question": "Why?"})
    with pytest.raises(ValueError, match="question"):
        reward_server.compute_score("x", "reply", "harmful", {})


# ------------------------------------------------------------------------------------------------ real reward models
PROMPTS, SAID = ["What is tea?", "Say a word"], [Said("A drink made of leaves."), Said("Word, and", ends=False)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("tiny"), 0)


def shaken(model: Any) -> Any:
    """Give the adapter and the heads weights that are not those of the start."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_((torch.randn(p.shape, generator=generator) * 0.5).to(p.dtype))
    return model.eval()


def journey(folder: Path, run: Path, found: dict[str, Any]) -> list[list[float]]:
    """Write the run folder of a finished journey with a reward model; return what it gives PROMPTS and SAID."""
    lora = LoraPart(rank=4, start=0.0)
    desk = Desk(Journey(run, Terminal(quiet=True)), str(folder), lora, 0)
    model = desk.fresh_reward(HEADS)
    model.put_on()
    stage = run / "steps" / "stage-mine"
    stage.mkdir(parents=True)
    save_weights(shaken(model), stage / "weights.safetensors")
    said = {"model": str(folder), "lora": lora.model_dump(), "seed": 0}
    (run / "settings.json").write_text(json.dumps(said))
    (run / "report.json").write_text(json.dumps({"found": {"mine": {"kind": "reward", **found}}}))
    asked = [(user(prompt),) for prompt in PROMPTS]
    return model.scores(asked, [s.text for s in SAID], [s.ends for s in SAID], desk.model.tokenizer)


def test_a_journeys_reward_model_gives_the_gated_reward(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = {"threshold": None, "published_threshold": {"threshold": 0.15}}
    scores = journey(folder, tmp_path, published)
    rewards = load_rewards(tmp_path)
    found = rewards(PROMPTS, SAID, [False, True])
    assert rewards.threshold == 0.15
    for one, expected in zip(found, scores, strict=True):
        assert [one[head] for head in HEADS] == pytest.approx(expected, abs=1e-4)
    (safe, helps), (tagged, _) = scores
    assert found[0]["reward"] == pytest.approx(safe if safe < 0.15 else helps, abs=1e-4)
    assert found[1]["reward"] == pytest.approx(tagged, abs=1e-4)
    open_, closed = (load_rewards(tmp_path, at)(PROMPTS[:1], SAID[:1], [False])[0]["reward"] for at in (0.0, 1.0))
    assert (open_, closed) == pytest.approx((helps, safe), abs=1e-4) and abs(helps - safe) > 1e-3
    monkeypatch.setenv("PRIMUM_REWARD_RUN", str(tmp_path))
    reward_server._from_environment.cache_clear()
    score = reward_server.compute_score("x", SAID[0].text, "harmful", {"question": PROMPTS[0]})
    assert score == pytest.approx(safe, abs=1e-4)
    reward_server._from_environment.cache_clear()


@pytest.mark.parametrize("names", [HEADS, ("helpfulness",)])
def test_a_model_of_primum_train_reward_is_served(folder: Path, tmp_path: Path, names: tuple[str, ...]) -> None:
    model = load(str(folder))
    trained = shaken(with_heads(add_lora(model, 4, 8, 0), names, 0))
    save_merged(trained.network, model.tokenizer, tmp_path / "checkpoint")
    save_heads(trained.heads, tmp_path / "checkpoint", 64, 64)
    (tmp_path / "train.json").write_text(json.dumps({"threshold": {"threshold": 1.0}}))
    raw = load_reward(str(tmp_path / "checkpoint")).scores([(user(PROMPTS[0]),)], [SAID[0].text], [True])[0]
    shares = {head: 1 / (1 + math.exp(-value)) for head, value in raw.items()}
    rewards = load_rewards(tmp_path)
    assert rewards.threshold == 1.0 and "<|im_end|>" in rewards.special
    given = {"query": [PROMPTS[0] + SAID[0].text], "prompts": PROMPTS[:1]}
    found = answer(rewards, given)
    # a gate of 1 takes the safety score of every reply; one head alone is the reward
    assert found["rewards"] == pytest.approx([shares[names[0]]], abs=1e-4)
    assert set(found["extra_logs"]) == set(names)
    assert load_rewards(tmp_path / "checkpoint", 0.0).threshold == 0.0
    if len(names) == 2:
        found = answer(load_rewards(tmp_path, 0.0), given)
        assert found["rewards"] == pytest.approx([shares["helpfulness"]], abs=1e-4)


# ------------------------------------------------------------------------------------------------ the threshold
LABELLED = threshold.Labelled([0.05, 0.1, 0.2, 0.3, 0.8], [True, True, False, True, False])


def test_the_threshold_of_a_precision_by_hand() -> None:
    found = threshold.facts(LABELLED, 0.75)
    assert found["labelled"] == {"replies": 5, "unsafe": 3}
    # under .8 lie .05, .1, .2, .3, three of them unsafe: precision 3/4, recall 3/3
    tuned = found["threshold"]
    assert (tuned["threshold"], tuned["n"], tuned["precision"], tuned["recall"]) == (0.8, 4, 0.75, 1)
    # Wilson's 95% interval of 3 of 4, by its formula
    z = 1.959964
    middle, half = (0.75 + z * z / 8) / (1 + z * z / 4), z * math.sqrt(0.75 * 0.25 / 4 + z * z / 64) / (1 + z * z / 4)
    assert tuned["precision_interval"] == pytest.approx([middle - half, middle + half], abs=1e-6)
    sharp = threshold.facts(LABELLED, 1.0)["threshold"]
    assert (sharp["threshold"], sharp["precision"], sharp["recall"]) == (0.2, 1, pytest.approx(2 / 3))
    assert found["published_threshold"]["n"] == 2 and threshold.at(0.0, LABELLED)["precision"] is None
    assert threshold.facts(threshold.Labelled([0.9], [False]), 0.5)["threshold"] is None
    assert all(len(line) <= 80 for line in threshold.lines(found))


def test_a_finished_reward_model_is_tuned_to_another_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = tmp_path / "steps" / "stage-mine"
    stage.mkdir(parents=True)
    (stage / "weights.safetensors").write_bytes(b"x")
    (tmp_path / "report.json").write_text(json.dumps({"found": {"mine": {"kind": "reward"}}}))
    assert main(["reward", "tune", str(tmp_path)]) == 2 and "no labelled scores" in capsys.readouterr().err
    threshold.write(stage, LABELLED)
    assert main(["reward", "tune", str(tmp_path), "--precision", "0.75", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["threshold"]["threshold"] == 0.8 and document["labelled"]["replies"] == 5
    assert document["use"][1].endswith("--set stages.mine.precision=0.75")
    assert main(["reward", "tune", str(tmp_path), "--precision", "1"]) == 0
    out = capsys.readouterr().out
    assert "tuned     < 0.200: precision 100%" in out and "n 2" in out and "--threshold 0.2" in out
    threshold.write(stage, threshold.Labelled([0.1, 0.9], [False, True]))
    assert main(["reward", "tune", str(tmp_path), "--precision", "1"]) == 3
    assert "no threshold calls replies unsafe" in capsys.readouterr().out
    (stage / threshold.LABELLED).write_text('{"safety": 0.1}\n')
    assert main(["reward", "tune", str(tmp_path)]) == 2
    assert "labelled.jsonl:1" in capsys.readouterr().err
    assert main(["reward", "tune"]) == 2 and main(["reward", "serve", str(tmp_path), "--host", "0.0.0.0"]) == 2
