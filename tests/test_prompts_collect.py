from __future__ import annotations

import json
from pathlib import Path

import pytest

from primum.core.errors import BadInputError, UsageError
from primum.prompts.collect import Source, collect
from primum.prompts.sources import forbid_acceptance

NOWHERE = Path("no such folder")


@pytest.fixture
def write(tmp_path):
    def write(name: str, *texts: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
        return str(path)

    return write


def test_sources_are_joined_and_what_was_dropped_is_counted(write):
    first = write("a.jsonl", "Tell me the first thing", "Another matter entirely")
    second = write("b.jsonl", "tell me the FIRST thing", " ")
    done = collect([first, Source(second, "benign")], held_out=[], seed=0, data_dir=NOWHERE)
    assert [p.text for p in done.prompts] == ["Tell me the first thing", "Another matter entirely"]
    assert done.dropped_counts == {"same_words_other_intent": 1, "blank": 1}
    assert f"not checked against benchmarks: there are none at {NOWHERE}" in done.notes
    assert "dropped 1: blank" in done.notes


def test_a_source_says_what_its_rows_are(write):
    path = write("a.jsonl", "Tell me the first thing")
    (prompt,) = collect([Source(path, "harmful", "theft")], held_out=["theft"], seed=0, data_dir=NOWHERE).prompts
    assert (prompt.category, prompt.split) == ("theft", "test")


def test_a_users_copy_of_an_acceptance_prompt_goes_and_the_original_stays(write):
    mine = write("mine.jsonl", "Tell me the first thing", "Something of my own")
    bench = write("xstest/set.jsonl", "Tell me the first thing.", "Tell me the first thing")
    done = collect([mine, bench], held_out=[], seed=0, data_dir=NOWHERE)
    assert {(p.text, p.source) for p in done.prompts if p.split == "test"} >= {
        ("Tell me the first thing.", "set.jsonl")
    }
    assert [p.text for p in done.prompts if p.source == "mine.jsonl"] == ["Something of my own"]
    forbid_acceptance(p for p in done.prompts if p.split != "test")


def test_what_shares_eight_words_with_a_loaded_evaluation_set_goes(write):
    eight = "where would the very last of them go"
    bench = write("harmbench/set.jsonl", f"Now tell me {eight}")
    mine = write("mine.jsonl", f"Once upon a time somebody sang: {eight}, and then?", "Something of my own")
    done = collect([mine, bench], held_out=[], seed=0, data_dir=NOWHERE)
    assert [(d.reason, d.of, d.prompt.source) for d in done.dropped] == [("in_benchmark", "set.jsonl", "mine.jsonl")]


def test_benchmark_prompts_are_removed(write, tmp_path):
    data = tmp_path / "data"
    (data / "xstest").mkdir(parents=True)
    (data / "xstest/xstest_prompts.csv").write_text("id,prompt,type,label\n1,Where is the old mill?,t,safe\n")
    mine = write("mine.jsonl", "where is the old mill", "Something of my own")
    done = collect([mine], held_out=[], seed=0, data_dir=data)
    assert [(d.reason, d.of) for d in done.dropped] == [("in_benchmark", "xstest")]
    assert done.notes[0] == "checked against 1 prompts of 1 benchmark sets (8 words in a row)"


def test_nothing_left_is_an_error(write, tmp_path):
    data = tmp_path / "data"
    (data / "xstest").mkdir(parents=True)
    (data / "xstest/xstest_prompts.csv").write_text("id,prompt,type,label\n1,Where is the old mill?,t,safe\n")
    with pytest.raises(BadInputError, match="no prompt is left"):
        collect([write("mine.jsonl", "where is the old mill")], held_out=[], seed=0, data_dir=data)


def test_a_held_out_category_without_prompts_is_noted(write):
    done = collect([write("a.jsonl", "Tell me")], held_out=["theft"], seed=0, data_dir=NOWHERE)
    assert "held out, but without prompts: theft" in done.notes
    with pytest.raises(UsageError, match="did you mean 'theft'"):
        collect([write("a.jsonl", "Tell me")], held_out=["thft"], seed=0, data_dir=NOWHERE)


def test_the_same_call_gives_the_same_result(write):
    path = write("a.jsonl", *(f"Question {i} about thing {i * 7}" for i in range(40)))
    assert collect([path], held_out=[], seed=3, data_dir=NOWHERE) == collect(
        [path], held_out=[], seed=3, data_dir=NOWHERE
    )
