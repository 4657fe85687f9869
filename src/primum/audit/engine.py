r"""Blocks to shards on every core, with resume; whoever computes a shard, its bytes are the same.

    OUT/work/key.json                 what the shards are keyed by
    OUT/work/00000-00003.jsonl        attributes of block 3 of input 0 (and .masked, .clean, .dropped, .sig where asked)
    OUT/work/00000-00003.json         its counts, written last: the shard is done

Blocks are cut by the bytes of the input alone. At most two blocks a worker are in memory.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from primum.audit.notes import Counts, Note, Step, table
from primum.audit.reading.document import Document, Skipped, failed
from primum.audit.reading.files import Input
from primum.audit.reading.records import Fields, documents
from primum.audit.reading.sources import Limits, Part, parts
from primum.core.errors import PrimumError, StepFailedError
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict
from primum.core.store import disk_error, read_json, write_text

MOST_EXAMPLES = 100
"""Skipped records a shard names; all are counted, and all are in skipped.jsonl."""
Extra = Callable[[Sequence[Note]], dict[str, bytes]]
"""Returns further files of a shard: suffix -> content."""


@dataclass(frozen=True)
class Plan:
    """What every worker does with a block. It is sent to each worker once, so it holds only plain data.

    make: returns the steps and what writes further files; a module-level function, so that it can be sent.
    """

    work: str
    limits: Limits
    fields: Fields
    make: Callable[[Any], tuple[list[Step], list[Extra]]]
    settings: Any = None


class Task(NamedTuple):
    """One block to do."""

    input: int
    block: int
    name: str
    part: Part

    @property
    def stem(self) -> str:
        """The shard's name."""
        return f"{self.input:05d}-{self.block:05d}"


class Looked(NamedTuple):
    """What the steps made of a block: notes, counts, and the shard's files by suffix."""

    notes: list[Note]
    counts: Counts
    files: dict[str, bytes]


Submit = Callable[[Task], Future[int]]
"""Has a block done; the future is how many documents it had."""
Executor = Callable[[Plan, int], AbstractContextManager[Submit]]
"""Where blocks are done: the plan and how many workers -> what submits them."""


class Worker:
    """Does blocks, one after the other, in one process."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.steps, self.extras = plan.make(plan.settings)

    def __call__(self, task: Task) -> int:
        """Do a block: write its files, the counts last; return how many documents it had.

        Raises:
            StepFailedError: the disk is full or cannot be written.
        """
        limits = self.plan.limits
        found: list[Document] = []
        skipped: list[Skipped] = []
        for one in documents(task.part, task.name, limits.longest, self.plan.fields, limits.text_unit):
            if isinstance(one, Document):
                found.append(one)
            else:
                skipped.append(one)
        looked = self._look(found, skipped)
        table(looked.counts, "corpus")["bytes"] += len(task.part.block.data)
        table(looked.counts, "skipped").update(one.reason for one in skipped)
        table(looked.counts, "failed_steps").update(one.detail for one in skipped if one.reason == "failed_step")
        self._write(task, looked, skipped)
        return len(looked.notes)

    def _look(self, found: Sequence[Document], skipped: list[Skipped]) -> Looked:
        """Let every step look at the documents; one that breaks a step is passed over, and the others are not lost.

        Where something unforeseen is raised the culprit is sought by halves. Notes and counts are then made anew, so
        that nothing counts twice.
        """
        try:
            return self._all(found)
        except (PrimumError, MemoryError):
            raise  # the settings' or the machine's fault, not a document's
        except Exception as error:  # whatever it is: a step's failure is a result, and loses no other document
            if not found:
                raise
            if len(found) == 1:
                skipped.append(failed(found[0].where, error))
                return self._all([])
        middle = len(found) // 2
        kept = [note.document for half in (found[:middle], found[middle:]) for note in self._look(half, skipped).notes]
        return self._all(kept)

    def _all(self, found: Sequence[Document]) -> Looked:
        notes, counts = [Note(one) for one in found], Counts()
        for step in self.steps:
            step(notes, counts)
        files = {".jsonl": b"".join(map(_line, notes))}
        for extra in self.extras:
            files |= extra(notes)
        return Looked(notes, counts, files)

    def _write(self, task: Task, looked: Looked, skipped: Sequence[Skipped]) -> None:
        stem = Path(self.plan.work) / task.stem
        for suffix, data in looked.files.items():
            write_bytes(stem.with_suffix(suffix), data)
        rows = "".join(json.dumps(one._asdict(), ensure_ascii=False) + "\n" for one in skipped)
        write_bytes(stem.with_suffix(".skipped"), rows.encode("utf-8", "replace"))
        ordered = {name: dict(sorted(rows.items())) for name, rows in sorted(looked.counts.items())}
        write_text(stem.with_suffix(".json"), json.dumps(ordered, ensure_ascii=False))


_encoded = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for every line


def _line(note: Note) -> bytes:
    row = {"id": note.document.id, "source": note.document.source, "attributes": note.attributes}
    return _encoded(row).encode("utf-8", "replace") + b"\n"


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. It is not forced to disk: after a power cut the counts' file is missing too.

    Raises:
        StepFailedError: the disk is full or cannot be written.
    """
    temporary = path.with_name(path.name + ".partial")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise disk_error(error, path) from error


