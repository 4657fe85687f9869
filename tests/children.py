"""`primum` in processes of their own, which a test may kill: forks of one that has loaded what takes long to load.

Loading torch, transformers and peft takes longer than most steps of a tiny model; a test that kills a run in every
step would load them a dozen times. The process that is forked has computed nothing: a fork of one that has may hang.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Literal

HEAVY = (
    "torch", "transformers", "transformers.modeling_utils", "transformers.models.llama", "peft", "accelerate",
    "primum.pipeline.learn", "primum.pipeline.repair", "primum.models.engines.hf", "primum.report.write",
    "primum.training.linear_start", "primum.training.methods.dpo", "primum.training.methods.sft",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """What befalls a run at a file of its folder.

    Args:
        kind: `kill`: SIGKILL where the file would get its name, after its last byte was written. `full`: the file's
            bytes go to /dev/full, where the system itself answers that no space is left. `large`: from the first
            file on that is written beside it no file may have more than LARGE bytes, for writers that would put
            another file in the place of a link. `note`: each name that a file gets is written to `notes`.
        at: how the path ends; of `full` the name under which the file is written.
        notes: where names are noted.
    """

    kind: Literal["kill", "full", "large", "note"]
    at: str = ""
    notes: str = ""


LARGE = 1 << 20


@cache
def _context() -> ForkServerContext:
    context = get_context("forkserver")
    context.set_forkserver_preload([*HEAVY])
    return context


class Child:
    """One run of `primum`.

    Args:
        arguments: of the command.
        log: the file that what it prints is added to.
        fault: what befalls it.
        folder: where it works; by default where the tests do.
        more: environment variables.
    """

    def __init__(
        self, arguments: Sequence[str | Path], log: Path, fault: Fault | None = None, folder: Path | None = None,
        **more: str,
    ) -> None:  # fmt: skip
        environment = {**os.environ, **more}
        given = [str(one) for one in arguments]
        self._process = _context().Process(target=_primum, args=(given, str(log), environment, fault, folder))
        self._process.start()

    def wait(self, limit: float = 600) -> int:
        """Return the exit code when it ends.

        Raises:
            TimeoutError: it has not ended in so many seconds; it is killed.
        """
        self._process.join(limit)
        if self._process.exitcode is None:
            self._process.kill()
            raise TimeoutError
        return self._process.exitcode

    def kill_when(self, reached: Callable[[], bool], limit: float = 600) -> bool:
        """Kill it (SIGKILL) as soon as something is so; False where it ended first."""
        end = time.monotonic() + limit
        while self._process.is_alive() and time.monotonic() < end:
            if reached():
                self._process.kill()
                return self.wait() == -signal.SIGKILL
            time.sleep(0.002)
        self._process.kill()
        return False


def _befalls(fault: Fault) -> Callable[[str, tuple[Any, ...]], None]:
    """Return a hook that the interpreter calls before it opens or renames a file (PEP 578)."""

    def named(path: str) -> None:
        if fault.kind == "kill" and path.endswith(fault.at):
            os.kill(os.getpid(), signal.SIGKILL)
        if fault.kind == "note":
            notes = os.open(fault.notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(notes, f"{path}\n".encode())
            os.close(notes)

    def written(path: str) -> None:
        folder, name = os.path.dirname(path), os.path.basename(fault.at)
        if not folder.endswith(os.path.dirname(fault.at)):
            return
        if fault.kind == "full" and not os.path.lexists(f"{folder}/{name}"):
            os.symlink("/dev/full", f"{folder}/{name}")
        if fault.kind == "large":
            resource.setrlimit(resource.RLIMIT_FSIZE, (LARGE, LARGE))

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event == "os.rename":
            named(os.fspath(given[1]))
        elif event == "open" and isinstance(given[0], str) and given[2] & (os.O_WRONLY | os.O_RDWR):
            written(given[0])

    return hook


def _primum(
    arguments: list[str], log: str, environment: dict[str, str], fault: Fault | None, folder: Path | None
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder or ".")
    sys.argv = ["primum", *arguments]
    if fault is not None:
        sys.addaudithook(_befalls(fault))
    from primum.cli import main

    sys.exit(main(arguments))
