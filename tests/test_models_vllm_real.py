"""A real vLLM on this machine: the replies of transformers, an adapter, log-likelihoods, killed in the middle of a run.

Not among the tests that run by default: `make check-vllm`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import LoraConfig, get_peft_model

from primum.core.records import user
from primum.models.embedded import embedded_folder
from primum.models.engines.hf import HFEngine
from primum.models.engines.vllm import VLLMEngine, command, open_engine
from primum.models.likelihood import Continuation
from primum.models.load import load
from primum.models.runner import Asked, Plan, draw_all, replies
from primum.models.sampling import Opening, Sampling

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore"), pytest.mark.skipif(not command(), reason="none")]
ASKED = [(user(f"What is {i} plus one? Answer in one short sentence."),) for i in range(8)]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter over the embedded model that changes what it says."""
    model = load("embedded", torch.float32)
    torch.manual_seed(0)
    network: Any = get_peft_model(model.network, LoraConfig(r=8, target_modules=["q_proj", "v_proj"]))
    for key, weight in network.named_parameters():
        if "lora_" in key:
            torch.nn.init.normal_(weight, std=0.05)
    folder = tmp_path_factory.mktemp("adapter")
    network.save_pretrained(folder)
    settings = folder / "adapter_config.json"
    text = settings.read_text()
    settings.write_text(
        text.replace('"base_model_name_or_path": null', f'"base_model_name_or_path": "{embedded_folder()}"')
    )
    return folder


@pytest.fixture(scope="module")
def engine() -> Iterator[VLLMEngine]:
    """The embedded model in fp32."""
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    os.environ.setdefault("PRIMUM_VLLM_ARGS", "--max-model-len 1024 --enforce-eager")
    opened = open_engine(Opening("embedded", batch_size=8, exact=True))
    yield opened
    opened.close()


def test_greedy_replies_and_likelihoods_are_those_of_transformers(engine: VLLMEngine) -> None:
    there = HFEngine(load("embedded", torch.float32))
    got, wanted = (one(ASKED, Sampling(0.0, 12), 0) for one in (engine, there))
    assert got == wanted
    asked = [Continuation("The capital of France is", " Paris."), Continuation(ASKED[0], "It is one.")]
    for ours, theirs in zip(engine.likelihoods(asked), there.likelihoods(asked), strict=True):
        assert ours.tokens == theirs.tokens and ours.logp == pytest.approx(theirs.logp, abs=0.01)


def test_killed_in_the_middle_it_is_started_again_and_nothing_is_lost(engine: VLLMEngine, tmp_path: Path) -> None:
    asked = [Asked(str(i), (user(f"Tell me about the number {i}."),)) for i in range(40)]
    killed: list[int] = []

    def seen(count: int, tokens: int) -> None:
        if not killed:
            watch = next(c for c in psutil.Process().children() if "watch.py" in " ".join(c.cmdline()))
            server = watch.children()[0]
            killed.append(server.pid)
            os.kill(server.pid, signal.SIGKILL)

    tally = draw_all(tmp_path, {}, asked, Plan(Sampling(0.0, 16)), lambda: engine, seen)
    assert killed and tally.replies == 40 and not tally.failed
    assert [row["prompt_id"] for row in replies(tmp_path)] == [str(i) for i in range(40)]


def test_an_adapter_is_hot_loaded(adapter: Path) -> None:
    opened = open_engine(Opening(str(adapter), batch_size=8, exact=True))
    try:
        got = opened(ASKED[:3], Sampling(0.0, 8), 0)
    finally:
        opened.close()
    changed = HFEngine(load(str(adapter), torch.float32))(ASKED[:3], Sampling(0.0, 8), 0)
    plain = HFEngine(load("embedded", torch.float32))(ASKED[:3], Sampling(0.0, 8), 0)
    assert [r.text for r in got] == [r.text for r in changed] != [r.text for r in plain]
