"""`primum gate RUN --baseline RUN`: may this run replace the baseline? Three outcomes, one exit code each."""

from __future__ import annotations

from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field

from primum import __version__
from primum.core.config import Config
from primum.core.errors import Exit, UsageError
from primum.core.store import write_text
from primum.evaluation.limits import Limits, read_limits
from primum.evaluation.logs import read_run
from primum.evaluation.regression import Gated, by_outcome, gate_tables
from primum.evaluation.versus import Settings

CODES = {"passed": Exit.PASSED, "failed": Exit.GATE_FAILED, "undecided": Exit.UNDECIDED}


class GateRunConfig(Config):
    """The run, what it is held against, and where the verdict is written."""

    run: str | None = Field(
        None,
        description="a folder of primum evaluate or redteam, or a log of Inspect, lm-eval, garak, PyRIT, promptfoo",
        json_schema_extra={"positional": True},
    )
    baseline: str | None = Field(default=None, description="the run that it may not be worse than")
    limits: str | None = Field(default=None, description="a YAML file of margins and fixed limits, also of slices")
    margin: float | None = Field(
        default=None, ge=0, description="how much worse a metric may be, in its own unit (default 0.03: 3 points)"
    )
    strict: bool = Field(default=False, description="slices that the data cannot settle keep the gate from passing")
    junit: str | None = Field(default=None, description="also write JUnit XML to this file")
    markdown: str | None = Field(
        default=None, description="also write a Markdown summary to this file (in GitHub Actions: $GITHUB_STEP_SUMMARY)"
    )
    workflow: str | None = Field(
        default=None, description="write a ready GitHub Actions workflow to this file instead, and stop"
    )
    draws: int = Field(default=10_000, ge=200, description="bootstrap resamples and sign flips")
    seed: int = Field(default=0, description="of the resamples")


def decide(
    run: str | None, baseline: str | None, limits: str | None = None, *, margin: float | None = None,
    strict: bool = False,
) -> Gated:  # fmt: skip
    """Decide as `primum gate` does, without printing; what pytest and other programs call.

    Raises:
        UsageError: no run, or nothing to hold it against.
    """
    return _gated(run, baseline, limits_of(limits, margin, strict), limits is not None)


def limits_of(file: str | None, margin: float | None, strict: bool) -> Limits:
    """Return the limits of a file, with what was given beside it."""
    limits = read_limits(Path(file)) if file else Limits.model_validate({})
    changed = {"margin": margin, "strict": strict or None}
    return limits.model_copy(update={key: value for key, value in changed.items() if value is not None})


def _gated(
    run: str | None, baseline: str | None, limits: Limits, fixed: bool, draws: int = 10_000, seed: int = 0
) -> Gated:
    if not run:
        raise UsageError("a run is needed", cure="primum gate runs/new --baseline runs/old")
    if not baseline and not fixed:
        raise UsageError("there is nothing to hold the run against", cure="give --baseline RUN, or --limits FILE")
    before = read_run(Path(baseline)) if baseline else []
    return gate_tables(read_run(Path(run)), before, limits, Settings(draws=draws, seed=seed))


def _write_workflow(path: Path, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Write the workflow; a file that is there is left as it is.

    Raises:
        UsageError: the file exists.
    """
    if path.exists():
        raise UsageError("this file exists", where=str(path), cure="name another file, or move it away")
    write_text(path, resources.files("primum.verbs").joinpath("workflow.yaml").read_text(encoding="utf-8"))
    if not json_output:
        print(f"{path}: edit the lines marked EDIT, and commit runs/baseline (primum evaluate --out runs/baseline)")
    return Exit.PASSED, {"workflow": str(path)}


def _same(config: GateRunConfig) -> bool:
    """Whether the run is its own baseline."""
    places = [Path(place).resolve() for place in (config.run, config.baseline) if place]
    return len(places) == 2 and places[0] == places[1]


def run_verb(config: GateRunConfig, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Decide; return the exit code (0 passed, 1 failed, 3 undecided) and every check.

    Raises:
        UsageError: no run, or nothing to hold it against.
    """
    from primum.report.gated import gated_junit, gated_markdown, gated_text

    if config.workflow:
        return _write_workflow(Path(config.workflow), json_output)
    limits = limits_of(config.limits, config.margin, config.strict)
    gated = _gated(config.run, config.baseline, limits, config.limits is not None, config.draws, config.seed)
    document = {
        "primum": __version__, "run": config.run, "baseline": config.baseline, "same": _same(config),
        "outcome": gated.outcome,
        "text": gated.text, "counts": by_outcome(gated.checks), "limits": limits.model_dump(mode="json"),
        "differs": list(gated.differs), "equal": [one._asdict() for one in gated.equal],
        "checks": [{"name": check.name, **asdict(check)} for check in gated.checks],
    }  # fmt: skip
    if config.junit:
        write_text(Path(config.junit), gated_junit(document))
    if config.markdown:
        write_text(Path(config.markdown), gated_markdown(document))
    if not json_output:
        print(gated_text(document))
    return CODES[gated.outcome], document
