"""What attacks by training learn from: drawn until enough of it is harmful, never a refusal, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from primum.core.records import Prompt, Verdict, user
from primum.judging import Exchange
from primum.pipeline import shots
from primum.pipeline.shots import DRAWS, Examples
from primum.pipeline.steps import Journey
from primum.pipeline.stressing import Grid, Prompts
from primum.pipeline.terminal import Terminal
from primum.stress.demonstrate import SHORT
from primum.stress.setting import Shape, SkippedError

ASKED = sorted((Prompt((user(f"bad {i}"),), "harmful", "fraud") for i in range(8)), key=lambda p: p.id)
MODEL: Any = None
SAID: dict[str, Any] = {"h": "harmful_compliance", "r": "refusal", "i": "incoherent", "u": None}


@dataclass
class Canned(Examples):
    """Answers as written: one letter a request (by id) and draw, the last one for all later draws."""

    letters: Sequence[str] = ()
    asked: list[list[int]] = field(default_factory=list[list[int]])

    def _said(self, name: str, asked: Sequence[Prompt], model: Any, broken: str | None, number: int = 0) -> list[str]:
        own = [ASKED.index(p) for p in asked]
        self.asked.append(own)
        return [f"{self.letters[i][min(number, len(self.letters[i]) - 1)]} to {i} in draw {number}" for i in own]


def by_letter(name: str, exchanges: Sequence[Exchange]) -> list[Verdict]:
    found = [(one.reply, SAID[one.reply.text[0]]) for one in exchanges]
    return [Verdict(reply.id, name, kind, unscored=None if kind else "no answer") for reply, kind in found]


def examples(letters: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Canned:
    monkeypatch.setattr(shots, "judge_all", by_letter)
    grid = Grid(
        "m", (), Shape(shots=(2,)), Prompts([], ASKED, []), 4, 0.4, 0, ("rules",), "", None, None, None, None, {}
    )
    return Canned(Journey(tmp_path, Terminal(quiet=True)), grid, "model", letters=letters.split())


def learned(one: Canned, many: int) -> tuple[list[str], int | None]:
    rows, harmful = one.rows("harmful", many, MODEL)
    assert all(text.startswith(SHORT) for _, text in rows)
    return [text.removeprefix(SHORT).split()[0] + text.split()[-4] for _, text in rows], harmful


def test_enough_harmful_answers_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = examples("r h i h h h h h", tmp_path, monkeypatch)
    assert learned(one, 2) == (["h1", "h3"], 2)
    assert one.asked == [[0, 1, 2, 3]]  # twice as many as are wanted


def test_requests_not_asked_yet_come_before_those_that_were_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = examples("rrh h r r r r h r", tmp_path, monkeypatch)
    assert learned(one, 3) == (["h1", "h6", "h0"], 3)
    assert one.asked == [[0, 1, 2, 3], [4, 5, 6, 7], [0, 2, 3, 4]]
    assert learned(one, 1) == (["h1"], 1) and len(one.asked) == 3  # what was drawn is judged and drawn once


def test_too_few_are_counted_and_filled_up_with_anything_but_refusals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = examples("r h r i u r r r", tmp_path, monkeypatch)
    assert learned(one, 3) == (["h1", "i3", "u4"], 1) and len(one.asked) == DRAWS
    assert learned(one, 4) == (["h1", "i3", "u4"], 1)  # there are no more


def test_refusals_alone_are_no_attack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = examples("r r r r r r r r", tmp_path, monkeypatch)
    with pytest.raises(SkippedError, match="all 16 answers drawn are refusals"):
        one.rows("harmful", 2, MODEL)
