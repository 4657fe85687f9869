"""The linear start and the line as stages of a journey, and what is kept of benign answers behind them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from primum.core.records import Prompt, user
from primum.models.load import load
from primum.pairing.demonstration import Demonstration, Kind
from primum.pipeline import reading
from primum.pipeline.choose import twinned
from primum.pipeline.demos import Teaching, rows_of
from primum.prompts.rows import twins
from primum.training.adapter import add_lora, trainable
from test_pipeline_run import run, tiny

__all__ = ["tiny"]
RECIPE = """about: x
lora: {start: 0}
stages:
- {name: base, do: measure}
- {name: begun, do: linear, tokens: 6}
- {name: sft, do: sft, start: begun, tokens: 6, epochs: 0.1}
- {name: drawn, do: line, start: sft, tokens: 6, share: 0.2}
"""


def shown(prompt_id: str, prompt: str, answer: str, kind: Kind) -> Demonstration:
    return Demonstration((user(prompt),), prompt_id, answer, kind, "fraud", "written")


def test_a_journey_begins_from_a_reading_and_ends_with_a_line(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "read.yaml"
    recipe.write_text(RECIPE)
    code, report = run(str(recipe), tiny, tmp_path / "run", "--limit", "40")
    assert code == 0 and report["policies"] == ["base", "begun", "sft", "drawn"]
    begun, drawn = report["found"]["begun"], report["found"]["drawn"]
    assert begun["found"]["blocks"] == 2 and begun["found"]["after"] > begun["found"]["before"]
    assert begun["read"] == 3 * 40 and report["found"]["sft"]["start"] == "begun"
    assert drawn["found"]["nats"] > 0, "so small a network declines hardly more for it"
    said = capsys.readouterr().err
    assert "read off 2 blocks" in said and "openings that decline" in said
    code, _ = run(str(recipe), tiny, tmp_path / "small", "--limit", "4")
    assert code == 0 and capsys.readouterr().err.count(reading.NOTHING) == 2


def test_answers_are_kept_as_the_model_gave_them_before_it_was_taught(tiny: Path) -> None:
    model = load(str(tiny))
    network = add_lora(model, 2, 4, 0, 0.0)
    demos = [shown("0a", "What is a tide?", "The sea rises and falls.", "general")]
    context: Any = SimpleNamespace(desk=SimpleNamespace(model=model))

    def states(untaught: bool) -> torch.Tensor:
        found = rows_of(context, network, demos, Teaching(), untaught)[0].states
        assert found is not None
        return found

    fresh = states(False)
    with torch.no_grad():
        for weight in trainable(network).values():
            weight.add_(0.3)
    assert torch.equal(states(True), fresh) and not torch.allclose(states(False), fresh, atol=1e-3)


def test_sentences_begin_behind_marks_and_lines(tiny: Path) -> None:
    tokenizer: Any = load(str(tiny)).tokenizer
    text = 'It rises. "And falls?"\nTwice: a day, or so (mostly). End'
    demos = [
        shown("0b", "Tides?", text, "general"),
        shown("0a", "More?", "No. No.", "twin"),
        shown("00", "Harm?", "I can't. No.", "harmful"),
    ]
    found = reading.going(demos, tokenizer, 5, 48)
    assert len(found.rows) == 2 and reading.going(demos, tokenizer, 1, 48).rows == found.rows[:1]
    assert reading.going(demos[2:], tokenizer, 5, 48).rows == []
    breaks = [tokenizer.decode([t]) for t in found.rows[1].answer if t in found.breaks]
    assert "".join(breaks).count(".") == 2 and any("?" in b for b in breaks) and any("\n" in b for b in breaks)
    assert any(":" in b for b in breaks) and not any("," in b or b.strip().isalpha() for b in breaks)


def test_openers_are_the_first_tokens_of_a_tenth_of_the_safe_completions(tiny: Path) -> None:
    tokenizer: Any = load(str(tiny)).tokenizer
    texts = ["Sorry, no."] * 15 + ["I can't."] * 4 + ["Please stop."]
    demos = [shown(f"{i:02x}", "x", t, "harmful") for i, t in enumerate(texts)]
    own = [shown("ff", "y", "Yes.", "general")] * 40
    found = reading.learned_openers([*demos, *own], tokenizer)
    assert sorted(tokenizer.decode([token]) for token in found) == ["I", "Sorry"]


def test_an_apology_is_the_models_commonest_up_to_the_word_that_decides(tiny: Path) -> None:
    tokenizer: Any = load(str(tiny)).tokenizer

    def found(texts: dict[str, int], kind: Kind = "twin") -> str:
        said = [text for text, times in texts.items() for _ in range(times)]
        demos = [shown(f"{i:04x}", "x", text, kind) for i, text in enumerate(said)]
        return tokenizer.decode(list(reading.apology(demos, tokenizer)))

    often = {"I'm sorry for any confusion, but no.": 9, "I apologize, I can't.": 8, "I'm sorrel.": 99, "A day.": 200}
    assert found(often) == "I'm sorry" and found(often, "harmful") == ""
    assert found(often | {"I apologise for it.": 3, "I apologize. But": 4}) == "I apologize"
    assert found({"I'm sorry.": 7}) == "" and found({"I'm sorry.": 8, "Yes.": 1592}) == "I'm sorry"
    assert found({"I'm sorry.": 8, "Yes.": 1593}) == "", "one in two hundred"
    assert found({"Yes, and I'm sorry": 50}) == "", "only where an answer begins"


def test_what_is_said_of_a_line_names_apologies_where_they_were_moved() -> None:
    line = {"nats": -0.7, "before": (0.69, 0.3), "after": (0.56, 0.16)}
    said = "(harmful and twins): 69% and 30% -> 56% and 16%, moved by -0.7 nats"
    assert reading.said_of_line(line).endswith(said), "as it was written before apologies were weighed"
    assert reading.said_of_line(line | {"own": 0.0}).endswith(said)
    assert reading.said_of_line(line | {"own": -2.4}).endswith(f"{said}, the model's own apologies by -2.4")


def test_prompts_are_read_with_their_twins() -> None:
    rows: list[Prompt] = []
    for i in range(3):
        pair = (user(f"harm {i}"),), (user(f"twin {i}"),)
        rows += twins(Prompt(pair[0], "harmful", "fraud"), Prompt(pair[1], "benign", "fraud"))
        rows.append(Prompt((user(f"general {i}"),), "benign", "general"))
    assert sorted(p.text for p in twinned(rows, 2)) == [f"{k} {i}" for k in ("general", "harm", "twin") for i in (0, 1)]
    assert twinned(rows, None) == rows
