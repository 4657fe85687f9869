"""What a worker must know of the audit's settings, and the steps it makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from primum.audit.engine import Extra
from primum.audit.notes import Step
from primum.audit.outputs import masked_rows
from primum.audit.pii.numbers import REGIONS
from primum.audit.steps import Basics, LanguageStep, PiiStep, TermStep
from primum.audit.terms.lexicon import Lexicon


@dataclass(frozen=True)
class Settings:
    """Plain data, so that it can be sent to a worker; `steps` are in the order in which they run."""

    steps: tuple[str, ...]
    lexicon: Lexicon
    regions: tuple[str, ...] = REGIONS
    mask: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scoped(self) -> bool:
        """Whether languages are identified, so that pronouns and terms are counted in one language."""
        return "language" in self.steps


def make(settings: Settings) -> tuple[list[Step], list[Extra]]:
    """Return the steps, and what writes further files beside a shard's attributes."""
    steps: list[Step] = [Basics()]
    makers = {
        "language": lambda: LanguageStep(settings.lexicon.language),
        "pii": lambda: PiiStep(settings.regions),
        "terms": lambda: TermStep(settings.lexicon),
    }
    steps += [makers[name]() for name in settings.steps if name in makers]
    extras: list[Extra] = [masked_rows(settings.regions)] if settings.mask else []
    return steps, extras


def in_order(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the names once each, in the order of `known`."""
    return tuple(name for name in known if name in names)
