"""Sampling settings, their presets, and the engine contract. No torch here."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from primum.core.records import Messages, digest


@dataclass(frozen=True, slots=True)
class Sampling:
    """How replies are drawn. temperature 0 is greedy decoding."""

    temperature: float = 0.0
    max_new_tokens: int = 128
    top_p: float = 1.0
    top_k: int = 0

    @property
    def name(self) -> str:
        """A short name that says all settings; part of a reply's variant."""
        text = f"t{self.temperature:g}-n{self.max_new_tokens}"
        text += f"-p{self.top_p:g}" if self.top_p < 1 else ""
        return text + (f"-k{self.top_k}" if self.top_k else "")


@dataclass(frozen=True, slots=True)
class Preset:
    """Published settings: how a work drew its replies, where it says so, and what of that no engine here does."""

    sampling: Sampling
    source: str
    left_out: str = ""


PresetName = Literal["meditron", "safe-to-serve", "safe-to-serve-beams"]
PRESETS: dict[PresetName, Preset] = {
    "meditron": Preset(Sampling(0.4, 512), "Meditron's post (2025-09-03)"),
    "safe-to-serve": Preset(
        Sampling(0.0, 120, top_p=0.95),
        "the code of Safe to Serve's authors",
        "its frequency penalty of 1 and its context of 512 tokens",
    ),
    "safe-to-serve-beams": Preset(
        Sampling(0.1, 128, top_p=0.75, top_k=40),
        "the code of safety-tuned-llamas (Bianchi et al. 2023), which Safe to Serve measures with",
        "its search with 4 beams, in place of which one reply is drawn",
    ),
}
"""By name. The beams' code declares 256 tokens and, as it calls itself, writes 128."""


@dataclass(frozen=True, slots=True)
class Generated:
    """One reply as an engine returns it: only the new text, special tokens left out.

    `finish` is "error" where no reply could be had; then `error` says why and the text is empty. `prompt_cut` counts
    the tokens of the prompt that the model's window had no room for: its beginning, which the model did not read.
    """

    text: str
    finish: Literal["stop", "length", "error"]
    prompt_tokens: int
    reply_tokens: int
    error: str = ""
    prompt_cut: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One reply to draw: the caller's number for it, the conversation, and the seed of this reply alone."""

    index: int
    messages: Messages
    seed: int


class Engine(Protocol):
    """A batch of conversations in, one reply each out, in the same order; the same seed gives the same replies.

    One seed for all, or one for each conversation.
    """

    @property
    def model_name(self) -> str:
        """The name and weights of the model that answers."""
        ...

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: int | Sequence[int]) -> list[Generated]:
        """Generate one reply per conversation."""
        ...


class Streaming(Engine, Protocol):
    """An engine that takes requests as it has room for them and gives each reply as soon as it has ended."""

    def stream(self, requests: Iterable[Request], sampling: Sampling) -> Generator[tuple[int, Generated]]:
        """Yield (request index, reply) in the order in which replies end; draws few requests ahead."""
        ...


def reply_seed(seed: int, messages: Messages, sample: int) -> int:
    """Return the seed of one reply (64 bits): the same for a prompt's k-th sample, in whatever batch it is drawn."""
    hashed = hashlib.blake2b(f"{seed} {sample}".encode(), digest_size=8)
    for m in messages:
        said = m.content if isinstance(m.content, str) else digest(m.identity)
        hashed.update(f"\0{m.role}\0{said}".encode("utf-8", "surrogatepass"))
    return int.from_bytes(hashed.digest(), "big")


def reply_seeds(batch: Sequence[Messages], seed: int | Sequence[int]) -> list[int]:
    """Return a seed for each conversation: by its words, and by how often it stood in the batch before.

    Raises:
        ValueError: seeds were given, but not one for each conversation.
    """
    if not isinstance(seed, int):
        if len(seed) != len(batch):
            raise ValueError(f"{len(seed)} seeds for {len(batch)} conversations")
        return list(seed)
    seen: Counter[Messages] = Counter()
    seeds: list[int] = []
    for messages in batch:
        seeds.append(reply_seed(seed, messages, seen[messages]))
        seen[messages] += 1
    return seeds


def collect(
    engine: Streaming, batch: Sequence[Messages], sampling: Sampling, seed: int | Sequence[int]
) -> list[Generated]:
    """Stream a whole batch and return its replies in the order given."""
    requests = [Request(i, m, s) for i, (m, s) in enumerate(zip(batch, reply_seeds(batch, seed), strict=True))]
    found = dict(engine.stream(requests, sampling))
    return [found[i] for i in range(len(batch))]


@dataclass(frozen=True, slots=True)
class Opening:
    """What an engine is opened with.

    Args:
        model: `embedded`, a hub id, a folder, an adapter folder, a .gguf file, or the name an endpoint gives it.
        batch_size: conversations decoded together (over HTTP: requests under way), at most; None: the engine's own.
        url: of an OpenAI-compatible endpoint.
        key_name: the environment variable that holds the endpoint's key.
        timeout: seconds for one attempt of one reply over HTTP.
        precision: format in which weights are written for engines that read GGUF; None takes the engine's default.
        exact: fp32 arithmetic where the engine would round, for comparing engines.
    """

    model: str = "embedded"
    batch_size: int | None = None
    url: str = ""
    key_name: str = "OPENAI_API_KEY"
    timeout: float = 120.0
    precision: Literal["Q8_0", "Q4_0", "F16"] | None = None
    exact: bool = False

    @property
    def width(self) -> int:
        """How many conversations go together, for engines without a measure of their own."""
        return self.batch_size or 96
