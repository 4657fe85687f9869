"""`primum list`: the catalogues and their members, read from the files without importing them; and the journeys."""

from __future__ import annotations

import ast
import shutil
import textwrap
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from pydantic import Field

from primum.core.catalogue import FOLDERS, names
from primum.core.config import Config
from primum.core.errors import Exit, UsageError, did_you_mean
from primum.core.records import to_json
from primum.pipeline.recipe import journeys
from primum.report.words import BETTER, DESCRIBED

JOURNEYS = "journeys"
"""What `primum run` takes by name; files of YAML, not a catalogue of modules."""


class ListConfig(Config):
    """What `primum list` shows."""

    catalogue: str | None = Field(None, description="one catalogue only", json_schema_extra={"positional": True})
    name: str | None = Field(
        None, description="one member of it, with all that it says", json_schema_extra={"positional": True}
    )


def run_verb(config: ListConfig, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Show every catalogue, or the one asked for, with what each member says about itself; of one member, all.

    Raises:
        UsageError: no such catalogue or member; names the nearest.
    """
    known = sorted([*FOLDERS, JOURNEYS])
    if config.catalogue is not None and config.catalogue not in known:
        raise UsageError(f"no catalogue '{config.catalogue}'", cure=did_you_mean(config.catalogue, known))
    if config.catalogue == "benchmarks" and config.name is not None:
        return _one_benchmark(config.name, json_output)
    found = {catalogue: _members(catalogue) for catalogue in known if config.catalogue in (None, catalogue)}
    if config.name is not None:
        found = {catalogue: _named(catalogue, config.name, members) for catalogue, members in found.items()}
    if not json_output:
        print(_page(found))
        if config.catalogue == "benchmarks":
            print("\nprimum list benchmarks NAME: its metrics and which way is better, judge, cluster, licence")
    return Exit.PASSED, found


def _named(catalogue: str, name: str, members: dict[str, str]) -> dict[str, str]:
    if name not in members:
        raise UsageError(f"no '{name}' in {catalogue}", cure=did_you_mean(name, members))
    return {name: members[name]}


def _one_benchmark(name: str, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Show all that one benchmark says of itself, ours or a YAML file's; this one is imported."""
    from primum.evaluation.suite import benchmark  # other catalogues are listed without it

    one = benchmark(name)
    facts: dict[str, Any] = {
        "about": one.about, "judge": one.judge, "scorer": one.scorer, "cluster": one.cluster, "licence": one.licence,
        "comparable": one.comparable, "sampling": None if one.by_likelihood else one.settings.name,
        "per_group": one.per_group, "readers": sorted(one.readers),
        "gauges": {role: gauge.needs for role, gauge in one.gauges.items()},
        "metrics": {key: to_json(metric) for key, metric in one.metrics.items()},
    }  # fmt: skip
    if not json_output:
        print(_detail(one.name, facts))
    return Exit.PASSED, {"benchmarks": {one.name: facts}}


JUDGES = {"likelihood": "none: scored by likelihood", "text": "none: the text itself is scored"}


def _detail(name: str, facts: dict[str, Any]) -> str:
    said = {
        "judge": JUDGES.get(facts["judge"], f"{facts['judge']} (--judge names another)"),
        "scorer": facts["scorer"], "drawn": facts["sampling"],
        "cluster": facts["cluster"], "licence": facts["licence"],
        "asks": f"at most {facts['per_group']:,} of each group" if facts["per_group"] else "",
        "models": "; ".join(
            [*(f"--judge-model {role}=MODEL" for role in facts["readers"]),
             *(f"--judge-model {role}=NAME: {needs}" for role, needs in facts["gauges"].items())]
        ),
        "apart": f"not comparable with published numbers: {facts['comparable']}" if facts["comparable"] else "",
    }  # fmt: skip
    shown = {key: f"{metric['about']} ({_way(metric)})" for key, metric in facts["metrics"].items()}
    return _page({name: {"about": facts["about"], **{k: v for k, v in said.items() if v}}, "metrics": shown})


def _way(metric: dict[str, Any]) -> str:
    """Say which way is better, and whether a gate asks for it where no limits name it."""
    better = BETTER.get(metric["direction"], DESCRIBED)
    asked = metric["primary"] or metric["direction"] == "neither"
    return better if asked else f"{better}; a gate asks for it only by limits"


def about_of(path: Path) -> str:
    """Return a member's `about`, or its docstring's first line; the file is parsed, never run."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        named = any(isinstance(target, ast.Name) and target.id == "about" for target in targets)
        if named and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return node.value.value
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def _members(catalogue: str) -> dict[str, str]:
    if catalogue == JOURNEYS:
        return journeys()
    return {name: _about(catalogue, name) for name in names(catalogue)}


def _about(catalogue: str, name: str) -> str:
    for point in entry_points(group=f"primum.{catalogue}"):
        if point.name == name:
            return f"from the package {point.dist.name}" if point.dist else f"from {point.value}"
    folder = Path(__file__).parents[1].joinpath(*FOLDERS[catalogue].split(".")[1:])
    return about_of(folder / f"{name}.py")


def _page(found: dict[str, dict[str, str]]) -> str:
    columns = min(shutil.get_terminal_size().columns, 100)
    lines: list[str] = []
    for catalogue, members in found.items():
        width = max(map(len, members), default=0)
        lines.append(f"{catalogue}" if members else f"{catalogue} (none yet)")
        for name, about in members.items():
            hang = " " * (width + 4)
            wrapped = textwrap.wrap(about, columns, initial_indent=f"  {name:<{width}}  ", subsequent_indent=hang)
            lines += wrapped or [f"  {name}"]
        lines.append("")
    return "\n".join(lines).rstrip()
