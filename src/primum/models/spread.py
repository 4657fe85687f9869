"""Parts of a job on a Ray cluster: each a task, results in the order of the parts, a lost worker's part done again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import Any, TypeVar

from primum.core.errors import StepFailedError
from primum.models.cluster import Workers, join, raised_there

T = TypeVar("T")
R = TypeVar("R")
TRIES = 5
"""Workers that a part may be lost with, before the run ends: it may be the part that ends them."""


def spread(workers: Workers, job: Callable[[T], R], parts: Iterable[T]) -> Generator[R]:
    """Yield what a job makes of each part, in their order; two parts a worker are under way at a time.

    Only this process takes results, so that whatever dies nothing is doubled.

    Args:
        workers: what is asked of the cluster.
        job: a function that a node can import; called in a process there, which may keep what it loaded.
        parts: drawn as there is room.

    Raises:
        UsageError: no such cluster, or it has no room for one worker.
        StepFailedError: a part is lost again and again, or nothing comes back.
        PrimumError: what the job raised to be shown.
    """
    import ray

    count, source = join(workers), iter(parts)
    place = {"num_cpus": workers.cpus, "num_gpus": workers.gpus, "scheduling_strategy": "SPREAD"}
    remote: Any = ray.remote(_call).options(**place, max_retries=TRIES - 1)
    under_way = deque[Any]()
    try:
        while True:
            under_way += (remote.remote(job, part) for part in islice(source, 2 * count - len(under_way)))
            if not under_way:
                return
            result = _result(under_way[0], workers)
            under_way.popleft()
            yield result
    finally:
        for ref in under_way:
            ray.cancel(ref, force=True)


def _call(job: Callable[[Any], Any], part: Any) -> Any:
    return job(part)


def _result(ref: Any, workers: Workers) -> Any:
    import ray
    from ray.exceptions import RayError, RayTaskError

    if not ray.wait([ref], timeout=workers.patience)[0]:
        cure = "has the cluster free cores, GPUs and memory? (`ray status`)"
        raise StepFailedError(f"nothing came back within {workers.patience:g} s", cure=cure)
    try:
        return ray.get(ref)
    except RayTaskError as error:
        raise raised_there(error.cause) from error
    except RayError as error:
        cure = "it may need more memory than a worker has: give more --worker-cpus; see `ray logs`"
        raise StepFailedError(f"{TRIES} workers were lost with the same part", cure=cure) from error
