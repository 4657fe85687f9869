"""`primum pair` as a user meets it: files of several layouts in, pairs and the lint out."""

import json
from pathlib import Path
from typing import Any

import pytest

from primum.cli import main
from primum.verbs.pair import left_out_of

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


def vote(ids: list[str], winner: int | None, strength: str = "better", **more: Any) -> dict[str, Any]:
    outcome = "winner" if winner is not None else "tie"
    return {"prompt_id": "p", "reply_ids": ids, "winner": winner, "outcome": outcome, "strength": strength,
            "judged_by": "ann", **more}  # fmt: skip


def votes_file(tmp_path: Path, votes: list[Any]) -> str:
    path = tmp_path / "votes.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in votes), encoding="utf-8")
    return str(path)


THREE = [
    {"id": "a", "prompt": HARMFUL, "reply": DECLINED, "intent": "harmful", "behaviour": "refusal"},
    {"id": "b", "prompt": HARMFUL, "reply": BAD, "intent": "harmful", "behaviour": "harmful_compliance"},
    {"id": "c", "prompt": HARMFUL, "reply": "I would rather not do that to anybody.", "intent": "harmful",
     "behaviour": "refusal"},
]  # fmt: skip


def test_one_vote_on_three_replies_gives_two_pairs_with_the_papers_margins_and_bins(tmp_path: Path, capsys: Any):
    cast = votes_file(tmp_path, [vote(["a", "b", "c"], 0, "better", safety=[True, False, True])])
    _, document, pairs = pair(tmp_path, capsys, THREE, "--strategy", "llama2", "--preferences", cast, "--force")
    assert [(sides(one), one["safety_bin"]) for one in pairs] == [
        ((DECLINED, BAD), "chosen_safe"), ((DECLINED, THREE[2]["reply"]), "both_safe"),
    ]  # fmt: skip
    assert all(one["strength"] == pytest.approx(2 / 3) for one in pairs)
    assert document["safety_bins"] == {"chosen_safe": 1, "both_safe": 1}


def test_a_vote_for_the_unsafe_reply_against_a_safe_one_is_dropped(tmp_path: Path, capsys: Any):
    both = [vote(["b", "a"], 0, safety=[False, True]), vote(["a", "c"], 0, safety=[True, True])]
    cast = votes_file(tmp_path, both)
    _, document, pairs = pair(tmp_path, capsys, THREE, "--strategy", "llama2", "--preferences", cast, "--force")
    assert [sides(one) for one in pairs] == [(DECLINED, THREE[2]["reply"])]
    assert document["dropped"] == {"chosen unsafe, the other safe": 1}


def test_without_ticks_the_verdicts_say_what_is_safe_and_an_answer_to_a_harmless_prompt_is(tmp_path: Path, capsys: Any):
    rows = [
        {"id": "g", "prompt": BENIGN, "reply": GOOD, "intent": "benign", "behaviour": "compliance"},
        {"id": "s", "prompt": BENIGN, "reply": "I can't help with that.", "intent": "benign", "behaviour": "refusal"},
        *THREE,
    ]
    cast = votes_file(tmp_path, [vote(["g", "s"], 0), vote(["b", "a"], 1)])
    _, document, pairs = pair(tmp_path, capsys, rows, "--strategy", "llama2", "--preferences", cast, "--force")
    assert [(sides(one)[0], one["safety_bin"]) for one in pairs] == [(GOOD, "both_safe"), (DECLINED, "chosen_safe")]
    assert document["dropped"] == {}


def test_voters_are_counted_and_a_tie_of_them_gives_no_pair(tmp_path: Path, capsys: Any):
    most = [vote(["a", "c"], 0, "significantly"), vote(["c", "a"], 1, "slightly"), vote(["a", "c"], 1, "slightly")]
    cast = votes_file(tmp_path, most)
    _, _, pairs = pair(tmp_path, capsys, THREE, "--strategy", "llama2", "--preferences", cast, "--force")
    assert [sides(one) for one in pairs] == [(DECLINED, THREE[2]["reply"])]
    assert pairs[0]["strength"] == pytest.approx((1 + 1 / 3) / 2)
    even = votes_file(tmp_path, [vote(["a", "c"], 0), vote(["a", "c"], 1), vote(["a", "b"], None)])
    code, said, _ = pair(tmp_path, capsys, THREE, "--strategy", "llama2", "--preferences", even, "--force")
    assert code in (0, 1) and said["dropped"] == {"voters disagree": 1}


