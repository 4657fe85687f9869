"""promptfoo's results (`promptfoo eval --output results.json`): each provider and prompt is a table.

`pass` and `score` are promptfoo's own; named scores are further metrics. A test that ended in an error is unscored,
never failed. A test is named by its variables and its strategy of attack, so that two prompts or providers are compared
on the same tests; what promptfoo adds to the variables while it runs is another in every run, and names nothing.
promptfoo counts prompts through all providers; here each provider's own are counted from 0, so that a table has the
same name in a run with other providers. Its rows stand as they ended: here they are in the order of the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from primum.core.records import JsonDict, digest
from primum.evaluation.logs.common import Gathered, grade, load_json, mapping, must, read_text, sequence, text_of
from primum.evaluation.tables import ScoredItem, Table

Pair = tuple[str, int]
"""A provider and the number that promptfoo gave the prompt."""
ERROR = 2
"""promptfoo's ResultFailureReason: 0 none, 1 an assertion failed, 2 an error."""
AT_RUN_TIME = ("sessionId",)
"""Variables that promptfoo's attacks of many turns add to a test while it runs, beside those that begin with "_"."""


def reads(path: Path) -> bool:
    """Whether this is promptfoo's JSON."""
    return path.is_file() and path.suffix == ".json" and bool(_results(path))


def _results(path: Path) -> list[JsonDict]:
    document = mapping(load_json(read_text(path), str(path)))
    results = mapping(document.get("results")).get("results")
    return [mapping(row) for row in sequence(results) if "gradingResult" in mapping(row) or "success" in mapping(row)]


def read(path: Path) -> list[Table]:
    """Return a table for each pair of provider and prompt; with one pair its name is "promptfoo"."""
    rows = sorted(_results(path), key=lambda row: (_number(row, "promptIdx"), _number(row, "testIdx")))
    must(rows, path, "results")
    names = _names(rows)
    found: dict[Pair, Gathered] = {}
    for row in rows:
        facts = {"tool": "promptfoo", "model": _provider(row), "own_judge": "assertions"}
        gathered = found.setdefault(_pair(row), Gathered(names[_pair(row)], "assertions", facts=facts))
        gathered.rows.append(_row(row))
    return [gathered.table() for gathered in found.values()]


def _names(rows: Sequence[JsonDict]) -> dict[Pair, str]:
    pairs = list(dict.fromkeys(map(_pair, rows)))
    if len(pairs) == 1:
        return {pairs[0]: "promptfoo"}
    own = {pair: [other for other in pairs if other[0] == pair[0]].index(pair) for pair in pairs}
    return {pair: f"promptfoo {pair[0]} prompt {number}" for pair, number in own.items()}


def _pair(row: JsonDict) -> Pair:
    return _provider(row), _number(row, "promptIdx")


def _number(row: JsonDict, key: str) -> int:
    value = row.get(key)
    return value if isinstance(value, int) else 0


def _provider(row: JsonDict) -> str:
    provider = mapping(row.get("provider"))
    return str(provider.get("label") or provider.get("id") or "provider")


def _variables(row: JsonDict) -> JsonDict:
    """Return the variables that a test was given, without those that it got while it ran."""
    found = mapping(row.get("vars")) or mapping(mapping(row.get("testCase")).get("vars"))
    return {name: value for name, value in found.items() if not name.startswith("_") and name not in AT_RUN_TIME}


def _row(row: JsonDict) -> ScoredItem:
    metadata = mapping(mapping(row.get("testCase")).get("metadata"))
    cluster, strategy = digest(_variables(row)), metadata.get("strategyId")
    item = digest([cluster, strategy]) if isinstance(strategy, str) else cluster
    named = {f"named {key}": value for key, value in mapping(row.get("namedScores")).items()}
    scores: dict[str, float] = {}
    unscored: dict[str, str] = {}
    for name, value in {"pass": row.get("success"), "score": row.get("score"), **named}.items():
        number = grade(value)
        if row.get("failureReason") == ERROR or number is None:
            unscored[name] = f"error: {text_of(row.get('error')) or 'no score'}"[:120]
        else:
            scores[name] = number
    groups = tuple(f"{key}:{value}" for key, value in metadata.items() if isinstance(value, str) and len(value) < 60)
    return ScoredItem(item, cluster, scores, unscored, groups, _prompt(row), _said(row), finish="stop")


def _prompt(row: JsonDict) -> str:
    return text_of(mapping(row.get("prompt")).get("raw"))


def _said(row: JsonDict) -> str:
    output: Any = mapping(row.get("response")).get("output")
    return output if isinstance(output, str) else text_of(output)
