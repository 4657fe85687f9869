"""Replies by vLLM, in a process and an environment of its own; it is never imported here.

vLLM pins its own torch and transformers, so it lives in another environment: $PRIMUM_VLLM names its `vllm` command
(else the one on PATH is taken), $PRIMUM_VLLM_ARGS holds more of its flags. primum starts it on a port of this machine,
starts it again if it dies, and stops it; or it is already running and named by --url. Conversations are rendered and
cut into tokens by the model's own tokenizer, as in every engine: vLLM is given token ids and gives token ids back.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from primum.core.errors import UsageError
from primum.core.parts import takes
from primum.core.records import JsonDict, Messages, digest
from primum.models.chat import SEE, fitted
from primum.models.embedded import cache_folder, embedded_folder
from primum.models.endpoint import Ask, Endpoint, PassingError, endpoint, served_name
from primum.models.ends import Ends, ends_of_files
from primum.models.likelihood import Continuation, Likelihood, cut_all, echoed_tokens
from primum.models.sampling import Generated, Opening, Request, Sampling, collect
from primum.models.server import Server

about = "vLLM in its own process, on GPU or CPU: started and stopped by primum, or already running (--url)"
rank = 15
gpu_rank = 30
cure = "python -m venv ~/vllm && ~/vllm/bin/pip install vllm && export PRIMUM_VLLM=~/vllm/bin/vllm"
COMMAND = "PRIMUM_VLLM"
FLAGS = "PRIMUM_VLLM_ARGS"
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as the largest rank of an adapter."""
OWN = "primum"
"""The name of the model in a server that primum started."""


def why_not(opening: Opening) -> str | None:
    """Return why it cannot be used, or None."""
    if opening.model.endswith(".gguf"):
        return "it is given folders and hub ids, no GGUF files"
    return None if opening.url or command() else f"no vllm command on PATH or in ${COMMAND}"


def command() -> str | None:
    """Return the path of vLLM's command, or None."""
    return shutil.which(os.environ.get(COMMAND) or "vllm")


def open_engine(opening: Opening) -> VLLMEngine:
    """Start vLLM, or take the one that runs at --url; hot-load the adapter where MODEL is one.

    Raises:
        UsageError: no vLLM here, or no tokenizer for this model.
        StepFailedError: it does not start.
    """
    problem = why_not(opening)
    if problem:
        raise UsageError(f"vLLM cannot run '{opening.model}': {problem}", cure=cure)
    base, adapter = _weights(opening.model)
    tokenizer = _tokenizer(base, adapter)
    if opening.url:
        where = endpoint(opening)
        name = load_adapter(where, adapter) if adapter else served_name(opening.model, where.models())
        return VLLMEngine(where, name, tokenizer, ends_of_files(base, tokenizer), f"{opening.model}@{where.place}")
    return _started(opening, base, adapter, tokenizer)


def _weights(name: str) -> tuple[str, Path | None]:
    """Return what vLLM loads, and the adapter on top of it."""
    from primum.models.load import adapter_base

    folder = embedded_folder() if name == "embedded" else Path(name)
    base = str(folder) if folder.is_dir() else name
    return (adapter_base(base), folder) if (folder / "adapter_config.json").is_file() else (base, None)


def _tokenizer(base: str, adapter: Path | None) -> Any:
    from primum.models.load import tokenizer_of

    own = adapter is not None and (adapter / "tokenizer_config.json").is_file()
    return tokenizer_of(str(adapter) if own else base)


