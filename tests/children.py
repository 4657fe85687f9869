"""`primum` in processes of their own, which a test may kill: forks of one that has loaded what takes long to load.

Loading torch, transformers and peft takes longer than most steps of a tiny model; a test that kills a run in every
step would load them a dozen times. The process that is forked has computed nothing: a fork of one that has may hang.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

HEAVY = ("torch", "transformers", "transformers.modeling_utils", "transformers.models.llama", "peft", "accelerate")


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
        more: environment variables.
    """

    def __init__(self, arguments: Sequence[str | Path], log: Path, **more: str) -> None:
        environment = {**os.environ, **more}
        given = [str(one) for one in arguments]
        self._process = _context().Process(target=_primum, args=(given, str(log), environment))
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


def _primum(arguments: list[str], log: str, environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    with Path(log).open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = ["primum", *arguments]
    from primum.cli import main

    sys.exit(main(arguments))
