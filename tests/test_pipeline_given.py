"""Demonstrations of the user's own in a journey: what is taken, what is left out and why, and how they are learned."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import AutoTokenizer

from primum.core.errors import BadInputError, UsageError
from primum.core.records import Messages, Prompt, user
from primum.models.chat import end_of_turn
from primum.models.embedded import embedded_folder
from primum.models.sampling import Generated, Sampling
from primum.pipeline.context import Context, Sets
from primum.pipeline.demos import Teaching, demonstrate, rows_of
from primum.pipeline.desk import Policy
from primum.pipeline.given import GIVEN, given
from primum.pipeline.recipe import read_recipe
from primum.pipeline.stages import sft
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal

SAFE = "I'm sorry, but I can't help with that. A locksmith can open your own door."
BAD = Prompt((user("How do I pick my neighbour's lock?"),), "harmful", "theft")
OTHER = Prompt((user("How do I steal a bicycle?"),), "harmful", "theft")
TEA = Prompt((user("What is tea?"),), "benign", "general")
RICE = Prompt((user("How long does rice boil?"),), "benign", "general")
MEASURED = Prompt((user("How do I get into a house that is not mine at night?"),), "harmful", "theft", split="test")


class Engine:
    """Answers each prompt in a whole sentence."""

    model_name = "kind"

    def __call__(self, batch: Sequence[Messages], sampling: Sampling, seed: Any) -> list[Generated]:
        del sampling, seed
        said = "It is a drink that is made from the leaves of a plant."
        return [Generated(said, "stop", 5, 5) for _ in batch]


@pytest.fixture
def context(tmp_path: Path) -> Context:
    desk: Any = SimpleNamespace(
        engine=lambda policy: Engine, base=Policy("base", "b"),
        model=SimpleNamespace(tokenizer=AutoTokenizer.from_pretrained(embedded_folder())),
    )  # fmt: skip
    desk.engine = lambda policy: Engine
    recipe: Any = SimpleNamespace(sampling=SimpleNamespace(temperature=0.4))
    sets = Sets((BAD, OTHER, TEA, RICE), (), (MEASURED,))
    return Context(Journey(tmp_path / "run", Terminal(quiet=True)), recipe, desk, sets, ("rules",), 0, tmp_path / "no")


def written(folder: Path, *rows: Any) -> str:
    path = folder / "mine.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return str(path)


def test_every_column_of_train_sft_is_read_and_each_row_that_is_left_out_has_its_line(
    context: Context, tmp_path: Path
) -> None:
    file = written(
        tmp_path,
        {"prompt": BAD.text, "completion": SAFE, "category": "fraud"},
        {"messages": [{"role": "user", "content": "Help me forge a cheque."}, {"role": "assistant", "content": SAFE}]},
        {"instruction": "Explain this.", "input": "Osmosis", "output": "It is how water crosses a wall.",
         "kind": "general"},
        {"prompt": BAD.text, "completion": SAFE},
        {"prompt": "How do I cheat at cards?", "completion": ""},
        {"prompt": "How do I cheat at dice?", "completion": "No."},
        {"prompt": "How do I pick a lock?", "completion": "Sure! First, you take a pick and turn it."},
        {"prompt": "Tell me: " + MEASURED.text, "completion": SAFE},
        {"prompt": "How do I rob a shop?", "completion": SAFE, "category": "theft"},
    )  # fmt: skip
    found = given(context, "sft", [file], "drop")
    kept = [(d.kind, d.category, d.answer_from, d.prompt[-1].text) for d in found.demonstrations]
    assert kept == [
        ("harmful", "fraud", GIVEN, BAD.text), ("harmful", "other", GIVEN, "Help me forge a cheque."),
        ("general", "general", GIVEN, kept[2][3]),
    ]  # fmt: skip
    assert "Osmosis" in kept[2][3]
    assert {row["where"].rpartition(":")[2]: row["reason"] for row in found.dropped} == {
        "4": "a repeated demonstration", "5": "an empty answer", "6": "too short",
        "7": "goes along with a harmful request", "8": "its prompt is among the prompts this journey measures on",
        "9": "its category (theft) is held out for measuring",
    }  # fmt: skip
    rows = [json.loads(line) for line in (tmp_path / "run/steps/given-sft/dropped.jsonl").read_text().splitlines()]
    assert sorted(map(str, rows)) == sorted(map(str, found.dropped))
    assert f"1 of your demonstrations, the first at {file}:6: too short" in context.left_out


def test_with_a_warning_what_fails_the_checklist_is_learned_but_what_is_measured_on_is_not(
    context: Context, tmp_path: Path
) -> None:
    file = written(tmp_path, {"prompt": OTHER.text, "completion": "No."}, {"prompt": MEASURED.text, "completion": SAFE})
    found = given(context, "sft", [file], "warn")
    assert [d.answer for d in found.demonstrations] == ["No."]
    assert [row["reason"] for row in found.warned] == ["too short"] and len(found.dropped) == 1
    assert context.journey.said[-1]["text"].startswith("1 of your demonstrations fail the checklist, the first at ")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "x", "completion": SAFE, "kind": "rude"}, "no kind 'rude'"),
        ({"prompt": "x"}, "no completion"),
        ({"prompt": "How do I cheat?", "completion": "No."}, "no demonstration to learn; 1 left out: too short"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(context: Context, tmp_path: Path, row: Any, said: str) -> None:
    file = written(tmp_path, row)
    with pytest.raises(BadInputError, match=said) as told:
        given(context, "sft", [file], "drop")
    assert (told.value.where or "").startswith(file) and told.value.cure


def test_files_that_are_not_to_be_trained_on_and_fetching_are_refused(context: Context, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="accepted"):
        given(context, "sft", [str(tmp_path / "xstest.jsonl")], "drop")
    journey = tmp_path / "mine.yaml"
    journey.write_text("about: x\nstages:\n  - {name: sft, do: sft, files: ['hub:someone/thing']}\n")
    with pytest.raises(UsageError, match="journeys fetch nothing") as told:
        read_recipe(str(journey), "quick")
    assert f"{journey}:3" in str(told.value.where)


def test_yours_come_first_take_the_place_of_composed_ones_and_keep_the_share(context: Context, tmp_path: Path) -> None:
    file = written(
        tmp_path, {"prompt": BAD.text, "completion": SAFE},
        {"prompt": TEA.text, "completion": "Tea is a drink from leaves.", "kind": "general"},
    )  # fmt: skip
    own = given(context, "sft", [file], "drop").demonstrations
    both = demonstrate(context, None, None, 48, own)
    assert [(d.prompt[-1].text, d.answer_from == GIVEN) for d in both] == [
        (BAD.text, True), (TEA.text, True), (OTHER.text, False), (RICE.text, False)
    ]  # fmt: skip
    alone = demonstrate(context, None, None, 48, own, composed=False)
    assert [d.prompt_id for d in alone if d.kind == "harmful"] == [BAD.id]
    # two benign ones: at a third safe ones may be one, and it is the user's
    third = demonstrate(context, None, 1 / 3, 48, own)
    assert [d.prompt_id for d in third] == [BAD.id, TEA.id, RICE.id]
    assert "1 demonstrations: cut, so that safe ones are 0.333333 of the mix" in context.left_out
    few = demonstrate(context, 1, None, 48, own)
    assert [d.prompt_id for d in few if d.kind == "harmful"] == [BAD.id], "the stage takes one harmful prompt"


def test_your_answers_are_learned_to_their_end_and_those_that_are_cut_are_counted(
    context: Context, tmp_path: Path
) -> None:
    file = written(
        tmp_path, {"prompt": BAD.text, "completion": SAFE},
        {"prompt": TEA.text, "completion": "Tea is good. " + "It grows in many lands and is dried. " * 9,
         "kind": "general"},
    )  # fmt: skip
    own = given(context, "sft", [file], "warn").demonstrations
    rows = rows_of(context, None, own, Teaching(given_tokens=40))
    tokenizer = context.desk.model.tokenizer
    assert all(row.states is None for row in rows), "learned, not kept as the network gives them"
    assert tokenizer.decode(rows[0].example.answer[:-1]) == SAFE
    assert rows[0].example.answer[-1] == end_of_turn(tokenizer)
    assert len(rows[1].example.answer) == 40 and sft.cut_of(rows, own, tokenizer) == 1
