"""Single questions that come at the same time are answered as one batch.

Tools that ask one conversation at a time, many at once, leave a batched engine idle. Here the first question of a batch
waits until no further one comes for a moment; while a batch runs, the next one gathers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from primum.core.errors import StepFailedError
from primum.core.records import Messages
from primum.models.sampling import Engine, Generated, Sampling

Kind = tuple[Sampling, int]
"""Questions with the same settings and seed can share a batch."""


@dataclass
class _Asked:
    messages: Messages
    done: asyncio.Event = field(default_factory=asyncio.Event)
    reply: Generated | None = None


@dataclass
class Gather:
    """Batches what is asked in one event loop.

    Args:
        engine: opens the engine; called once, in a thread, when the first batch is full.
        most: conversations of one batch.
        wait: seconds without a new question after which a batch is full.
    """

    engine: Callable[[], Engine]
    most: int = 96
    wait: float = 0.02
    batches: list[int] = field(default_factory=list[int])
    _opened: Engine | None = None
    _waiting: dict[Kind, list[_Asked]] = field(default_factory=dict[Kind, list[_Asked]])
    _running: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(self, messages: Messages, sampling: Sampling, seed: int = 0) -> Generated:
        """Return the reply to one conversation.

        Raises:
            StepFailedError: the batch was given up (its first question was cancelled, or the engine failed).
        """
        kind, asked = (sampling, seed), _Asked(messages)
        waiting = self._waiting.setdefault(kind, [])
        waiting.append(asked)
        if len(waiting) == 1:
            await self._lead(kind, waiting)
        await asked.done.wait()
        if asked.reply is None:
            raise StepFailedError("the batch of this question was given up", cure="see the error of its first question")
        return asked.reply

    async def _lead(self, kind: Kind, waiting: list[_Asked]) -> None:
        """Wait until the batch is full and the engine free, run it, and hand the replies out."""
        batch = waiting
        try:
            seen = 0
            while seen < len(waiting) < self.most:
                seen = len(waiting)
                await asyncio.sleep(self.wait)
            async with self._running:
                batch = self._waiting.pop(kind)
                self.batches.append(len(batch))
                replies = await asyncio.to_thread(self._run, [one.messages for one in batch], kind)
            for one, reply in zip(batch, replies, strict=True):
                one.reply = reply
        finally:
            if self._waiting.get(kind) is waiting:  # cancelled before it ran
                del self._waiting[kind]
            for one in batch:
                one.done.set()

    def _run(self, batch: list[Messages], kind: Kind) -> list[Generated]:
        if self._opened is None:
            self._opened = self.engine()
        return self._opened(batch, *kind)
