"""Replies by OpenVINO GenAI on a CPU: paged keys and values, continuous batching, prefix caching; no torch at work.

It reads GGUF files of Llama, Qwen2 and Qwen3 models directly. Any other checkpoint of these architectures (trained,
merged, an adapter over its base, or a GGUF file in a format that OpenVINO reads inexactly) is written as GGUF once, in
primum's cache, with weights of 8 bits unless asked otherwise. Conversations are rendered and cut into
tokens by the model's own tokenizer, as in every engine; OpenVINO sees token ids only.
"""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from primum.core.errors import MissingExtraError, UsageError
from primum.core.parts import takes
from primum.core.progress import Advance, silent
from primum.core.records import Messages
from primum.core.store import file_sha256
from primum.models.chat import SEE, fitted
from primum.models.ends import Ends, ends_of, ends_of_files
from primum.models.likelihood import Continuation, Likelihood, cut_all
from primum.models.sampling import Generated, Opening, Request, Sampling, collect

about = "OpenVINO GenAI on a CPU: GGUF files, and other checkpoints written as GGUF (weights of 8 bits)"
rank = 20
gpu_rank = 5
bf16_rank = 5
"""Where the processor multiplies bf16, transformers' loop over many conversations is the faster one
(docs/benchmarks/evaluate.md)."""
EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0"}
"""fp32 arithmetic on the file's weights: for comparing engines. By default OpenVINO also rounds activations."""
HEAD = 64
"""Tokens by which prompts that begin alike are known: two blocks of OpenVINO's cache."""
KNOWN = 4096
"""Prompts and heads that are remembered as read."""
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
    path, tokenizer, ends, name = _source(opening)
    return OpenVINOEngine(path, tokenizer, ends, name, opening.width, opening.exact)


def _source(opening: Opening) -> tuple[Path, Any, Ends, str]:
    """Return the GGUF file, the tokenizer, where replies end, and what to call the model."""
    import torch
    from transformers import AutoTokenizer

    from primum.models.gguf_file import cached_gguf, read_exactly
    from primum.models.load import load, quiet

    path = Path(opening.model)
    if path.suffix == ".gguf" and not opening.precision and read_exactly(path):
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, trust_remote_code=False)
        return path, tokenizer, ends_of_files(opening.model, tokenizer), opening.model
    model = load(opening.model, torch.float32 if opening.exact else None)
    path = cached_gguf(model, opening.precision or "Q8_0")
    return path, model.tokenizer, ends_of(model.network, model.tokenizer), model.name


@dataclass
class OpenVINOEngine:
    """An engine over a GGUF file.

    Args:
        path: the GGUF file.
        tokenizer: the model's own, with its chat template.
        ends: the tokens that end a reply, and how long a prompt may be.
        name: what to call the model.
        batch_size: conversations decoded together, at most.
        exact: fp32 arithmetic, slower; for comparing engines.
        advance: told of replies that ended.
    """

    path: Path
    tokenizer: Any
    ends: Ends
    name: str
    batch_size: int = 96
    exact: bool = False
    advance: Advance = silent
    cache_gb: int = 1
    _pipe: Any = field(default=None, repr=False)
    _echo: Any = field(default=None, repr=False)
    _next: int = 0
    _known: dict[int, None] = field(default_factory=dict[int, None], repr=False)

    def __post_init__(self) -> None:
        self._pipe = self._opened(shared=True)
        self._hash = file_sha256(self.path)[:16]

    def _opened(self, *, shared: bool) -> Any:
        """Open a pipeline; `shared`: a prompt's samples, and what all prompts begin with, are read once."""
        without_telemetry()
        import openvino_genai as genai

        scheduler = genai.SchedulerConfig()
        scheduler.max_num_seqs, scheduler.cache_size = self.batch_size, self.cache_gb
        scheduler.max_num_batched_tokens = max(512, self.batch_size)
        scheduler.enable_prefix_caching = shared
        settings: dict[str, Any] = dict(EXACT) if self.exact else {}
        threads = os.environ.get("OMP_NUM_THREADS", "")
        if threads.isdigit() and int(threads):  # OpenVINO has threads of its own, which do not look at it
            settings["INFERENCE_NUM_THREADS"] = int(threads)
        return genai.ContinuousBatchingPipeline(str(self.path), scheduler, "CPU", settings)

    @property
    def model_name(self) -> str:
        """The name and file of the model that answers."""
        return f"{self.name}@{self._hash}"

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: int | Sequence[int]) -> list[Generated]:
        """Generate one reply per conversation, in the order given."""
        return collect(self, batch, sampling, seed)

    def stream(self, requests: Iterable[Request], sampling: Sampling) -> Generator[tuple[int, Generated]]:
        """Yield (request index, reply) as replies end; holds at most two batches of requests."""
        source, running, prompts = iter(requests), dict[int, _Running](), _Prompts(self._known)
        try:
            while True:
                new = list(islice(source, 2 * self.batch_size - len(running) - prompts.waiting))
                for asked in [*prompts.read(), *self._cut(new, sampling)]:
                    if not prompts.must_wait(asked):
                        running[self._next] = one = self._add(asked, sampling)
                        prompts.reads(asked.row, one)
                        self._next += 1
                if not running:
                    return
                self._pipe.step()
                for number in [number for number, one in running.items() if one.ended]:
                    one = running.pop(number)
                    self.advance(1)
                    yield one.asked.request.index, self._reply(one)
        finally:
            self._stop(running)

    def likelihoods(self, asked: Sequence[Continuation]) -> list[Likelihood]:
        """Return one log-likelihood for each continuation, in the order given, from the echoed prompt.

        In a pipeline of its own, opened at the first call: what another has read before, it does not echo.
        """
        import openvino

        self._echo = self._echo or self._opened(shared=False)

        settings = self._settings(Sampling(0.0, 1), 0)
        settings.echo, settings.logprobs = True, 1
        cut = cut_all(asked, self.tokenizer, self.ends.context)
        found = [Likelihood(0.0, 0)] * len(cut)
        waiting, running = iter([i for i, row in enumerate(cut) if row.answer]), dict[int, Any]()
        while True:
            for i in islice(waiting, self.batch_size - len(running)):
                ids = openvino.Tensor(np.array([[*cut[i].context, *cut[i].answer]], dtype=np.int64))
                running[i] = self._echo.add_request(self._next, ids, settings)
                self._next += 1
            if not running:
                return found
            self._echo.step()
            for i in [i for i, handle in running.items() if not _goes_on(handle)]:
                found[i] = _echoed(running.pop(i), len(cut[i].context), len(cut[i].answer))

    def _stop(self, running: dict[int, _Running]) -> None:
        """Take requests that nobody waits for any more out of the pipeline."""
        for one in running.values():
            one.handle.cancel()
        while running and self._pipe.has_non_finished_requests():
            self._pipe.step()

    def _cut(self, requests: Sequence[Request], sampling: Sampling) -> list[_Asked]:
        for request in requests:
            takes(request.messages, "the engine openvino", (), SEE)
        rows = fitted(
            [request.messages for request in requests], self.tokenizer, self.ends.room(sampling.max_new_tokens)
        )
        return [_Asked(request, tuple(row.ids), row.cut) for request, row in zip(requests, rows, strict=True)]

    def _add(self, asked: _Asked, sampling: Sampling) -> _Running:
        import openvino

        ids = openvino.Tensor(np.array([asked.row], dtype=np.int64))
        handle = self._pipe.add_request(self._next, ids, self._settings(sampling, asked.request.seed))
        return _Running(asked, handle)

    def _settings(self, sampling: Sampling, seed: int) -> Any:
        import openvino_genai as genai

        settings = genai.GenerationConfig()
        settings.max_new_tokens = sampling.max_new_tokens
        settings.stop_token_ids = set(self.ends.stops)
        settings.do_sample = sampling.temperature > 0
        if settings.do_sample:
            settings.temperature, settings.top_p = sampling.temperature, sampling.top_p
            settings.rng_seed = seed
            if sampling.top_k:
                settings.top_k = sampling.top_k
        return settings

    def _reply(self, one: _Running) -> Generated:
        new = [token for output in one.handle.read_all() for token in output.generated_ids]
        if not new:
            why = "OpenVINO gave no token: the prompt does not fit its cache"
            return Generated("", "error", len(one.asked.row), 0, why)
        text = self.tokenizer.decode(new, skip_special_tokens=True).strip()
        finish = "stop" if new[-1] in self.ends.stops else "length"
        return Generated(text, finish, len(one.asked.row), len(new), prompt_cut=one.asked.cut)


