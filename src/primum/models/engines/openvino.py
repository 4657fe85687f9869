"""Replies by OpenVINO GenAI on a CPU: paged keys and values, continuous batching, prefix caching; no torch at work.

It reads GGUF files of Llama, Qwen2 and Qwen3 models directly. Any other checkpoint of these architectures (trained,
merged, or an adapter over its base) is written as GGUF once, in primum's cache. Conversations are rendered and cut into
tokens by the model's own tokenizer, as in every engine; OpenVINO sees token ids only.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np

from primum.core.errors import MissingExtraError, UsageError
from primum.core.progress import Advance, silent
from primum.core.records import Messages
from primum.core.store import file_sha256
from primum.models.chat import encode, end_of_turn
from primum.models.sampling import Generated, Opening, Request, Sampling, collect

about = "OpenVINO GenAI on a CPU: GGUF files, and our own checkpoints written as GGUF (weights of 4 or 8 bits)"
rank = 20
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
"""fp32 arithmetic on the file's weights: for comparing engines. By default OpenVINO also rounds activations."""


cure = "pip install 'primum[openvino]'"


def why_not(opening: Opening) -> str | None:
    """Return why this engine cannot run the model here, or None; reads the model's settings, not its weights."""
    if find_spec("openvino_genai") is None:
        return "openvino-genai is not installed"
    if platform.machine().lower() not in ("x86_64", "amd64", "aarch64", "arm64"):
        return f"OpenVINO has no CPU plugin for {platform.machine()}"
    return _unreadable(opening.model)


def _unreadable(name: str) -> str | None:
    if name == "embedded" or (name.endswith(".gguf") and Path(name).is_file()):
        return None
    from transformers import AutoConfig

    from primum.models.gguf_file import unwritable
    from primum.models.load import adapter_base, quiet

    try:
        with quiet():
            return unwritable(AutoConfig.from_pretrained(adapter_base(name), trust_remote_code=False))
    except (OSError, ValueError) as error:
        return f"its settings cannot be read ({str(error).strip().splitlines()[0]})"


