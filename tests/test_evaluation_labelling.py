"""A model's labels beside people's, and what they cost: every number worked by hand."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faulty_endpoint import endpoint, saying
from primum.cli import main
from primum.core.records import JsonDict, Messages, Preference, to_json, user
from primum.evaluation.labelling import agreement, compared, orders
from primum.judging.ask import Answer, Tokens
from primum.judging.duel import Twice
from primum.judging.metering import Meter, Price
from primum.pairing.votes import TIE, by_two, labels_of
from primum.report.labelled import labels_text


def vote(replies: str, winner: int | None, by: str, outcome: Any = None, seconds: float | None = None) -> Preference:
    kind = outcome or ("winner" if winner is not None else "tie")
    return Preference(replies[0].lower(), tuple(replies), winner, kind, "better", by, seconds=seconds)


def label(replies: str, straight: float | None, swapped: float | None) -> JsonDict:
    """Return what the model said of two replies, as `ai_feedback` keeps it."""
    twice = Twice(*(float("nan") if one is None else one for one in (straight, swapped)))
    winner = {"a": 0, "b": 1}.get(twice.outcome)
    kind = {"tie": "tie", "unscored": "skip"}.get(twice.outcome)
    return {**to_json(vote(replies, winner, "model", kind)), "margins": [straight, swapped]}


def test_a_vote_on_three_replies_says_that_the_winner_beats_each_other_one():
    assert [(one.two, one.better) for one in labels_of(vote("cab", 1, "ann"))] == [(("a", "c"), "a"), (("a", "b"), "a")]
    assert [one.better for one in labels_of(vote("ba", None, "ann"))] == [TIE]
    assert [one.better for one in labels_of(vote("ba", None, "ann", "both_unsafe"))] == [TIE]
    assert not list(labels_of(vote("abc", None, "ann"))) and not list(labels_of(vote("ab", None, "ann", "skip")))
    # the same two replies in the other order are the same comparison; who votes again means the last
    assert by_two([vote("ab", 0, "ann"), vote("ba", 0, "ben"), vote("ab", 1, "ann")]) == {
        ("a", "b"): {"ann": "b", "ben": "b"}
    }


def test_a_preference_that_turns_with_the_order_is_no_label():
    found = orders([
        label("ab", 2.0, -1.0), label("cd", -2.0, 1.0), label("ef", 1.0, 3.0), label("gh", -1.0, -1.0),
        label("ij", 0.0, 1.0), label("kl", None, 1.0),
    ])  # fmt: skip
    assert [found[key] for key in ("n", "decided", "flipped", "unscored", "to_first", "to_second")] == [
        6,
        2,
        3,
        1,
        1,
        1,
    ]
    # Wilson at 3 of 5: (3 + z²/2) / (5 + z²) -+ z sqrt(6/5 + z²/4) / (5 + z²), z² = 3.8415
    assert found["flip_rate"]["value"] == 0.6 and found["flip_rate"]["n"] == 5
    assert (found["flip_rate"]["low"], found["flip_rate"]["high"]) == pytest.approx((0.2307, 0.8824), abs=1e-3)


LABELS = [label("ab", 2.0, -1.0), label("cd", 2.0, -1.0), label("ef", 1.0, 3.0), label("gh", None, None)]
VOTES = [
    *(vote("ab", 0, name) for name in ("ann", "ben", "cleo")), vote("ab", None, "dan"),
    vote("cd", 0, "ann"), vote("dc", 0, "ben"), vote("cd", 0, "cleo", seconds=20.0),
    vote("ef", 0, "ann"), vote("ef", 0, "ben", seconds=10.0), vote("gh", 0, "ann"), vote("xy", 0, "ann"),
]  # fmt: skip


def test_the_model_with_people_is_laid_beside_people_with_each_other():
    found = agreement(compared(LABELS, VOTES), VOTES)
    facts = [
        found[key] for key in ("people", "pairs", "unscored", "tied_votes", "votes", "not_asked", "seconds_a_vote")
    ]
    assert facts == [4, 4, 1, 1, 10, 1, 15.0]
    # decided are ab (all three say a) and cd (two of three say c: of their three pairs one agrees)
    decided = found["decided"]
    assert decided["with_people"]["value"] == pytest.approx((1 + 2 / 3) / 2) and decided["with_people"]["n"] == 2
    assert decided["several"]["model_with_people"]["value"] == pytest.approx(5 / 6)
    assert decided["several"]["people_with_each_other"]["value"] == pytest.approx((1 + 1 / 3) / 2)
    assert decided["several"]["difference"]["difference"] == pytest.approx(5 / 6 - 2 / 3)
    # with ties: ab 3 of 4 people, 3 of their 6 pairs; cd as before; ef: the order decided, and two say e
    tied = found["all"]
    assert tied["with_people"]["value"] == pytest.approx((3 / 4 + 2 / 3 + 0) / 3) and tied["with_people"]["n"] == 3
    assert tied["several"]["people_with_each_other"]["value"] == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)
    assert tied["several"]["difference"]["difference"] == pytest.approx((1 / 4 + 1 / 3 - 1) / 3)


def test_the_difference_counts_pairs_of_one_prompt_as_one_cluster():
    # twelve prompts with one pair each
    labels = [replace_prompt(label("ab", 1.0, -1.0), n) for n in range(12)]
    votes = [replace(vote("ab", n % 2, by), reply_ids=(f"{n}a", f"{n}b")) for n in range(12) for by in ("ann", "ben")]
    found = agreement(compared(labels, votes), votes)["decided"]["several"]
    # both say the second reply on odd prompts, where the model says the first
    assert found["model_with_people"]["value"] == 0.5 and found["people_with_each_other"]["value"] == 1.0
    moved = found["difference"]
    assert (moved["difference"], moved["clusters"], moved["n"]) == (-0.5, 12, 12)
    assert moved["p"] == pytest.approx(2 / 2**6)  # McNemar: six for people, none for the model


def replace_prompt(row: JsonDict, number: int) -> JsonDict:
    return {**row, "prompt_id": str(number), "reply_ids": [f"{number}{name}" for name in row["reply_ids"]]}


def test_nobody_else_voted_on_a_pair():
    found = agreement(compared(LABELS, VOTES[:1]), VOTES[:1])
    assert found["decided"]["several"] is None and found["decided"]["with_people"]["value"] == 1.0
    assert any("unknown" in line for line in labels_text(document(found)))


def document(found: JsonDict) -> JsonDict:
    meter = Meter(lambda batch: [Answer("1", tokens=Tokens(1234, 5))] * len(batch))
    meter([(user("q"),)] * 8)
    return {"model": "a" * 90, "orders": orders(LABELS), "cost": meter.cost(4, Price(0.5, 2.0)), "agreement": found}


def test_the_table_fits_a_terminal_of_80_columns():
    lines = labels_text(document(agreement(compared(LABELS, VOTES), VOTES)))
    assert max(map(len, lines)) <= 80
    assert any("flip rate" in line and "33.3%" in line for line in lines)
    assert any("2,468 tokens read, 10 written, money 0.00125" in line for line in lines)


# ---------------------------------------------------------------- cost
def test_tokens_seconds_and_money_of_a_label():
    ticks = iter([0.0, 3.0, 10.0, 11.0])

    def ask(batch: Sequence[Messages]) -> list[Answer]:
        known = [Answer("1", tokens=Tokens(100, 2)), Answer("1"), Answer("", error="down")]
        return known[: len(batch)]

    meter = Meter(ask, clock=lambda: next(ticks))
    meter([(user("q"),)] * 3)
    meter([(user("q"),)])
    found = meter.cost(2, Price(prompt=3.0, answer=10.0))
    # four questions for two labels, two of them told their tokens: 100 and 2 each, so 200 and 4 a label
    assert (found["questions"], found["failed"], found["tokens_told"], found["seconds"]) == (4, 1, 2, 4.0)
    assert found["per_label"] == {
        "prompt_tokens": 200.0, "answer_tokens": 4.0, "seconds": 2.0, "money": pytest.approx((200 * 3 + 4 * 10) / 1e6),
    }  # fmt: skip
    assert meter.cost(2)["per_label"]["money"] is None
    silent = Meter(lambda batch: [Answer("1")] * len(batch))
    silent([(user("q"),)])
    assert silent.cost(1, Price(1, 1))["per_label"]["money"] is None, "tokens that nobody counted cost no known money"


# ---------------------------------------------------------------- the verb
TEXTS = {"One?": ("the good one", "the bad one"), "Two?": ("a bad reply", "a good reply"), "Three?": ("left", "right"),
         "Four?": ("mute one", "mute two")}  # fmt: skip


def preferring(text: str) -> str:
    if "mute" in text:
        return "hm"
    if "left" in text:
        return "1"
    return "1" if text.index("good") < text.index("bad") else "2"


def test_ai_feedback_prints_agreement_flips_and_cost(tmp_path: Path, capsys: Any):
    rows = [
        {"id": f"{prompt}{n}", "prompt": prompt, "reply": text, "intent": "benign", "behaviour": "compliance"}
        for prompt, two in TEXTS.items() for n, text in enumerate(two)
    ]  # fmt: skip
    votes = [
        {"prompt_id": "p", "reply_ids": [f"{prompt}0", f"{prompt}1"], "winner": winner, "outcome": "winner",
         "strength": "better", "judged_by": by}
        for prompt, winners in {"One?": "000", "Two?": "101", "Three?": "00", "Four?": "0"}.items()
        for by, winner in zip(("ann", "ben", "cleo"), map(int, winners), strict=False)
    ]  # fmt: skip
    for name, lines in (("r", rows), ("v", votes)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")
    out = tmp_path / "out"
    with endpoint(answer=saying(preferring)) as server:
        command = ["pair", str(tmp_path / "r.jsonl"), "--strategy", "ai_feedback", "--preferences",
                   str(tmp_path / "v.jsonl"), "--endpoint", server.url, "--endpoint-model", "small", "--price", "0.5",
                   "--price-answer", "2", "--out", str(out), "--force", "--json"]  # fmt: skip
        assert main(command) == 0
        assert len(server.seen) == 8
    found = json.loads(capsys.readouterr().out)
    labels = found["labels"]
    assert (found["n"], labels["orders"]["flipped"], labels["orders"]["unscored"], labels["orders"]["to_first"]) == (
        2,
        1,
        1,
        1,
    )
    assert labels["orders"]["flip_rate"]["value"] == pytest.approx(1 / 3)
    assert labels["agreement"]["decided"]["with_people"]["value"] == pytest.approx(5 / 6)
    assert labels["agreement"]["decided"]["several"]["people_with_each_other"]["value"] == pytest.approx(2 / 3)
    # every answer is one word and says that it read ten tokens: two answers a label
    each = labels["cost"]["per_label"]
    assert (each["prompt_tokens"], each["answer_tokens"]) == (20, 2)
    assert each["money"] == pytest.approx((20 * 0.5 + 2 * 2) / 1e6) and each["seconds"] > 0
    kept = [json.loads(line) for line in (out / "labels.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["outcome"] for row in kept] == ["winner", "winner", "tie", "skip"]
    assert {row["judged_by"] for row in kept} == {"judge:small"}
    # the labels are votes like people's: llama2 makes the same pairs of them
    again = ["pair", str(tmp_path / "r.jsonl"), "--strategy", "llama2", "--preferences", str(out / "labels.jsonl"),
             "--out", str(tmp_path / "again"), "--force", "--json"]  # fmt: skip
    assert main(again) == 0 and json.loads(capsys.readouterr().out)["n"] == 2
    sides = [
        {(row["chosen"][0]["content"], row["rejected"][0]["content"])
         for row in map(json.loads, (place / "pairs.jsonl").read_text(encoding="utf-8").splitlines())}
        for place in (out, tmp_path / "again")
    ]  # fmt: skip
    assert sides[0] == sides[1] == {("the good one", "the bad one"), ("a good reply", "a bad reply")}
