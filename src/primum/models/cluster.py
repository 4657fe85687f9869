"""Replies from many machines: one engine a worker, on a Ray cluster, behind the same contract as an engine here.

The one process that started the run draws the requests, keeps every worker fed, and writes what comes back, so nothing
is doubled whatever dies: what a lost worker has not answered goes to the others, and another worker is started. Every
node needs the same primum; a model that is a folder must lie at the same path on every node.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from primum.core.errors import MissingExtraError, PrimumError, StepFailedError, UsageError
from primum.core.records import Messages
from primum.models.opening import open_engine
from primum.models.sampling import Generated, Opening, Request, Sampling, collect

GROUP = 16
"""Replies that a worker sends back at a time, at most; what it lost with it is drawn again."""
AHEAD = 6
"""Batches that a worker has, at most: engines look a few ahead, and must not wait for the next."""
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

    Raises:
        UsageError: the address names no cluster.
    """

    address: str = "ray"
    count: int = 0
    cpus: float = 1.0
    gpus: float = 0.0
    patience: float = 1800.0

    def __post_init__(self) -> None:
        if self.address != "ray" and not self.address.startswith("ray://"):
            raise UsageError(f"--on {self.address} names no cluster", cure="--on ray, or --on ray://HOST:10001")

    def describe(self, count: int) -> str:
        """One line for the terminal, on so many workers."""
        each = f"{self.cpus:g} cores" + (f" and {self.gpus:g} GPUs" if self.gpus else "")
        return f"{count} workers of {each} on {self.address}"


class Worker:
    """Runs in a process of the cluster: one engine with its model, and the requests that wait for it."""

    def __init__(self, engine: str, opening: Opening) -> None:
        self._open = engine, opening
        self._waiting = deque[Request]()

    def name(self) -> str:
        """Open the engine, before anything else is asked; return the model's name and weights.

        Not done when the worker begins: of what is raised there the driver gets only words.
        """
        self._engine = open_engine(*self._open)
        return self._engine.model_name

    def feed(self, requests: Sequence[Request]) -> None:
        """Take more requests while `draw` runs: its engine goes on with them, and never drains in between."""
        self._waiting.extend(requests)

    def draw(self, requests: Sequence[Request], sampling: Sampling, after: None = None) -> Iterator[Replies]:
        """Yield replies as they end, some at a time, until nothing waits; begins when `after` has ended."""
        del after
        self.feed(requests)
        group: Replies = []
        sent = time.monotonic()
        while self._waiting:
            for item in self._engine.stream(self._source(), sampling):
                group.append(item)
                if len(group) == GROUP or time.monotonic() - sent > 1:
                    yield group
                    group, sent = [], time.monotonic()
        if group:
            yield group

    def _source(self) -> Iterator[Request]:
        while self._waiting:
            yield self._waiting.popleft()


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
    return workers.count or room(workers, ray.cluster_resources())


