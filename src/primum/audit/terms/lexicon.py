"""The words that are counted: the paper's pronouns, HolisticBias's descriptors, or lists from a file.

A file of one's own is YAML or JSON:

    language: de
    pronouns: {she: [sie, ihr], he: [er, ihm], unspecified: [], first: [ich], second: [du], third: [es]}
    axes: {religion: [katholisch, evangelisch], nationality: [deutsch]}
    hidden: [weiß]            # counted, but left out of the terms that are shown first

HolisticBias's own descriptors.json (v1.1; CC BY-SA 4.0, so it is read where it lies and not shipped) is known by its
shape: axis -> bucket -> descriptors.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from primum.core.errors import BadInputError

AXES = ("religion", "gender_and_sex", "nationality", "race_ethnicity", "sexual_orientation")
"""The five axes of the paper; HolisticBias has eight more."""
GROUPS = ("she", "he", "unspecified", "first", "second", "third")
PRONOUNS: dict[str, tuple[str, ...]] = {
    "she": ("she", "her", "hers", "herself"),
    "he": ("he", "him", "his", "himself"),
    "unspecified": ("they", "them", "their", "theirs", "theirself", "themself", "themselves"),
    "first": ("I", "me", "my", "mine", "myself", "we", "us", "our", "ours", "ourselves"),
    "second": ("you", "your", "yours", "yourself", "yourselves"),
    "third": ("it", "its", "itself"),
}
"""Llama 2, page 60. "third" counts these beside she, he and unspecified."""
HIDDEN = ("straight", "white", "black")
"""Too ambiguous to be shown among an axis's first terms (page 21); they stay in the axis."""
MOST_TERMS = 20_000


@dataclass(frozen=True)
class Lexicon:
    """What is counted.

    Args:
        name: of the list.
        language: whose documents are counted.
        pronouns: group -> words.
        axes: axis -> terms as they are shown; a term stands on one axis only.
        hidden: lower-cased terms that are counted and not shown first.
        shared: terms that the list has on several axes -> these axes; the last is the one it is counted under.
    """

    name: str
    language: str = "en"
    pronouns: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: PRONOUNS)
    axes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    hidden: frozenset[str] = frozenset(HIDDEN)
    shared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def builtin() -> Lexicon:
    """Return primum's own short list."""
    text = resources.files("primum.audit.terms").joinpath("words.json").read_text(encoding="utf-8")
    return _from_values(json.loads(text), "primum's own list", "words.json")


def load(path: Path) -> Lexicon:
    """Return the lexicon of a file: HolisticBias's descriptors.json, or one of one's own.

    Raises:
        BadInputError: no such file, or not of either shape; says what is wrong.
    """
    import yaml

    if not path.is_file():
        raise BadInputError("no such file", where=str(path), cure="check the path given to --terms")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInputError("neither JSON nor YAML", where=str(path), cure="like 'axes: {religion: [...]}'") from error
    if not isinstance(values, dict):
        raise BadInputError("no mapping", where=str(path), cure="like 'axes: {religion: [...]}'")
    if not {"axes", "pronouns"} & values.keys() and set(AXES) <= values.keys():
        return holistic(values)
    return _from_values(values, path.name, str(path))


def holistic(descriptors: Mapping[str, Any]) -> Lexicon:
    """Return the five axes of HolisticBias; a descriptor on two axes stays under sexual orientation, as in the paper.

    Args:
        descriptors: axis -> bucket -> descriptors, each a string or {"descriptor": ...}.
    """
    axes: dict[str, tuple[str, ...]] = {}
    for axis in AXES:
        items = [item for bucket in descriptors[axis].values() for item in bucket]
        axes[axis] = tuple(dict.fromkeys(item if isinstance(item, str) else item["descriptor"] for item in items))
    name = f"HolisticBias ({sum(map(len, axes.values()))} descriptors on 5 axes)"
    return Lexicon(name, axes=without_overlap(axes), shared=overlap(axes))


def without_overlap(axes: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return the axes with every term once: under the last axis that names it (sexual orientation stands last)."""
    owner = {term.lower(): axis for axis, terms in axes.items() for term in terms}
    return {axis: tuple(t for t in terms if owner[t.lower()] == axis) for axis, terms in axes.items()}


def overlap(axes: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return the terms that stand on several axes, with these axes in order."""
    where: dict[str, list[str]] = {}
    for axis, terms in axes.items():
        for term in dict.fromkeys(term.lower() for term in terms):
            where.setdefault(term, []).append(axis)
    return {term: tuple(found) for term, found in sorted(where.items()) if len(found) > 1}


def _from_values(values: Mapping[str, Any], name: str, where: str) -> Lexicon:
    unknown = values.keys() - {"about", "name", "language", "pronouns", "axes", "hidden"}
    if unknown:
        cure = "keys are language, pronouns, axes, hidden"
        raise BadInputError(f"unknown key '{sorted(map(str, unknown))[0]}'", where=where, cure=cure)
    pronouns = _lists(values.get("pronouns") or {}, "pronouns", where)
    if set(pronouns) - set(GROUPS):
        problem = f"unknown pronoun group '{sorted(set(pronouns) - set(GROUPS))[0]}'"
        raise BadInputError(problem, where=where, cure="groups are " + ", ".join(GROUPS))
    language = values.get("language", "en")
    if not isinstance(language, str):  # YAML reads `no` (Norwegian) as false
        raise BadInputError("language is no text", where=where, cure="put it in quotes, like 'no'")
    groups = {group: pronouns.get(group, ()) for group in GROUPS} if pronouns else PRONOUNS if language == "en" else {}
    given = _lists(values.get("axes") or {}, "axes", where)
    hidden = _lists({"hidden": values.get("hidden", list(HIDDEN))}, "hidden", where)["hidden"]
    lowered = frozenset(term.lower() for term in hidden)
    return Lexicon(str(values.get("name", name)), language, groups, without_overlap(given), lowered, overlap(given))


def _lists(values: Any, key: str, where: str) -> dict[str, tuple[str, ...]]:
    good = isinstance(values, Mapping) and all(
        isinstance(terms, list) and all(isinstance(term, str) and term.strip() for term in terms)
        for terms in values.values()
    )
    if not good:
        raise BadInputError(f"'{key}' must map names to lists of words", where=where, cure="quote words like 'no'")
    if sum(map(len, values.values())) > MOST_TERMS:
        raise BadInputError(f"more than {MOST_TERMS:,} terms", where=where, cure="split the list")
    return {str(name): tuple(dict.fromkeys(term.strip() for term in terms)) for name, terms in values.items()}
