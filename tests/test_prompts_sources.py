from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from primum.core.catalogue import member
from primum.core.errors import BadInputError, MissingExtraError, UsageError
from primum.core.records import Message, Prompt, to_json, user
from primum.prompts.sources import forbid_acceptance, load
from primum.training.dataset import rows_of


@pytest.fixture
def file(tmp_path):
    def write(content, name: str = "set.jsonl"):
        path = tmp_path / name
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_row_without_more_takes_what_the_caller_says(file):
    (prompt,) = load(str(file([{"prompt": "Ask"}])), intent="harmful")
    assert prompt == Prompt((user("Ask"),), "harmful", "other", source="set.jsonl")
    (prompt,) = load(str(file([{"prompt": "Ask"}])), intent="benign")
    assert (prompt.intent, prompt.category) == ("benign", "general")


@pytest.mark.parametrize("name", ["prompt", "instruction", "question", "text", "goal", "Goal", "PROMPT"])
def test_the_field_is_found(file, name):
    assert load(str(file([{"id": "x", name: "Ask"}])), intent="harmful")[0].text == "Ask"


def test_the_first_known_field_wins_unless_one_is_named(file):
    path = str(file([{"text": "b", "prompt": "a", "mine": "c"}]))
    assert load(path, intent="harmful")[0].text == "a"
    assert load(path, intent="harmful", field="mine")[0].text == "c"


def test_a_row_may_say_more(file):
    row = {"prompt": "Ask", "intent": "benign", "category": "fraud", "language": "de", "answer": "So", "tags": ["t"]}
    (prompt,) = load(str(file([row])), intent="harmful")
    assert (prompt.intent, prompt.category, prompt.language, prompt.answer) == ("benign", "fraud", "de", "So")
    assert prompt.tags == ("t",)


def test_a_foreign_category_becomes_other_and_is_kept_as_a_tag(file):
    (prompt,) = load(
        str(file([{"prompt": "Ask", "category": "chemistry", "tags": 5, "intent": "book"}])), intent="harmful"
    )
    assert (prompt.intent, prompt.category, prompt.tags) == ("harmful", "other", ("category:chemistry",))


def test_the_callers_category_wins(file):
    path = str(file([{"prompt": "Ask", "category": "fraud"}]))
    assert load(path, intent="harmful", category="theft")[0].category == "theft"
    with pytest.raises(UsageError, match="did you mean 'theft'"):
        load(path, intent="harmful", category="thefts")


def test_an_alpaca_input_is_part_of_the_request(file):
    rows = [{"instruction": "Sum up", "input": "a text"}, {"instruction": "Tell", "input": ""}]
    assert [p.text for p in load(str(file(rows)), intent="benign")] == ["Sum up\n\na text", "Tell"]


@pytest.mark.parametrize("name", ["messages", "prompt"])
def test_a_chat_ends_with_its_last_user_turn(file, name):
    turns = [("system", "Be kind"), ("user", "Hi"), ("assistant", "Hello"), ("user", "Ask"), ("assistant", "Reply")]
    row = {name: [{"role": role, "content": content} for role, content in turns]}
    (prompt,) = load(str(file([row])), intent="harmful")
    assert prompt.messages == tuple(Message(role, content) for role, content in turns[:4])


@pytest.mark.parametrize(
    ("turns", "problem"),
    [
        ([{"role": "boss", "content": "x"}], "role"),
        (["x"], "role"),
        ([{"role": "user"}], "nothing, not text"),
        ([{"role": "assistant", "content": "x"}], "no user turn"),
        ([], "no user turn"),
    ],
)
def test_a_broken_chat_is_named(file, turns, problem):
    with pytest.raises(BadInputError, match=rf"set\.jsonl:1: .*{problem}"):
        load(str(file([{"messages": turns}])), intent="harmful")


def test_twin_rows_make_linked_pairs(file):
    harmful, benign = load(str(file([{"harmful": "Bad", "benign": "Good", "category": "fraud"}])), intent="harmful")
    assert (harmful.intent, harmful.twin, harmful.category) == ("harmful", benign.id, "fraud")
    assert (benign.intent, benign.twin, benign.category) == ("benign", harmful.id, "fraud")


def test_our_own_records_come_back(file):
    prompt = Prompt((user("Ask"),), "borderline", "hate", "fr", "me", "MIT", tags=("a",), twin="0" * 16, answer="So")
    assert load(str(file([to_json(prompt)])), intent="harmful") == [prompt]


def test_a_folder_is_read_in_order_of_name(file, tmp_path):
    file([{"prompt": "second"}], "b.jsonl")
    file("prompt\nfirst\n", "a.csv")
    file("not a set", "notes.txt")
    assert [p.text for p in load(str(tmp_path), intent="harmful")] == ["first", "second"]