def room(workers: Workers, held: Mapping[str, float]) -> int:
    """Return how many workers fit into what a cluster holds (its CPU and GPU).

    Raises:
        UsageError: not one does, or a worker needs nothing.
    """
    needs = {"CPU": workers.cpus, "GPU": workers.gpus}
    fits = [int(held.get(kind, 0) // need) for kind, need in needs.items() if need]
    if not fits:
        raise UsageError("workers that need nothing would be without end", cure="give --workers, or cores or GPUs")
    if min(fits) < 1:
        cure = f"it has {held.get('CPU', 0):g} cores and {held.get('GPU', 0):g} GPUs; ask for less a worker"
        raise UsageError("the cluster has no room for one worker", cure=cure)
    return min(fits)


def raised_there(cause: Any) -> PrimumError:
    """Return what a worker raised as an error to show here: as it is, where it was made to be shown."""
    if isinstance(cause, PrimumError):
        return cause
    return StepFailedError(f"a worker failed: {type(cause).__name__}: {cause}".splitlines()[0])


@dataclass(eq=False)
class _Held:
    """A worker: its handle, what it has not answered, and the stream of its replies."""

    actor: Any
    open: dict[int, Request] = field(default_factory=dict[int, Request])
    stream: Any = None
    fed: Any = None
    asked_again: bool = False


@dataclass
class ClusterEngine:
    """An engine over workers of a Ray cluster.

    Args:
        engine: the id of the engine that each worker opens.
        opening: what it is opened with.
        workers: what is asked of the cluster.
        lost: workers that died so far.
    """

    engine: str
    opening: Opening
    workers: Workers
    lost: int = 0
    _count: int = 0
    _name: str = ""
    _starting: dict[Any, _Held] = field(default_factory=dict[Any, _Held])
    _ready: list[_Held] = field(default_factory=list[_Held])

    def __post_init__(self) -> None:
        self._count = join(self.workers)
        for _ in range(self._count):
            self._start()
        self.wait_for(1)

    @property
    def model_name(self) -> str:
        """The name and weights of the model that answers, as a worker gave it."""
        return self._name

    def describe(self) -> str:
        """One line for the terminal."""
        return self.workers.describe(self._count)

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: int | Sequence[int]) -> list[Generated]:
        """Generate one reply per conversation, in the order given."""
        return collect(self, batch, sampling, seed)

    def stream(self, requests: Iterable[Request], sampling: Sampling) -> Generator[tuple[int, Generated]]:
        """Yield (request index, reply) as they come back from the workers.

        Raises:
            StepFailedError: workers are lost again and again, or none can be started.
        """
        source, again = iter(requests), deque[Request]()
        while True:
            self.wait_for(1)
            self._hand_out(source, again, sampling)
            streams = {held.stream: held for held in self._ready if held.stream is not None}
            if not streams:
                return
            for one in self._changed([*streams, *self._starting]):
                if one in self._starting:
                    self._welcome(one)
                else:
                    yield from self._received(streams[one], again, sampling)

    def close(self) -> None:
        """End the workers; the cluster stays."""
        import ray

        for held in [*self._ready, *self._starting.values()]:
            ray.kill(held.actor)
        self._ready, self._starting = [], {}

    def _hand_out(self, source: Iterator[Request], again: deque[Request], sampling: Sampling) -> None:
        """Fill up the workers, a quarter of a batch at a time in turn, so that all have about as much to do."""
        most, piece = AHEAD * self.opening.width, max(1, self.opening.width // 4)
        given: dict[_Held, list[Request]] = {held: [] for held in self._ready}
        hungry = [held for held in self._ready if len(held.open) + piece <= most]
        while hungry:
            held = hungry.pop(0)
            taken = [again.popleft() for _ in range(min(piece, len(again)))]
            taken += islice(source, piece - len(taken))
            if not taken:
                break
            given[held] += taken
            if len(held.open) + len(given[held]) + piece <= most:
                hungry.append(held)
        for held, requests in given.items():
            if requests:
                self._give(held, requests, sampling)

    def _give(self, held: _Held, requests: list[Request], sampling: Sampling) -> None:
        held.open.update((request.index, request) for request in requests)
        if held.stream is None:
            held.stream = held.actor.draw.options(num_returns="streaming").remote(requests, sampling)
        else:
            held.fed = held.actor.feed.remote(requests)

    def _changed(self, waited: list[Any]) -> list[Any]:
        import ray

        return ray.wait(waited, num_returns=1, timeout=5.0, fetch_local=False)[0]

    def _received(self, held: _Held, again: deque[Request], sampling: Sampling) -> Replies:
        """Return what a worker sent back; where it is lost, its unanswered requests go back to `again`."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        try:
            found: Replies = ray.get(next(held.stream))
        except StopIteration:
            return self._ended(held, sampling)
        except RayTaskError as error:
            raise raised_there(error.cause) from error
        except RayError:
            self._lose(held, again)
            return []
        held.asked_again = False
        return [(index, got) for index, got in found if held.open.pop(index, None) is not None]

    def _ended(self, held: _Held, sampling: Sampling) -> Replies:
        """Go on with what reached a worker after it had looked for the last time; what it never answers has failed."""
        held.stream = None
        if not held.open:
            return []
        if held.asked_again:
            left, held.open, held.asked_again = held.open, {}, False
            return [(index, Generated("", "error", 0, 0, "the engine gave no reply")) for index in left]
        held.asked_again = True
        # actor methods wait for the refs they are given: what was fed last has arrived when this one starts
        held.stream = held.actor.draw.options(num_returns="streaming").remote([], sampling, held.fed)
        return []

    def _lose(self, held: _Held, again: deque[Request]) -> None:
        import ray

        self._ready.remove(held)
        again.extend(held.open.values())
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
        place["max_concurrency"] = 2  # `feed` while `draw` runs
        actor = ray.remote(Worker).options(**place).remote(self.engine, self.opening)
        self._starting[actor.name.remote()] = _Held(actor)

    def _welcome(self, ref: Any) -> None:
        """Take a worker that has loaded its model.

        Raises:
            PrimumError: the engine cannot be opened on a worker.
        """
        import ray
        from ray.exceptions import RayError, RayTaskError

        held = self._starting.pop(ref)
        try:
            self._name = ray.get(ref)
        except RayTaskError as error:
            raise raised_there(error.cause) from error
        except RayError:
            self._count_loss()
            self._start()
            return
        self._ready.append(held)

    def wait_for(self, count: int) -> None:
        """Wait until that many workers have loaded the model.

        Raises:
            StepFailedError: it takes too long.
        """
        until = time.monotonic() + self.workers.patience
        while len(self._ready) < count:
            for ref in self._changed(list(self._starting)):
                self._welcome(ref)
            if time.monotonic() > until:
                cure = "has the cluster free cores, GPUs and memory? (`ray status`)"
                raise StepFailedError(f"no worker was ready within {self.workers.patience:g} s", cure=cure)
