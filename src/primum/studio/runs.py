"""Run folders as the studio shows them: which there are, how far they are, and their replies for a sheet of labels.

Reads what a run leaves (report.json, results.json or audit.json, steps/ and progress.json); writes nothing there. A
run's name is a folder's name directly under the runs folder, looked up in its listing and never joined to a path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from primum.core.errors import BadInputError, UsageError
from primum.core.records import JsonDict, Prompt, Reply, Verdict, from_json
from primum.core.store import read_json, read_jsonl
from primum.studio.annotate import Incoming
from primum.studio.rounds import disagreement
from primum.studio.underway import Underway, underway

FINISHED = {"report.json": "", "results.json": "evaluate", "audit.json": "audit"}
"""The file that a run leaves at its end -> its kind; report.json names its own."""
_JUDGED = re.compile(r"\d\d-judge-(?:before|after)-by-(.+)")


class Run(NamedTuple):
    """A run: its folder, the steps that are done, and what a finished one is and came to.

    `kind` is empty while it has not ended; `outcome` is None where its kind decides nothing; `now` is the step that it
    is at, if it is at one.
    """

    name: str
    folder: Path
    steps: list[str]
    kind: str
    outcome: str | None
    title: str
    now: Underway | None = None


def runs(folder: Path) -> list[Run]:
    """Return the runs in a folder, those changed last first."""
    if not folder.is_dir():
        return []
    found = [one for one in folder.iterdir() if (one / "steps").is_dir() or _file(one)]
    return [_run(one) for one in sorted(found, key=lambda one: -one.stat().st_mtime)]


def _run(folder: Path) -> Run:
    steps = folder / "steps"
    done = sorted(one.name for one in steps.iterdir() if (one / "manifest.json").is_file()) if steps.is_dir() else []
    facts, file = facts_of(folder), _file(folder)
    decision = facts.get("decision")
    outcome = decision.get("outcome") if isinstance(decision, dict) else None
    kind = str(facts.get("kind") or "repair") if facts else FINISHED.get(file, "")
    title = str(facts.get("title") or folder.name)
    return Run(folder.name, folder, done, kind, outcome, title, underway(folder, bool(kind)))


def _file(folder: Path) -> str:
    return next((name for name in FINISHED if (folder / name).is_file()), "")


def facts_of(folder: Path) -> dict[str, Any]:
    """Return report.json's facts, empty where there is none that can be read."""
    try:
        facts = read_json(folder / "report.json")
    except (OSError, BadInputError):
        return {}
    return facts if isinstance(facts, dict) else {}


def run(folder: Path, name: str) -> Run:
    """Return the run of that name.

    Raises:
        UsageError: there is none.
    """
    found = next((one for one in runs(folder) if one.name == name), None)
    if found is None:
        raise UsageError(f"no run '{name}'", cure="the page of all runs shows those there are")
    return found


class Line(NamedTuple):
    """One measurement of two runs (or of one run before and after)."""

    metric: str
    judge: str
    first: Mapping[str, Any] | None
    second: Mapping[str, Any] | None


def measured(facts: Mapping[str, Any], when: str) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return (judge, metric) -> measurement over all prompts, before or after."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for judge, sides in (facts.get("measurements") or {}).items():
        for row in sides.get(when) or []:
            if row.get("slice") == "all":
                found[judge, row["metric"]] = row
    return found


def lines(first: Mapping[tuple[str, str], Any], second: Mapping[tuple[str, str], Any]) -> list[Line]:
    """Return both sides of every measurement that either side has, in their order."""
    keys = list(dict.fromkeys([*first, *second]))
    return [Line(metric, judge, first.get((judge, metric)), second.get((judge, metric))) for judge, metric in keys]


