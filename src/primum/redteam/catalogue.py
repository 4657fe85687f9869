"""The catalogue of attacks as a run sees it: which ones, of which vector, and what their results depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from primum.core.catalogue import member, names
from primum.core.errors import UsageError, did_you_mean
from primum.core.records import digest
from primum.core.store import file_sha256
from primum.redteam.talk import VECTORS, Attack

PLAIN = "plain"
_SHARED = ("talk.py", "perturb.py", "runner.py")


@dataclass(frozen=True, slots=True)
class Member:
    """One attack of the catalogue.

    Args:
        id: its file's name.
        about: what it does, in a line.
        vector: one of `talk.VECTORS`.
        source: where the idea comes from.
        attack: the generator function.
        uses_model: whether it asks an attacker's model or has replies rated.
        exchangeable: whether its tries are alike and independent, so that hit@k can be estimated.
        modality: what the model must take beside text ("image"), or "text".
        revision: hash of its code and of what it stands on.
    """

    id: str
    about: str
    vector: str
    source: str
    attack: Attack
    uses_model: bool
    exchangeable: bool
    modality: str
    revision: str


def load(name: str) -> Member:
    """Return an attack by id.

    Raises:
        UsageError: no such attack, or its vector is none that is known.
    """
    module = member("attacks", name)
    vector = cast(str, module.vector)
    if vector not in VECTORS:
        raise UsageError(f"attack '{name}' names the vector '{vector}'", cure=did_you_mean(vector, VECTORS))
    files = [Path(cast(str, module.__file__)), *(Path(__file__).with_name(shared) for shared in _SHARED)]
    return Member(
        name, module.about, vector, module.source, module.attack, bool(getattr(module, "uses_model", False)),
        bool(getattr(module, "exchangeable", False)), getattr(module, "modality", "text"),
        digest([file_sha256(file) for file in files]),
    )  # fmt: skip


def chosen(attacks: Sequence[str], vectors: Sequence[str]) -> list[Member]:
    """Return the attacks named, or of the vectors named, or all; the plain request always, and first.

    Attacks that need a model which takes more than text are among them only where they or their vector are named.

    Raises:
        UsageError: no such attack or vector; names the nearest.
    """
    for vector in vectors:
        if vector not in VECTORS:
            raise UsageError(f"no attack vector '{vector}'", cure=did_you_mean(vector, VECTORS))
    order = {vector: place for place, vector in enumerate(VECTORS)}
    every = [load(name) for name in (attacks or names("attacks"))]
    named = {*attacks, *vectors}
    able = [one for one in every if one.modality == "text" or named & {one.id, one.vector}]
    kept = [one for one in able if not vectors or one.vector in vectors]
    plain = [] if any(one.id == PLAIN for one in kept) else [load(PLAIN)]
    return sorted([*plain, *kept], key=lambda one: (one.id != PLAIN, order[one.vector], one.id))
