"""What a run says while it goes on (on standard error), and the closing table.

On a terminal a step is one line with a bar and the time left; elsewhere plain lines without control codes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich.cells import cell_len, chop_cells, set_cell_size
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from primum.core.progress import Advance, silent
from primum.report import words
from primum.report.languages import language_lines
from primum.report.words import Facts

WIDTH = 80
EVERY = 30.0  # seconds between the lines of a long step where there is no terminal
NAME = 20
TABLE = (
    "harmful_compliance", "hateful", "refusal_harmful", "refusal_twin", "refusal_general", "incoherent",
    "discrimination", "nll", "nll_domain", "acc_domain",
)  # fmt: skip
SHORT = {
    "harmful_compliance": "harmful compliance", "hateful": "hateful", "refusal_harmful": "harmful refused",
    "refusal_twin": "benign-twin refusal", "refusal_general": "general refusal", "incoherent": "incoherent",
    "discrimination": "discrimination", "nll": "benign NLL (nats)", "nll_domain": "domain NLL (nats)",
    "acc_domain": "domain accuracy",
}  # fmt: skip


class Terminal:
    """Tells a person how far a run is."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
        every: float = EVERY,
    ) -> None:
        """Speak to a stream.

        Args:
            stream: where it writes; standard error by default.
            quiet: say nothing (--json).
            clock: seconds that only go up.
            every: seconds between the lines of a long step where there is no terminal.
        """
        self._stream = stream or sys.stderr
        self._console = Console(file=self._stream, highlight=False)
        self.quiet, self._clock, self._every = quiet, clock, every
        self.behind: Callable[[], str] = str
        """What is said behind a long step's own progress; nothing, unless somebody else knows more."""

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        """Show one step while the block runs; yields the function to call with the units just finished.

        A step that fails says so, and its error goes on.
        """
        if self.quiet:
            yield silent
            return
        started, ended = self._clock(), False
        draw = self._bar if self._console.is_terminal else self._lines
        try:
            with draw(words.clean(name), total, words.clean(unit)) as advance:
                yield advance
            ended = True
        finally:
            taken = words.seconds(self._clock() - started)
            self._say(f"{'✓' if ended else '✕'} {words.clean(name)}" + ("" if ended else " failed"), taken, ended)

    def note(self, text: str) -> None:
        """Say one thing, above the bar of a running step."""
        if not self.quiet:
            self._print(Text(words.clean(text)))

    def _say(self, text: str, taken: str, good: bool) -> None:
        if not self._console.is_terminal:
            self._print(Text(f"{text}: {taken}".removeprefix("✓ ").removeprefix("✕ ")))
            return
        mark, rest = text[:1], set_cell_size(text[1:], 44)
        self._print(Text.assemble((mark, "green" if good else "bold red"), rest, (f"{taken:>14}", "dim")))

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)

    @contextmanager
    def _bar(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        columns = (
            SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=16),
            MofNCompleteColumn(), TextColumn(unit, markup=False), TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[behind]}", markup=False),
        )  # fmt: skip
        shown = columns if total else columns[:2]
        with Progress(*shown, console=self._console, transient=True) as progress:
            task: TaskID = progress.add_task(set_cell_size(name, min(cell_len(name), 28)), total=total, behind="")
            yield lambda units: progress.update(task, advance=units, behind=self.behind())

    @contextmanager
    def _lines(self, name: str, total: int | None, unit: str) -> Iterator[Advance]:
        started = said = self._clock()
        done = 0
        amount = f" ({total:,} {unit})".replace(" )", ")") if total else ""
        self._print(Text(f"{name}{amount} ..."))

        def advance(units: int) -> None:
            nonlocal done, said
            done += units
            now = self._clock()
            if now - said >= self._every:
                said = now
                self._print(Text(f"{name}: {progress_words(done, total, now - started)}{self.behind()}"))

        yield advance


TELLING = 0.01
"""Share of a step from which its pace tells when it ends: the first replies of a batch end long before the rest."""


def progress_words(done: int, total: int | None, taken: float) -> str:
    """Return '25%, 1 min 30 s left' after `taken` seconds, or what is done where that cannot be told yet."""
    if not total or done < TELLING * total or not done:
        return f"{done:,} done, {words.seconds(taken)}"
    left = taken * max(total - done, 0) / done
    return f"{100 * min(done, total) // total}%, {words.seconds(left)} left"


def closing_table(facts: Facts, report: str | Path | None = None) -> str:
    """Return what a run ends with, in plain text of at most 80 columns.

    Metric rows with before -> after [95% interval of after] for each judge (two side by side), the languages where
    they were measured, the decision with the rules that did not pass, and the path of the report, which alone is never
    broken, so that it can be copied.
    """
    judges = words.judges(facts)
    lines: list[str] = []
    for start in range(0, len(judges), 2):
        lines += [*_table(facts, judges[start : start + 2]), ""]
    if table := language_lines(facts):
        lines += [*table, ""]
    lines += _decision(facts)
    if report is not None:
        lines += ["", "report:", words.clean(report)]
    return "\n".join(lines) + "\n"


def _table(facts: Facts, judges: Sequence[str]) -> list[str]:
    width = (WIDTH - NAME) // 2
    head = _fit("before -> after", NAME) + "".join(_fit(" " + words.clean(judge), width) for judge in judges)
    lines = [head.rstrip(), _fit("% [95% interval]", NAME).rstrip(), "-" * (NAME + width * len(judges))]
    for name in TABLE:
        cells = [_cell(facts, judge, name) for judge in judges]
        if any(cells):
            row = _fit(SHORT[name], NAME) + "".join(_fit(" " + (cell or "-"), width) for cell in cells)
            lines.append(row.rstrip())
    return lines


def _cell(facts: Facts, judge: str, name: str) -> str:
    before, after = (words.measured(facts, judge, when, name) for when in ("before", "after"))
    if not before and not after:
        return ""
    nats = words.metric(name).unit == "nats"
    ends = [_plain((after or {}).get(key), nats) for key in ("low", "high")]
    span = "" if "-" in ends else f" [{ends[0]}, {ends[1]}]"
    return f"{_plain((before or {}).get('value'), nats):>5} -> {_plain((after or {}).get('value'), nats):>5}{span}"


def _plain(value: Any, nats: bool) -> str:
    plain = words.finite(value)
    if plain is None:
        return "-"
    return f"{plain:.{3 if plain < 10 else 2}f}" if nats else f"{100 * plain:.1f}"


def _fit(text: str, width: int) -> str:
    """Cut or fill to a number of terminal cells; a cut one ends in '…'."""
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 2) + "… "


def _decision(facts: Facts) -> list[str]:
    decision = facts.get("decision") or {}
    outcome = words.clean(decision.get("outcome") or "undecided").upper()
    lines = _wrapped(f"{outcome}: {words.reason(decision)}", "")
    for rule in words.failing(facts):
        about = f"{words.clean(rule.get('text') or rule['name'])} (judge {words.clean(rule.get('judge') or '-')})"
        lines += _wrapped(f"- {about}", "  ")
    return lines


def _wrapped(text: str, indent: str) -> list[str]:
    """Break a text at spaces into lines of WIDTH cells (textwrap counts characters; a wide one takes two cells)."""
    room = WIDTH - len(indent)
    lines = [""]
    for piece in (piece for word in text.split() for piece in chop_cells(word, room)):
        longer = f"{lines[-1]} {piece}".strip()
        if cell_len(longer) <= room:
            lines[-1] = longer
        else:
            lines.append(piece)
    return [lines[0], *(indent + line for line in lines[1:])]
