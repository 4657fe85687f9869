"""Replies from many machines: one engine a worker, on a Ray cluster, behind the same contract as an engine here.

The one process that started the run draws the requests, hands them to workers in chunks, and writes what comes back,
so nothing is doubled whatever dies: the unanswered rest of a lost worker's chunks goes to the others, and another
worker is started. Every node needs the same primum; a model that is a folder must lie at the same path on every node.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from primum.core.errors import MissingExtraError, StepFailedError, UsageError
from primum.core.records import Messages
from primum.models.opening import open_engine
from primum.models.sampling import Generated, Opening, Request, Sampling, collect

GROUP = 16
"""Replies that a worker sends back at a time, at most; what it lost with it is drawn again."""
AHEAD = 2
"""Chunks that a worker has, at most: the next one lies there when one ends."""
LOSSES = 5
"""Workers that may be lost for each one that was asked for, before the run ends."""
Replies = list[tuple[int, Generated]]


@dataclass(frozen=True)
class Workers:
    """What is asked of the cluster.

    Args:
        address: `ray` (the cluster that RAY_ADDRESS names or that runs here, else a new one here) or `ray://HOST:PORT`.
        count: workers; 0 takes as many as the cluster has room for.
        cpus: cores for each.
        gpus: GPUs for each.
        patience: seconds until the first worker must be ready (a large model takes its time to load).
    """

    address: str = "ray"
    count: int = 0
    cpus: float = 1.0
    gpus: float = 0.0
    patience: float = 1800.0


class Worker:
    """Runs in a process of the cluster: one engine with its model."""

    def __init__(self, engine: str, opening: Opening) -> None:
        self._engine = open_engine(engine, opening)

    def name(self) -> str:
        """Return the model's name and weights, once it is loaded."""
        return self._engine.model_name

    def draw(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[Replies]:
        """Yield replies as they end, some at a time."""
        group: Replies = []
        sent = time.monotonic()
        for item in self._engine.stream(requests, sampling):
            group.append(item)
            if len(group) == GROUP or time.monotonic() - sent > 1:
                yield group
                group, sent = [], time.monotonic()
        if group:
            yield group


def join(workers: Workers) -> int:
    """Connect to the cluster; return how many workers it has room for, or how many were asked for.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: no such cluster, or it has no room for one worker.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("Ray", "ray") from error
    address = None if workers.address == "ray" else workers.address
    try:
        ray.init(address, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, ValueError) as error:
        cure = "start one (`ray start --head`), or leave it to primum with --on ray"
        raise UsageError(f"no Ray cluster at '{workers.address}': {str(error).splitlines()[0]}", cure=cure) from error
    held = ray.cluster_resources()
    room = int(held.get("CPU", 0) // workers.cpus) if workers.cpus else 1 << 20
    room = min(room, int(held.get("GPU", 0) // workers.gpus)) if workers.gpus else room
    if room < 1:
        cure = f"it has {held.get('CPU', 0):g} cores and {held.get('GPU', 0):g} GPUs; ask for less a worker"
        raise UsageError("the cluster has no room for one worker", cure=cure)
    return workers.count or room


@dataclass(eq=False)
class _Held:
    """A worker: its handle, and the chunks it has, in order, each with the stream of its replies."""

    actor: Any
    chunks: deque[tuple[dict[int, Request], Any]] = field(default_factory=deque)


@dataclass
class ClusterEngine:
    """An engine over workers of a Ray cluster.

    Args:
        engine: the id of the engine that each worker opens.
        opening: what it is opened with.
        workers: what is asked of the cluster.
        chunk: requests handed over at a time.
    """

    engine: str
    opening: Opening
    workers: Workers
    chunk: int = 0
    lost: int = 0
    _count: int = 0
    _name: str = ""
    _starting: dict[Any, _Held] = field(default_factory=dict[Any, _Held])
    _ready: list[_Held] = field(default_factory=list[_Held])

    def __post_init__(self) -> None:
        self._count = join(self.workers)
        self.chunk = self.chunk or 8 * self.opening.batch_size
        for _ in range(self._count):
            self._start()
        self._await_one()

    @property
    def model_name(self) -> str:
        """The name and weights of the model that answers, as the first worker gave it."""
        return self._name

    def describe(self) -> str:
        """One line for the terminal."""
        each = f"{self.workers.cpus:g} cores" + (f" and {self.workers.gpus:g} GPUs" if self.workers.gpus else "")
        return f"{self._count} workers of {each} on {self.workers.address}"

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: int | Sequence[int]) -> list[Generated]:
        """Generate one reply per conversation, in the order given."""
        return collect(self, batch, sampling, seed)

    def stream(self, requests: Iterable[Request], sampling: Sampling) -> Generator[tuple[int, Generated]]:
        """Yield (request index, reply) as they come back from the workers.

        Raises:
            StepFailedError: workers are lost again and again.
        """
        source, again = iter(requests), deque[Request]()
        while True:
            self._hand_out(source, again, sampling)
            streams = {held.chunks[0][1]: held for held in self._ready if held.chunks}
            if not streams and not again and (self._ready or not self._starting):
                return
            for one in self._changed([*streams, *self._starting]):
                if one in self._starting:
                    self._welcome(one)
                else:
                    yield from self._received(streams[one], again)

    def close(self) -> None:
        """End the workers; the cluster stays."""
        import ray

        for held in [*self._ready, *self._starting.values()]:
            ray.kill(held.actor)
        self._ready, self._starting = [], {}

    def _hand_out(self, source: Iterator[Request], again: deque[Request], sampling: Sampling) -> None:
        """Give every worker that has room its next chunk; what was lost goes first."""
        for _ in range(AHEAD):
            for held in self._ready:
                if len(held.chunks) < AHEAD:
                    taken = [again.popleft() for _ in range(min(self.chunk, len(again)))]
                    taken += islice(source, self.chunk - len(taken))
                    if taken:
                        stream = held.actor.draw.options(num_returns="streaming").remote(taken, sampling)
                        held.chunks.append(({request.index: request for request in taken}, stream))

    def _changed(self, waited: list[Any]) -> list[Any]:
        import ray

        return ray.wait(waited, num_returns=1, timeout=5.0, fetch_local=False)[0]

    def _received(self, held: _Held, again: deque[Request]) -> Replies:
        """Return what a worker sent back; where it is lost, its unanswered requests go back to `again`."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        open_requests, stream = held.chunks[0]
        try:
            found: Replies = ray.get(next(stream))
        except StopIteration:
            held.chunks.popleft()
            again.extend(open_requests.values())
            return []
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            raise StepFailedError(f"a worker failed: {type(cause).__name__}: {cause}".splitlines()[0]) from error
        except RayError:
            self._lose(held, again)
            return []
        return [(index, got) for index, got in found if open_requests.pop(index, None) is not None]

    def _lose(self, held: _Held, again: deque[Request]) -> None:
        import ray

        self._ready.remove(held)
        for requests, _ in held.chunks:
            again.extend(requests.values())
        with contextlib.suppress(Exception):
            ray.kill(held.actor)
        self._count_loss()
        self._start()

    def _count_loss(self) -> None:
        self.lost += 1
        if self.lost > LOSSES * self._count:
            raise StepFailedError(f"{self.lost} workers were lost", cure="see the logs of the cluster (ray logs)")

    def _start(self) -> None:
        import ray

        place = {"num_cpus": self.workers.cpus, "num_gpus": self.workers.gpus, "scheduling_strategy": "SPREAD"}
        actor = ray.remote(Worker).options(**place).remote(self.engine, self.opening)
        self._starting[actor.name.remote()] = _Held(actor)

    def _welcome(self, ref: Any) -> None:
        """Take a worker that has loaded its model.

        Raises:
            PrimumError: the engine cannot be opened on a worker.
        """
        import ray
        from ray.exceptions import RayError

        held = self._starting.pop(ref)
        try:
            self._name = ray.get(ref)
        except RayError as error:
            said = str(error).strip().splitlines()[-1]
            if "Error" in said:  # the engine's own
                raise StepFailedError(f"a worker cannot open the model: {said}") from error
            self._count_loss()
            self._start()
            return
        self._ready.append(held)

    def _await_one(self) -> None:
        until = time.monotonic() + self.workers.patience
        while not self._ready:
            for ref in self._changed(list(self._starting)):
                self._welcome(ref)
            if time.monotonic() > until:
                cure = "has the cluster free cores, GPUs and memory? (`ray status`)"
                raise StepFailedError(f"no worker was ready within {self.workers.patience:g} s", cure=cure)
