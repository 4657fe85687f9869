"""How much of a demonstration counts, how often it comes along, and that a journey learns from the adapter up."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.tiny_models import tiny

from primum.core.records import user
from primum.core.store import Stage
from primum.models.load import load
from primum.pairing.demonstration import Demonstration
from primum.pipeline import demos
from primum.pipeline.context import Context, Sets
from primum.pipeline.demos import Teaching, learn, seen
from primum.pipeline.desk import Desk
from primum.pipeline.lesson import answers
from primum.pipeline.recipe import LoraPart
from primum.pipeline.steps import Journey
from primum.pipeline.taught import tokens_of, turns_of
from primum.pipeline.terminal import Terminal
from primum.training import score

LENGTHS = Teaching(short_tokens=6, whole=4, whole_tokens=48, kept_tokens=12, kept_whole=5)


def shown(kind: Any, answer: str, number: int, group: str = "") -> Demonstration:
    return Demonstration((user(f"Ask {number}."),), f"{number:x}", answer, kind, "theft", "base", True, group)


@pytest.mark.parametrize(
    ("kind", "answer", "number", "tokens"),
    [
        ("harmful", "I can't.", 8, 48),  # one in four, by the number of its prompt
        ("harmful", "I can't.", 9, 6),
        ("twin", "A key.", 10, 48),  # one in five
        ("general", "A key.", 11, 12),
        ("general", "I'm sorry for any confusion, but I'm a chatbot.", 11, 48),  # an apology, always
        ("twin", "Unfortunately, I do not know.", 12, 48),
        ("general", "I'm sure.", 12, 12),
    ],
)
def test_how_much_of_an_answer_counts(kind: Any, answer: str, number: int, tokens: int) -> None:
    assert tokens_of(shown(kind, answer, number), LENGTHS) == tokens


def test_general_answers_come_along_in_one_of_so_many_passes() -> None:
    rows = [shown("harmful", "No.", 1), shown("general", "Yes.", 2), shown("twin", "Yes.", 3)]
    assert turns_of(rows, 2) == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]
    assert turns_of(rows, 1) == [(0, 0), (1, 0), (2, 0)]
    # two passes over two rows and one over the third; of another row beside, two
    assert seen(rows, Teaching(epochs=2, general_every=2)) == 5
    assert seen(rows, Teaching(epochs=2, general_every=2), beside=1) == 7
    assert seen(rows, Teaching(epochs=1.5)) == 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("tiny"), 0)


def journey(folder: Path, out: Path) -> Context:
    desk = Desk(Journey(out, Terminal(quiet=True)), str(folder), LoraPart(rank=4, start=0.5), 0)
    desk._model = load(str(folder))
    desk._model.network.float()
    recipe: Any = SimpleNamespace(sampling=SimpleNamespace(temperature=0.4))
    return Context(desk.journey, recipe, desk, Sets((), (), ()), ("rules",), 0, out)


def taught(context: Context, name: str, rows: list[Demonstration], beside: int = 0) -> tuple[demos.Lesson, Any]:
    context.desk.take(context.desk.base)
    context.desk.changed()
    others = answers(context, [((user("And this?"),), f"Take {i}.", True) for i in range(beside)], 8)
    stage = Stage(context.journey.folder / name, {"name": name})
    teaching = Teaching(epochs=2, general_every=2, batch_size=2, learning_rate=1e-2)
    network = context.desk.network
    found = learn(context, network, rows, teaching, stage, lambda n=1: None, others)
    weights = {n: p.detach().clone() for n, p in network.named_parameters() if p.requires_grad}
    return found, weights


ROWS = [
    shown("harmful", "I can't help with that, but a locksmith can.", 4, "a"),
    shown("twin", "Turn the key, and then pull the door.", 4, "a"),
    shown("general", "It is a drink made from leaves.", 6),
    shown("general", "It is a grain that is boiled.", 7),
]


def test_what_lies_below_is_computed_once_for_all_stages_and_changes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[int] = []
    real = score.note_below
    monkeypatch.setattr(score, "note_below", lambda n, rows, *a: noted.append(len(rows)) or real(n, rows, *a))
    context = journey(folder, tmp_path / "one")
    first, weights = taught(context, "first", ROWS)
    assert noted == [4] and context.desk._below is not None and context.desk._below.first == 1
    again = taught(context, "second", ROWS, beside=2)[0]
    assert noted == [4, 2], "of the second stage its two other rows alone"
    assert len(again.log) > len(first.log)
    monkeypatch.setattr(score, "note_below", lambda *a: None)
    whole, plain = taught(journey(folder, tmp_path / "two"), "first", ROWS)
    assert [row["loss"] for row in whole.log] == pytest.approx([row["loss"] for row in first.log], rel=1e-4)
    assert weights.keys() == plain.keys()
    assert all(torch.allclose(weights[name], p, atol=1e-4) for name, p in plain.items())


def test_twins_are_learned_in_one_step_in_every_pass_and_general_rows_in_half(folder: Path, tmp_path: Path) -> None:
    found, _ = taught(journey(folder, tmp_path), "first", ROWS)
    assert [bool(row.states is None) for row in found.rows] == [True, False, False, False]
    # six rows in steps of two: twice the twins, once the two general ones
    assert len(found.log) == 3
    learned = [row for row in found.log if row.get("nll") is not None]
    assert len(learned) == 2
