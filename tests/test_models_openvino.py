"""OpenVINO gives what transformers gives, on three architectures with random weights; and says nothing to anybody."""

from __future__ import annotations

import copy
import subprocess
import sys
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer, LlamaConfig, Qwen2Config, Qwen3Config
from transformers.models.auto import AutoModelForCausalLM

from primum.core.records import system, user
from primum.models.chat import encode
from primum.models.embedded import embedded_folder, gguf_path
from primum.models.ends import ends_of
from primum.models.engines.hf import HFEngine, decode
from primum.models.engines.openvino import OpenVINOEngine, open_engine, why_not
from primum.models.gguf_file import interleaved, read_exactly, write_gguf
from primum.models.likelihood import Continuation
from primum.models.load import Model, load, quiet
from primum.models.sampling import Opening, Request, Sampling

pytestmark = [
    pytest.mark.skipif(find_spec("openvino_genai") is None, reason="OpenVINO GenAI is not installed"),
    pytest.mark.filterwarnings("default"),  # its own, while it is imported
]
SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 512, "head_dim": 16,
    "tie_word_embeddings": True,
}  # fmt: skip
KINDS = {
    "llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config,
    "llama with biases": partial(LlamaConfig, attention_bias=True, mlp_bias=True),
    "qwen3 with wide heads": partial(Qwen3Config, head_dim=32),
    "llama untied": partial(LlamaConfig, tie_word_embeddings=False),
}  # fmt: skip
ASKED = [(user("What is the capital of France?"),), (user("Say nothing."),), (user("What is it?"),)]


@cache
def trained() -> Any:
    """Return a tokenizer of the embedded model's kind and template with few words: OpenVINO reads 49,152 in seconds."""
    texts = ["What is the capital of France? Say nothing. The sea is blue and wide.", "word 1 word 2 word 3 Paris."]
    return AutoTokenizer.from_pretrained(embedded_folder()).train_new_from_iterator(texts, 600, show_progress=False)


def tiny(kind: Any) -> Model:
    torch.manual_seed(0)
    tokenizer = copy.deepcopy(trained())
    sizes = {**SIZES, "vocab_size": len(tokenizer), **getattr(kind, "keywords", {})}
    with quiet():
        network = AutoModelForCausalLM.from_config(kind(**sizes), dtype=torch.float32).eval()
    for parameter in network.parameters():  # so that the likeliest token stands out
        parameter.data *= 3
    network.generation_config.eos_token_id = 2
    return Model(network, tokenizer, "tiny", "tiny", "0")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_replies_and_likelihoods_are_those_of_transformers(kind: Any, tmp_path: Path) -> None:
    here, there = engines(tiny(kind), tmp_path / "tiny.gguf")
    got, wanted = (engine(ASKED, Sampling(0.0, 12), 0) for engine in (here, there))
    assert got == wanted
    asked = [Continuation("The sea is", " blue and wide."), Continuation(ASKED[0], "Paris."), Continuation("a ", "b")]
    for ours, theirs in zip(here.likelihoods(asked), there.likelihoods(asked), strict=True):
        assert ours.tokens == theirs.tokens > 0
        assert ours.logp == pytest.approx(theirs.logp, abs=0.02 * ours.tokens)


def engines(model: Model, path: Path, batch_size: int = 2) -> tuple[OpenVINOEngine, HFEngine]:
    """The same weights, rounded to F16, in both engines, in fp32 arithmetic."""
    write_gguf(model, path, "F16")
    for parameter in model.network.parameters():
        parameter.data = parameter.data.half().float() if parameter.data.ndim > 1 else parameter.data
    ends = ends_of(model.network, model.tokenizer)
    return OpenVINOEngine(path, model.tokenizer, ends, "tiny", batch_size, exact=True), HFEngine(model, batch_size)


def test_every_token_that_the_model_names_ends_a_reply_in_both_engines(tmp_path: Path) -> None:
    """A model may name more ends than its tokenizer does (Llama 3 and Qwen do, in generation_config.json)."""
    model = tiny(LlamaConfig)
    tokens = [decode(model, [row], Sampling(0.0, 12), torch.Generator())[0] for row in encode(ASKED, model.tokenizer)]
    named = [2, tokens[0][4], tokens[1][7]]
    model.network.generation_config.eos_token_id = named
    wanted = [min(row.index(end) for end in named if end in row) + 1 if {*row} & {*named} else 12 for row in tokens]
    here, there = engines(model, tmp_path / "tiny.gguf")
    got = here(ASKED, Sampling(0.0, 12), 0)
    assert [reply.reply_tokens for reply in got] == wanted and wanted[0] <= 5
    assert got[0].finish == "stop" and got == there(ASKED, Sampling(0.0, 12), 0)


def test_a_prompt_that_does_not_fit_is_cut_as_by_transformers(tmp_path: Path) -> None:
    here, there = engines(tiny(LlamaConfig), tmp_path / "tiny.gguf")
    asked = [(user(" ".join(f"word {i}" for i in range(400))),)]
    (got,) = here(asked, Sampling(0.0, 12), 0)
    assert got.prompt_tokens == 512 - 12 and got.prompt_cut > 2 * 400 - 500
    assert [got] == there(asked, Sampling(0.0, 12), 0)


