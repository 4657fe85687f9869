"""One base model in memory, and every policy of a journey as an adapter of it that is put on when it is needed.

A policy is a file with the adapter's weights; the base itself is the adapter at its start, whose product is zero. torch
is imported inside functions: a dry run and a finished journey need none.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.core.records import JsonDict, digest
from primum.models.sampling import Engine
from primum.pipeline.recipe import BASE, LoraPart
from primum.pipeline.steps import Journey

if TYPE_CHECKING:
    from primum.models.load import Model
    from primum.training.below import Below
    from primum.training.examples import Example
    from primum.training.heads import RewardModel


@dataclass(frozen=True)
class Policy:
    """A model at some stage: its name, what its replies depend on, and its adapter (None: the base).

    `model` is a hub id or a folder where it is another model than the journey's, with no adapter of it.
    """

    name: str
    key: str
    weights: Path | None = None
    model: str | None = None


@dataclass
class Desk:
    """Holds the model of a journey; `on` is the policy whose adapter it has on now, `described` what a report says."""

    journey: Journey
    name: str
    lora: LoraPart
    seed: int
    on: str = ""
    described: JsonDict = field(default_factory=dict[str, Any])
    _model: Model | None = None
    _other: tuple[str, Model] | None = None
    _network: Any = None
    _fresh: dict[str, Any] = field(default_factory=dict[str, Any])
    _reward: RewardModel | None = None
    _below: Below | None = None

    @property
    def model(self) -> Model:
        """The model, loaded when it is first asked for."""
        if self._model is None:
            from primum.models.load import load
            from primum.pipeline.repair import describe

            with self.journey.step(f"load {Path(self.name).name}"):
                self._model = load(self.name)
            self.described = describe(self._model)
        return self._model

    @property
    def about(self) -> JsonDict:
        """What a report says of the model, as it was loaded; it is loaded where nothing had to be run."""
        if not self.described:
            self.described = {"name": self.model.name, **self.described}
        return self.described

    @property
    def network(self) -> Any:
        """The network with the policy's adapter on it; what learns is that adapter."""
        if self._network is None:
            from primum.training.adapter import add_lora, trainable

            model = self.model
            self._network = add_lora(model, self.lora.rank, 2 * self.lora.rank, self.seed, self.lora.start)
            self._fresh = {name: p.detach().clone() for name, p in trainable(self._network).items()}
            self._network.eval()
            self.on = BASE
        return self._network

    @property
    def base(self) -> Policy:
        """The policy before anything is learned."""
        return Policy(BASE, digest([self.model.key, self.lora.model_dump(), self.seed]))

    def take(self, policy: Policy) -> Model:
        """Put a policy's adapter on, ready to sample, score or learn; another model is loaded as it is."""
        if policy.model is not None:
            return self.another(policy.model)
        import torch

        from primum.training.adapter import load_weights, trainable

        network = self.network
        network.set_adapter("default")
        if self.on != policy.key or policy.weights is None:
            if policy.weights is None:
                with torch.no_grad():
                    for name, p in trainable(network).items():
                        p.copy_(self._fresh[name])
            else:
                load_weights(network, policy.weights)
        self.on = policy.key
        network.eval()
        return self.model

    def another(self, name: str) -> Model:
        """Return another model than the journey's, as it is; the last one stays loaded."""
        if self._other is None or self._other[0] != name:
            from primum.models.load import load

            self._other = (name, load(name))
        return self._other[1]

    def changed(self) -> None:
        """Say that the adapter has been trained: it is no known policy until one is taken again."""
        self.on = ""

    @contextmanager
    def from_the_adapter(self, rows: Sequence[Example]) -> Iterator[None]:
        """Let rows be scored, while this lasts, from the first block that learns (`training.below`).

        What lies below is the same for every policy: rows of the last stage that come again are not computed again.
        """
        from primum.training.below import beginning
        from primum.training.score import causal, note_below

        network, known = self.network, self._below.states if self._below else {}
        found = note_below(network, [row for row in rows if row not in known] or rows[:1])
        if found:
            held = {row: known[row] for row in rows if row in known}
            self._below = found._replace(states={**held, **found.states})
        with beginning(causal(network), self._below if found else None):
            yield

    def engine(self, policy: Policy) -> Callable[[], Engine]:
        """Return what makes an engine over a policy."""

        def make() -> Engine:
            from primum.models.engines.hf import HFEngine

            return HFEngine(self.take(policy))

        return make

    def reward_model(self, heads: tuple[str, ...], seed: int | None = None) -> RewardModel:
        """Return the reward model over the same base weights: an adapter of its own and a head for each name.

        The seed (the journey's where none is given) is that of its first weights, where it is made. One is in memory at
        a time: where other heads are asked for it makes room, and what it had learned is read again when it is taken.
        """
        if self._reward is not None and self._reward.names != heads:
            return self.fresh_reward(heads, seed)
        if self._reward is None:
            from primum.training.heads import add_reward

            self._reward = add_reward(self.network, heads, self.seed if seed is None else seed, self.lora.start)
            self.network.set_adapter("default")
        return self._reward

    def fresh_reward(self, heads: tuple[str, ...], seed: int | None = None) -> RewardModel:
        """Return a reward model that has learned nothing: a journey's second one does not begin with the first's."""
        from primum.training.heads import ADAPTER

        if self._reward is not None:
            self._reward.give_back()
            self.network.delete_adapter(ADAPTER)
            self._reward = None
        return self.reward_model(heads, seed)

    def write_adapter(self, policy: Policy, folder: Path) -> None:
        """Write a policy's adapter as PEFT reads it, for an engine that reads folders; nothing in memory changes."""
        from primum.training.adapter import save_adapter, writing

        self.take(policy)
        with writing(folder):
            save_adapter(self._network, folder, self.model.source)

    def save(self, policy: Policy, adapter: Path, checkpoint: Path) -> None:
        """Write a policy as an adapter folder and as a merged checkpoint that plain transformers loads.

        Merging changes the base weights in memory; the model is loaded again where it is needed again.
        """
        from primum.models.saving import writing
        from primum.training.adapter import save_adapter, save_merged

        self.take(policy)
        partial = [folder.with_name(folder.name + ".partial") for folder in (adapter, checkpoint)]
        for folder in partial:
            shutil.rmtree(folder, ignore_errors=True)
        for name in [name for name in self._network.peft_config if name != "default"]:
            self._network.delete_adapter(name)
        with writing(checkpoint):
            save_adapter(self._network, partial[0], self.model.source)
            save_merged(self._network, self.model.tokenizer, partial[1])
            for made, folder in zip(partial, (adapter, checkpoint), strict=True):
                shutil.rmtree(folder, ignore_errors=True)
                made.rename(folder)
        self._model, self._network, self._reward, self._below, self.on = None, None, None, None, ""
