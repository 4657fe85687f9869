"""Blocks on many machines: each is a task of a Ray cluster, over a folder that every node sees.

    OUT/work/cluster.json         which run this is; a worker that cannot read it here is refused
    OUT/work/attempts/ID/         what one attempt at a block wrote; taken from here when it is whole

The one process that was started reads the corpus, hands out blocks, and alone puts shards into their place. So a block
whose worker was lost is done by another, and whatever a lost worker may still write, nothing is doubled. Every node
needs the same primum, and models that are folders at the same path.
"""

from __future__ import annotations

import platform
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Lock
from typing import Any, NamedTuple
from uuid import uuid4

from primum import __version__
from primum.audit.engine import Plan, Task, Worker
from primum.core.errors import StepFailedError, UsageError
from primum.core.store import disk_error, read_json, write_json
from primum.models.cluster import Workers, join, raised_there

TRIES = 5
"""Workers that a block may be lost with, before the run ends: it may be the block that ends them."""


class Run(NamedTuple):
    """What a worker is told of a run.

    Args:
        id: by which a worker knows a plan that it has, and the folder.
        plan: where Ray holds it (fetched once a process).
        work: the shared folder.
        primum: the version that wrote it.
    """

    id: str
    plan: Any
    work: str
    primum: str


@dataclass
class Cluster:
    """Does blocks on a Ray cluster: an executor of `engine.run`.

    Args:
        workers: what is asked of the cluster.
        count: blocks that are done at a time.
        lost: workers that died so far.
    """

    workers: Workers
    count: int = 0
    lost: int = 0
    _remote: Any = None
    _seen: float = 0.0
    _over: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.count = join(self.workers)

    @contextmanager
    def __call__(self, plan: Plan, workers: int) -> Iterator[Callable[[Task], Future[int]]]:
        """Yield what submits a block.

        Raises:
            UsageError: a node does not see the folder, or has another primum.
            StepFailedError: a block is lost again and again, or nothing comes back.
        """
        import ray

        work = Path(plan.work).resolve()
        shutil.rmtree(work / "attempts", ignore_errors=True)  # of a run that was stopped
        run = Run(uuid4().hex, ray.put(plan), str(work), __version__)
        write_json(work / "cluster.json", {"id": run.id})
        (work / "attempts").mkdir()
        asked = {"num_cpus": self.workers.cpus, "num_gpus": self.workers.gpus, "scheduling_strategy": "SPREAD"}
        self._remote = ray.remote(do).options(**asked, max_retries=0)  # lost blocks are counted, and tried again, here
        pool = ThreadPoolExecutor(2 * workers)  # each waits for one block
        try:
            yield lambda task: pool.submit(self._do, run, task)
        finally:
            self._over.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def _do(self, run: Run, task: Task) -> int:
        from ray.exceptions import RayError, RayTaskError

        for _ in range(TRIES):
            attempt = uuid4().hex
            try:
                done = self._answer(self._remote.remote(run, task, attempt))
            except RayTaskError as error:
                raise raised_there(error.cause) from error
            except RayError:
                with self._lock:
                    self.lost += 1
                continue
            self._seen = time.monotonic()
            take(Path(run.work), attempt, task.stem)
            return done
        cure = (
            "a block may need more memory than a worker has: give a smaller --block or more --worker-cpus; `ray logs`"
        )
        raise StepFailedError(f"{TRIES} workers were lost with the same block", where=task.name, cure=cure)

    def _answer(self, ref: Any) -> int:
        """Return how many documents a block had, once it is done.

        Raises:
            StepFailedError: no block came back for too long, or another one has ended the run.
        """
        import ray

        asked = time.monotonic()
        while not ray.wait([ref], timeout=1.0)[0]:
            if self._over.is_set():
                raise StepFailedError("the run is over")
            if time.monotonic() - max(self._seen, asked) > self.workers.patience:
                cure = "has the cluster free cores, GPUs and memory? (`ray status`)"
                raise StepFailedError(f"no block came back within {self.workers.patience:g} s", cure=cure)
        return ray.get(ref)


def take(work: Path, attempt: str, stem: str) -> None:
    """Put what an attempt wrote into its place, the counts last.

    Raises:
        StepFailedError: it is not here, or the disk cannot be written.
    """
    folder, counts = work / "attempts" / attempt, f"{stem}.json"
    if not (folder / counts).is_file():
        cure = "give --out on a disk that every node shares"
        raise StepFailedError("what a worker wrote cannot be seen here", where=str(folder), cure=cure)
    try:
        for path in sorted(folder.iterdir(), key=lambda path: path.name == counts):
            path.replace(work / path.name)
        folder.rmdir()
    except OSError as error:
        raise disk_error(error, work) from error


# ---------------------------------------------------------------- on the nodes

_HELD: dict[str, Worker] = {}
"""The worker of the run that this process works for."""


def do(run: Run, task: Task, attempt: str) -> int:
    """Do a block in a process of the cluster; return how many documents it had.

    Raises:
        UsageError: this node does not see the folder, or has another primum.
        StepFailedError: the disk is full or cannot be written.
    """
    if run.id not in _HELD:
        import ray

        check(run)
        _HELD.clear()
        _HELD[run.id] = Worker(ray.get(run.plan))
    worker, folder = _HELD[run.id], Path(run.work) / "attempts" / attempt
    try:
        folder.mkdir()  # its parent is there while the run is: a late worker must not make it again
    except OSError as error:
        raise disk_error(error, folder) from error
    worker.plan = replace(worker.plan, work=str(folder))
    return worker(task)


def check(run: Run) -> None:
    """Check that this node may take part.

    Raises:
        UsageError: it does not see the folder, or has another primum.
    """
    node = platform.node()
    if run.primum != __version__:
        cure = "install the same primum on every node"
        raise UsageError(f"node {node} has primum {__version__}, this is {run.primum}", cure=cure)
    held = Path(run.work) / "cluster.json"
    if not held.is_file() or read_json(held)["id"] != run.id:
        cure = "give --out on a disk that every node shares, at the same path"
        raise UsageError(f"node {node} does not see the folder of the results", where=run.work, cure=cure)
