"""A name to a model: the embedded default, a hub id, a folder, a PEFT adapter with its base, or a GGUF file.

Weights are read from safetensors or GGUF only (never a pickle), and no code from a checkpoint is run.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
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
ADAPTER = "adapter_config.json"
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
"""Names that can be a hub's; every other name is a path."""


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


@dataclass(frozen=True)
class Outline:
    """A model without its weights: what a plan and a report need."""

    name: str
    source: str
    tokenizer: Any
    parameters: int


def load(
    name: str = EMBEDDED,
    dtype: torch.dtype | None = None,
    place: str | None = None,
    quantisation: Any = None,
    *,
    chat: bool = True,
) -> Model:
    """Load a causal language model, or a vision-language model, and its tokenizer.

    Args:
        name: `embedded`, a hub id, a model folder, a PEFT adapter folder or a .gguf file.
        dtype: number format; None takes the fastest one on this machine.
        place: the device; None takes the best one.
        quantisation: how weights are held in fewer bits (`quantised`); None: as they are.
        chat: it will be talked to, and must have a chat template.

    Raises:
        UsageError: a GGUF file or an adapter with quantisation; no such model, or it has no chat template.
    """
    chosen = dtype or device().dtype
    path = embedded_folder() if name == EMBEDDED else Path(name)
    with quiet():
        gguf, adapter = path.suffix == ".gguf" and path.is_file(), (path / ADAPTER).is_file()
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
            network, tokenizer = _plain(own, chosen, how if quantisation else {})
    _ready(tokenizer, name, chat)
    network = (network if quantisation else network.to(place or device().name)).eval()
    return Model(network, tokenizer, *_names(name), weights_hash(network))


def outline(name: str) -> Outline:
    """Return what is known of a model before its weights are read: settings and tokenizer are.

    Raises:
        UsageError: no such model, or it has no chat template.
    """
    base = adapter_base(name)
    try:
        with quiet():
            place, more = _files(base)
            config = AutoConfig.from_pretrained(place, trust_remote_code=False, **more)
            with torch.device("meta"):
                network = reader_of(config).from_config(config, trust_remote_code=False)
            own = Path(name) if (Path(name) / "tokenizer_config.json").is_file() else None
            tokenizer = _tokenizer(str(own or place), config, **({} if own else more))
    except (OSError, ValueError, KeyError) as error:
        raise unreadable(name, error) from error
    _ready(tokenizer, name, chat=True)
    return Outline(*_names(name), tokenizer, sum(p.numel() for p in network.parameters()))


def _files(name: str) -> tuple[str, dict[str, str]]:
    """Return where transformers finds a model: of a GGUF file the folder, and the file by its name."""
    path = Path(name)
    return (str(path.parent), {"gguf_file": path.name}) if path.suffix == ".gguf" and path.is_file() else (name, {})


def _names(name: str) -> tuple[str, str]:
    """Return what a model is called, and where it comes from."""
    there = name != EMBEDDED and Path(name).exists()
    return NAME if name == EMBEDDED else name, str(Path(name).resolve()) if there else name


def _ready(tokenizer: Any, name: str, chat: bool) -> None:
    """See that a model can be talked to, and that its rows can be padded."""
    if chat and not getattr(tokenizer, "chat_template", None):
        cure = "use the instruct version, or put a chat_template.jinja beside its tokenizer"
        raise UsageError(f"model '{name}' has no chat template", cure=cure)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token


def unreadable(name: str, error: Exception) -> UsageError:
    """Return the error of a model that cannot be loaded, with the first line of the reason."""
    cure = "name a hub id you can reach, a model folder, an adapter folder or a .gguf file"
    return UsageError(f"cannot load model '{name}': {str(error).strip().splitlines()[0]}", cure=cure)


def reader_of(config: Any) -> Any:
    """Return the class of transformers that reads a model of this configuration."""
    return AutoModelForImageTextToText if sees(config) else AutoModelForCausalLM


