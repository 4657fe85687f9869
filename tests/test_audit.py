"""`primum audit` on hand-made corpora: counts worked by hand, the ledger's exit codes, bad rows, an audit resumed."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit_kit import audit, corpus
from primum.cli import main

ROWS = [
    {
        "id": "1",
        "source": "web",
        "text": "Write to jane.doe@example.com or call +41 44 668 18 00. She said he knew.",
    },
    {"id": "2", "source": "books", "text": "The old man walked to the market with his wife. Version 10.0.0.1 of it."},
    {
        "id": "3",
        "source": "web",
        "text": "The card 4111 1111 1111 1111 was charged, 4111 1111 1111 1112 is no card.",
    },
]


def test_personal_information_is_counted_and_never_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = audit(capsys, corpus(tmp_path, ROWS), "--out", str(tmp_path / "out"))
    types = {name: row["items"] for name, row in found["pii"]["types"].items() if row["items"]}
    assert code == 0 and found["documents"] == 3
    assert types == {"email": 1, "phone": 1, "credit_card": 1}
    assert found["pii"]["documents"] == 2
    written = "".join(p.read_text(encoding="utf-8") for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert "jane.doe" not in written and "4111" not in written


def test_sources_are_listed_by_volume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, found = audit(capsys, corpus(tmp_path, ROWS), "--out", str(tmp_path / "out"))
    assert [(row["source"], row["documents"], row["pii_items"]) for row in found["sources"]] == [
        ("web", 2, 3),
        ("books", 1, 0),
    ]


@pytest.mark.parametrize(("sources", "code"), [(("web", "books"), 0), (("web",), 1)])
def test_an_unreviewed_source_fails_the_audit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sources: tuple[str, ...], code: int
) -> None:
    ledger = tmp_path / "ledger.csv"
    lines = [f"{s},CC-BY-4.0,Ada,accept" for s in sources]
    ledger.write_text("\n".join(["source,licence,reviewer,decision", *lines]) + "\n", encoding="utf-8")
    got, found = audit(capsys, corpus(tmp_path, ROWS), "--out", str(tmp_path / "out"), "--ledger", str(ledger))
    assert got == code
    assert found["ledger"]["unreviewed"] == ([] if code == 0 else ["books"])


def test_a_broken_row_is_skipped_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = corpus(tmp_path, [ROWS[0], '{"id": "broken", "text": ', ROWS[1]])
    _, found = audit(capsys, path, "--out", str(tmp_path / "out"))
    skipped = (tmp_path / "out" / "skipped.jsonl").read_text(encoding="utf-8").splitlines()
    assert found["documents"] == 2 and len(skipped) == 1 and "2" in skipped[0]


def test_a_second_audit_gives_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = corpus(tmp_path, ROWS), tmp_path / "out"
    audit(capsys, path, "--out", str(out))
    attributes = out / "attributes" / "primum" / "corpus.jsonl"
    before = attributes.read_bytes()
    audit(capsys, path, "--out", str(out))
    audit(capsys, path, "--out", str(tmp_path / "other"))
    assert attributes.read_bytes() == before
    assert (tmp_path / "other" / "attributes" / "primum" / "corpus.jsonl").read_bytes() == before


def test_no_such_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "out")]) == 2
    assert "none.jsonl" in capsys.readouterr().err