@dataclass
class Progress:
    """How far the pass is: called with the bytes of each finished block."""

    advance: Advance = silent
    documents: int = 0
    resumed: int = 0
    stems: list[str] = field(default_factory=lambda: list[str]())


def run(
    inputs: Sequence[Input], plan: Plan, workers: int, progress: Progress, executor: Executor | None = None
) -> list[str]:
    """Do every block of every input that is not done yet; return the names of all shards, in order.

    Args:
        inputs: in the order in which they are numbered.
        plan: what to do with a block.
        workers: processes; 1 works in this one.
        progress: told of every finished block.
        executor: where the blocks are done; `processes` of this machine where none is named.

    Raises:
        StepFailedError: a worker died (out of memory, most likely) or the disk is full.
    """
    with (executor or processes)(plan, workers) as submit:
        waiting: set[Future[int]] = set()
        sizes: dict[Future[int], int] = {}
        for task in _tasks(inputs, plan.limits):
            progress.stems.append(task.stem)
            size = len(task.part.block.data)
            if (Path(plan.work) / f"{task.stem}.json").exists():
                progress.resumed += 1
                progress.advance(size)
                continue
            future = submit(task)
            waiting.add(future)
            sizes[future] = size
            if len(waiting) >= 2 * workers:
                waiting = _settle(waiting, sizes, progress, FIRST_COMPLETED)
        while waiting:
            waiting = _settle(waiting, sizes, progress, FIRST_COMPLETED)
    return progress.stems


def _settle(
    waiting: set[Future[int]], sizes: dict[Future[int], int], progress: Progress, when: str
) -> set[Future[int]]:
    done, rest = wait(waiting, return_when=when)
    for future in done:
        try:
            progress.documents += future.result()
        except BrokenProcessPool as error:
            cure = "give fewer --workers or more memory, and run the same command again: finished blocks are kept"
            raise StepFailedError("a worker process died", cure=cure) from error
        progress.advance(sizes.pop(future))
    return rest


def _tasks(inputs: Sequence[Input], limits: Limits) -> Iterator[Task]:
    for number, one in enumerate(inputs):
        for index, part in enumerate(parts(one, limits)):
            yield Task(number, index, one.name, part)


@contextmanager
def processes(plan: Plan, workers: int) -> Iterator[Submit]:
    """Yield what has a block done by a process of this machine: an `Executor`."""
    if workers <= 1:
        worker = Worker(plan)
        yield lambda task: _now(worker, task)
        return
    context = get_context("spawn")  # a fork would copy whatever threads the caller has
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(plan, os.getpid()))
    try:
        yield lambda task: pool.submit(_do, task)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _now(worker: Worker, task: Task) -> Future[int]:
    future: Future[int] = Future()
    future.set_result(worker(task))
    return future


_PLAN: list[Plan] = []
_WORKER: list[Worker] = []


def _begin(plan: Plan, parent: int) -> None:
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    _PLAN.append(plan)


def _leave_with(parent: int) -> None:
    """End this worker when the main process is gone: after a kill -9 nobody else would."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _do(task: Task) -> int:
    if not _WORKER:  # not while the pool begins: what is raised there would only be a process that died
        _WORKER.append(Worker(_PLAN[0]))
    return _WORKER[0](task)


def counts_of(work: Path, stems: Sequence[str]) -> Iterator[JsonDict]:
    """Yield the counts of every shard, in order."""
    for stem in stems:
        yield read_json(work / f"{stem}.json")