def _plain(name: str, dtype: torch.dtype, how: dict[str, Any]) -> tuple[Any, Any]:
    try:
        reader = reader_of(AutoConfig.from_pretrained(name, trust_remote_code=False))
        network = reader.from_pretrained(name, dtype=dtype, use_safetensors=True, trust_remote_code=False, **how)
        return network, _tokenizer(name, network.config)
    except (OSError, ValueError) as error:
        raise unreadable(name, error) from error


def _tokenizer(name: str, config: Any, **more: str) -> Any:
    """Return a model's tokenizer, with the chat template of its processor where it has none of its own."""
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **more)
    return _templated(tokenizer, name) if sees(config) else tokenizer


def _templated(tokenizer: Any, name: str) -> Any:
    """Give a tokenizer without chat template the one that its processor has in a file of its own, where there is one.

    Older versions of transformers wrote it so for vision-language models; `chat_template.jinja` is read by themselves.
    """
    if not tokenizer.chat_template:
        found = cached_file(name, "chat_template.json", _raise_exceptions_for_missing_entries=False,
                            _raise_exceptions_for_connection_errors=False)  # fmt: skip
        own = json.loads(Path(found).read_text(encoding="utf-8")) if found else {}
        tokenizer.chat_template = own.get("chat_template")
    return tokenizer


def _gguf(path: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, trust_remote_code=False)
        return gguf_model(path, dtype), tokenizer
    except (OSError, ValueError, KeyError) as error:
        cure = "is it a whole GGUF file of an architecture that transformers can read?"
        raise UsageError(f"cannot read the GGUF file: {error}", where=str(path), cure=cure) from error


def _adapter(path: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    from peft import PeftModel

    base = base_of(path)
    if not (path / "adapter_model.safetensors").is_file():
        cure = "save the adapter as safetensors; pickled weights are not read"
        raise UsageError("the adapter has no adapter_model.safetensors", where=str(path), cure=cure)
    inner = load(base, dtype)
    network = PeftModel.from_pretrained(inner.network, str(path)).merge_and_unload()
    own = (path / "tokenizer_config.json").is_file()
    return network, _tokenizer(str(path), network.config) if own else inner.tokenizer


def tokenizer_of(name: str) -> Any:
    """Return the tokenizer of a hub id or a folder, without its weights; a processor's chat template is its own.

    Raises:
        UsageError: there is none.
    """
    try:
        with quiet():
            return _templated(AutoTokenizer.from_pretrained(name, trust_remote_code=False), name)
    except (OSError, ValueError) as error:
        text = str(error).strip().splitlines()[0]
        cure = "with --url too, MODEL is the hub id or folder whose tokenizer is used; chat completions need none"
        raise UsageError(f"no tokenizer for '{name}': {text}", cure=cure) from error


def base_of(adapter: Path) -> str:
    """Return the model that an adapter folder names as its base: `embedded`, a hub id or a path.

    A relative path counts from where we are, as PEFT reads it, or else from the adapter's own folder.

    Raises:
        UsageError: it names none, or a path at which nothing is (a folder that was moved without its base).
    """
    settings = adapter / ADAPTER
    base = json.loads(settings.read_text(encoding="utf-8")).get("base_model_name_or_path")
    cure = f"write into base_model_name_or_path of that file where it is: a folder, a hub id or '{EMBEDDED}'"
    if not base:
        raise UsageError("the adapter does not name its base model", where=str(settings), cure=cure)
    if Path(base).exists() or base == EMBEDDED:
        return base
    if (adapter / base).exists():
        return str(adapter / base)
    if not HUB_ID.fullmatch(base):
        raise UsageError(f"the adapter's base model is not at '{base}'", where=str(settings), cure=cure)
    return base


def adapter_base(name: str) -> str:
    """Return the name of an adapter folder's base model (of the base's base, ...); any other name as it is.

    Raises:
        UsageError: an adapter names no base, or one that is not here.
    """
    path = embedded_folder() if name == EMBEDDED else Path(name)
    if not (path / ADAPTER).is_file():
        return str(path) if path.is_dir() else name
    return adapter_base(base_of(path))


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
    level, drawn = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        hf_logging.set_verbosity(level)
        if drawn:
            hf_logging.enable_progress_bar()
