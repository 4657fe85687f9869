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
from primum.pipeline.recipe import journeys

JOURNEYS = "journeys"
"""What `primum run` takes by name; files of YAML, not a catalogue of modules."""


class ListConfig(Config):
    """What `primum list` shows."""

    catalogue: str | None = Field(None, description="one catalogue only", json_schema_extra={"positional": True})


def run_verb(config: ListConfig, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Show every catalogue, or the one asked for, with what each member says about itself.

    Raises:
        UsageError: no such catalogue; names the nearest.
    """
    known = sorted([*FOLDERS, JOURNEYS])
    if config.catalogue is not None and config.catalogue not in known:
        raise UsageError(f"no catalogue '{config.catalogue}'", cure=did_you_mean(config.catalogue, known))
    found = {catalogue: _members(catalogue) for catalogue in known if config.catalogue in (None, catalogue)}
    if not json_output:
        print(_page(found))
    return Exit.PASSED, found


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
