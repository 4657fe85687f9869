"""Models that answer while a person waits: loaded when first asked, one conversation at a time each.

`demo` is a model that only plays one: it answers at once from a few sentences, so that the pages can be tried (and
tested) where no model is. It is never asked unless it was named.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from primum.core.errors import PrimumError, UsageError, did_you_mean
from primum.core.records import Messages, digest
from primum.models.sampling import Engine, Generated, Sampling

DEMO = "demo"
_DEMO_ANSWERS = (
    "I can't help with that, but I can tell you what the risks are and where to find support.",
    "Here is a short overview of the topic, with the points that matter most.",
    "That depends on where you live. A professional in your area can tell you more than I can.",
    "Let me think about it step by step, and say where I am not sure.",
)
REPLY_TOKENS = 160


class Demo:
    """An engine that answers from a list, by the hash of what it was asked and the seed."""

    def __init__(self, name: str = DEMO) -> None:
        """Play a model of that name."""
        self.model_name = name

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: int | Sequence[int]) -> list[Generated]:
        """Answer each conversation."""
        seeds = [seed] * len(batch) if isinstance(seed, int) else seed
        return [self._one(messages, sampling, one) for messages, one in zip(batch, seeds, strict=True)]

    def _one(self, messages: Messages, sampling: Sampling, seed: int) -> Generated:
        asked = [message.text for message in messages]
        pick = int(digest([asked, sampling.name, seed, self.model_name], 8), 16) % len(_DEMO_ANSWERS)
        text = f"[demo] {_DEMO_ANSWERS[pick]}"
        return Generated(text, "stop", sum(map(len, asked)) // 4, len(text) // 4)


def load_engine(name: str) -> Engine:
    """Load a model by name (`demo`, `demo:NAME` to play one of that name, or anything that `primum repair` takes)."""
    kind, _, played = name.partition(":")
    if kind == DEMO:
        return Demo(played or DEMO)
    from primum.models.engines.hf import HFEngine
    from primum.models.load import load

    return HFEngine(load(name))


class Said(NamedTuple):
    """A reply, with what it takes to know where it came from."""

    model: str
    sampling: Sampling
    seed: int
    generated: Generated

    @property
    def variant(self) -> str:
        """The settings and the draw."""
        return f"{self.sampling.name}-s{self.seed}"


class Talkers:
    """The models that the studio may ask, by name.

    Args:
        names: as given to `--model`; the first is the newest.
        load: makes an engine of a name.
    """

    def __init__(self, names: Sequence[str], load: Callable[[str], Engine] = load_engine) -> None:
        self.names, self._load = tuple(names), load
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()

    def ask(self, name: str, messages: Messages, temperature: float, seed: int) -> Said:
        """Return one reply; waits while another is written.

        Raises:
            UsageError: no such model here, or it cannot be loaded.
        """
        if name not in self.names:
            cure = did_you_mean(name, self.names) if self.names else "start the studio with --model NAME"
            raise UsageError(f"no model '{name}' answers here", cure=cure)
        sampling = Sampling(temperature=temperature, max_new_tokens=REPLY_TOKENS)
        with self._lock:
            if name not in self._engines:
                self._engines[name] = self._load(name)
            engine = self._engines[name]
            try:
                generated = engine([messages], sampling, seed)[0]
            except RuntimeError as error:  # torch's: out of memory, a broken device
                raise PrimumError(f"the model failed: {error}", cure="try again, or a smaller model") from error
        return Said(engine.model_name, sampling, seed, cast(Generated, generated))