def _started(opening: Opening, base: str, adapter: Path | None, tokenizer: Any) -> VLLMEngine:
    key = secrets.token_urlsafe(24)
    environment = {**os.environ, "VLLM_API_KEY": key, "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"

    def line(port: int) -> list[str]:
        return [str(command()), "serve", base, "--port", str(port), *flags(opening, adapter)]

    log = cache_folder() / "vllm" / f"{os.getpid()}-{secrets.token_hex(4)}.log"
    server = Server(line, environment, log)
    where = Endpoint(f"http://127.0.0.1:{server.port}/v1", key, opening.width, opening.timeout)
    where.revive = server.ensure
    if adapter:
        server.prepare = partial(load_adapter, where, adapter)
    server.ensure()
    name = adapter_name(adapter) if adapter else OWN
    label = f"{opening.model}@vllm-{_fingerprint(base, adapter)}"
    return VLLMEngine(where, name, tokenizer, ends_of_files(base, tokenizer), label, server)


def flags(opening: Opening, adapter: Path | None) -> list[str]:
    """Return the flags of `vllm serve`: on this machine only, nothing that would change replies behind our back."""
    found = ["--host", "127.0.0.1", "--served-model-name", OWN, "--max-num-seqs", str(opening.width)]
    found += ["--generation-config", "vllm"]  # not the sampling defaults that lie beside the model
    if opening.exact:
        found += ["--dtype", "float32"]
    if adapter:
        settings = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        rank = next((r for r in RANKS if r >= int(settings.get("r", 8))), RANKS[-1])
        found += ["--enable-lora", "--max-lora-rank", str(rank)]
    return [*found, *shlex.split(os.environ.get(FLAGS, ""))]


def _fingerprint(base: str, adapter: Path | None) -> str:
    """Return what tells weights apart: for folders, names, sizes and times of their files."""
    facts: list[Any] = [base, str(adapter)]
    for folder in (Path(base), adapter):
        if folder is not None and folder.is_dir():
            stats = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
            facts += [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]
    return digest(facts)


def adapter_name(adapter: Path) -> str:
    """Return the name under which an adapter is loaded: its folder's, and a hash of where that is."""
    return f"{adapter.resolve().name}-{digest(str(adapter.resolve()), 8)}"


def load_adapter(where: Endpoint, adapter: Path) -> str:
    """Load an adapter into a running vLLM; return its name there.

    Raises:
        UsageError: this vLLM takes none.
    """
    name = adapter_name(adapter)
    try:
        status, text = where.tell("/load_lora_adapter", {"lora_name": name, "lora_path": str(adapter.resolve())})
    except PassingError as error:
        status, text = 0, error.reason
    if status != 200 and "already" not in text:
        cure = "start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, where it can read the folder"
        raise UsageError(f"vLLM did not load the adapter: {text}", where=str(adapter), cure=cure)
    return name


@dataclass
class VLLMEngine:
    """An engine over a vLLM server.

    Args:
        endpoint: where it answers.
        model: its name there.
        tokenizer: the model's own, with its chat template.
        ends: the tokens that end a reply, and how long a prompt may be.
        model_name: what replies say they come from.
        server: where primum started it.
    """

    endpoint: Endpoint
    model: str
    tokenizer: Any
    ends: Ends
    model_name: str
    server: Server | None = None

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: int | Sequence[int]) -> list[Generated]:
        """Generate one reply per conversation, in the order given."""
        return collect(self, batch, sampling, seed)

    def stream(self, requests: Iterable[Request], sampling: Sampling) -> Generator[tuple[int, Generated]]:
        """Yield (request index, reply) as replies come."""
        asks = (self._ask(request, sampling) for request in requests)
        yield from self.endpoint.answers(asks, "/completions", lambda why: Generated("", "error", 0, 0, why))

    def likelihoods(self, asked: Sequence[Continuation]) -> list[Likelihood]:
        """Return one log-likelihood for each continuation, in the order given."""
        asks = (
            Ask(i, self._echo([*row.context, *row.answer]), echoed_tokens(len(row.context), len(row.answer)))
            for i, row in enumerate(cut_all(asked, self.tokenizer, self.ends.context and self.ends.context - 2))
        )
        found = dict(self.endpoint.answers(asks, "/completions", Likelihood.failed))
        return [found[i] for i in range(len(asked))]

    def close(self) -> None:
        """Stop the server, where it is ours."""
        if self.server:
            self.server.stop()

    def _ask(self, request: Request, sampling: Sampling) -> Ask[Generated]:
        takes(request.messages, "the engine vllm, which is given token ids,", (), SEE)
        prompt = fitted([request.messages], self.tokenizer, self.ends.room(sampling.max_new_tokens))[0]
        return Ask(request.index, self._body(prompt.ids, request, sampling), partial(self._reply, prompt.cut))

    def _body(self, prompt: Sequence[int], request: Request, sampling: Sampling) -> JsonDict:
        return {
            "model": self.model, "prompt": prompt,
            "max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature, "top_p": sampling.top_p,
            "top_k": sampling.top_k or -1, "seed": request.seed >> 1,  # it takes 63 bits
            "stop_token_ids": sorted(self.ends.stops), "add_special_tokens": False, "return_token_ids": True,
        }  # fmt: skip

    def _echo(self, prompt: list[int]) -> JsonDict:
        return {
            "model": self.model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1,
            "add_special_tokens": False,
        }  # fmt: skip

    def _reply(self, cut: int, answer: JsonDict) -> Generated:
        try:
            choice, usage = answer["choices"][0], answer["usage"]
            counts = int(usage["prompt_tokens"]), int(usage["completion_tokens"])
            finish, ids, text = choice["finish_reason"], choice.get("token_ids"), choice["text"]
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise PassingError("an answer that is no completion") from error
        text = self.tokenizer.decode(ids, skip_special_tokens=True) if ids else str(text)
        return Generated(text.strip(), "length" if finish == "length" else "stop", *counts, prompt_cut=cut)
