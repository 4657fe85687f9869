"""What the tests of `primum audit` share: a corpus written to a file, the command, and its outputs read back."""

import json
from collections.abc import Iterable
from pathlib import Path

from primum.cli import main


def corpus(folder: Path, rows: Iterable[dict | str], name: str = "corpus.jsonl") -> str:
    """Write rows, or lines as they are, to a file and return its path."""
    path = folder / name
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8"
    )
    return str(path)


def audit(capsys, *arguments: str) -> tuple[int, dict]:
    """Run the command and return its exit code and facts."""
    code = main(["audit", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def lines(path: str | Path) -> list[dict]:
    """Return the rows of a JSONL file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