def test_csv_with_mark_crlf_and_line_ends_inside(file):
    path = file(b'\xef\xbb\xbfid,Question\r\n1,"Two\nlines, one ""quote"""\r\n\r\n2,Caf\xc3\xa9?\r\n', "set.csv")
    assert [p.text for p in load(str(path), intent="benign")] == ['Two\nlines, one "quote"', "Caf\u00e9?"]


def test_jsonl_with_mark_blank_lines_and_unicode_line_separators(file):
    path = file(b'\xef\xbb\xbf{"prompt": "a\xe2\x80\xa8b"}\r\n\r\n{"prompt": "c"}')
    assert [p.text for p in load(str(path), intent="benign")] == ["a\u2028b", "c"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("set.jsonl", '{"prompt": "a"}\n{"prompt": \n', r"set\.jsonl:2: broken JSON"),
        ("set.jsonl", '{"prompt": "a"}\n\n["b"]\n', r"set\.jsonl:3: not a JSON object"),
        ("set.jsonl", "[" * 100_000, r"set\.jsonl:1: broken JSON"),
        ("set.jsonl", '{"query": "a", "id": 1}\n', r"set\.jsonl:1: no field that holds a prompt(.|\n)*query, id"),
        ("set.jsonl", '{"prompt": "a"}\n{"query": "b"}\n', r"set\.jsonl:2: no field 'prompt'(.|\n)*query"),
        ("set.jsonl", '{"prompt": "a"}\n{"prompt": 5}\n', r"set\.jsonl:2: field 'prompt' holds a number"),
        ("set.jsonl", '{"prompt": null}\n', r"set\.jsonl:1: field 'prompt' holds nothing"),
        ("set.jsonl", '{"prompt": "\\ud83d"}\n', r"set\.jsonl:1: .*half of a surrogate pair"),
        ("set.jsonl", "", "holds no prompts"),
        ("set.jsonl", '{"prompt": "  "}\n', "holds no prompts"),
        ("set.jsonl", b'{"prompt": "a"}\n{"prompt": "caf\xe9"}\n', r"set\.jsonl:2: not UTF-8"),
        ("set.jsonl", '{"prompt": "a"}'.encode("utf-16"), r"set\.jsonl:1: not UTF-8"),
        ("set.csv", "prompt,id\na,1\nb,2,3\n", r"set\.csv:3: broken CSV: 3 fields where the header has 2"),
        ("set.csv", 'prompt,id\n"two\nlines",1\nb\n', r"set\.csv:4: broken CSV: 1 fields"),
        ("set.csv", 'id,prompt\n1,fine\n2,"never closed\n3,x\n', r"set\.csv:3: broken CSV"),
        ("set.csv", b"prompt\na\ncaf\xe9\n", r"set\.csv:3: not UTF-8"),
        ("set.csv", "id,query\n1,a\n", r"set\.csv:2: no field that holds a prompt(.|\n)*id, query"),
        ("set.csv", "prompt\n", "holds no prompts"),
        ("set.xlsx", "x", r"set\.xlsx: cannot read a '\.xlsx' file"),
    ],
)
def test_bad_files_are_named_with_the_line(file, name, content, message):
    with pytest.raises(BadInputError, match=message):
        load(str(file(content, name)), intent="harmful")


def test_a_missing_file_and_an_empty_folder(tmp_path):
    with pytest.raises(BadInputError, match=r"nowhere\.jsonl: no such file"):
        load(str(tmp_path / "nowhere.jsonl"), intent="harmful")
    with pytest.raises(BadInputError, match=r"holds no prompts(.|\n)*\.jsonl, \.csv, \.parquet"):
        load(str(tmp_path), intent="harmful")


def test_a_missing_named_field(file):
    with pytest.raises(BadInputError, match=r"set\.jsonl:1: no field 'ask'(.|\n)*fields there: prompt, id"):
        load(str(file([{"prompt": "a", "id": 1}])), intent="harmful", field="ask")


def test_parquet_is_read_or_the_missing_part_is_named(tmp_path):
    path = tmp_path / "set.parquet"
    path.write_bytes(b"PAR1 but not really")
    if importlib.util.find_spec("pyarrow") is None:
        with pytest.raises(MissingExtraError, match=r"primum\[parquet\]"):
            load(str(path), intent="harmful")
        return
    import pyarrow
    import pyarrow.parquet

    with pytest.raises(BadInputError, match="broken Parquet"):
        load(str(path), intent="harmful")
    pyarrow.parquet.write_table(pyarrow.table({"goal": ["a", "b"]}), path)
    assert [p.text for p in load(str(path), intent="harmful")] == ["a", "b"]
    chat = [[{"role": "user", "content": "Hi"}]]
    pyarrow.parquet.write_table(pyarrow.table({"messages": chat}), path)
    assert load(str(path), intent="harmful")[0].text == "Hi"
    with pytest.raises(BadInputError, match=r"set\.parquet:row 1: no field 'goal'"):
        load(str(path), intent="harmful", field="goal")