def without_telemetry() -> None:
    """Keep OpenVINO from reporting that it was imported: where this package cannot be had, it uses a stub.

    `import openvino` sends an event to Google Analytics, unless the user has opted out before
    (openvino/tools/ovc/__init__.py and telemetry_utils.py in 2026.4). primum sends nothing.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino_telemetry", cast(Any, None))


def open_engine(opening: Opening) -> OpenVINOEngine:
    """Open a model.

    Raises:
        MissingExtraError: openvino-genai is not installed.
        UsageError: the model is of another architecture, or no model.
    """
    if find_spec("openvino_genai") is None:
        raise MissingExtraError("OpenVINO GenAI", "openvino")
    problem = why_not(opening)
    if problem:
        cure = "use --engine transformers, which runs every architecture"
        raise UsageError(f"OpenVINO cannot run '{opening.model}': {problem}", cure=cure)
    path, tokenizer, name = _source(opening)
    return OpenVINOEngine(path, tokenizer, name, opening.batch_size, opening.exact)


def _source(opening: Opening) -> tuple[Path, Any, str]:
    """Return the GGUF file, the tokenizer and what to call the model."""
    from transformers import AutoTokenizer

    from primum.models.embedded import NAME, embedded_folder, gguf_path
    from primum.models.gguf_file import cached_gguf
    from primum.models.load import load, quiet

    if opening.model == "embedded" and not opening.precision:
        return gguf_path(), AutoTokenizer.from_pretrained(embedded_folder()), NAME
    path = Path(opening.model)
    if path.suffix == ".gguf" and not opening.precision:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, trust_remote_code=False)
        return path, tokenizer, opening.model
    model = load(opening.model)
    return cached_gguf(model, opening.precision or "Q8_0"), model.tokenizer, model.name


@dataclass
class OpenVINOEngine:
    """An engine over a GGUF file.

    Args:
        path: the GGUF file.
        tokenizer: the model's own, with its chat template.
        name: what to call the model.
        batch_size: conversations decoded together, at most.
        exact: fp32 arithmetic, slower; for comparing engines.
        advance: told of replies that ended.
    """

    path: Path
    tokenizer: Any
    name: str
    batch_size: int = 96
    exact: bool = False
    advance: Advance = silent
    cache_gb: int = 1
    _pipe: Any = field(default=None, repr=False)
    _next: int = 0

    def __post_init__(self) -> None:
        without_telemetry()
        import openvino_genai as genai

        scheduler = genai.SchedulerConfig()
        scheduler.max_num_seqs, scheduler.cache_size = self.batch_size, self.cache_gb
        scheduler.max_num_batched_tokens = max(512, self.batch_size)
        scheduler.enable_prefix_caching = True  # a prompt's samples, and what all prompts begin with, are read once
        self._pipe = genai.ContinuousBatchingPipeline(str(self.path), scheduler, "CPU", EXACT if self.exact else {})
        self._hash = file_sha256(self.path)[:16]

    @property
    def model_name(self) -> str:
        """The name and file of the model that answers."""
        return f"{self.name}@{self._hash}"

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: int | Sequence[int]) -> list[Generated]:
        """Generate one reply per conversation, in the order given."""
        return collect(self, batch, sampling, seed)

    def stream(self, requests: Iterable[Request], sampling: Sampling) -> Generator[tuple[int, Generated]]:
        """Yield (request index, reply) as replies end; holds at most two batches of requests."""
        source, running = iter(requests), dict[int, tuple[Request, int, Any]]()
        try:
            while True:
                for request in islice(source, 2 * self.batch_size - len(running)):
                    running[self._next] = self._add(request, sampling)
                    self._next += 1
                if not running:
                    return
                self._pipe.step()
                for number in [n for n, (_, _, handle) in running.items() if not _goes_on(handle)]:
                    request, prompt_tokens, handle = running.pop(number)
                    self.advance(1)
                    yield request.index, self._reply(handle, prompt_tokens, sampling)
        finally:
            self._stop(running)

    def _stop(self, running: dict[int, tuple[Request, int, Any]]) -> None:
        """Take requests that nobody waits for any more out of the pipeline."""
        for _, _, handle in running.values():
            handle.cancel()
        while running and self._pipe.has_non_finished_requests():
            self._pipe.step()

    def _add(self, request: Request, sampling: Sampling) -> tuple[Request, int, Any]:
        import openvino

        row = encode([request.messages], self.tokenizer)[0]
        ids = openvino.Tensor(np.array([row], dtype=np.int64))
        return request, len(row), self._pipe.add_request(self._next, ids, self._settings(sampling, request.seed))

    def _settings(self, sampling: Sampling, seed: int) -> Any:
        import openvino_genai as genai

        settings = genai.GenerationConfig()
        settings.max_new_tokens = sampling.max_new_tokens
        settings.stop_token_ids = self.stops
        settings.do_sample = sampling.temperature > 0
        if settings.do_sample:
            settings.temperature, settings.top_p = sampling.temperature, sampling.top_p
            settings.rng_seed = seed
            if sampling.top_k:
                settings.top_k = sampling.top_k
        return settings

    @property
    def stops(self) -> set[int]:
        """The tokens that end a reply: the tokenizer's, and the one that closes a turn in the template."""
        ends = (self.tokenizer.eos_token_id, end_of_turn(self.tokenizer))
        return {token for token in ends if token is not None}

    def _reply(self, handle: Any, prompt_tokens: int, sampling: Sampling) -> Generated:
        outputs = handle.read_all()
        new = [token for output in outputs for token in output.generated_ids]
        if not new:
            return Generated("", "error", prompt_tokens, 0, "OpenVINO gave no token: the prompt does not fit its cache")
        text = self.tokenizer.decode(new, skip_special_tokens=True).strip()
        return Generated(text, "stop" if new[-1] in self.stops else "length", prompt_tokens, len(new))


def _goes_on(handle: Any) -> bool:
    import openvino_genai as genai

    return handle.get_status() == genai.GenerationStatus.RUNNING
