"""promptfoo's results (`promptfoo eval --output results.json`): each provider and prompt is a table.

`pass` and `score` are promptfoo's own; named scores are further metrics. A test that ended in an error is unscored,
never failed. A test is named by its variables, so that two prompts or providers are compared on the same tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from primum.core.records import JsonDict, digest
from primum.evaluation.logs.common import Gathered, grade, load_json, mapping, must, read_text, sequence, text_of
from primum.evaluation.tables import ScoredItem, Table

ERROR = 2
"""promptfoo's ResultFailureReason: 0 none, 1 an assertion failed, 2 an error."""


def reads(path: Path) -> bool:
    """Whether this is promptfoo's JSON."""
    return path.is_file() and path.suffix == ".json" and bool(_results(path))


def _results(path: Path) -> list[JsonDict]:
    document = mapping(load_json(read_text(path), str(path)))
    results = mapping(document.get("results")).get("results")
    return [mapping(row) for row in sequence(results) if "gradingResult" in mapping(row) or "success" in mapping(row)]


def read(path: Path) -> list[Table]:
    """Return a table for each pair of provider and prompt; with one pair its name is "promptfoo"."""
    rows = _results(path)
    must(rows, path, "results")
    pairs = list(dict.fromkeys((_provider(row), str(row.get("promptIdx", 0))) for row in rows))
    found: dict[tuple[str, str], Gathered] = {}
    for row in rows:
        pair = (_provider(row), str(row.get("promptIdx", 0)))
        name = "promptfoo" if len(pairs) == 1 else f"promptfoo {pair[0]} prompt {pair[1]}"
        facts = {"tool": "promptfoo", "model": pair[0], "own_judge": "assertions"}
        found.setdefault(pair, Gathered(name, "assertions", facts=facts)).rows.append(_row(row))
    return [gathered.table() for gathered in found.values()]


def _provider(row: JsonDict) -> str:
    provider = mapping(row.get("provider"))
    return str(provider.get("label") or provider.get("id") or "provider")


def _row(row: JsonDict) -> ScoredItem:
    variables = mapping(row.get("vars")) or mapping(mapping(row.get("testCase")).get("vars"))
    item = digest(variables)
    named = {f"named {key}": value for key, value in mapping(row.get("namedScores")).items()}
    scores: dict[str, float] = {}
    unscored: dict[str, str] = {}
    for name, value in {"pass": row.get("success"), "score": row.get("score"), **named}.items():
        number = grade(value)
        if row.get("failureReason") == ERROR or number is None:
            unscored[name] = f"error: {text_of(row.get('error')) or 'no score'}"[:120]
        else:
            scores[name] = number
    metadata = mapping(mapping(row.get("testCase")).get("metadata"))
    groups = tuple(f"{key}:{value}" for key, value in metadata.items() if isinstance(value, str) and len(value) < 60)
    return ScoredItem(item, item, scores, unscored, groups, _prompt(row), _said(row), finish="stop")


def _prompt(row: JsonDict) -> str:
    return text_of(mapping(row.get("prompt")).get("raw"))


def _said(row: JsonDict) -> str:
    output: Any = mapping(row.get("response")).get("output")
    return output if isinstance(output, str) else text_of(output)
