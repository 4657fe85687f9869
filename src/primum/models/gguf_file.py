"""Weights in memory to a GGUF file, so that engines which read GGUF serve our own checkpoints.

The `gguf` package does the quantisation and the writing; what is ours is which tensor goes where. transformers rotates
the two halves of a head against each other, GGUF's Llama neighbouring pairs: Llama's query and key rows are reordered
(llama.cpp, convert_hf_to_gguf.py, `LlamaModel.permute`); Qwen's are not.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import torch
from gguf.constants import GGMLQuantizationType, LlamaFileType

from primum.core.errors import UsageError
from primum.models.embedded import cache_folder
from primum.models.load import Model

Precision = Literal["Q8_0", "Q4_0", "F16"]
ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""transformers' model type -> GGUF's architecture, of those that can be written."""
FORMAT = 1  # raise when the same weights are written in another way


EXACT_FORMATS = {"F32", "F16", "Q8_0", "Q4_0"}
"""Formats that OpenVINO reads as they are. It reads Q4_1 (a scale and an offset for each block) with the offset rounded
to a whole number of steps: six tokens of a plain sentence became 0.5 nats a token less likely under the embedded model
(fp32 arithmetic; 0.00 when the same weights lie in F16). So such files are written anew."""


def read_exactly(path: Path) -> bool:
    """Return whether every tensor of a GGUF file is in a format that OpenVINO reads as it is."""
    return {tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors} <= EXACT_FORMATS


def unwritable(config: Any) -> str | None:
    """Return why a model with this configuration cannot be written as GGUF here, or None where it can."""
    if config.model_type not in ARCHITECTURES:
        return f"'{config.model_type}' is none of the architectures that can be written: {', '.join(ARCHITECTURES)}"
    if (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default") != "default":
        return "its rotary embedding is scaled"
    if config.hidden_size % 32 or config.intermediate_size % 32:
        return "its rows are no multiple of 32, the block of GGUF's formats"
    return None


def cached_gguf(model: Model, precision: Precision = "Q8_0") -> Path:
    """Return the model as a GGUF file in primum's cache; written on the first call.

    Raises:
        UsageError: its architecture cannot be written.
    """
    path = cache_folder() / "gguf" / f"{model.key}-{precision}-f{FORMAT}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        write_gguf(model, partial, precision)
        partial.replace(path)
    return path


def write_gguf(model: Model, path: Path, precision: Precision = "Q8_0") -> None:
    """Write weights, vocabulary and settings to a GGUF file.

    Args:
        model: a Llama, Qwen2 or Qwen3 model.
        path: the file.
        precision: format of the matrices; embeddings are at least Q8_0, vectors always fp32.

    Raises:
        UsageError: its architecture cannot be written.
    """
    config = model.network.config
    problem = unwritable(config)
    if problem:
        raise UsageError(f"cannot write '{model.name}' as GGUF: {problem}", cure="use --engine transformers")
    writer = gguf.GGUFWriter(path, ARCHITECTURES[config.model_type])
    _settings(writer, config, LlamaFileType[_FILE_TYPES[precision]])
    _vocabulary(writer, model.tokenizer, config.vocab_size)
    for name, tensor in _named(model.network):
        kind = _format(name, tensor, precision)
        writer.add_tensor(name, gguf.quants.quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


_FILE_TYPES = {"Q8_0": "MOSTLY_Q8_0", "Q4_0": "MOSTLY_Q4_0", "F16": "MOSTLY_F16"}


def _settings(writer: Any, config: Any, file_type: Any) -> None:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_name(config.model_type)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float((config.rope_parameters or {}).get("rope_theta", 10000.0)))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _vocabulary(writer: Any, tokenizer: Any, size: int) -> None:
    """Write the words. Engines here are given token ids, so that only the model's own tokenizer ever cuts text."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if backend["type"] != "BPE":
        raise UsageError(f"cannot write a '{backend['type']}' vocabulary as GGUF", cure="use --engine transformers")
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    words = tokenizer.convert_ids_to_tokens(list(range(min(size, len(tokenizer)))))
    words += [f"<unused{i}>" for i in range(len(words), size)]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in backend["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2" if "qwen" in type(tokenizer).__name__.lower() else "smollm")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(size)])
    writer.add_token_merges(merges)
    for add, value in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if value is not None:
            add(value)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)


def _named(network: Any) -> list[tuple[str, np.ndarray]]:
    """Return every tensor in fp32 under its GGUF name."""
    config = network.config
    arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == ARCHITECTURES[config.model_type])
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    found: list[tuple[str, np.ndarray]] = []
    for name, tensor in network.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if target is None:
            raise UsageError(f"cannot write '{name}' as GGUF", cure="use --engine transformers")
        array = tensor.detach().to("cpu", torch.float32).numpy()
        part = name.split(".")[-2]
        if config.model_type == "llama" and part in heads:
            array = interleaved(array, heads[part])
        found.append((target, array))
    return found


def interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    """Reorder the rows of each head from (first half, second half) to pairs (0, n/2), (1, n/2 + 1), ..."""
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def _format(name: str, tensor: np.ndarray, precision: Precision) -> GGMLQuantizationType:
    if tensor.ndim == 1:
        return GGMLQuantizationType.F32
    if precision != "F16" and name.startswith(("token_embd", "output.")):
        return GGMLQuantizationType.Q8_0
    return GGMLQuantizationType[precision]