def test_a_sample_depends_on_its_seed_and_not_on_its_batch(tmp_path: Path) -> None:
    asked = [(user(text),) for text in ("Hi", "Tell me more about the sea.", "Hi", "Name a bird", "Hi")]
    seeds = [11, 12, 13, 14, 15]
    here, _ = engines(tiny(LlamaConfig), tmp_path / "tiny.gguf")
    wide = OpenVINOEngine(here.path, here.tokenizer, here.ends, "tiny", batch_size=8, exact=True)
    one = [reply.text for reply in here(asked, Sampling(1.0, 8), seeds)]
    assert one == [reply.text for reply in wide(asked[::-1], Sampling(1.0, 8), seeds[::-1])][::-1]
    assert one[1] == wide(asked[1:2], Sampling(1.0, 8), seeds[1:2])[0].text
    assert len({one[i] for i in (0, 2, 4)}) == 3


@pytest.mark.parametrize("shared", ["prompt", "system turn"])
def test_what_prompts_share_is_read_once(shared: str, tmp_path: Path) -> None:
    here, there = engines(tiny(LlamaConfig), tmp_path / "tiny.gguf", 8)
    long = " ".join(f"word {i}" for i in range(110))  # over 400 tokens
    asked = [(user(long),)] * 8 if shared == "prompt" else [(system(long), user(f"Say {i}.")) for i in range(8)]
    pipe, steps = here._pipe, list[int]()

    class Counted:
        def step(self) -> None:
            steps.append(1)
            pipe.step()

        def __getattr__(self, name: str) -> Any:
            return getattr(pipe, name)

    here._pipe = Counted()
    got = here(asked, Sampling(0.0, 2), 0)
    # a step reads at most 512 tokens: 8 prompts of over 400 would take 7 of them before the last second token
    assert got[0].prompt_tokens > 400 and len(steps) <= 5
    assert got == there(asked, Sampling(0.0, 2), 0)


def test_requests_that_nobody_waits_for_leave_nothing_behind(tmp_path: Path) -> None:
    here, there = engines(tiny(LlamaConfig), tmp_path / "tiny.gguf")
    requests = [Request(i, ASKED[i % 3], i) for i in range(20)]
    stream = here.stream(requests, Sampling(0.0, 12))
    next(stream)
    stream.close()
    assert not here._pipe.has_non_finished_requests()
    assert here(ASKED, Sampling(0.0, 12), 0) == there(ASKED, Sampling(0.0, 12), 0)


def test_a_checkpoint_and_an_adapter_over_it_are_opened_by_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As training leaves them; the adapter is merged, and each is written as GGUF once."""
    embedded_folder()  # in the cache that it is in
    model = tiny(LlamaConfig)
    monkeypatch.setenv("PRIMUM_CACHE", str(tmp_path / "cache"))
    model.network.save_pretrained(tmp_path / "base")
    model.tokenizer.save_pretrained(tmp_path / "base")
    network: Any = get_peft_model(model.network, LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]))
    for name, weight in network.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.3)
    network.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    network.save_pretrained(tmp_path / "adapter")
    texts: list[list[str]] = []
    for folder in (tmp_path / "base", tmp_path / "adapter"):
        opening = Opening(str(folder), 4, precision="F16", exact=True)
        assert why_not(opening) is None
        got = open_engine(opening)(ASKED, Sampling(0.0, 8), 0)
        assert got == HFEngine(load(str(folder), torch.float32))(ASKED, Sampling(0.0, 8), 0)
        texts.append([reply.text for reply in got])
    assert texts[0] != texts[1]
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "gguf").iterdir()}
    assert len(written) == 2
    open_engine(Opening(str(tmp_path / "adapter"), 4, precision="F16", exact=True))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "gguf").iterdir()} == written


def test_llamas_rows_are_reordered_in_pairs() -> None:
    # one head of 4 rows: halves (0, 1) and (2, 3) become pairs 0 2, 1 3 (llama.cpp, LlamaModel.permute)
    assert interleaved(np.arange(8).reshape(8, 1), 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_files_that_openvino_rounds_are_not_read_directly(tmp_path: Path) -> None:
    assert not read_exactly(gguf_path())  # Q4_1
    path = tmp_path / "tiny.gguf"
    write_gguf(tiny(LlamaConfig), path, "Q8_0")
    assert read_exactly(path)
    kinds = {tensor.tensor_type for tensor in gguf.GGUFReader(path).tensors}
    assert kinds == {gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.F32}


def test_importing_it_reports_nothing(tmp_path: Path) -> None:
    """A package named openvino_telemetry, were it found, would be told of the import."""
    (tmp_path / "openvino_telemetry").mkdir()
    (tmp_path / "openvino_telemetry" / "__init__.py").write_text("print('told')\n")
    code = (
        "from primum.models.engines.openvino import without_telemetry\nwithout_telemetry()\n"
        "import openvino, openvino_genai\nprint('imported')"
    )
    environment = {"PYTHONPATH": ":".join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "imported\n"


def test_what_it_cannot_run_is_said_before_weights_are_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}')
    assert "'gpt2' is none of the architectures" in str(why_not(Opening(str(tmp_path))))
    assert why_not(Opening("embedded")) is None
