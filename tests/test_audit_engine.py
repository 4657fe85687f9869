"""The pass over blocks: a document that breaks a step is named and leaves nothing behind, whatever it broke."""

import json

import pytest

from primum.audit.engine import Plan, Task, Worker
from primum.audit.reading.blocks import Block
from primum.audit.reading.records import Fields
from primum.audit.reading.sources import Limits, Part
from primum.audit.steps import Basics
from primum.core.errors import StepFailedError, UsageError


class Breaks:
    """A step that counts, marks, and breaks on some texts after it has seen the documents before them."""

    def __call__(self, notes, counts):
        for note in notes:
            counts.setdefault("seen", {}).setdefault(note.document.id, 0)
            counts["seen"][note.document.id] += 1
            note.mark("seen", "here")
            if note.document.text == "broken":
                raise ZeroDivisionError(f"private words of {note.document.text}")
            if note.document.text == "wrong setting":
                raise UsageError("a wrong setting")


def keeps(notes):
    if any(note.document.text == "broken later" for note in notes):
        raise KeyError("later")
    return {".kept": "".join(note.document.id for note in notes).encode()}


def make(settings):
    del settings
    return [Basics(), Breaks()], [keeps]


def work(folder, texts):
    folder.mkdir()
    rows = b"".join(json.dumps({"id": str(i), "text": text}).encode() + b"\n" for i, text in texts)
    Worker(Plan(str(folder), Limits(), Fields(), make))(Task(0, 0, "f", Part("jsonl", Block(1, rows))))
    return {path.suffix: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("at", [(0,), (6,), (2, 3), (0, 1, 2, 3, 4, 5, 6)])
@pytest.mark.parametrize("how", ["broken", "broken later"])
def test_what_breaks_a_step_is_named_and_the_rest_is_as_if_it_had_not_been_there(tmp_path, at, how):
    texts = [(i, how if i in at else f"text {i}") for i in range(7)]
    found = work(tmp_path / "a", texts)
    expected = work(tmp_path / "b", [one for one in texts if one[0] not in at])
    assert (found[".jsonl"], found[".kept"]) == (expected[".jsonl"], expected[".kept"])
    counts, clean = json.loads(found[".json"]), json.loads(expected[".json"])
    assert {name: rows for name, rows in counts.items() if name not in ("corpus", "skipped", "failed_steps")} == {
        name: rows for name, rows in clean.items() if name not in ("corpus", "skipped", "failed_steps")
    }
    assert counts["corpus"].get("documents", 0) == 7 - len(at)
    assert counts["skipped"] == {"failed_step": len(at)}
    skipped = [json.loads(line) for line in found[".skipped"].splitlines()]
    assert [one["where"] for one in skipped] == [f"f:{i + 1}" for i in at]
    assert {one["detail"].partition(":")[0] for one in skipped} == {
        "ZeroDivisionError at test_audit_engine.py" if how == "broken" else "KeyError at test_audit_engine.py"
    }
    assert "private" not in found[".skipped"].decode()
    assert sum(counts["failed_steps"].values()) == len(at)


def test_what_is_no_document_s_fault_ends_the_pass(tmp_path):
    with pytest.raises(UsageError):
        work(tmp_path / "a", [(0, "x"), (1, "wrong setting")])


def test_a_disk_that_cannot_be_written_ends_the_pass(tmp_path):
    folder = tmp_path / "a"
    with pytest.raises(StepFailedError):
        Worker(Plan(str(folder), Limits(), Fields(), make))(Task(0, 0, "f", Part("jsonl", Block(1, b'{"text": "x"}'))))
