"""Which languages to train on: one a family, the others held out to see whether safety carries over to them.

English-only repair leaks into no other language reliably; transfer follows how near languages are (RefusEU,
arXiv:2606.07535), so that the cheapest design is one language a family, measured on the rest.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from primum.core.errors import UsageError, did_you_mean
from primum.core.languages import ENGLISH, base, language
from primum.core.records import JsonDict, Prompt

PLAN = "plan"
"""The word for one training language a family."""


class Family(NamedTuple):
    """A family, the languages of it that are trained on, and those that are only measured."""

    name: str
    trained: tuple[str, ...]
    held_out: tuple[str, ...]


class LanguagePlan(NamedTuple):
    """The families, by name."""

    families: tuple[Family, ...]

    @property
    def trained(self) -> frozenset[str]:
        """The languages that are trained on, English among them."""
        return frozenset(code for family in self.families for code in family.trained)

    @property
    def one_a_family(self) -> bool:
        """Whether no family has more than one training language: what the bar on languages asks."""
        return all(len(family.trained) <= 1 for family in self.families)

    def to_json(self) -> list[JsonDict]:
        """Return the families as a report shows them."""
        return [{"name": f.name, "trained": list(f.trained), "held_out": list(f.held_out)} for f in self.families]


def language_plan(prompts: Iterable[Prompt], chosen: Sequence[str]) -> LanguagePlan:
    """Return which languages are trained on.

    English always is, and so is its family's language. Under `plan` each other family takes the language with the most
    harmful training prompts, the first by code where several have as many.

    Args:
        prompts: with their splits; every language among them is in the plan.
        chosen: `plan`, or codes of languages to train on.

    Raises:
        UsageError: a chosen language has no harmful prompts to learn from; names those that have.
    """
    counted: Counter[str] = Counter({ENGLISH: 0})
    for prompt in prompts:
        counted[base(prompt.language)] += prompt.intent == "harmful" and prompt.split == "train"
    families: defaultdict[str, list[str]] = defaultdict(list)
    for code in sorted(counted):
        families[language(code).family].append(code)
    wanted = _wanted(counted, families.values(), chosen)
    return LanguagePlan(tuple(
        Family(name, tuple(c for c in codes if c in wanted), tuple(c for c in codes if c not in wanted))
        for name, codes in sorted(families.items())
    ))  # fmt: skip


def _wanted(counted: Counter[str], families: Iterable[Sequence[str]], chosen: Sequence[str]) -> set[str]:
    can = {code for code, n in counted.items() if n} | {ENGLISH}
    if PLAN in chosen:
        best = (max((c for c in codes if c in can), key=lambda c: (c == ENGLISH, counted[c]), default=None)
                for codes in families)  # fmt: skip
        return {ENGLISH, *(code for code in best if code)}
    wanted = {ENGLISH, *map(base, chosen)}
    for code in sorted(wanted - can):
        there = f"{did_you_mean(code, can)}; there are {', '.join(sorted(can))}, or '{PLAN}' for one a family"
        raise UsageError(f"there are no prompts to learn from in the language '{code}'", cure=there)
    return wanted
