"""`primum report`: write a run's page again from its report.json; a scorecard of several runs; a log for Inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from primum.core.config import Config
from primum.core.errors import Exit, UsageError
from primum.core.store import write_text
from primum.report.write import FACTS, PAGE, load_facts, page_of

SCORECARD = "scorecard.html"


class ReportConfig(Config):
    """Whose page to write, and of what kind."""

    folder: tuple[str, ...] = Field(
        ("runs/repair",), description="the run folder; with --scorecard several", json_schema_extra={"positional": True}
    )
    scorecard: bool = Field(
        default=False, description="one page of what the runs say of a model; what was not measured is unknown"
    )
    inspect: str | None = Field(
        default=None, description="write what primum evaluate measured as logs of Inspect AI (.eval) into this folder"
    )
    page: str | None = Field(default=None, description=f"where the scorecard goes (default: {SCORECARD} in the first)")


def run_verb(config: ReportConfig, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Write the page and say where it is; what the run folder holds is read and left as it is.

    Raises:
        UsageError: the folder is no finished run.
        StepFailedError: the page cannot be written.
    """
    if config.scorecard:
        return _scorecard(config, json_output)
    if len(config.folder) != 1:
        raise UsageError("one run folder is needed", cure="primum report runs/repair (--scorecard takes several)")
    if config.inspect:
        return _inspect(Path(config.folder[0]), Path(config.inspect), json_output)
    folder = Path(config.folder[0])
    facts = load_facts(folder)
    write_text(folder / PAGE, page_of(facts))
    if not json_output:
        print(folder / PAGE)
    outcome = (facts.get("decision") or {}).get("outcome")
    return Exit.PASSED, {"page": str(folder / PAGE), "facts": str(folder / FACTS), "outcome": outcome}


def _scorecard(config: ReportConfig, json_output: bool) -> tuple[int, dict[str, Any]]:
    from primum.report.scorecard import read_runs, scorecard, scorecard_page, scorecard_text

    folders = [Path(one) for one in dict.fromkeys(config.folder)]
    document = scorecard(read_runs(folders))
    page = Path(config.page) if config.page else folders[0] / SCORECARD
    write_text(page, scorecard_page(document))
    if not json_output:
        print(scorecard_text(document), "", page, sep="\n")
    return Exit.PASSED, {**document, "page": str(page)}


def _inspect(folder: Path, out: Path, json_output: bool) -> tuple[int, dict[str, Any]]:
    from primum.evaluation.logs import read_run
    from primum.evaluation.logs.inspect_write import write_log

    files = [str(write_log(out, table)) for table in read_run(folder)]
    if not json_output:
        print(*files, sep="\n")
    return Exit.PASSED, {"logs": files}
