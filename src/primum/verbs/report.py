"""`primum report`: write a run's page again from its report.json (after an update of the page, or of the facts)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from primum.core.config import Config
from primum.core.errors import Exit
from primum.core.store import write_text
from primum.report.write import FACTS, PAGE, load_facts, page_of


class ReportConfig(Config):
    """Whose page to write."""

    folder: str = Field("runs/repair", description="the run folder", json_schema_extra={"positional": True})


def run_verb(config: ReportConfig, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Write the page and say where it is; report.json is read and left as it is.

    Raises:
        UsageError: the folder is no finished run.
        StepFailedError: the page cannot be written.
    """
    folder = Path(config.folder)
    facts = load_facts(folder)
    write_text(folder / PAGE, page_of(facts))
    if not json_output:
        print(folder / PAGE)
    outcome = (facts.get("decision") or {}).get("outcome")
    return Exit.PASSED, {"page": str(folder / PAGE), "facts": str(folder / FACTS), "outcome": outcome}
