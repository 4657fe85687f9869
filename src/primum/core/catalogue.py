"""A folder is a catalogue: the file's name is the member's id; there is no registry to edit.

Third parties add members through entry points of the group `primum.<catalogue>`. An ImportError inside a member
surfaces as it is: a missing part never reads as "no such member".
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from primum.core.errors import UsageError, did_you_mean

FOLDERS = {
    "attacks": "primum.redteam.attacks",
    "benchmarks": "primum.evaluation.benchmarks",
    "judges": "primum.judging.judges",
    "methods": "primum.training.methods",
    "stages": "primum.pipeline.stages",
    "strategies": "primum.pairing.strategies",
    "engines": "primum.models.engines",
    "repairs": "primum.repair.methods",
    "tampers": "primum.stress.tampers",
}


def names(catalogue: str) -> list[str]:
    """Return the ids of a catalogue's members, ours and third parties', sorted; imports none of them."""
    package = FOLDERS[catalogue]
    folder = Path(__file__).parents[1].joinpath(*package.split(".")[1:])
    ours = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    theirs = {point.name for point in entry_points(group=f"primum.{catalogue}")}
    return sorted(ours | theirs)


def member(catalogue: str, name: str) -> ModuleType:
    """Import a member by id.

    Raises:
        UsageError: no such catalogue or member; names the nearest.
    """
    if catalogue not in FOLDERS:
        raise UsageError(f"no catalogue '{catalogue}'", cure=did_you_mean(catalogue, FOLDERS))
    for point in entry_points(group=f"primum.{catalogue}"):
        if point.name == name:
            return importlib.import_module(point.value)
    known = names(catalogue)
    if name not in known:
        raise UsageError(f"no {catalogue[:-1]} '{name}'", cure=did_you_mean(name, known))
    return importlib.import_module(f"{FOLDERS[catalogue]}.{name}")
