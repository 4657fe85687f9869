"""The vllm engine against a command that speaks as vLLM does; tests/test_models_vllm_real.py runs vLLM itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from primum.core.errors import StepFailedError, UsageError
from primum.core.records import user
from primum.models.chat import render
from primum.models.ends import Ends
from primum.models.engines.http import open_engine as http_engine
from primum.models.engines.vllm import VLLMEngine, open_engine, served_name, why_not
from primum.models.likelihood import Continuation
from primum.models.opening import choose
from primum.models.sampling import Opening, Sampling

WORDS = ["<end>", "ask", ":", "answer", "a", "b", "c", "d", "e", "f", "g"]
"""Token ids 1, 2, ...; 0 is unknown, and kills the fake."""
TEMPLATE = (
    "{% for m in messages %}ask : {{ m.content }} {% if m.role == 'assistant' %}<end>{% endif %}{% endfor %}answer"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a tokenizer of a dozen words."""
    vocabulary = {"<unk>": 0, **{word: i + 1 for i, word in enumerate(WORDS)}}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="<end>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """Make the fake the command `vllm`; return what it wrote at each start."""
    command = tmp_path / "vllm"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("fake_vllm.py")} "$@"\n')
    command.chmod(0o755)
    for name, value in (
        ("PRIMUM_VLLM", command),
        ("FAKE_VLLM_NOTES", tmp_path / "notes"),
        ("PRIMUM_CACHE", tmp_path / "cache"),
    ):
        monkeypatch.setenv(name, str(value))
    return lambda: [json.loads(line) for line in (tmp_path / "notes").read_text().splitlines()]


@pytest.fixture
def opened() -> Iterator[Callable[[Opening], VLLMEngine]]:
    """Open engines, and stop their servers."""
    made: list[VLLMEngine] = []

    def make(opening: Opening) -> VLLMEngine:
        made.append(open_engine(opening))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def adapter(model: Path) -> Path:
    folder = model.with_name("adapter")
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(model), "r": 32}))
    return folder


def test_replies_likelihoods_restart_and_stop(model: Path, notes: Any, opened: Any) -> None:
    engine = opened(Opening(str(model), batch_size=4))
    engine.endpoint.first_wait = 0.05
    # "ask : a b answer" is 2 3 5 6 4: the reply is 4 6 5 and <end>
    got = engine([(user("a b"),), (user("c d e"),)], Sampling(0.0, 9), seed=0)
    assert [(r.text, r.finish, r.prompt_tokens, r.reply_tokens) for r in got] == [
        ("answer b a", "stop", 5, 4), ("answer e d", "stop", 6, 4),
    ]  # fmt: skip
    assert engine([(user("a b"),)], Sampling(0.0, 2), 0)[0].finish == "length"
    # text: context "a b" is 5 6, " c d" is 7 8; in a conversation the answer begins behind "answer"
    text, turn = engine.likelihoods([Continuation("a b", " c d"), Continuation((user("a"),), "g")])
    assert (text.logp, text.tokens) == (pytest.approx(-0.015), 2)
    assert (turn.logp, turn.tokens) == (pytest.approx(-0.011), 1)
    first = notes()[0]
    assert (first["VLLM_NO_USAGE_STATS"], first["DO_NOT_TRACK"]) == ("1", "1")
    assert first["argv"][:2] == ["serve", str(model)] and "127.0.0.1" in first["argv"]
    assert engine.endpoint.key not in str(first["argv"])
    os.kill(first["pid"], signal.SIGKILL)
    assert engine([(user("a b"),)] * 3, Sampling(0.0, 9), 0)[0].text == "answer b a"
    assert len(notes()) == 2
    engine.close()
    with pytest.raises(ProcessLookupError):
        os.kill(notes()[1]["pid"], 0)


def test_an_adapter_is_loaded_into_the_running_server_and_again_after_a_restart(
    model: Path, notes: Any, opened: Any
) -> None:
    engine = opened(Opening(str(adapter(model)), batch_size=4))
    engine.endpoint.first_wait = 0.05
    assert engine([(user("a b"),)], Sampling(0.0, 9), 0)[0].text == "ask : a"
    argv = notes()[0]["argv"]
    assert argv[1] == str(model) and argv[argv.index("--max-lora-rank") + 1] == "32"
    os.kill(notes()[0]["pid"], signal.SIGKILL)
    assert engine([(user("a b"),)], Sampling(0.0, 9), 0)[0].text == "ask : a"


def test_a_server_that_runs_already_is_used_and_left_running(
    model: Path, notes: Any, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = opened(Opening(str(model), batch_size=4))
    monkeypatch.setenv("KEY", own.endpoint.key)
    with pytest.raises(UsageError, match="did not load the adapter"):  # it was started without --enable-lora
        opened(Opening(str(adapter(model)), 4, own.endpoint.url, "KEY"))
    other = opened(Opening(str(model), 4, own.endpoint.url, "KEY"))
    assert other.model == "primum"  # what the server calls it
    assert other([(user("a b"),)], Sampling(0.0, 9), 0)[0].text == "answer b a"
    other.close()
    assert own([(user("a b"),)], Sampling(0.0, 9), 0)[0].text == "answer b a" and len(notes()) == 1


def test_completions_of_any_endpoint_are_given_our_tokens(
    model: Path, notes: Any, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The http engine at an address that ends in /completions, with the tokenizer and the ends of MODEL."""
    server = opened(Opening(str(model), batch_size=4))
    (model / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 40}')
    (model / "generation_config.json").write_text('{"eos_token_id": [1, 11]}')
    monkeypatch.setenv("OPENAI_API_KEY", server.endpoint.key)
    engine = http_engine(Opening(str(model), url=server.endpoint.url + "/completions"))
    sent: list[Any] = []
    post = engine.endpoint.post
    monkeypatch.setattr(engine.endpoint, "post", lambda *given: (sent.append(json.loads(given[1])), post(*given))[1])
    (got,) = engine([(user("a b"),)], Sampling(0.0, 2), 0)
    assert (got.text, got.finish, got.prompt_tokens) == ("? 4 6", "length", 5)  # the fake's own words
    assert (sent[0]["prompt"], sent[0]["stop"], sent[0]["model"]) == ([2, 3, 5, 6, 4], ["<end>", "g"], "primum")
    text, turn = engine.likelihoods([Continuation("a b", " c d"), Continuation((user("a"),), "g")])
    assert (text.logp, text.tokens, turn.logp) == (pytest.approx(-0.015), 2, pytest.approx(-0.011))
    (long,) = engine([(user("a " * 60),)], Sampling(0.0, 9), 0)
    whole = len(engine.tokenizer(render((user("a " * 60),), engine.tokenizer), add_special_tokens=False)["input_ids"])
    assert (long.prompt_tokens, long.prompt_cut) == (40 - 9, whole - (40 - 9))
    with pytest.raises(UsageError, match="no tokenizer for 'nowhere'"):
        http_engine(Opening("nowhere", url=server.endpoint.url + "/completions"))


