"""Errors a user can act on. Each says what is wrong, where, and the cure; each knows its exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every verb (docs/architecture.md, section 3)."""

    PASSED = 0
    GATE_FAILED = 1
    USAGE = 2
    UNDECIDED = 3
    STEP_FAILED = 4


class PrimumError(Exception):
    """Base of the errors that are shown without a traceback.

    Args:
        problem: what is wrong, in one sentence.
        where: file, line or key, if there is one.
        cure: what the user can do about it.
    """

    exit_code = Exit.STEP_FAILED

    def __init__(self, problem: str, *, where: str | None = None, cure: str | None = None) -> None:
        self.problem, self.where, self.cure = problem, where, cure
        place = f"{where}: " if where else ""
        super().__init__(f"{place}{problem}" + (f"\n  cure: {cure}" if cure else ""))

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the parts: what a worker process raises must reach the user as it is."""
        return _again, (type(self), self.problem, self.where, self.cure)


def _again(kind: type[PrimumError], problem: str, where: str | None, cure: str | None) -> PrimumError:
    error = kind.__new__(kind)
    PrimumError.__init__(error, problem, where=where, cure=cure)
    return error


class UsageError(PrimumError):
    """A wrong flag, configuration key, file or model name: nothing has been run."""

    exit_code = Exit.USAGE


class BadInputError(UsageError):
    """An input file that cannot be used; names the file and the line."""


class StepFailedError(PrimumError):
    """A step that started could not end (disk full, diverged training, engine failure)."""


class MissingExtraError(UsageError):
    """An optional part is not installed; the cure is the exact command."""

    def __init__(self, part: str, extra: str) -> None:
        super().__init__(f"{part} is not installed", cure=f"pip install 'primum[{extra}]'")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the nearest known word, or the list of known words."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else "known: " + ", ".join(known)
