"""A journey as a file: which model, which prompts, which stages in which order (recipes/*.yaml, or a file of yours).

    about: one sentence
    model: embedded
    prompts: {sources: [embedded], train: {harmful: {quick: 100, full: all}}, test: {harmful: 50}}
    sampling: {temperature: 0.4, tokens: 48}
    stages:
      - {name: base, do: measure}
      - {name: sft, do: sft, start: base}

Any number may be given by budget ({quick: 1, standard: 2, full: all}; `all` takes everything). What a stage understands
is the `Settings` of its module in stages/; a wrong key is told with file, line and the nearest known one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from pydantic import Field

from primum.core.catalogue import member
from primum.core.config import Config, build
from primum.core.errors import UsageError, did_you_mean
from primum.core.marked import parse_yaml, read_yaml

BudgetName = Literal["quick", "standard", "full"]
BUDGETS: tuple[BudgetName, ...] = ("quick", "standard", "full")
BASE = "base"
BENCHES = {
    "broken": "the bench: a safe model broken by fine-tuning in four ways, kept in the cache for every repair to mend",
    "vectors": "held-out attacks: a model hardened once without each vector, and attacked with all of them",
}
"""Journeys that are no files: they have flags of their own (pipeline/broken.py, pipeline/vectors.py)."""


class Share(Config):
    """How many prompts of each kind; nothing given means all there are."""

    harmful: int | None = Field(default=None, ge=1, description="harmful prompts; each brings its benign twin")
    general: int | None = Field(default=None, ge=1, description="benign prompts that are nobody's twin")


class PromptsPart(Config):
    """Where prompts come from and how many of them are used."""

    sources: tuple[str, ...] = Field(
        default=("embedded",), description="embedded, files, shared:NAME, hub:ID:SPLIT:FIELD"
    )
    hub: tuple[str, ...] = Field(default=(), description="hub sets of the published recipe, fetched with --hub alone")
    train: Share = Field(default_factory=Share, description="prompts to learn from")
    test: Share = Field(default_factory=Share, description="prompts to measure on; none of them is learned from")


class SamplingPart(Config):
    """How replies are drawn where they are measured."""

    temperature: float = Field(default=0.4, ge=0, description="sampling temperature; 0 is greedy")
    tokens: int = Field(default=48, ge=1, description="longest reply, in tokens")


class LoraPart(Config):
    """The adapter that learns; every stage of a journey has one of this shape."""

    rank: int = Field(default=16, ge=1, description="rank")
    start: float = Field(default=0.4, ge=0, lt=1, description="share of the depth below which nothing is trained")


@dataclass(frozen=True)
class StageSpec:
    """One stage: its name in this journey, what it does, which policy it starts from, and its settings."""

    name: str
    do: str
    start: str | None
    skip: bool
    settings: Any
    where: str


class Recipe(Config):
    """A whole journey."""

    about: str = Field(description="one sentence")
    model: str = Field(default="embedded", description="hub id, model folder, adapter folder or .gguf file")
    prompts: PromptsPart = Field(default_factory=PromptsPart, description="prompts")
    sampling: SamplingPart = Field(default_factory=SamplingPart, description="how replies are drawn")
    lora: LoraPart = Field(default_factory=LoraPart, description="the adapter")
    final: str | None = Field(default=None, description="the stage whose policy is handed over (none: the last one)")
    names: tuple[str, ...] = Field(
        default=(), description="what the published text gets wrong and is done otherwise here"
    )
    stages: tuple[Any, ...] = Field(default=(), description="the stages, in order")


def bundled() -> list[str]:
    """Return the names of the journeys that ship with primum."""
    folder = Path(str(resources.files("primum.pipeline"))) / "recipes"
    return sorted(path.stem for path in folder.glob("*.yaml"))


def journeys() -> dict[str, str]:
    """Return every journey that `primum run` knows by name, with one sentence on it."""
    found = {name: str(_parse(_path(name))[0].get("about", "")) for name in bundled()}
    return dict(sorted({**found, **BENCHES}.items()))


def read_recipe(name: str, budget: BudgetName, changes: Sequence[str] = (), limit: int | None = None) -> Recipe:
    """Read a journey by bundled name or path, for a budget.

    Args:
        name: of a bundled journey, or a YAML file.
        budget: which of numbers given by budget are taken.
        changes: `KEY=VALUE` with dots, as in `sampling.tokens=32` or `stages.sft.rows=10` (a stage by its name).
        limit: no count of prompts or rows is larger.

    Raises:
        UsageError: no such journey, no valid YAML, an unknown key or stage; names file and line.
    """
    path = _path(name)
    raw, lines = _parse(path)
    for change in changes:
        _change(raw, change)
    plain = cast(dict[str, Any], _for_budget(raw, budget))
    recipe = build(Recipe, {key: value for key, value in plain.items() if key != "stages"}, where=str(path))
    recipe = recipe.model_copy(update={"stages": tuple(_stages(plain.get("stages"), path, lines))})
    return recipe if limit is None else _limited(recipe, limit)


def _path(name: str) -> Path:
    if name in bundled():
        return Path(str(resources.files("primum.pipeline"))) / "recipes" / f"{name}.yaml"
    path = Path(name)
    if name in BENCHES:
        cure = f"write it right behind the verb: primum run {name} --dry-run"
        raise UsageError(f"'{name}' has flags of its own", cure=cure)
    if not path.is_file():
        cure = f"{did_you_mean(name, [*bundled(), *BENCHES])} (or give a YAML file)"
        raise UsageError(f"no journey '{name}'", cure=cure)
    return path


def _parse(path: Path) -> tuple[dict[str, Any], list[int]]:
    """Return the document, and the line of each stage."""
    raw, node = read_yaml(path, "journey", "see primum run llama2 --dry-run")
    if not isinstance(raw, dict) or not isinstance(node, yaml.MappingNode):
        raise UsageError("must hold settings by name", where=str(path), cure="begin with 'about: ...'")
    listed = next((value for key, value in node.value if key.value == "stages"), None)
    lines = [one.start_mark.line + 1 for one in listed.value] if isinstance(listed, yaml.SequenceNode) else []
    return cast(dict[str, Any], raw), lines


def _change(raw: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    cure = "write KEY=VALUE, as in --set sampling.tokens=32"
    if not equals:
        raise UsageError(f"cannot read --set '{change}'", cure=cure)
    *path, last = key.split(".")
    place: Any = raw
    for part in path:
        place = _inside(place, part, key)
    if not isinstance(place, dict):
        raise UsageError(f"--set {key}: there is nothing with keys", cure="stages are named: stages.NAME.KEY=VALUE")
    cast(dict[str, Any], place)[last] = parse_yaml(value, f"--set {key}", cure).value


def _inside(place: Any, part: str, key: str) -> Any:
    if isinstance(place, dict):
        return cast(dict[str, Any], place).setdefault(part, {})
    stages = [one for one in cast(list[Any], place) if isinstance(one, dict)] if isinstance(place, list) else []
    named: dict[str, Any] = {str(one.get("name")): one for one in cast(list[dict[str, Any]], stages)}
    if part not in named:
        raise UsageError(f"--set {key}: no stage '{part}'", cure=did_you_mean(part, named))
    return named[part]


def _for_budget(value: Any, budget: BudgetName) -> Any:
    if isinstance(value, list):
        return [_for_budget(one, budget) for one in cast(list[Any], value)]
    if not isinstance(value, dict):
        return None if value == "all" else value
    found = cast(dict[str, Any], value)
    if found and set(found) <= set(BUDGETS):
        order = [*BUDGETS[: BUDGETS.index(budget) + 1][::-1], *BUDGETS]
        return _for_budget(next(found[name] for name in order if name in found), budget)
    return {key: _for_budget(one, budget) for key, one in found.items()}


COUNTED = ("harmful", "general", "rows", "prompts", "pairs", "demonstrations", "iterations", "batch")
"""Numbers that `--limit` cuts."""


def _limited(recipe: Recipe, limit: int) -> Recipe:
    """Return a journey none of whose counts is larger, those included of which its file says nothing."""
    prompts = recipe.prompts
    shares = {part: _cut(getattr(prompts, part), limit) for part in ("train", "test")}
    stages = tuple(replace(spec, settings=_cut(spec.settings, limit)) for spec in recipe.stages)
    return recipe.model_copy(update={"prompts": prompts.model_copy(update=shares), "stages": stages})


def _cut(settings: Config, limit: int) -> Config:
    counts = {key: getattr(settings, key) for key in COUNTED if key in type(settings).model_fields}
    return settings.model_copy(update={key: limit if n is None else min(limit, n) for key, n in counts.items()})


def _stages(raw: Any, path: Path, lines: Sequence[int]) -> list[StageSpec]:
    if not isinstance(raw, list) or not raw:
        cure = "stages is a list like [{name: base, do: measure}]"
        raise UsageError("no stages", where=str(path), cure=cure)
    specs: list[StageSpec] = []
    for one, line in zip(cast(list[Any], raw), lines, strict=True):
        specs.append(_stage(one, f"{path}:{line}", {spec.name for spec in specs}))
    return specs


def _stage(raw: Any, where: str, before: set[str]) -> StageSpec:
    given: dict[str, Any] = dict(cast(Mapping[str, Any], raw)) if isinstance(raw, dict) else {}
    name, do = given.pop("name", None), given.pop("do", None)
    if not isinstance(name, str) or not isinstance(do, str):
        raise UsageError("a stage has a name and says what it does", where=where, cure="{name: sft, do: sft}")
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", name):  # it becomes a folder's name
        raise UsageError(f"'{name}' cannot name a stage", where=where, cure="use small letters, digits and hyphens")
    if name in before:
        raise UsageError(f"two stages are named '{name}'", where=where, cure="give each its own name")
    start = given.pop("start", None)
    if start is not None and start != BASE and start not in before:
        raise UsageError(f"no stage '{start}' before this one", where=where, cure=did_you_mean(str(start), before))
    skip = bool(given.pop("skip", False))
    try:
        module = member("stages", do)
    except UsageError as error:
        raise UsageError(error.problem, where=where, cure=error.cure) from error
    return StageSpec(name, do, start, skip, build(module.Settings, given, where), where)
