"""Two policies compared: what was added, removed or changed, in what, and what has to be made again because of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from primum.core.errors import UsageError, did_you_mean
from primum.core.records import JsonDict
from primum.core.taxonomy import SHIPPED, Category, Part, Policy, read
from primum.prompts.taught import contents

EXAMPLE = "example:"
What = Literal["prompts", "templates", "rubric", "tests"]
ALL: tuple[What, ...] = ("prompts", "templates", "rubric", "tests")
NEEDS: Mapping[str, tuple[What, ...]] = {
    "name": ("templates", "rubric"), "risk": ("templates", "rubric", "tests"), "mlcommons": ("rubric",),
    "held_out": ("prompts", "tests"), "examples": ("prompts", "tests"), "answers": ("templates",),
    "of": ("prompts", "rubric", "tests"), "expected": ("templates", "rubric"), "avoid": ("templates", "rubric"),
}  # fmt: skip
"""What hangs on each thing that a policy says. A name stands in the answer template that names the category; the risk
decides its steps, and the slices of a report; a category that is held out lends no prompts to training."""
MADE: Mapping[str, tuple[What, ...]] = {
    "rule": ALL, "use": ("prompts", "rubric", "tests"), "fact": ("prompts", "tests"), "policy": ("templates", "rubric")
}  # fmt: skip
"""What is made of each kind: answers to a new use and to questions of fact are the author's own, of no template."""
TEACHES = frozenset({"examples", "answers", "of"})
"""A change of these changes what a model is to learn."""


@dataclass(frozen=True, slots=True)
class Change:
    """One part of a policy that differs.

    Attributes:
        id: of the category, use or fact; or `expected`, `avoid`, `languages: de`.
        kind: rule, use, fact; or "policy" for what holds for all categories.
        how: added, removed or changed.
        fields: what of it changed, with the value before and after (of examples: hashes of the rows).
        again: what has to be made again.
    """

    id: str
    kind: str
    how: Literal["added", "removed", "changed"]
    fields: Mapping[str, tuple[Any, Any]]
    again: tuple[What, ...]


def diff(old: Policy, new: Policy) -> list[Change]:
    """Return what differs, in the order of the new policy, then what it no longer has.

    The version alone is no change: nothing hangs on it.

    Raises:
        BadInputError: a file of examples that cannot be read.
    """
    before, after = _all(old), _all(new)
    found: list[Change] = []
    for key in [*after, *(key for key in before if key not in after)]:
        one = _change(key, before.get(key), after.get(key))
        found += [one] if one else []
    return found


def _all(policy: Policy) -> dict[tuple[str, str], dict[str, Any]]:
    """Return all that a policy says, by (kind, id)."""
    rows: dict[tuple[str, str], dict[str, Any]] = {
        ("policy", "expected"): {"expected": list(policy.expected)}, ("policy", "avoid"): {"avoid": list(policy.avoid)}
    }  # fmt: skip
    for language, more in policy.languages.items():
        rows["policy", f"languages: {language}"] = {key: list(texts) for key, texts in more.items()}
    for key, category in policy.categories.items():
        rows["rule", key] = _category(category) | _taught(policy, policy.parts.get(key))
    for key, part in policy.parts.items():
        if part.kind != "rule":
            more = {"of": part.category} if part.kind == "use" else {}
            rows[part.kind, key] = {"name": part.name} | more | _taught(policy, part)
    return rows


def _category(one: Category) -> dict[str, Any]:
    return {"name": one.name, "risk": one.risk, "mlcommons": one.mlcommons, "held_out": one.held_out}


def _taught(policy: Policy, part: Part | None) -> dict[str, Any]:
    examples = contents(part, policy) if part and part.examples else None
    answers = {key: list(texts) for key, texts in part.answers.items()} if part and part.answers else None
    return {"examples": examples, "answers": answers}


def _change(key: tuple[str, str], old: dict[str, Any] | None, new: dict[str, Any] | None) -> Change | None:
    kind, name = key
    if old is None or new is None:
        there = new if old is None else old
        fields = {k: (None, v) if old is None else (v, None) for k, v in (there or {}).items() if v is not None}
        return Change(name, kind, "added" if old is None else "removed", fields, MADE[kind])
    fields = {k: (old.get(k), new.get(k)) for k in {**old, **new} if old.get(k) != new.get(k)}
    again = {one for field in fields for one in NEEDS[field]} & {*MADE[kind]}
    return Change(name, kind, "changed", fields, tuple(w for w in ALL if w in again)) if fields else None


def to_learn(changes: list[Change], new: Policy) -> list[Part]:
    """Return the parts of the new policy that a patch has to teach: added, or changed in what is learned of them."""
    touched = {c.id for c in changes if c.how == "added" or (c.how == "changed" and TEACHES & c.fields.keys())}
    return [part for key, part in new.parts.items() if key in touched and part.examples]


def change_json(one: Change) -> JsonDict:
    """Return a change as one JSON object."""
    fields = {key: {"old": old, "new": new} for key, (old, new) in one.fields.items()}
    return {"id": one.id, "kind": one.kind, "how": one.how, "fields": fields, "again": list(one.again)}


def examples() -> dict[str, Path]:
    """Return the example policies that ship with primum, by name."""
    folder = Path(str(resources.files("primum.prompts"))) / "sets" / "policies"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def path_of(name: str) -> Path:
    """Return the file that a policy's name means: `shipped`, `example:NAME`, or a path.

    Raises:
        UsageError: no such file or example.
    """
    if name == SHIPPED:
        return Path(str(resources.files("primum.core"))) / "policy.yaml"
    if name.startswith(EXAMPLE):
        known, wanted = examples(), name.removeprefix(EXAMPLE)
        if wanted not in known:
            raise UsageError(f"no example policy '{wanted}'", cure=did_you_mean(wanted, known))
        return known[wanted]
    if not Path(name).is_file():
        cure = f"give a policy's YAML file, '{SHIPPED}', or one of: " + ", ".join(EXAMPLE + one for one in examples())
        raise UsageError("no such policy file", where=name, cure=cure)
    return Path(name)


def policy_named(name: str) -> Policy:
    """Return a policy by name (see `path_of`)."""
    return read(path_of(name))
