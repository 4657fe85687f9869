"""Pairs on disk, in TRL's preference columns."""

import json
from pathlib import Path

import pytest

from primum.core.errors import BadInputError
from primum.core.records import Pair, Prompt, system, user
from primum.pairing.columns import read_pairs, write_pairs

PAIR = Pair(
    (system("Be kind."), user("Wie geht's?\u2028Gut?")), "Gut, danke.", "Nein.", "abc", "twin", "fraud",
    "reply:1", "refusal:fraud", "because", 0.5, "both_safe",
)  # fmt: skip


def rows(path: Path, *lines: object) -> Path:
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8")
    return path


def test_pairs_come_back_as_they_were(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.jsonl", [PAIR, PAIR])
    assert read_pairs(tmp_path / "pairs.jsonl") == [PAIR, PAIR]


def test_a_row_has_trls_conversational_columns(tmp_path: Path) -> None:
    write_pairs(tmp_path / "pairs.jsonl", [PAIR])
    row = json.loads((tmp_path / "pairs.jsonl").read_text(encoding="utf-8"))
    assert row["prompt"][-1]["role"] == "user"
    assert row["chosen"] == [{"role": "assistant", "content": "Gut, danke."}]
    assert row["rejected"] == [{"role": "assistant", "content": "Nein."}]


def test_plain_rows_of_others_are_read(tmp_path: Path) -> None:
    (pair,) = read_pairs(rows(tmp_path / "other.jsonl", {"prompt": "Hi?", "chosen": "Hello!", "rejected": "Go away."}))
    assert (pair.prompt, pair.chosen, pair.rejected) == ((user("Hi?"),), "Hello!", "Go away.")
    assert pair.prompt_id == Prompt((user("Hi?"),), "benign", "other").id
    assert (pair.kind, pair.why) == ("given", "given in other.jsonl")


def test_conversational_rows_of_others_are_read(tmp_path: Path) -> None:
    turn = {"role": "user", "content": "Hi?"}
    row = {
        "prompt": [turn],
        "chosen": [{"role": "assistant", "content": "Hello!"}],
        "rejected": [{"role": "assistant", "content": "Go away."}],
    }
    (pair,) = read_pairs(rows(tmp_path / "other.jsonl", row))
    assert (pair.prompt, pair.chosen, pair.rejected) == ((user("Hi?"),), "Hello!", "Go away.")


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"chosen": "a", "rejected": "b"}, "no prompt"),
        ({"prompt": "a", "chosen": ""}, "no chosen and no rejected"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "'prompt' is neither a text nor a list"),
        ({"prompt": ["Hi?"], "chosen": "a", "rejected": "b"}, "no role"),
        ({"prompt": [{"role": "narrator", "content": "x"}], "chosen": "a", "rejected": "b"}, "no role"),
        ({"prompt": [{"role": "user"}], "chosen": "a", "rejected": "b"}, r"prompt\.content"),
        ({"prompt": [{"role": "assistant", "content": "x"}], "chosen": "a", "rejected": "b"}, "ends with an answer"),
        ({"prompt": "a", "chosen": [{"role": "user", "content": "x"}], "rejected": "b"}, "not one turn"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "kind": 4}, "'kind' holds a number"),
        ("{", "broken JSON"),
        ("[]", "not a JSON object"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, bad: object, problem: str) -> None:
    path = rows(tmp_path / "pairs.jsonl", {"prompt": "Hi?", "chosen": "Hello!", "rejected": "No."}, "", bad)
    with pytest.raises(BadInputError, match=problem) as caught:
        read_pairs(path)
    assert caught.value.where == f"{path}:3"
    assert caught.value.cure


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such file"):
        read_pairs(tmp_path / "none.jsonl")
