"""Rows in TRL's columns to texts: every shape TRL has, what is dropped and why, what is refused and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from primum.core.errors import BadInputError, UsageError
from primum.core.records import assistant, system, user
from primum.prompts.files import Row
from primum.training.dataset import Count, answers, choices, labelled, rows_of


def rows(*values: dict[str, Any]) -> list[Row]:
    return [Row(f"f.jsonl:{i}", value) for i, value in enumerate(values, 1)]


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


CONVERSATION = [turn("system", "S"), turn("user", "Q")]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": CONVERSATION, "chosen": "A", "rejected": "B"},
        {"prompt": CONVERSATION, "chosen": [turn("assistant", "A")], "rejected": [turn("assistant", "B")]},
        {"chosen": [*CONVERSATION, turn("assistant", "A")], "rejected": [*CONVERSATION, turn("assistant", "B")]},
    ],
)
def test_a_pair_reads_the_same_in_every_shape(row: dict[str, Any]) -> None:
    (pair,) = choices(rows(row), Count())
    assert pair.prompt == (system("S"), user("Q"))
    assert (pair.chosen, pair.rejected, pair.unsafe) == ("A", "B", None)


def test_transcripts_of_hh_rlhf() -> None:
    begin = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:"
    (pair,) = choices(rows({"chosen": f"{begin} Because.", "rejected": f"{begin} No idea."}), Count())
    assert pair.prompt == (user("Hi"), assistant("Hello."), user("Why?"))
    assert (pair.chosen, pair.rejected) == ("Because.", "No idea.")


def test_what_cannot_be_learned_is_left_out_with_its_reason() -> None:
    count = Count()
    found = list(
        choices(
            rows(
                {"prompt": "Q", "chosen": "same", "rejected": "same"},
                {"prompt": "Q", "chosen": "A", "rejected": "  "},
                {"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: y"},
                {"prompt": "Q", "chosen": "A", "rejected": "B"},
            ),
            count,
        )
    )
    assert [pair.chosen for pair in found] == ["A"] and count.rows == 4
    assert [row["reason"] for row in count.dropped] == [
        "chosen and rejected are the same", "an empty answer", "chosen and rejected do not answer the same prompt",
    ]  # fmt: skip
    assert [row["where"] for row in count.dropped] == ["f.jsonl:1", "f.jsonl:2", "f.jsonl:3"]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"prompt": "Q", "chosen": "A"}, "no rejected"),
        ({"prompt": "Q"}, "no chosen and no rejected"),
        ({"prompt": "Q", "chosen": 3, "rejected": "B"}, "neither a text nor a list"),
        ({"chosen": "A", "rejected": "B"}, "no prompt beside the text"),
        ({"prompt": [turn("robot", "Q")], "chosen": "A", "rejected": "B"}, "no role"),
    ],
)
def test_a_row_of_another_shape_is_named(row: dict[str, Any], match: str) -> None:
    with pytest.raises(BadInputError, match=match) as error:
        list(choices(rows(row), Count()))
    assert error.value.where == "f.jsonl:1" and error.value.cure


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"safety_bin": "chosen_safe"}, (False, True)), ({"safety_bin": "both_unsafe"}, (True, True)),
        ({"chosen_safe": False, "rejected_safe": True}, (True, False)),
        ({"is_chosen_safe": "true", "is_rejected_safe": "0"}, (False, True)), ({}, None),
    ],
)  # fmt: skip
def test_safety_columns(columns: dict[str, Any], expected: tuple[bool, bool] | None) -> None:
    (pair,) = choices(rows({"prompt": "Q", "chosen": "A", "rejected": "B", **columns}), Count())
    assert pair.unsafe == expected


def test_every_answer_of_a_conversation_is_learned_after_what_came_before_it() -> None:
    talk = [turn("user", "1"), turn("assistant", "2"), turn("user", "3"), turn("assistant", "4")]
    found = list(answers(rows({"messages": talk}), Count()))
    assert [(one.prompt, one.text) for one in found] == [
        ((user("1"),), "2"), ((user("1"), assistant("2"), user("3")), "4"),
    ]  # fmt: skip


def test_answers_of_prompts_and_what_is_no_answer() -> None:
    count = Count()
    found = list(
        answers(
            rows(
                {"prompt": "Q", "completion": "A"}, {"messages": [turn("user", "Q")]}, {"prompt": "Q", "completion": ""}
            ),
            count,
        )
    )
    assert [one.text for one in found] == ["A"]
    assert [row["reason"] for row in count.dropped] == ["no answer of the assistant after a prompt", "an empty answer"]
    with pytest.raises(BadInputError, match="no prompt and no completion"):
        list(answers(rows({"text": "raw"}), Count()))


ALPACA = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nName the colour.\n\n### Input:\nA lemon\n\n### Response:\n"
)
"""The template as its authors publish it, with an input."""
BARE = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nName a colour.\n\n### Response:\n"
)


def test_alpacas_rows_are_learned_in_its_template_or_in_the_models_own() -> None:
    from transformers import AutoTokenizer

    from primum.models.embedded import embedded_folder
    from primum.training.dataset import answer_examples
    from primum.training.examples import Limits
    from primum.training.templates import TEMPLATES

    given = rows(
        {"instruction": "Name the colour.", "input": "A lemon", "output": "Yellow"},
        {"instruction": "Name a colour.", "input": "", "output": "Red"},
        {"instruction": "Name a colour.", "output": "<|im_end|> Red"},
    )
    plain = list(answers(given, Count()))
    assert [one.prompt for one in plain[:2]] == [(user("Name the colour.\n\nA lemon"),), (user("Name a colour."),)]
    tokenizer = AutoTokenizer.from_pretrained(embedded_folder())
    tokenizer.chat_template = TEMPLATES["alpaca"]
    made = answer_examples(answers(given, Count(), "alpaca"), tokenizer, Limits(), Count())
    assert [tokenizer.decode(one.prompt) for one in made] == [ALPACA, BARE, BARE]
    # the loss is on the answer and on the end-of-sequence token that closes it
    assert [tokenizer.decode(one.answer[:-1]) for one in made[:2]] == ["Yellow", "Red"]
    assert all(one.answer[-1] == tokenizer.eos_token_id for one in made)
    assert tokenizer.eos_token_id not in made[2].answer[:-1], "a special token in a text stays text"


def test_labels_and_pairs_taken_apart() -> None:
    given = rows(
        {"prompt": "Q", "completion": "A", "label": True}, {"prompt": "Q", "completion": "B", "label": "false"},
        {"prompt": "Q", "chosen": "C", "rejected": "D"},
    )  # fmt: skip
    count = Count()
    assert [(one.text, one.label) for one in labelled(given, count)] == [
        ("A", True), ("B", False), ("C", True), ("D", False),
    ]  # fmt: skip
    assert count.rows == 3
    with pytest.raises(BadInputError, match="neither true nor false"):
        list(labelled(rows({"prompt": "Q", "completion": "A", "label": "good"}), Count()))


def test_nothing_is_trained_on_an_acceptance_set(tmp_path: Path) -> None:
    path = tmp_path / "XSTest-v2.jsonl"
    path.write_text(json.dumps({"prompt": "Q"}))
    for source in (str(path), "hub:walledai/HarmBench"):
        with pytest.raises(UsageError, match="accepted"):
            list(rows_of(source))


def test_a_limit_takes_the_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"n": n}) + "\n" for n in range(5)))
    assert [row.values["n"] for row in rows_of(str(path), 2)] == [0, 1]
