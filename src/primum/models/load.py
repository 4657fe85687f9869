"""A name to a model: the embedded default, a hub id, a folder, a PEFT adapter with its base, or a GGUF file.

Weights are read from safetensors or GGUF only (never a pickle), and no code from a checkpoint is run.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
from transformers.utils import logging as hf_logging
from transformers.utils.hub import cached_file

from primum.core.errors import UsageError
from primum.core.records import digest
from primum.models.chat import template_hash
from primum.models.device import device
from primum.models.embedded import NAME, embedded_folder

EMBEDDED = "embedded"


def sees(config: Any) -> bool:
    """Return whether a configuration is a vision-language model's: its text model is a part of it."""
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING and config.get_text_config() is not config


def tower(network: Any) -> Any:
    """Return the language tower of a vision-language model; any other network as it is."""
    return network.get_decoder() if sees(network.config) else network


@dataclass(frozen=True)
class Model:
    """A model in memory with its tokenizer; `name` is what the user called it, `hash` says which weights it is."""

    network: Any
    tokenizer: Any
    name: str
    source: str
    hash: str

    @property
    def parameters(self) -> int:
        """Number of weights (tied ones once)."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def key(self) -> str:
        """What a result depends on: the weights, the tokenizer's words and its chat template."""
        return digest([self.hash, template_hash(self.tokenizer), len(self.tokenizer)])

    @property
    def sees(self) -> bool:
        """Whether it takes pictures."""
        return sees(self.network.config)

    @property
    def place(self) -> torch.device:
        """The device of the weights."""
        return next(self.network.parameters()).device


def load(
    name: str = EMBEDDED,
    dtype: torch.dtype | None = None,
    place: str | None = None,
    quantisation: Any = None,
    reader: Any = AutoModelForCausalLM,
    *,
    chat: bool = True,
) -> Model:
    """Load a causal language model, or a vision-language model, and its tokenizer.

    Args:
        name: `embedded`, a hub id, a model folder, a PEFT adapter folder or a .gguf file.
        dtype: number format; None takes the fastest one on this machine.
        place: the device; None takes the best one.
        quantisation: how weights are held in fewer bits (`quantised`); None: as they are.
        reader: what reads a hub id or a folder, as transformers' AutoModelForCausalLM does.
        chat: it will be talked to, and must have a chat template.

    Raises:
        UsageError: a GGUF file or an adapter with quantisation; no such model, or it has no chat template.
    """
    chosen = dtype or device().dtype
    path = embedded_folder() if name == EMBEDDED else Path(name)
    with quiet():
        gguf, adapter = path.suffix == ".gguf" and path.is_file(), (path / "adapter_config.json").is_file()
        if quantisation and (gguf or adapter):
            cure = "name a hub id or a folder of whole weights (primum train writes one into checkpoint/)"
            raise UsageError("a GGUF file or an adapter cannot be held in fewer bits", where=name, cure=cure)
        if gguf:
            network, tokenizer = _gguf(path, chosen)
        elif adapter:
            network, tokenizer = _adapter(path, chosen)
        else:
            how = {"quantization_config": quantisation, "device_map": {"": place or device().name}}
            own = str(path) if path.is_dir() else name
            network, tokenizer = _plain(own, chosen, reader, how if quantisation else {})
    if chat and not getattr(tokenizer, "chat_template", None):
        cure = "use the instruct version, or put a chat_template.jinja beside its tokenizer"
        raise UsageError(f"model '{name}' has no chat template", cure=cure)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    network = (network if quantisation else network.to(place or device().name)).eval()
    label = NAME if name == EMBEDDED else name
    source = name if name == EMBEDDED or not path.exists() else str(path.resolve())
    return Model(network, tokenizer, label, source, weights_hash(network))


def _plain(name: str, dtype: torch.dtype, reader: Any, how: dict[str, Any]) -> tuple[Any, Any]:
    try:
        if reader is AutoModelForCausalLM and sees(AutoConfig.from_pretrained(name, trust_remote_code=False)):
            reader = AutoModelForImageTextToText
        network = reader.from_pretrained(name, dtype=dtype, use_safetensors=True, trust_remote_code=False, **how)
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
        if sees(network.config) and not tokenizer.chat_template:
            tokenizer.chat_template = _processors_template(name)
        return network, tokenizer
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        cure = "name a hub id you can reach, a model folder, an adapter folder or a .gguf file"
        raise UsageError(f"cannot load model '{name}': {first}", cure=cure) from error