def test_what_the_model_names_ends_a_reply_and_a_long_prompt_is_cut(model: Path, notes: Any, opened: Any) -> None:
    (model / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 40, "eos_token_id": 1}')
    assert opened(Opening(str(model))).ends == Ends(frozenset({1}), 40)
    (model / "generation_config.json").write_text('{"eos_token_id": [1, 11]}')
    engine = opened(Opening(str(model)))
    assert engine.ends == Ends(frozenset({1, 11}), 40)
    whole = len(engine.tokenizer(render((user("a " * 60),), engine.tokenizer), add_special_tokens=False)["input_ids"])
    (long,) = engine([(user("a " * 60),)], Sampling(0.0, 9), 0)
    assert (long.prompt_tokens, long.prompt_cut) == (40 - 9, whole - (40 - 9))


def test_a_server_that_cannot_start_says_why(model: Path, notes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    model.rename(model.with_name("broken"))
    with pytest.raises(StepFailedError, match="ended while it started") as caught:
        open_engine(Opening("broken"))
    assert "this model has no weights" in str(caught.value.cure)


def test_a_killed_parent_takes_its_server_along(model: Path, notes: Any, tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom primum.models.engines.vllm import open_engine\n"
        "from primum.models.sampling import Opening\nopen_engine(Opening(sys.argv[1]))\nprint('up', flush=True)\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(model)], stdout=subprocess.PIPE)
    assert parent.stdout is not None and parent.stdout.readline() == b"up\n"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            os.kill(notes()[0]["pid"], 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("the server outlived its parent")


def test_the_name_of_a_model_in_a_running_server() -> None:
    assert served_name("a", ["a", "b"]) == served_name("a", []) == served_name("/folder/a", ["a"]) == "a"
    with pytest.raises(UsageError, match="does not serve 'c'"):
        served_name("c", ["a", "b"])


def test_without_the_command_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRIMUM_VLLM", "/nowhere/vllm")
    assert "no vllm command" in str(why_not(Opening("m")))
    assert why_not(Opening("m", url="http://localhost:1/v1")) is None
    assert "GGUF" in str(why_not(Opening("m.gguf")))
    with pytest.raises(UsageError, match="cannot run 'm'"):
        open_engine(Opening("m"))
    assert choose("auto", Opening(url="http://localhost:1/v1")).engine == "http"
