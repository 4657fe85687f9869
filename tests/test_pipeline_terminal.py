"""The lines of a run and the closing table."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.cells import cell_len

from primum.core.progress import silent
from primum.pipeline.terminal import Terminal, closing_table, progress_words
from primum.report.example import example_facts


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_without_a_terminal_a_step_is_a_line_at_each_end_and_one_every_half_minute() -> None:
    stream, clock = io.StringIO(), Clock()
    with Terminal(stream, clock=clock).step("sample", 100, "replies") as advance:
        for _ in range(4):
            clock.now += 20
            advance(25)
    assert stream.getvalue().splitlines() == [
        "sample (100 replies) ...",
        "sample: 50%, 40.0 s left",  # after 40 s; at 20 s and 60 s it is too soon
        "sample: 100%, 0.0 s left",
        "sample: 1 min 20 s",
    ]


def test_a_step_that_fails_says_so_and_the_error_goes_on() -> None:
    stream = io.StringIO()
    with pytest.raises(ValueError, match="boom"), Terminal(stream, clock=Clock()).step("train"):
        raise ValueError("boom")
    assert stream.getvalue().splitlines() == ["train ...", "train failed: 0.0 s"]


def test_no_control_codes_without_a_terminal() -> None:
    stream = io.StringIO()
    terminal = Terminal(stream)
    terminal.note("[bold]not markup[/bold] \x1b[31mred")
    with terminal.step("\x1b[2Jname", 2):
        pass
    assert "\x1b" not in stream.getvalue() and "\r" not in stream.getvalue()
    assert "[bold]not markup[/bold]" in stream.getvalue()


def test_on_a_terminal_the_line_stays_with_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream, clock = Screen(), Clock()
    terminal = Terminal(stream, clock=clock)
    with terminal.step("sample", 2, "replies") as advance:
        terminal.note("a note")
        advance(2)
        clock.now = 75
    last = stream.getvalue().splitlines()[-1]
    assert "sample" in last and "1 min 15 s" in last and "✓" in last
    assert "a note" in stream.getvalue()


def test_quiet_says_nothing() -> None:
    stream = io.StringIO()
    terminal = Terminal(stream, quiet=True)
    terminal.note("hello")
    with terminal.step("sample", 2) as advance:
        assert advance is silent
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("done", "total", "taken", "expected"),
    [(25, 100, 30.0, "25%, 1 min 30 s left"), (7, None, 30.0, "7 done, 30.0 s"), (0, 10, 5.0, "0 done, 5.0 s"),
     (1, 8000, 60.0, "1 done, 1 min 00 s"), (80, 8000, 60.0, "1%, 1 h 39 min left")],
)  # fmt: skip
def test_progress_words(done: int, total: int | None, taken: float, expected: str) -> None:
    assert progress_words(done, total, taken) == expected


def test_the_table_shows_before_after_and_interval_for_both_judges() -> None:
    table = closing_table(example_facts(), "runs/a/report.html")
    assert " 62.0 ->   8.0 [5.2, 12.1]" in table and " 58.5 ->   8.7 [" in table
    assert "2.512 -> 2.539 [2.498, 2.580]" in table
    assert "PASSED: Every rule holds" in table
    assert table.endswith("report:\nruns/a/report.html\n")


def test_failing_rules_are_named() -> None:
    table = " ".join(closing_table(example_facts("failed")).split())
    assert "FAILED: The repaired model is safer" in table
    assert "- general: refusal of general prompts rises by at most 3 points (judge rules)" in table


def _long() -> dict[str, Any]:
    name = "a very long judge's name with 漢字漢字 and 😀 that goes on and on " * 3
    facts = json.loads(json.dumps(example_facts("failed")).replace('"rules": {', f"{json.dumps(name)}: {{"))
    facts["decision"]["text"] = "word " * 100 + "w" * 300
    facts["decision"]["rules"][0] |= {"outcome": "failed", "judge": name, "name": "metric_" * 30, "text": "t" * 200}
    for sides in facts["measurements"].values():
        for row in [*sides["before"], *sides["after"]]:
            row |= {"value": 1.0, "low": 1.0, "high": 1.0} if row["unit"] == "share" else {"value": 12.345}
    return facts


@pytest.mark.parametrize("outcome", ["passed", "failed", "undecided"])
def test_the_table_fits_eighty_columns(outcome: str) -> None:
    assert max(map(cell_len, closing_table(example_facts(outcome)).splitlines())) <= 80


def test_the_table_fits_with_long_and_wide_names() -> None:
    facts = _long()
    facts["measurements"]["third"] = next(iter(facts["measurements"].values()))
    table = closing_table(facts)
    assert max(map(cell_len, table.splitlines())) <= 80
    assert "100.0 -> 100.0 [100.0, 100.0]" in table
    assert "third" in table


def test_the_table_of_an_empty_run() -> None:
    assert closing_table({}) == "UNDECIDED:\n"
    facts = example_facts()
    facts["measurements"]["classifier"] = {"before": [], "after": []}
    facts["measurements"]["rules"]["after"][0] |= {"value": None, "low": None, "high": None}
    assert " 62.0 ->     -" in closing_table(facts)
