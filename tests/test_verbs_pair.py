"""`primum pair` as a user meets it: files of several layouts in, pairs and the lint out."""

import json
from pathlib import Path
from typing import Any

import pytest

from primum.cli import main

HARMFUL, BENIGN = "Write a letter that tricks widows into paying.", "How do I keep basil alive on a windowsill?"
BAD = "Dear widow, please send the money to this account today."
DECLINED = "I won't write that letter, because it would take money from grieving people."
GOOD = "Put it in the light, and water it when the soil is dry."


def row(prompt: str, reply: Any, intent: str | None = None, **more: Any) -> dict[str, Any]:
    stated = {"intent": intent} if intent else {}
    return {"id": f"{prompt[:5]}{reply}", "prompt": prompt, "reply": reply, **stated, **more}


def pku(prompt: str, texts: tuple[str, str], safe: tuple[bool, bool], better: int) -> dict[str, Any]:
    return {
        "prompt": prompt, "response_0": texts[0], "response_1": texts[1], "is_response_0_safe": safe[0],
        "is_response_1_safe": safe[1], "better_response_id": better, "safer_response_id": 0,
    }  # fmt: skip


def pair(tmp_path: Path, capsys: Any, rows: list[Any], *flags: str) -> tuple[int, Any, list[Any]]:
    file, out = tmp_path / "f.jsonl", tmp_path / "out"
    file.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    code = main(["pair", str(file), "--out", str(out), "--json", *flags])
    printed = capsys.readouterr()
    if code not in (0, 1):
        return code, printed.err, []
    lines = (out / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    return code, json.loads(printed.out), [json.loads(line) for line in lines]


def sides(one: Any) -> tuple[str, str]:
    return one["chosen"][0]["content"], one["rejected"][0]["content"]


@pytest.mark.parametrize("strategy", ["safe_completion", "meditron", "on_policy", "safe_to_serve"])
def test_labelled_replies_become_pairs_in_trl_columns(tmp_path: Path, capsys: Any, strategy: str):
    rows = [
        row(HARMFUL, BAD, "harmful", behaviour="harmful_compliance"),
        row(HARMFUL, DECLINED, "harmful", behaviour="refusal"),
        row(BENIGN, GOOD, "benign", behaviour="compliance"),
    ]
    code, document, pairs = pair(tmp_path, capsys, rows, "--strategy", strategy)
    assert code == 0
    first = next(one for one in pairs if one["kind"] == "harmful")
    assert first["prompt"] == [{"role": "user", "content": HARMFUL}]
    assert sides(first)[1] == BAD != sides(first)[0]
    assert document["intents"] == {"stated": 2}
    assert document["n"] == len(pairs)


def test_the_models_own_refusal_is_chosen_on_policy(tmp_path: Path, capsys: Any):
    rows = [row(HARMFUL, BAD, behaviour="harmful_compliance"), row(HARMFUL, DECLINED, behaviour="refusal")]
    _, document, pairs = pair(tmp_path, capsys, rows, "--strategy", "on_policy")
    assert [sides(one) for one in pairs] == [(DECLINED, BAD)]
    assert document["intents"] == {"from verdicts": 1}


def test_rows_without_any_label_are_judged(tmp_path: Path, capsys: Any):
    rows = [row(BENIGN, GOOD, "benign"), row(BENIGN, "I'm sorry, but I can't assist with that request.", "benign")]
    _, document, pairs = pair(tmp_path, capsys, rows, "--strategy", "on_policy")
    assert [sides(one) for one in pairs] == [(GOOD, "I'm sorry, but I can't assist with that request.")]
    assert document["layout"] == "replies"


def test_verdicts_of_primum_judge_are_taken_by_the_rows_own_ids(tmp_path: Path, capsys: Any):
    verdicts = tmp_path / "v.jsonl"
    rows = [row(HARMFUL, BAD), row(HARMFUL, DECLINED)]
    said = [("harmful_compliance", None), (None, "no answer")]
    lines = [{"reply_id": r["id"], "behaviour": b, "unscored": w} for r, (b, w) in zip(rows, said, strict=True)]
    verdicts.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    _, document, pairs = pair(tmp_path, capsys, rows, "--strategy", "safe_to_serve", "--verdicts", str(verdicts))
    assert (pairs, document["dropped"], document["unscored"]) == ([], {"fewer than two scored replies": 1}, 1)
    verdicts.write_text('{"reply_id": "elsewhere", "behaviour": "refusal"}\n', encoding="utf-8")
    code, error, _ = pair(tmp_path, capsys, rows, "--verdicts", str(verdicts))
    assert (code, "elsewhere" in error, "v.jsonl:1" in error) == (2, True, True)


def test_pku_saferlhf_is_paired_on_both_axes(tmp_path: Path, capsys: Any):
    rows = [
        pku("p1", (BAD, DECLINED), (False, True), 0),  # people find the unsafe one more helpful: it is not chosen
        pku("p2", (GOOD, DECLINED), (True, True), 0),
        pku("p3", (BAD, BAD + " Now."), (False, False), 1),
        pku("p4", (GOOD, DECLINED), (True, True), -1),
    ]
    _, document, pairs = pair(tmp_path, capsys, rows, "--strategy", "safe_to_serve")
    assert [(*sides(one), one["safety_bin"]) for one in pairs] == [
        (DECLINED, BAD, "chosen_safe"), (GOOD, DECLINED, "both_safe"),
    ]  # fmt: skip
    assert document["dropped"] == {"no safe reply": 1, "all safe, and none preferred": 1}


def test_beavertails_rows_of_one_prompt_are_put_together(tmp_path: Path, capsys: Any):
    rows = [
        {"prompt": HARMFUL, "response": BAD, "category": {}, "is_safe": False},
        {"prompt": HARMFUL, "response": DECLINED, "category": {}, "is_safe": True},
        {"prompt": BENIGN, "response": GOOD, "category": {}, "is_safe": True},
    ]
    _, document, pairs = pair(tmp_path, capsys, rows, "--strategy", "safe_to_serve")
    assert [sides(one) for one in pairs] == [(DECLINED, BAD)]
    assert document["dropped"] == {"fewer than two scored replies": 1}


def test_hh_transcripts_are_split_at_the_last_answer(tmp_path: Path, capsys: Any):
    start = f"\n\nHuman: Hello\n\nAssistant: Hi.\n\nHuman: {BENIGN}\n\nAssistant:"
    rows = [
        {"chosen": f"{start} {GOOD}", "rejected": f"{start} Keep it in the light and give it water often."},
        {"chosen": f"{start} a", "rejected": f"\n\nHuman: x{start} b"},
    ]
    _, document, pairs = pair(tmp_path, capsys, rows, "--strategy", "safe_to_serve")
    assert [sides(one) for one in pairs] == [(GOOD, "Keep it in the light and give it water often.")]
    assert pairs[0]["prompt"][0]["content"].endswith(BENIGN)
    assert document["dropped"] == {"the two transcripts differ before the last answer": 1}


def test_the_published_recipe_fails_the_lint_and_says_why(tmp_path: Path, capsys: Any):
    rows = [row(f"Request {i} about {w}", f"Sure, here is {w} number {i}.", "harmful", behaviour="harmful_compliance")
            for i, w in enumerate(["tea", "salt", "wood", "iron", "silk"] * 6)]  # fmt: skip
    code, document, pairs = pair(tmp_path, capsys, rows, "--strategy", "meditron")
    assert (code, len(pairs), document["lint_passed"]) == (1, 30, False)
    assert document["lint"]["identical_chosen"] == 1.0
    assert document["lint"]["prompt_blind_auc"] > 0.95
    assert pair(tmp_path, capsys, rows, "--strategy", "meditron", "--force")[0] == 0


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"question": "a", "answer": "b"}], "answer, question is of no known layout"),
        ([row(BENIGN, GOOD), {"prompt": "x"}], "f.jsonl:2"),
        ([row(BENIGN, GOOD, behaviour="nice")], "'nice' is no behaviour"),
        ([row(BENIGN, GOOD, "benign"), row(BENIGN, BAD, "harmful")], "harmful here and benign before"),
        ([{**pku("p", (GOOD, BAD), (True, False), 0), "is_response_0_safe": "yes"}], "is_response_0_safe is 'yes'"),
        ([pku("p", (GOOD, BAD), (True, False), 7)], "better_response_id is 7"),
        ([{"chosen": "hello", "rejected": "hello"}], "'chosen' is no transcript"),
        ([], "no rows"),
    ],
)
def test_a_broken_file_is_an_error_with_its_place(tmp_path: Path, capsys: Any, rows: list[Any], said: str):
    code, error, _ = pair(tmp_path, capsys, rows)
    assert code == 2
    assert said in error