def replies(folder: Path, when: str, judge: str) -> list[JsonDict]:
    """Return prompt, reply and the judge's behaviour of every harmful prompt's reply.

    Raises:
        BadInputError: the run has no such step.
    """
    names = _steps(when)
    prompts, said, verdicts = _rows(folder, *names, f"{names[1].partition('-')[0]}-judge-{when}-by-{judge}")
    asked = {row["id"]: row for row in prompts if row["intent"] == "harmful"}
    behaviour = {row["reply_id"]: row["behaviour"] for row in verdicts}
    return [
        {"prompt": from_json(Prompt, asked[row["prompt_id"]]).text, "category": asked[row["prompt_id"]]["category"],
         "reply": row["text"], "reply_id": row["id"], "behaviour": behaviour.get(row["id"])}
        for row in said if row["prompt_id"] in asked
    ]  # fmt: skip


def exchanges(folder: Path, when: str) -> list[JsonDict]:
    """Return the same replies as the rows that `primum judge` and `primum calibrate` read, without a verdict.

    Raises:
        BadInputError: the run has no such step.
    """
    prompts, said = _rows(folder, *_steps(when))
    asked = {row["id"]: row for row in prompts if row["intent"] == "harmful"}
    return [
        {"id": row["id"], "prompt": asked[row["prompt_id"]]["messages"], "reply": row["text"], "intent": "harmful",
         **{key: asked[row["prompt_id"]].get(key) for key in ("category", "language")},
         **{key: row.get(key) for key in ("model", "finish")}}
        for row in said if row["prompt_id"] in asked
    ]  # fmt: skip


def _steps(when: str) -> tuple[str, str]:
    return "01-prompts", f"{'02' if when == 'before' else '09'}-replies-{when}"


def _rows(folder: Path, *names: str) -> list[list[JsonDict]]:
    steps = {one.name: one for one in (folder / "steps").iterdir()} if (folder / "steps").is_dir() else {}
    missing = [name for name in names if name not in steps]
    if missing:
        cure = "wait until the run is there, or choose another judge or side"
        raise BadInputError(f"the run has no step '{missing[0]}'", where=folder.name, cure=cure)
    return [step_rows(steps[name]) for name in names]


def judges(found: Run) -> list[str]:
    """Return the judges that have scored a side of a run."""
    return sorted({name for step in found.steps for name in _JUDGED.findall(step)})


def step_rows(step: Path) -> list[JsonDict]:
    """Return the rows that a step has written."""
    return [row for path in sorted(step.glob("shard-*.jsonl")) for _, row in read_jsonl(path)]


def items(folder: Path) -> list[Incoming]:
    """Return the run's prompts with the replies before and after, to compare; equal replies are left out.

    What the judges of the run disagree on most comes first.

    Raises:
        BadInputError: the run has no replies of both sides yet.
    """
    held = sorted(one.name for one in (folder / "steps").iterdir()) if (folder / "steps").is_dir() else []
    names = ("01-prompts", "02-replies-before", "09-replies-after")
    missing = [name for name in names if name not in held]
    if missing:
        cure = "give the folder of a `primum repair` run that has measured both sides"
        raise BadInputError(f"the run has no step '{missing[0]}'", where=folder.name, cure=cure)
    prompts, before, after = (step_rows(folder / "steps" / name) for name in names)
    said: dict[str, list[Verdict]] = {}
    for name in held:
        if "-judge-before-by-" in name or "-judge-after-by-" in name:
            for row in step_rows(folder / "steps" / name):
                said.setdefault(row["reply_id"], []).append(from_json(Verdict, row))
    asked = {row["id"]: from_json(Prompt, row) for row in prompts}
    old = {row["prompt_id"]: row for row in before}
    found: list[Incoming] = []
    for new in after:
        prompt, earlier = asked.get(new["prompt_id"]), old.get(new["prompt_id"])
        if prompt and earlier and new["text"] != earlier["text"]:
            both = (new, earlier)
            priority = fmean(disagreement(said.get(row["id"], [])) for row in both)
            found.append(Incoming(prompt, tuple(from_json(Reply, row) for row in both), priority=priority))
    return found
