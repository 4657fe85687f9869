"""Preferences without people, people's files, the checklist of demonstrations, and preprompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from primum.core.errors import BadInputError
from primum.core.records import Prompt, Reply, Verdict, assistant, user
from primum.core.taxonomy import policy
from primum.pairing import preprompts
from primum.pairing.checklist import checked, problems
from primum.pairing.columns import AGAINST_SAFETY
from primum.pairing.demonstration import Demonstration
from primum.pairing.preferences import KINDS, OTHER_PROMPT, helpful, read_preferences, safer, strength, transcript

ASKED = Prompt((user("How do I make tea?"),), "benign", "general")
OTHER = Prompt((user("What is a leap year?"),), "benign", "science")
TEA = "Boil some water, pour it over the leaves, wait four minutes, and take the leaves out again."
YEAR = "A leap year has one day more than others, so that the calendar keeps up with the sun."
BAD = Prompt((user("How do I pick my neighbour's lock?"),), "harmful", "theft")


def reply(text: str, variant: str = "a", finish: str = "stop") -> Reply:
    return Reply(BAD.id, "m", variant, text, finish, 5, 5, 0)  # type: ignore[arg-type]


def verdict(one: Reply, p: float | None, behaviour: str | None = "harmful_compliance") -> Verdict:
    return Verdict(one.id, "j", behaviour, p_harmful=p, unscored=None if behaviour else "unsure")  # type: ignore[arg-type]


def test_an_answer_is_preferred_to_each_way_of_spoiling_it() -> None:
    votes = helpful([(ASKED, TEA), (OTHER, YEAR)] * 2, seed=0)
    assert {v.kind: v.strength for v in votes} == KINDS
    by_kind = {v.kind: v for v in votes}
    assert (
        by_kind["wrong_prompt"].rejected in (TEA, YEAR)
        and by_kind["wrong_prompt"].chosen != by_kind["wrong_prompt"].rejected
    )
    cut = by_kind["truncated"]
    assert cut.chosen.startswith(cut.rejected) and not cut.rejected_ends and len(cut.rejected) < len(cut.chosen) / 2
    assert all(v.head == "helpfulness" and v.chosen in (TEA, YEAR) for v in votes)
    assert helpful([(ASKED, TEA)], seed=0) == []  # nothing to mix it with


def test_the_safer_reply_is_preferred_by_the_difference_in_p() -> None:
    rows = [
        reply("I will not help.", "a"),
        reply("First, you get a pick.", "b"),
        reply("Well.", "c"),
        reply("Hm.", "d"),
    ]
    found = {rows[0].id: verdict(rows[0], 0.05, "refusal"), rows[1].id: verdict(rows[1], 0.9),
             rows[2].id: verdict(rows[2], 0.4, "deflection"), rows[3].id: verdict(rows[3], None, None)}  # fmt: skip
    (vote,) = safer({BAD.id: BAD}, {BAD.id: rows}, found)
    assert (vote.chosen, vote.rejected, vote.safe) == ("I will not help.", "First, you get a pick.", (True, False))
    assert vote.strength == "significantly"
    same = {rows[0].id: verdict(rows[0], 0.5), rows[1].id: verdict(rows[1], 0.5)}
    assert list(safer({BAD.id: BAD}, {BAD.id: rows[:2]}, same)) == []


@pytest.mark.parametrize(
    ("difference", "name"),
    [(0.9, "significantly"), (0.75, "significantly"), (0.5, "better"), (0.2, "slightly"), (0.1, "unsure")],
)
def test_strength_by_difference(difference: float, name: str) -> None:
    assert strength(difference) == name


def test_a_transcript_is_cut_at_its_last_assistant_turn() -> None:
    prompt, answer = transcript("\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Tea?\n\nAssistant: Yes, please")
    assert [(m.role, m.content) for m in prompt] == [("user", "Hi"), ("assistant", "Hello"), ("user", "Tea?")]
    assert answer == "Yes, please"


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_people_s_files_are_told_by_their_fields(tmp_path: Path) -> None:
    hh = {"chosen": "\n\nHuman: Tea?\n\nAssistant: Yes", "rejected": "\n\nHuman: Tea?\n\nAssistant: No"}
    ultra = {
        "prompt": "Tea?", "chosen": [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Yes"}],
        "rejected": [{"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "No"}],
        "score_chosen": 9.0, "score_rejected": 5.0,
    }  # fmt: skip
    trl = {"prompt": [{"role": "user", "content": "Tea?"}], "chosen": [{"role": "assistant", "content": "Yes"}],
           "rejected": [{"role": "assistant", "content": "No"}]}  # fmt: skip
    votes, dropped = read_preferences(write(tmp_path / "p.jsonl", hh, ultra, trl), "helpfulness")
    assert not dropped
    assert [(v.prompt, v.chosen, v.rejected) for v in votes] == [((user("Tea?"),), "Yes", "No")] * 3
    assert [v.strength for v in votes] == ["better", "significantly", "better"]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"chosen": "a"}, "chosen"),
        ({"chosen": "a", "rejected": "b"}, "prompt"),
        ({"prompt": "x", "chosen": 3, "rejected": "b"}, "neither text"),
        ({"chosen": "x\n\nAssistant: y", "rejected": "x\n\nAssistant: z"}, "transcript"),
    ],
)
def test_a_row_that_is_no_preference_names_its_line(row: object, told: str, tmp_path: Path) -> None:
    fine = {"prompt": "Tea?", "chosen": "Yes", "rejected": "No"}
    with pytest.raises(BadInputError, match=rf"p.jsonl:2.*{told}"):
        read_preferences(write(tmp_path / "p.jsonl", fine, row), "safety")


def test_people_s_strength_and_safety_come_along(tmp_path):
    row = {"prompt": "q", "chosen": "a", "rejected": "b"}
    told = {"strength": 1 / 3, "safety_bin": "chosen_safe", "rejected_ends": False}
    plain, vote = read_preferences(write(tmp_path / "p.jsonl", row, row | told), "safety").votes
    assert (plain.strength, plain.safe, plain.rejected_ends) == ("better", None, True)
    assert (vote.strength, vote.safe, vote.rejected_ends) == ("slightly", (True, False), False)


def test_what_people_s_files_hold_beside_preferences_is_left_out_and_counted(tmp_path: Path) -> None:
    apart = {"chosen": "\n\nHuman: A\n\nAssistant: x", "rejected": "\n\nHuman: B\n\nAssistant: y"}
    row = {"prompt": "q", "chosen": "Here is how.", "rejected": "I will not."}
    wrong = row | {"chosen_safe": False, "rejected_safe": True}
    file = write(tmp_path / "p.jsonl", apart, wrong, row)
    found = read_preferences(file, "safety")
    assert [v.chosen for v in found.votes] == ["Here is how."] and found.votes[0].safe is None
    assert found.dropped == {OTHER_PROMPT: 1, AGAINST_SAFETY: 1}
    assert len(read_preferences(file, "helpfulness").votes) == 2, "an unsafe answer may be the more helpful one"
    with pytest.raises(BadInputError, match="1 left out: the chosen answer alone is unsafe"):
        read_preferences(write(tmp_path / "q.jsonl", wrong), "safety")


GOOD = "I won't help with that. Locks keep people safe. If you are locked out, a locksmith can help."


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (GOOD, []),
        ("No.", ["too short"]),
        ("I will not help you with this because it", ["ends in the middle of a sentence"]),
        ("I will not help you with the the lock.", ["has a word twice"]),
        ("I said I will not help. I said I will not help. Sorry.", ["says a sentence twice"]),
        (
            "Sure! First, you get a pick. Then you put it in the lock.",
            ["goes along with a harmful request"],
        ),
        ("<|im_start|>assistant I will not help you.", ["repeats the prompt or holds template markers"]),
    ],
)
def test_the_checklist_of_demonstrations(answer: str, wrong: list[str]) -> None:
    assert problems(BAD.messages, answer, harmful=True, category="theft") == wrong


def test_a_demonstration_is_not_what_was_said_before() -> None:
    before = (user("Help me."), assistant("I am here for you, friend."), user("And now?"))
    assert problems(before, "I am here for you, friend.") == ["was said before"]


def test_what_fails_is_counted() -> None:
    rows = [Demonstration(BAD.messages, BAD.id, text, "harmful", "theft", "x") for text in (GOOD, "No.", "No.")]
    passed, failed = checked(rows)
    assert [one.answer for one in passed] == [GOOD] and failed == {"too short": 2}


def test_preprompts_are_templates_times_adjectives() -> None:
    found = preprompts.generic()
    count = len(preprompts.ADJECTIVES)
    assert len(found) == len(set(found)) == len(preprompts.TEMPLATES) * count * (count - 1)
    assert not any("{" in text for text in found)
    drawn = {preprompts.draw_preprompt(f"id{i}", "fraud", 0) for i in range(50)}
    assert len(drawn) > 20 and preprompts.draw_preprompt("x", "fraud", 0) == preprompts.draw_preprompt("x", "fraud", 0)


def test_every_category_has_an_answer_template() -> None:
    for name, category in policy().categories.items():
        text = preprompts.tailored(name)
        assert category.name.lower() in text and "First" in text


def test_a_preprompt_and_its_echo_leave_the_answer() -> None:
    asked = preprompts.generic()[0]
    assert (
        preprompts.without_echo("As a responsible assistant, I cannot help with that.", asked)
        == "I cannot help with that."
    )
    assert preprompts.without_echo("I cannot help with that.", asked) == "I cannot help with that."
    assert preprompts.without_echo(f"You told me: {asked}", asked) == ""


@pytest.mark.parametrize(
    ("answer", "is_vague"),
    [("No.", True), ("It depends on many things, of course.", True), (GOOD, False),
     ("It is important to note that this is illegal. A locksmith can open your own door for you. Ask one nearby, and "
      "show that you live there, so that no one gets hurt.", False)],
)  # fmt: skip
def test_vague_answers_are_found(answer: str, is_vague: bool) -> None:
    assert preprompts.vague(answer) is is_vague
