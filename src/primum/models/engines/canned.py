"""Canned replies: the fake that ships. It needs no model, answers at once, and always answers the same.

For trying a pipeline, for tests, and for measuring what everything around an engine costs. The model `canned` answers
at once, `canned:50` gives 50 replies a second.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

from primum.core.errors import UsageError
from primum.core.records import Messages
from primum.models.sampling import Generated, Opening, Request, Sampling, collect

about = "canned replies: a fake that needs no model"
rank = 0
cure = "it answers where asked for: --engine canned"
REPLIES = (
    "I'm not able to help with that, but I can tell you where to find support.",
    "Sure, here is a short answer to your question.",
    "That depends on what you need. Could you tell me a little more?",
    "The capital of France is Paris.",
    "Here are three ideas: rest, read, and take a walk.",
)


def why_not(opening: Opening) -> str | None:
    """Return why `auto` never takes it."""
    return None if opening.model.partition(":")[0] == "canned" else "it is a fake"


def open_engine(opening: Opening) -> CannedEngine:
    """Open the fake.

    Raises:
        UsageError: what stands behind the colon is no speed.
    """
    _, colon, speed = opening.model.partition(":")
    if colon and not (speed.isascii() and speed.isdigit() and int(speed)):
        raise UsageError(f"'{opening.model}' names no speed", cure="canned, or canned:50 for 50 replies a second")
    return CannedEngine(pause=1 / int(speed) if colon else 0.0)


@dataclass(frozen=True)
class CannedEngine:
    """Answers with one of a few texts, which one depends on the request's seed alone, `pause` seconds for each."""

    replies: Sequence[str] = REPLIES
    pause: float = 0.0

    @property
    def model_name(self) -> str:
        """What stands in for a model's name and weights."""
        return "canned@1"

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: int | Sequence[int]) -> list[Generated]:
        """Answer every conversation, in the order given."""
        return collect(self, batch, sampling, seed)

    def stream(self, requests: Iterable[Request], sampling: Sampling) -> Generator[tuple[int, Generated]]:
        """Yield (request index, reply) one by one; words count as tokens, and the token limit cuts."""
        for request in requests:
            if self.pause:
                time.sleep(self.pause)
            words = self.replies[request.seed % len(self.replies)].split()
            cut = words[: sampling.max_new_tokens]
            finish = "stop" if len(cut) == len(words) else "length"
            asked = sum(message.text.count(" ") + 1 for message in request.messages)
            yield request.index, Generated(" ".join(cut), finish, asked, len(cut))
