"""OpenVINO gives what transformers gives, on three architectures with random weights; and says nothing to anybody."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, Qwen2Config, Qwen3Config
from transformers.models.auto import AutoModelForCausalLM

from primum.core.records import user
from primum.models.embedded import embedded_folder, gguf_path
from primum.models.engines.hf import HFEngine
from primum.models.engines.openvino import OpenVINOEngine, why_not
from primum.models.gguf_file import interleaved, read_exactly, write_gguf
from primum.models.likelihood import Continuation
from primum.models.load import Model, quiet
from primum.models.sampling import Opening, Sampling

pytestmark = [
    pytest.mark.skipif(find_spec("openvino_genai") is None, reason="OpenVINO GenAI is not installed"),
    pytest.mark.filterwarnings("default"),  # its own, while it is imported
]
SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 49152, "max_position_embeddings": 512, "head_dim": 16,
    "tie_word_embeddings": True,
}  # fmt: skip
KINDS = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
ASKED = [(user("What is the capital of France?"),), (user("Say nothing."),), (user("What is it?"),)]


def tiny(kind: Any) -> Model:
    torch.manual_seed(0)
    with quiet():
        network = AutoModelForCausalLM.from_config(kind(**SIZES), dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    for parameter in network.parameters():  # so that the likeliest token stands out
        parameter.data *= 3
    network.generation_config.eos_token_id = 2
    return Model(network, tokenizer, "tiny", "tiny", "0")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_replies_and_likelihoods_are_those_of_transformers(kind: Any, tmp_path: Path) -> None:
    model = tiny(kind)
    path = tmp_path / "tiny.gguf"
    write_gguf(model, path, "F16")
    for parameter in model.network.parameters():  # what the file holds
        parameter.data = parameter.data.half().float() if parameter.data.ndim > 1 else parameter.data
    here = OpenVINOEngine(path, model.tokenizer, "tiny", batch_size=2, exact=True)
    there = HFEngine(model, batch_size=2)
    got, wanted = (engine(ASKED, Sampling(0.0, 12), 0) for engine in (here, there))
    assert got == wanted
    asked = [Continuation("The sea is", " blue and wide."), Continuation(ASKED[0], "Paris."), Continuation("a ", "b")]
    for ours, theirs in zip(here.likelihoods(asked), there.likelihoods(asked), strict=True):
        assert ours.tokens == theirs.tokens > 0
        assert ours.logp == pytest.approx(theirs.logp, abs=0.02 * ours.tokens)


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
