"""Where the facts and the page lie in a run folder: report.json, report.html; each is written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from primum.core.errors import UsageError
from primum.core.store import read_json, write_json, write_text
from primum.report.journey import page as journey_page
from primum.report.page import page
from primum.report.policied import page as policy_page
from primum.report.redteam import page as redteam_page
from primum.report.restored import page as restored_page
from primum.report.stressed import page as stressed_page
from primum.report.vectored import page as vectors_page
from primum.report.words import Facts

FACTS, PAGE = "report.json", "report.html"
_PAGES = {
    "redteam": redteam_page, "restore": restored_page, "stress": stressed_page, "journey": journey_page,
    "policy": policy_page, "vectors": vectors_page,
}  # fmt: skip
CURE = "name the --out folder of primum repair, run or redteam, after its end; the same command resumes one that broke"


def write_report(folder: Path, facts: Facts) -> Path:
    """Write report.json and report.html into the run folder; return the path of the page.

    Raises:
        StepFailedError: the disk is full or the folder cannot be written.
    """
    plain = _plain(facts)
    write_json(folder / FACTS, plain)
    write_text(folder / PAGE, page_of(plain))
    return folder / PAGE


def page_of(facts: Facts) -> str:
    """Return the page of a run, by the kind of run that its facts name."""
    return _PAGES.get(str(facts.get("kind")), page)(facts)


def load_facts(folder: Path) -> dict[str, Any]:
    """Return the facts of a run folder.

    Raises:
        UsageError: there is no such folder, it is no finished run's, or its report.json is broken.
    """
    path = folder / FACTS
    if not path.is_file():
        problem = "no report.json in this folder" if folder.is_dir() else "no such folder"
        raise UsageError(problem, where=str(folder), cure=CURE)
    facts = read_json(path, CURE)
    if not isinstance(facts, dict) or not {"decision", "kind"} & facts.keys():
        raise UsageError("this report.json was not written by primum", where=str(path), cure=CURE)
    return cast(dict[str, Any], facts)


def _plain(value: Any) -> Any:
    """Turn what JSON cannot hold (NaN, infinity) into null, so that every reader can read the file."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in cast(list[Any], value)]
    if isinstance(value, float):
        return value if abs(value) != float("inf") and value == value else None
    return value if isinstance(value, str | int | None) else str(value)
