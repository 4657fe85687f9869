"""Risk categories, their bridge to other taxonomies, and the behaviour expected: read from core/policy.yaml.

The policy is one versioned file that prompts, answer templates, judges and reports all read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib import resources

import yaml

from primum.core.errors import UsageError, did_you_mean
from primum.core.records import digest


@dataclass(frozen=True, slots=True)
class Category:
    """One harm category: its Llama 2 risk (arXiv:2307.09288, section 4.2), and its MLCommons hazard if there is one."""

    id: str
    name: str
    risk: str
    mlcommons: str | None
    held_out: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """The versioned policy: categories, expected behaviour in order, and behaviours to avoid."""

    version: str
    hash: str
    categories: dict[str, Category]
    expected: tuple[str, ...]
    avoid: tuple[str, ...]

    def category(self, name: str) -> Category:
        """Return a category by id.

        Raises:
            UsageError: no such category; names the nearest.
        """
        if name not in self.categories:
            raise UsageError(f"no harm category '{name}'", cure=did_you_mean(name, self.categories))
        return self.categories[name]


@cache
def policy() -> Policy:
    """Return the policy that ships with primum."""
    text = resources.files("primum.core").joinpath("policy.yaml").read_text(encoding="utf-8")
    raw = yaml.safe_load(text)
    categories = {
        key: Category(key, row["name"], row["risk"], row.get("mlcommons"), bool(row.get("held_out", False)))
        for key, row in raw["categories"].items()
    }
    return Policy(str(raw["version"]), digest(raw), categories, tuple(raw["expected"]), tuple(raw["avoid"]))
