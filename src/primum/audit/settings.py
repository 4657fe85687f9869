"""What a worker must know of the audit's settings, and the steps it makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from primum.audit.contamination import ContaminationStep
from primum.audit.duplicates import write_signatures
from primum.audit.engine import Extra
from primum.audit.hiding import HideStep
from primum.audit.names.recognizers import recognizer
from primum.audit.names.step import NamesStep
from primum.audit.notes import Step
from primum.audit.outputs import masked_rows
from primum.audit.pii.numbers import REGIONS
from primum.audit.risk.step import References, RiskStep, write_rows
from primum.audit.steps import Basics, LanguageStep, PiiStep, TermStep
from primum.audit.terms.lexicon import Lexicon
from primum.audit.toxicity.classifier import classifier
from primum.audit.toxicity.step import ToxicityStep
from primum.core.records import digest


@dataclass(frozen=True)
class Toxicity:
    """Which classifier scores lines, which of its labels means toxic, and how large the sample is."""

    classifier: str = "embedded"
    label: str = ""
    sample: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Names:
    """Which recognizer finds names, how large the sample is, and what the recognizer's answers depend on."""

    recognizer: str
    sample: float = 0.1
    seed: int = 0
    state: str = ""


@dataclass(frozen=True)
class Settings:
    """Plain data, so that it can be sent to a worker; `steps` are in the order in which they run."""

    steps: tuple[str, ...]
    lexicon: Lexicon
    regions: tuple[str, ...] = REGIONS
    mask: bool = False
    keep_rows: bool = False
    toxicity: Toxicity = Toxicity()
    benchmarks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    references: References | None = None
    names: Names | None = None

    @property
    def scoped(self) -> bool:
        """Whether languages are identified, so that pronouns and terms are counted in one language."""
        return "language" in self.steps

    @property
    def hides(self) -> bool:
        """Whether ids and sources that are personal information are hidden: where it is looked for at all."""
        return self.mask or "pii" in self.steps

    @property
    def names_masked(self) -> bool:
        """Whether masked documents are without names: only where every document is read for names."""
        return self.mask and self.names is not None and self.names.sample == 1

    def key(self) -> str:
        """Return the hash of what the results depend on: the same in every process, so that a killed audit goes on."""
        return digest(self)


def make(settings: Settings) -> tuple[list[Step], list[Extra]]:
    """Return the steps, and what writes further files beside a shard's attributes."""
    hide = [HideStep(settings.regions)] if settings.hides else []
    steps: list[Step] = [*hide, Basics(), *(_step(name, settings) for name in settings.steps if name != "duplicates")]
    masker = recognizer(settings.names.recognizer) if settings.names and settings.names_masked else None
    extras: list[Extra] = [masked_rows(settings.regions, masker)] if settings.mask else []
    if "duplicates" in settings.steps:
        extras.append(write_signatures())
    if settings.keep_rows:
        extras.append(write_rows())
    return steps, extras


def _step(name: str, settings: Settings) -> Step:
    if name == "language":
        return LanguageStep(settings.lexicon.language)
    if name == "pii":
        return PiiStep(settings.regions)
    if name == "terms":
        return TermStep(settings.lexicon)
    if name == "names" and settings.names:
        return NamesStep(recognizer(settings.names.recognizer), settings.names.sample, settings.names.seed)
    if name == "toxicity":
        chosen = settings.toxicity
        return ToxicityStep(classifier(chosen.classifier, chosen.label), chosen.sample, chosen.seed)
    if name == "risk":
        return RiskStep(settings.references)
    return ContaminationStep(settings.benchmarks)


def in_order(names: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    """Return the names once each, in the order of `known`."""
    return tuple(name for name in known if name in names)