@pytest.mark.parametrize(
    ("votes", "said"),
    [
        ([vote(["a", "z"], 0)], "no reply 'z'"), ([vote(["a", "b"], 5)], "winner is 5"), ([{"winner": 1}], "no vote"),
        ([vote(["a", "b"], 0, safety=[True])], "one tick for each reply"),
    ],
)  # fmt: skip
def test_a_vote_that_does_not_fit_the_file_is_named(tmp_path: Path, capsys: Any, votes: list[Any], said: str):
    cast = votes_file(tmp_path, votes)
    code, printed, _ = pair(tmp_path, capsys, THREE, "--strategy", "llama2", "--preferences", cast)
    assert code == 2 and said in printed and "votes.jsonl:1" in printed


@pytest.mark.parametrize("strategy", ["llama2", "ai_feedback"])
def test_a_strategy_that_needs_more_says_what(tmp_path: Path, capsys: Any, strategy: str):
    code, printed, _ = pair(tmp_path, capsys, THREE, "--strategy", strategy)
    assert code == 2 and "needs" in printed and "primum pair FILE --" in printed


def test_the_model_after_a_preprompt_against_itself_without(tmp_path: Path, capsys: Any):
    guided = [{"role": "system", "content": "Be safe."}, {"role": "user", "content": HARMFUL}]
    rows = [
        {"id": "s", "prompt": guided, "reply": DECLINED, "intent": "harmful", "behaviour": "refusal"}, THREE[1],
        {"id": "g", "prompt": BENIGN, "reply": GOOD, "intent": "benign", "behaviour": "compliance"},
    ]  # fmt: skip
    _, document, pairs = pair(tmp_path, capsys, rows, "--strategy", "self_contrast", "--force")
    assert [sides(one) for one in pairs] == [(DECLINED, BAD)]
    assert pairs[0]["prompt"] == [{"role": "user", "content": HARMFUL}]
    assert document["dropped"] == {"no scored reply with a preprompt": 1}


def test_ai_feedback_keeps_what_is_preferred_in_both_orders_and_leaves_the_rest_to_people():
    from primum.core.records import Prompt, Reply, Verdict, user
    from primum.judging.ask import Answer
    from primum.judging.duel import by_asking
    from primum.pairing.strategies import ai_feedback

    prompts = [Prompt((user(text),), "benign", "other") for text in ("One?", "Two?", "Three?")]
    texts = ("the good one", "the bad one"), ("left", "right"), ("mute one", "mute two")
    replies = {
        p.id: [Reply(p.id, "m", str(i), text, "stop", 0, 0, 0) for i, text in enumerate(two)]
        for p, two in zip(prompts, texts, strict=True)
    }

    def ask(batch: Any) -> list[Answer]:
        asked = [messages[-1].content for messages in batch]
        assert all("Kind answers win. Say 1 or 2." in text for text in asked)
        return [
            Answer("hm" if "mute" in t else "1" if "left" in t or t.index("good") < t.index("bad") else "2")
            for t in asked
        ]

    prefer = by_asking(ask, "Kind answers win.")
    built = ai_feedback.pairs(prompts, replies, dict[str, Verdict](), prefer=prefer)
    assert [(one.chosen, one.rejected) for one in built.pairs] == [("the good one", "the bad one")]
    assert sorted(row["reason"] for row in built.dropped) == [
        "for people: the model did not say", "for people: the order decided",
    ]  # fmt: skip


def test_ches_is_written_highest_first_and_the_worst_share_left_out(tmp_path: Path, capsys: Any):
    from tiny_models import tiny

    model = tiny(tmp_path / "m", seed=1)
    rows = [row(f"{HARMFUL} {i}", f"{BAD} {i}", "harmful", behaviour="harmful_compliance") for i in range(4)]
    flags = ("--strategy", "safe_completion", "--force", "--ches", str(model), "--ches-drop", "0.25")
    _, document, pairs = pair(tmp_path, capsys, rows, *flags)
    lines = (tmp_path / "out" / "ches.jsonl").read_text(encoding="utf-8").splitlines()
    scores = [json.loads(line)["normalised"] for line in lines]
    assert len(scores) == 4 and scores == sorted(scores, reverse=True)
    assert len(pairs) == 3 and document["dropped"] == {"CHES: sides too alike": 1}
    assert document["ches"]["highest"] == scores[0] and document["ches"]["highest_kept"] == scores[1]


@pytest.mark.parametrize(("pairs", "share", "left_out"), [(4, 0.25, 1), (4, 0.0, 0), (1, 0.9, 0), (10, 0.99, 9)])
def test_a_share_never_leaves_out_every_pair(pairs: int, share: float, left_out: int):
    assert left_out_of(pairs, share) == left_out
