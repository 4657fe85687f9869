"""The importers, on small files in the published shapes, and on the public sets themselves where they are present."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from primum.core.errors import BadInputError, UsageError
from primum.prompts.shared import load_shared
from primum.prompts.sources import forbid_acceptance, load


@pytest.fixture
def data(tmp_path):
    """A data folder with one small file of our own in each published shape."""
    files = {
        "xstest/xstest_prompts.csv": "id,prompt,type,label,focus,note\n1,Fine?,homonyms,safe,x,\n"
        "2,Bad,contrast_homonyms,unsafe,x,\n",
        "harmbench/harmbench_behaviors_text_all.csv": "Behavior,FunctionalCategory,SemanticCategory,Tags,"
        "ContextString,BehaviorID\n"
        'Do it,contextual,cybercrime_intrusion,context,"Some, context",a\nSing,standard,harmful,,,b\n',
        "truthfulqa/TruthfulQA.csv": "\ufeffType,Category,Question,Best Answer\nA,Myths,Why?,Because\n",
        "safe-to-serve/I-CoNa.json": json.dumps({"instructions": ["One", "Two"], "inputs": ["", "more"]}),
        "safe-to-serve/Q-Harm.json": json.dumps({"instructions": ["Three"], "inputs": []}),
        "safe-to-serve/safety_only_data_Instructions.json": json.dumps(
            [{"instruction": "I", "input": "", "output": "O"}]
        ),
        "bold/gender_prompt.json": json.dumps({"actors": {"A_B": ["A B is ", "A B was "]}}),
        "toxigen/hate_cats_1k.txt": "- one\\n- two\\n-\n",
        "toxigen/neutral_cats_1k.txt": "- three\\n-\n\n",
        "medical/medqa_test.jsonl": json.dumps({"question": "Q", "options": "A. x\nB. y", "answer": "A. x"}) + "\n",
        "medical/pubmedqa_pqaa.jsonl": json.dumps({"question": "Q2", "passage": "P", "answer": "yes"}) + "\n",
        "judge-calibration/one.csv": "# version=1,,,,\n# more\n"
        "harm_category,objective,assistant_response,human_score_1,data_type\n"
        'privacy,Find it,"No,\n\nsorry",0,text\n',
    }  # fmt: skip
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return tmp_path


def facts(prompts):
    return [(p.text, p.intent, p.category, p.answer) for p in prompts]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("xstest", [("Fine?", "benign", "other", None), ("Bad", "harmful", "other", None)]),
        (
            "harmbench",
            [("Some, context\n\n---\n\nDo it", "harmful", "cyber", None), ("Sing", "harmful", "other", None)],
        ),
        ("truthfulqa", [("Why?", "benign", "general", "Because")]),
        ("I-CoNa", [("One", "harmful", "hate", None), ("Two\n\nmore", "harmful", "hate", None)]),
        ("safe-to-serve/Q-Harm", [("Three", "borderline", "other", None)]),
        ("safety_only_data_Instructions", [("I", "harmful", "other", "O")]),
        ("bold", [("A B is", "benign", "general", None), ("A B was", "benign", "general", None)]),
        ("toxigen", [("- one\n- two\n-", "harmful", "hate", None), ("- three\n-", "benign", "general", None)]),
        ("medqa_test", [("Q\n\nA. x\nB. y", "benign", "general", "A. x")]),
        ("pubmedqa_pqaa", [("P\n\nQ2", "benign", "general", "yes")]),
        ("judge-calibration", [("Find it", "borderline", "privacy", None)]),
    ],
)
def test_each_published_shape_is_read(data, name, expected):
    assert facts(load(f"shared:{name}", intent="borderline", data_dir=data)) == expected


@pytest.mark.parametrize("name", ["xstest", "harmbench", "truthfulqa", "I-CoNa", "bold", "toxigen", "medqa_test"])
def test_sets_for_measuring_are_refused_for_training(data, name):
    prompts = load(f"shared:{name}", intent="harmful", data_dir=data)
    assert {p.split for p in prompts} == {"test"}
    with pytest.raises(UsageError, match="only measured with"):
        forbid_acceptance(prompts)


@pytest.mark.parametrize("name", ["xstest", "harmbench"])
def test_acceptance_sets_carry_the_tag_once(data, name):
    assert all(p.tags.count("acceptance") == 1 for p in load(f"shared:{name}", intent="harmful", data_dir=data))


@pytest.mark.parametrize("name", ["safety_only_data_Instructions", "pubmedqa_pqaa", "judge-calibration"])
def test_sets_for_training_are_not(data, name):
    prompts = load(f"shared:{name}", intent="harmful", data_dir=data)
    assert prompts
    assert forbid_acceptance(prompts) is None


def test_an_unknown_set_names_the_nearest(data):
    with pytest.raises(UsageError, match="did you mean 'xstest'"):
        load("shared:xstset", intent="harmful", data_dir=data)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "xstest/../bold", ""])
def test_a_name_is_never_a_path(data, name):
    with pytest.raises(UsageError, match="no shared set"):
        load_shared(name, "harmful", data)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(BadInputError, match="nowhere: no such folder"):
        load("shared:xstest", intent="harmful", data_dir=tmp_path / "nowhere")


def test_a_missing_column_is_named_with_its_line(data):
    (data / "xstest/xstest_prompts.csv").write_text("id,prompt,type\n1,Fine?,homonyms\n")
    with pytest.raises(BadInputError, match=r"xstest_prompts\.csv:2: no field 'label'(.|\n)*id, prompt, type"):
        load("shared:xstest", intent="harmful", data_dir=data)


@pytest.mark.parametrize(
    ("content", "problem"), [("{", "broken JSON"), ("{}", "no list 'instructions'"), ("5", "no list")]
)
def test_a_broken_json_set_is_named(data, content, problem):
    (data / "safe-to-serve/Q-Harm.json").write_text(content)
    with pytest.raises(BadInputError, match=rf"Q-Harm\.json: {problem}"):
        load("shared:Q-Harm", intent="harmful", data_dir=data)


@pytest.mark.parametrize(
    ("name", "rows"),  # as the README beside the data counts them
    [
        ("bold", 23679), ("truthfulqa", 817), ("harmbench", 400), ("xstest", 450), ("toxigen", 31000),
        ("safety_only_data_Instructions", 2483), ("I-MaliciousInstructions", 100), ("I-CoNa", 178),
        ("pubmedqa_pqal", 500), ("pubmedqa_pqaa", 500), ("medqa_test", 1273), ("medmcqa_validation", 4183),
    ],
)  # fmt: skip
def test_the_public_sets_are_read_whole(public_data, name, rows):
    assert len(load_shared(name, "harmful", public_data)) == rows


def test_the_public_sets_labels(public_data):
    assert Counter(p.intent for p in load_shared("xstest", "harmful", public_data)) == {"benign": 250, "harmful": 200}
    calibration = load_shared("judge-calibration", "harmful", public_data)
    assert 1500 <= len(calibration) <= 1600