def test_a_hub_set_is_read_or_the_missing_part_is_named(file, tmp_path):
    file([{"id": 1, "ask": "a"}, {"id": 2, "ask": "b"}], "train.jsonl")
    spec = f"hub:{tmp_path}:train:ask"
    if importlib.util.find_spec("datasets") is None:
        with pytest.raises(MissingExtraError, match=r"primum\[hub\]"):
            load(spec, intent="harmful")
        return
    assert [(p.text, p.source) for p in load(spec, intent="harmful")] == [
        ("a", f"hub:{tmp_path}"), ("b", f"hub:{tmp_path}")
    ]  # fmt: skip
    with pytest.raises(BadInputError, match="cannot load the dataset"):
        load(f"hub:{tmp_path}:nosuch:ask", intent="harmful")
    with pytest.raises(BadInputError, match="row 1: no field 'prompt'"):
        load(f"hub:{tmp_path}:train:prompt", intent="harmful")


@pytest.fixture
def hub(monkeypatch):
    """Stand-in for `datasets`, which need not be installed: it keeps what it was told."""
    told = []

    def load_dataset(path, name=None, *, split):
        told.append((path, name, split))
        return [{"ask": "a", "question": "Q?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "B"}]

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    return told


def test_a_hub_sets_configuration_is_named(hub, tmp_path):
    for spec, wanted in (
        ("hub:org/name", ("org/name", None, "train")),
        ("hub:org/name:test:ask", ("org/name", None, "test")),
        ("hub:org/name@some-config", ("org/name", "some-config", "train")),
        ("hub:org/name@some-config:test:ask", ("org/name", "some-config", "test")),
        ("hub:glue@mrpc:test:ask", ("glue", "mrpc", "test")),
    ):
        load(spec, field="ask")
        assert hub[-1] == wanted
    (prompt,) = load("hub:org/name@c:test:ask")
    assert (prompt.text, prompt.source) == ("a", "hub:org/name@c")
    folder = tmp_path / "a@b"
    folder.mkdir()
    load(f"hub:{folder}:train:ask")
    assert hub[-1] == (str(folder), None, "train")
    for spec in ("hub:org/name@:train:ask", "hub:@c:train:ask"):
        with pytest.raises(UsageError, match="hub:ID@CONFIG:SPLIT"):
            load(spec)


def test_benchmarks_and_training_rows_take_a_configuration(hub):
    (item,) = member("benchmarks", "arc_easy").items(Path("hub:allenai/ai2_arc@ARC-Easy:test"))
    assert item.options == (" x", " y") and item.target["right"] == 1
    assert [row.values["ask"] for row in rows_of("hub:org/name@c:test")] == ["a"]
    assert hub == [("allenai/ai2_arc", "ARC-Easy", "test"), ("org/name", "c", "test")]


@pytest.mark.parametrize("spec", ["hub:", "hub::train:x", "hub:a:b:c:d"])
def test_a_malformed_hub_source(spec):
    with pytest.raises(UsageError, match="hub:ID:SPLIT:FIELD"):
        load(spec, intent="harmful")


@pytest.mark.parametrize(
    "folder", ["xstest", "my-HarmBench_copy", "StrongREJECT", "jailbreak_bench", "malicious-instruct"]
)
def test_an_acceptance_set_is_known_by_its_name(file, tmp_path, folder):
    (tmp_path / folder).mkdir()
    (prompt,) = load(str(file([{"prompt": "Ask"}], f"{folder}/set.jsonl")), intent="harmful")
    assert (prompt.tags, prompt.split) == (("acceptance",), "test")
    with pytest.raises(UsageError, match=r"1 prompts of evaluation sets would be trained on \(set\.jsonl\)"):
        forbid_acceptance([prompt])


def test_an_ordinary_set_may_be_trained_on(file, tmp_path):
    (tmp_path / "box").mkdir()
    prompts = load(str(file([{"prompt": "Ask"}], "box/stest.jsonl")), intent="harmful")
    assert prompts[0].tags == ()
    assert forbid_acceptance(prompts) is None


def test_loading_needs_no_model_library():
    heavy = ("torch", "transformers", "datasets", "pyarrow")
    code = f"import sys, primum.prompts.collect; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
