"""`primum compare A B`: two runs on the same items, with paired tests and the replies that changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from primum import __version__
from primum.core.config import Config
from primum.core.errors import Exit, UsageError, did_you_mean
from primum.core.store import write_text
from primum.evaluation.logs import read_run
from primum.evaluation.tables import Table, model_of
from primum.evaluation.versus import (
    MISSING,
    Change,
    Settings,
    changed_items,
    compare_tables,
    differences,
    equal_by_construction,
    settled,
)

POSITIONAL = {"positional": True}


class CompareConfig(Config):
    """Which runs are compared, and how."""

    a: str | None = Field(
        None,
        description="the first run: a folder of primum evaluate or redteam, or a log of another tool (docs/evals.md)",
        json_schema_extra={"positional": True},
    )
    b: str | None = Field(None, description="the second run, like the first", json_schema_extra={"positional": True})
    benchmark: tuple[str, ...] = Field(default=(), description="only these benchmarks")
    confidence: float = Field(default=0.95, gt=0.5, lt=1, description="two-sided confidence of the intervals")
    draws: int = Field(default=10_000, ge=200, description="bootstrap resamples and sign flips")
    seed: int = Field(default=0, description="of the resamples")
    anytime: bool = Field(
        default=False, description="also tests that may stop early, and after how many items they would"
    )
    changed: int = Field(default=20, ge=0, description="how many changed replies are shown of each metric")
    pairwise: str | None = Field(
        default=None, description="a model that says which reply is better, in both orders (embedded, folder, hub id)"
    )
    pairs: int = Field(default=200, ge=1, description="at most so many pairs of each benchmark with --pairwise")
    page: str | None = Field(default=None, description="also write one HTML page to this file")


def run_verb(config: CompareConfig, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Compare two runs; return the exit code and all changes.

    Raises:
        UsageError: a run is missing, or the two have nothing in common.
    """
    from primum.report.compared import compared_page, compared_text

    if not config.a or not config.b:
        raise UsageError("two runs are needed", cure="primum compare runs/a runs/b")
    a, b = (_picked(read_run(Path(place)), config.benchmark) for place in (config.a, config.b))
    settings = Settings(config.confidence, config.draws, config.seed, config.anytime)
    changes = compare_tables(a, b, settings)
    if not any(change.n for change in changes):
        raise UsageError(_nothing(changes), where=f"{config.a}, {config.b}", cure=_common(a, b))
    same = Path(config.a).resolve() == Path(config.b).resolve()
    equal = equal_by_construction(a, b)
    changes = settled(changes, {table.name for table in a} if same else {one.benchmark for one in equal})
    document = {
        "primum": __version__, "a": config.a, "b": config.b, "same": same,
        "models": {"a": model_of(a), "b": model_of(b)}, "confidence": config.confidence,
        "only_a": _alone(a, b), "only_b": _alone(b, a), "differs": differences(a, b),
        "stopped": sorted({one.name for one in (*a, *b) if (one.facts.get("stopped") or {}).get("used")}),
        "equal": [one._asdict() for one in equal],
        "changes": [asdict(change) for change in changes], "changed": _changed(a, b, changes, config.changed),
        "win_rates": _win_rates(config, a, b) if config.pairwise else [],
    }  # fmt: skip
    if config.page:
        write_text(Path(config.page), compared_page(document))
    if not json_output:
        print(compared_text(document))
    return Exit.PASSED, document


def _nothing(changes: Sequence[Change]) -> str:
    """Say why nothing could be compared: other items, or none that both runs scored."""
    reasons = Counter[str]()
    for one in changes:
        reasons.update({why: n for why, n in one.left_out.items() if why != MISSING and one.slice == "all"})
    if not reasons:
        return "the runs have no item in common"
    said = ", ".join(f"{n} {why}" for why, n in reasons.most_common(3))
    return f"no item has a number in both runs ({said})"


def _alone(ours: Sequence[Table], theirs: Sequence[Table]) -> list[str]:
    """Return the benchmarks that only one run has, and the metrics that only it has of the others."""
    other = {table.name: table for table in theirs}
    names = [table.name for table in ours if table.name not in other]
    return sorted(names) + [
        f"{table.name} {metric}" for table in ours if table.name in other
        for metric in table.metrics if metric not in other[table.name].metrics
    ]  # fmt: skip


def _win_rates(config: CompareConfig, a: Sequence[Table], b: Sequence[Table]) -> list[dict[str, Any]]:
    """Let a model say which replies are better.

    Raises:
        UsageError: the runs hold no replies to the same items.
    """
    from primum.evaluation.winrate import ByModel, win_rates
    from primum.models.load import load

    if not any(row.finish for table in a for row in table.rows):
        raise UsageError("the runs hold no replies", where=str(config.a), cure="leave --pairwise out, or generate")
    model = load(str(config.pairwise))
    found = win_rates(a, b, ByModel(model), config.pairs, config.confidence)
    return [{"judge": model.name, **asdict(one)} for one in found]


def _picked(tables: Sequence[Table], names: Sequence[str]) -> list[Table]:
    known = {table.name for table in tables} | {table.benchmark for table in tables}
    for name in names:
        if name not in known:
            raise UsageError(f"the run has no benchmark '{name}'", cure=did_you_mean(name, known))
    return [table for table in tables if not names or table.name in names or table.benchmark in names]


def _common(a: Sequence[Table], b: Sequence[Table]) -> str:
    names = [", ".join(sorted(table.name for table in side)) for side in (a, b)]
    return f"measure both on the same benchmark and the same items; they hold: {names[0]} / {names[1]}"


def _changed(a: Sequence[Table], b: Sequence[Table], changes: Sequence[Change], most: int) -> list[dict[str, Any]]:
    first, second = ({table.name: table for table in side} for side in (a, b))
    return [
        {"benchmark": one.benchmark, "metric": one.metric, **item}
        for one in changes
        if one.slice == "all" and one.primary and one.fixed + one.broken
        for item in changed_items(first[one.benchmark], second[one.benchmark], one.metric, most)
    ]