def _processors_template(name: str) -> str | None:
    """Return the chat template that a vision-language model's processor has beside its tokenizer, or None."""
    found = cached_file(name, "chat_template.json", _raise_exceptions_for_missing_entries=False)
    return json.loads(Path(found).read_text(encoding="utf-8")).get("chat_template") if found else None


def _gguf(path: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, trust_remote_code=False)
        return gguf_model(path, dtype), tokenizer
    except (OSError, ValueError, KeyError) as error:
        cure = "is it a whole GGUF file of an architecture that transformers can read?"
        raise UsageError(f"cannot read the GGUF file: {error}", where=str(path), cure=cure) from error


def _adapter(path: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    from peft import PeftModel

    base = json.loads((path / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise UsageError(
            "the adapter does not name its base model", where=str(path), cure="set base_model_name_or_path"
        )
    if not (path / "adapter_model.safetensors").is_file():
        cure = "save the adapter as safetensors; pickled weights are not read"
        raise UsageError("the adapter has no adapter_model.safetensors", where=str(path), cure=cure)
    inner = load(base, dtype)
    network = PeftModel.from_pretrained(inner.network, str(path)).merge_and_unload()
    own = (path / "tokenizer_config.json").is_file()
    return network, AutoTokenizer.from_pretrained(str(path), trust_remote_code=False) if own else inner.tokenizer


def tokenizer_of(name: str) -> Any:
    """Return the tokenizer of a hub id or a folder, without its weights.

    Raises:
        UsageError: there is none.
    """
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        text = str(error).strip().splitlines()[0]
        cure = "with --url too, MODEL is the hub id or folder whose tokenizer is used; chat completions need none"
        raise UsageError(f"no tokenizer for '{name}': {text}", cure=cure) from error


def adapter_base(name: str) -> str:
    """Return the name of an adapter folder's base model (of the base's base, ...); any other name as it is."""
    path = embedded_folder() if name == EMBEDDED else Path(name)
    settings = path / "adapter_config.json"
    if not settings.is_file():
        return str(path) if path.is_dir() else name
    base = json.loads(settings.read_text(encoding="utf-8")).get("base_model_name_or_path")
    return adapter_base(base) if base else name


def gguf_model(path: Path, dtype: torch.dtype) -> Any:
    """Dequantise a GGUF file into a plain, saveable model.

    transformers marks a model read from GGUF as quantised and refuses to save it, although its weights are plain
    tensors by then; so they are copied into a model without that mark.
    """
    with quiet():
        read = AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=torch.float32, trust_remote_code=False
        )
        facts = read.config.to_dict()
        for key in ("quantization_config", "_name_or_path", "_model_name_or_path"):
            facts.pop(key, None)
        config = AutoConfig.for_model(facts.pop("model_type"), **{**facts, "dtype": dtype})
        plain = AutoModelForCausalLM.from_config(config, dtype=dtype)
        plain.load_state_dict(read.state_dict())
        plain.generation_config = read.generation_config
    plain.tie_weights()
    return plain


def weights_hash(network: Any) -> str:
    """Return a hash that tells one set of weights from another: names, shapes and sums over the bits of every tensor.

    Hashing all bytes of an 8B model would take a minute; sums see every weight at memory speed. They are sums of whole
    numbers: the same on every machine, for any number of threads. The second leaves out every other number, so that
    two that trade places are seen.
    """
    return digest([(name, list(p.shape), str(p.dtype), *_sums(p.detach())) for name, p in network.named_parameters()])


def _sums(weights: torch.Tensor) -> tuple[int, int]:
    whole = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[weights.element_size()]
    bits = weights.reshape(-1).view(whole)
    return int(bits.sum(dtype=torch.int64)), int(bits[::2].sum(dtype=torch.int64))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' own progress bars and warnings off the terminal."""
    level = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        hf_logging.set_verbosity(level)
        hf_logging.enable_progress_bar()