class _Asked(NamedTuple):
    """A request, the tokens of its prompt, and how many were cut off its beginning."""

    request: Request
    row: tuple[int, ...]
    cut: int = 0


@dataclass
class _Running:
    """A request that OpenVINO answers, and those which wait until it has read what they share."""

    asked: _Asked
    handle: Any
    later: list[_Asked] = field(default_factory=list[_Asked])

    @property
    def ended(self) -> bool:
        """Whether its reply is whole, or there will be none."""
        return not _goes_on(self.handle)


class _Prompts:
    """Which prompts are being read, and who waits for them.

    OpenVINO looks for a prompt in its cache when a request is added, so that samples of a prompt which are added
    together would all read it, and so would conversations under one long system prompt. Here the first one reads.
    """

    def __init__(self, known: dict[int, None]) -> None:
        self._known = known
        self._reading: dict[tuple[int, ...], _Running] = {}
        self.waiting = 0

    def must_wait(self, asked: _Asked) -> bool:
        """Take a request whose prompt, or the head of it, is just being read; False where it may be added."""
        for tokens in (asked.row, asked.row[:HEAD]):
            if tokens in self._reading and hash(tokens) not in self._known:
                self._reading[tokens].later.append(asked)
                self.waiting += 1
                return True
        return False

    def reads(self, row: tuple[int, ...], one: _Running) -> None:
        """Take note that a request was added."""
        self._reading[row] = one
        self._reading.setdefault(row[:HEAD], one)

    def read(self) -> list[_Asked]:
        """Return those whose wait is over: the request that they waited for has its first token, or none will come."""
        done = [tokens for tokens, one in self._reading.items() if one.handle.can_read() or one.ended]
        found: list[_Asked] = []
        for tokens in done:
            one = self._reading.pop(tokens)
            found, one.later = found + one.later, []
            self._known[hash(tokens)] = None
        while len(self._known) > KNOWN:
            del self._known[next(iter(self._known))]
        self.waiting -= len(found)
        return found


def _echoed(handle: Any, context: int, answer: int) -> Likelihood:
    logps = [logp for output in handle.read_all() for logp in output.generated_log_probs]
    if len(logps) != context + answer + 1:
        return Likelihood.failed(f"OpenVINO gave {len(logps)} log-probabilities for {context + answer} tokens")
    return Likelihood(math.fsum(logps[context : context + answer]), answer)


def _goes_on(handle: Any) -> bool:
    import openvino_genai as genai

    return handle.get_status() == genai.GenerationStatus.RUNNING
