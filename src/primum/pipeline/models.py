"""A model as the verbs that draw replies ask it: by any engine, and with its weights here only where they are used."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from primum.core.records import JsonDict, digest
from primum.core.store import fingerprint
from primum.models.opening import Chosen, choose, open_engine
from primum.models.sampling import Opening, Streaming
from primum.pipeline.benchmark import Subject
from primum.pipeline.steps import Journey

if TYPE_CHECKING:
    from primum.models.load import Model, Outline


@dataclass(frozen=True)
class Wanted:
    """Which model, and how it is run: by which engine, in which number format, how many replies together."""

    model: str
    engine: str = "auto"
    dtype: str = "auto"
    batch: int | None = None


@dataclass
class Models:
    """Loads the model when it is first needed, in one number format at a time.

    Where another engine draws the replies it reads the weights itself: here they are loaded for likelihoods alone.
    """

    wanted: Wanted
    journey: Journey
    held: dict[str, Model] = field(default_factory=dict)
    keys: dict[bool, str] = field(default_factory=dict)
    opened: Streaming | None = None

    @cached_property
    def chosen(self) -> Chosen:
        """The engine that draws replies, and why; a number format that was asked for means transformers."""
        if self.wanted.engine == "auto" and self.wanted.dtype != "auto":
            return Chosen("hf", "a number format was asked for")
        return choose(self.wanted.engine, Opening(self.wanted.model, self.wanted.batch))

    def load(self, likelihood: bool) -> Model:
        """Return the model as generation or likelihoods want it."""
        wanted = self.format(likelihood)
        if wanted not in self.held:
            import torch

            from primum.models.load import load

            self.held.clear()
            with self.journey.step(f"load {Path(self.wanted.model).name} in {wanted}"):
                self.held[wanted] = load(self.wanted.model, getattr(torch, wanted))
        return self.held[wanted]

    @cached_property
    def outline(self) -> Outline:
        """What is known of the model without its weights."""
        from primum.models.load import outline

        return outline(self.wanted.model)

    @cached_property
    def facts(self) -> JsonDict:
        """What the results say of the model."""
        from primum.models.chat import template_hash
        from primum.models.device import device
        from primum.models.load import adapter_base

        model, place = self.outline, self.wanted.model
        return {
            "name": model.name, "source": model.source, "parameters": model.parameters,
            "weights": digest([fingerprint(adapter_base(place)), fingerprint(place)]),
            "template": template_hash(model.tokenizer), "device": device().describe(),
        }  # fmt: skip

    @property
    def described(self) -> JsonDict:
        """What a report says of the model: all that is known where its weights are loaded here, else its facts."""
        from primum.pipeline.repair import describe

        return describe(self.load(False)) if self.chosen.engine == "hf" else self.facts

    def key(self, likelihood: bool) -> str:
        """Return what answers depend on: the weights where they are loaded here, else their files."""
        if likelihood or self.chosen.engine == "hf":
            model = self.load(likelihood)
            return f"{model.name}@{model.key}"
        from primum.models.chat import template_hash
        from primum.models.load import adapter_base

        name, template = self.wanted.model, template_hash(self.outline.tokenizer)
        return f"{self.outline.name}@{digest([fingerprint(adapter_base(name)), fingerprint(name), template])}"

    def format(self, likelihood: bool) -> str:
        """Return the number format: on a CPU likelihoods are taken in float32, so that other tools get the same."""
        from primum.models.device import device

        if self.wanted.dtype != "auto":
            return self.wanted.dtype
        here = device()
        return "float32" if likelihood and here.name == "cpu" else str(here.dtype).removeprefix("torch.")

    def subject(self, likelihood: bool) -> Subject:
        """Return the model as a benchmark asks it."""
        if likelihood not in self.keys:
            self.keys[likelihood] = self.key(likelihood)
        key = self.keys[likelihood]
        likelihood_key = f"{key}-{self.format(True)}"
        return Subject(key, likelihood_key, self.chosen.engine, self.engine, lambda: self.load(True))

    def engine(self) -> Streaming:
        """Return the engine that draws replies; one that reads the weights itself replaces those in memory."""
        from primum.models.engines.hf import HFEngine

        if self.chosen.engine == "hf":
            return HFEngine(self.load(False), self.wanted.batch)
        if self.opened is None:
            self.held.clear()
            with self.journey.step(f"open {self.chosen.engine}"):
                self.opened = open_engine(self.chosen.engine, Opening(self.wanted.model, self.wanted.batch))
        return self.opened
