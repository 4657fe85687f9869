"""`primum leaderboard RUN RUN...`: many runs side by side, by each metric, with the places that the data leave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import Field

from primum import __version__
from primum.core.config import Config
from primum.core.errors import Exit, UsageError, did_you_mean
from primum.core.store import write_text
from primum.evaluation.board import asked, rankings
from primum.evaluation.logs import read_run
from primum.evaluation.tables import Table, model_of
from primum.evaluation.versus import Settings, differing


class LeaderboardConfig(Config):
    """Which runs are laid side by side."""

    runs: tuple[str, ...] = Field(
        default=(),
        description="folders of primum evaluate or redteam, or logs of other tools; NAME=FOLDER names one",
        json_schema_extra={"positional": True},
    )
    benchmark: tuple[str, ...] = Field(default=(), description="only these benchmarks")
    page: str | None = Field(default=None, description="also write one HTML page to this file")
    draws: int = Field(default=2_000, ge=200, description="bootstrap resamples and sign flips of each pair of runs")
    seed: int = Field(default=0, description="of the resamples")


def run_verb(config: LeaderboardConfig, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Rank the runs; return the exit code and every ranking.

    Raises:
        UsageError: fewer than two runs, two of one name, or nothing measured that says which way is better.
    """
    from primum.report.board import board_page, board_text

    places = named(config.runs)
    runs = _picked({name: read_run(place) for name, place in places.items()}, config.benchmark)
    found = rankings(runs, Settings(draws=config.draws, seed=config.seed))
    if not found:
        raise UsageError("the runs hold nothing that can be ranked", cure=_holds(runs))
    told = asked(runs)
    document = {
        "primum": __version__, "runs": list(runs), "models": {name: model_of(tables) for name, tables in runs.items()},
        "places": {name: str(place) for name, place in places.items()},
        "asked": told, "differs": {name: differing(by_run) for name, by_run in told.items()},
        "rankings": [asdict(one) for one in found],
    }  # fmt: skip
    if config.page:
        write_text(Path(config.page), board_page(document))
    if not json_output:
        print(board_text(document))
    return Exit.PASSED, document


def named(places: Sequence[str]) -> dict[str, Path]:
    """Return each run's place by its name: what stands before "=", else the folder's name, else the whole path.

    Raises:
        UsageError: fewer than two, or two of one name.
    """
    if len(places) < 2:
        raise UsageError("at least two runs are needed", cure="primum leaderboard runs/a runs/b runs/c")
    short = [_short(place) for place in places]
    if len({name for name, _ in short}) < len(short):
        short = [(name if "=" in place else place, path) for place, (name, path) in zip(places, short, strict=True)]
    names = [name for name, _ in short]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise UsageError(f"two runs are called '{twice}'", cure="name one: other=FOLDER")
    return dict(short)


def _short(place: str) -> tuple[str, Path]:
    name, separator, path = place.partition("=")
    if separator and name and not Path(place).exists():
        return name, Path(path)
    return Path(place).name or place, Path(place)


def _picked(runs: Mapping[str, Sequence[Table]], names: Sequence[str]) -> dict[str, list[Table]]:
    """Return the tables of these benchmarks, or all.

    Raises:
        UsageError: no run has such a benchmark; names the nearest.
    """
    known = {name for tables in runs.values() for table in tables for name in (table.name, table.benchmark)}
    for name in names:
        if name not in known:
            raise UsageError(f"no run has a benchmark '{name}'", cure=did_you_mean(name, known))
    return {
        run: [table for table in tables if not names or table.name in names or table.benchmark in names]
        for run, tables in runs.items()
    }


def _holds(runs: Mapping[str, Sequence[Table]]) -> str:
    known = sorted({table.name for tables in runs.values() for table in tables})
    return f"they hold: {', '.join(known) or 'nothing'}; a metric is ranked where more or less of it is better"
