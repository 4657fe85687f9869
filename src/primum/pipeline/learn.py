"""The training steps of a repair: warm start, preferences, the line, adapter and merged checkpoint; each resumable.

torch is imported inside functions: a dry run and a finished run need none.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.core.records import JsonDict, Pair, Prompt, Split, digest, to_json
from primum.evaluation.domain import DomainRow
from primum.pairing.demonstration import Built, Demonstration
from primum.pipeline import reading
from primum.pipeline.held import held_rows
from primum.pipeline.settings import RepairConfig
from primum.pipeline.steps import Journey
from primum.pipeline.taught import tokens_of, turns_of

if TYPE_CHECKING:
    from primum.models.load import Model
    from primum.training.below import Below
    from primum.training.examples import Example
    from primum.training.keeping import KeepConfig, Kept
    from primum.training.linear_start import Going
    from primum.training.methods.dpo import Replay


@dataclass(frozen=True)
class Learned:
    """What training left behind: two folders, and what its log says."""

    adapter: Path
    checkpoint: Path
    sft: list[JsonDict]
    dpo: list[JsonDict]
    alarms: list[JsonDict]
    key: str


def learn(journey: Journey, config: RepairConfig, model: Model, built: Built, prompts: Sequence[Prompt]) -> Learned:
    """Train the adapter on demonstrations, then on pairs, draw the line, and save adapter and merged checkpoint.

    The network inside `model` is changed; load the checkpoint to go on.

    Args:
        journey: the run folder.
        config: all settings.
        model: what is to be repaired.
        built: demonstrations and pairs.
        prompts: those of the training split are what the linear start reads, those of the development
            split are what the line is drawn on.
    """
    adapter, checkpoint = journey.folder / "adapter", journey.folder / "checkpoint"
    shared = {"model": model.key, "rank": config.lora_rank, "start": config.lora_start, "seed": config.seed}
    shared |= {"temperature": config.temperature, "going": [reading.START_GOING, reading.LINE_GOING]}
    seen = [[p.id, p.intent] for p in prompts if p.split != "test"]
    held = held_rows(config)[: len(built.pairs) or len(built.demonstrations)]
    if held:
        said = f"training stays near what the model says on {len(held):,} rows of the domain, which are not measured"
        journey.tell("domain", said)
        shared["domain"] = [digest([[row.prompt, row.answer] for row in held]), config.domain_weight]
    facts = {
        **shared,
        "data": digest([[to_json(p) for p in built.pairs], [to_json(d) for d in built.demonstrations], seen]),
        "sft": config.sft.model_dump(),
        "passes": config.passes,
        "dpo": config.dpo.model_dump(),
    }
    stage = journey.stage("08-checkpoint", **facts, **_line(config))
    if not stage.manifest:
        network = _network(model, config)
        training = Training(journey, config, model, network, built.demonstrations, prompts, facts, held)
        sft = _sft(training)
        dpo = _dpo(training, built.pairs)
        _draw_line(training)
        with journey.step("save adapter and merged model"):
            save_both(model, training.network, adapter, checkpoint)
        stage.finish(sft=sft["log"], dpo=dpo["log"], alarms=[*sft["alarms"], *dpo["alarms"]])
    found = stage.manifest or {}
    return Learned(adapter, checkpoint, found["sft"], found["dpo"], found["alarms"], stage.key)


@dataclass(frozen=True)
class Training:
    """What both steps of training share."""

    journey: Journey
    config: RepairConfig
    model: Model
    network: Any
    demos: Sequence[Demonstration]
    prompts: Sequence[Prompt]
    facts: JsonDict
    domain: Sequence[DomainRow] = ()

    @cached_property
    def examples(self) -> list[Example]:
        """The demonstrations as tokens."""
        from primum.training.examples import Answered, Limits, answered

        lengths = [Limits(answer=tokens_of(d, self.config.sft)) for d in self.demos]
        answers = [Answered(d.prompt, d.answer, n, d.ends) for d, n in zip(self.demos, lengths, strict=True)]
        return answered(answers, self.model.tokenizer)

    @cached_property
    def rows(self) -> list[Kept]:
        """The demonstrations: harmful prompts' to be learned, others kept as the model without adapter gives them."""
        from primum.training.keeping import Kept, keep

        both = list(zip(self.examples, self.demos, strict=True))
        own = [e for e, d in both if d.kind != "harmful"]
        step = self.journey.step("note own answers", len(own), "answers")
        with self.from_the_adapter(), self.network.disable_adapter(), step as advance:
            kept = iter(keep(self.network, own, advance))
        return [Kept(e) if d.kind == "harmful" else next(kept) for e, d in both]

    @cached_property
    def held(self) -> list[Kept]:
        """The rows of the domain, kept as the model without adapter answers them."""
        from primum.pipeline.train_rows import domain
        from primum.training.examples import Limits
        from primum.training.keeping import keep

        if not self.domain:
            return []
        examples = domain(self.domain, self.model, Limits(answer=self.config.sft.whole_tokens))
        step = self.journey.step("note the domain's answers", len(examples), "answers")
        with self.network.disable_adapter(), step as advance:
            return [replace(row, weight=self.config.domain_weight) for row in keep(self.network, examples, advance)]

    @cached_property
    def below(self) -> Below | None:
        """What the blocks below the adapter make of every row: the same in each pass."""
        from primum.training.score import note_below

        rows = [*self.examples, *(row.example for row in self.held)]
        with self.journey.step("note what stays as it is", len(rows), "rows") as advance:
            return note_below(self.network, rows, advance)

    def from_the_adapter(self) -> AbstractContextManager[None]:
        """Let rows be scored from the first block that learns while this lasts."""
        from primum.training.below import beginning
        from primum.training.score import causal

        return beginning(causal(self.network), self.below)

    @cached_property
    def openers(self) -> list[int]:
        """The tokens with which most of the learned answers begin."""
        return reading.learned_openers(self.demos, self.model.tokenizer)

    def going(self, most: int) -> Going:
        """Some of the model's own benign answers, each as far as it was drawn."""
        return reading.going(self.demos, self.model.tokenizer, most, self.config.sft.whole_tokens)

    def asked(self, part: Split, twins_only: bool = False) -> tuple[list[Example], list[Example]]:
        """The harmful and the benign prompts of a split, each with one token of answer."""
        return reading.asked([p for p in self.prompts if p.split == part], self.model.tokenizer, twins_only)

    def turns(self, every: int) -> list[tuple[int, int]]:
        """Return which rows make `every` passes (`taught.turns_of`); those of the domain make them all."""
        held = range(len(self.demos), len(self.demos) + len(self.domain))
        return turns_of(self.demos, every) + [(i, turn) for i in held for turn in range(every)]

    @property
    def groups(self) -> list[str]:
        """A key for each row: a harmful prompt and its benign twin have the same."""
        return [d.group or d.prompt_id for d in self.demos]


def _network(model: Model, config: RepairConfig) -> Any:
    from primum.training.adapter import add_lora

    return add_lora(model, config.lora_rank, 2 * config.lora_rank, config.seed, config.lora_start)


def _sft(training: Training) -> JsonDict:
    from primum.training.adapter import load_weights, save_weights
    from primum.training.batches import planned
    from primum.training.methods import sft

    config, network = training.config, training.network
    stage = training.journey.stage("06-sft", **{k: v for k, v in training.facts.items() if k != "dpo"})
    if config.passes == 0 or not training.demos:
        return stage.manifest or stage.finish(log=[], alarms=[])
    turns = training.turns(config.sft.general_every)
    every = config.sft.general_every
    total = planned(len(turns), config.passes / every)
    if not stage.manifest:
        _linear_start(training)
        rows = [*training.rows, *training.held]
    with training.journey.step("supervised warm start", total, "examples") as advance:
        if stage.manifest:
            load_weights(network, stage.path("weights.safetensors"))
            advance(total)
            return stage.manifest
        size = config.sft
        settings = sft.Config(
            **_keeping(config, size.keep_weight).model_dump(), learning_rate=size.learning_rate,
            epochs=config.passes / every, batch_size=size.batch_size,
        )  # fmt: skip
        keys = [*training.groups, *(f"domain {i}" for i in range(len(training.held)))]
        groups, taken = [(keys[i], turn) for i, turn in turns], [rows[i] for i, _ in turns]
        with training.from_the_adapter():
            log, alarms = sft.train(settings, network, taken, stage.folder, config.seed, advance, groups)
        save_weights(network, stage.path("weights.safetensors"))
        return stage.finish(log=log, alarms=alarms.rows)


def _linear_start(training: Training) -> None:
    """Write what a linear reading tells into the fresh adapter, or load what was written."""
    from primum.training.adapter import load_weights, save_weights
    from primum.training.linear_start import StartConfig, start

    config, network = training.config, training.network
    if not config.sft.linear_start:
        return
    facts = {k: v for k, v in training.facts.items() if k not in ("dpo", "passes", "sft", "domain")}
    stage = training.journey.stage("06-linear-start", **facts, tokens=config.sft.whole_tokens)
    if not stage.manifest:
        (harmful, benign), openers = training.asked("train"), training.openers
        going = training.going(reading.START_GOING)
        total = len(harmful) + len(benign) + len(going.rows)
        with training.journey.step("linear start", total, "prompts and answers") as advance:
            found = start(StartConfig(), network, harmful, benign, openers, config.seed, advance, going)
            save_weights(network, stage.path("weights.safetensors"))
        stage.finish(found=found and found._asdict())
    load_weights(network, stage.path("weights.safetensors"))
    if found := (stage.manifest or {})["found"]:
        training.journey.tell("linear start", reading.said_of_start(found))


def _line(config: RepairConfig) -> JsonDict:
    return {"line": {"share": config.declined} if config.line.draw else None}


def _draw_line(training: Training) -> None:
    """Draw the line between answering and declining on the development prompts."""
    from primum.training.adapter import load_weights, save_weights
    from primum.training.line import draw_line

    config, network = training.config, training.network
    if not (config.line.draw and training.demos and config.passes):
        return
    stage = training.journey.stage("07-line", **training.facts, **_line(config))
    with training.journey.step("draw the line"):
        if not stage.manifest:
            harmful, benign = training.asked("dev", twins_only=True)
            temperature = reading.warmth(config.temperature)
            going = training.going(reading.LINE_GOING)
            openers = reading.openers(training.demos, training.model.tokenizer)
            found = draw_line(network, harmful, benign, openers, config.declined, temperature, config.seed, going)
            save_weights(network, stage.path("weights.safetensors"))
            stage.finish(found=found and found._asdict())
        load_weights(network, stage.path("weights.safetensors"))
    if found := (stage.manifest or {})["found"]:
        training.journey.tell("line", reading.said_of_line(found))


def _keeping(config: RepairConfig, keep_weight: float, lead: float = 0.0) -> KeepConfig:
    from primum.training.keeping import KeepConfig

    temperature = reading.warmth(config.temperature)
    return KeepConfig(keep_weight=keep_weight, temperature=temperature, opening=config.sft.opening, lead=lead)


def _dpo(training: Training, pairs: Sequence[Pair]) -> JsonDict:
    from primum.core.store import read_json, write_json
    from primum.training.adapter import load_weights, save_weights
    from primum.training.batches import planned
    from primum.training.examples import Limits, paired
    from primum.training.methods import dpo

    journey, config, network = training.journey, training.config, training.network
    stage = journey.stage("07-dpo", **training.facts)
    examples = paired(pairs, training.model.tokenizer, Limits(answer=config.dpo.tokens))
    held = stage.path("reference.json")
    with journey.step("reference log-probabilities", 2 * len(examples), "answers") as advance:
        if held.exists():
            known = [dpo.Referenced(e, c, r) for e, (c, r) in zip(examples, read_json(held), strict=True)]
            advance(2 * len(examples))
        else:
            known = dpo.reference(network, examples, advance)
            write_json(held, [[k.ref_chosen, k.ref_rejected] for k in known])
    groups, replay = _replayed(training, pairs)
    anchor = None if stage.manifest else _anchor(training, groups, replay)
    total = planned(len(known) + len(replay) + len(training.domain), config.dpo.epochs)
    with journey.step("preference optimisation", total, "pairs and anchors") as advance:
        if stage.manifest:
            load_weights(network, stage.path("weights.safetensors"))
            advance(total)
            return stage.manifest
        settings = dpo.Config(**config.dpo.model_dump(include=set(dpo.Config.model_fields)))
        with training.from_the_adapter() if anchor else nullcontext():
            log, alarms = dpo.train(settings, network, known, stage.folder, config.seed, advance, groups, anchor)
        save_weights(network, stage.path("weights.safetensors"))
        return stage.finish(log=log, alarms=alarms.rows)


def _anchor(training: Training, groups: Sequence[str], replay: Mapping[int, str]) -> Replay | None:
    """Return the rows that come along with the pairs: the warm start's, and those of the domain, one beside a pair."""
    from primum.training.methods import dpo

    if not groups or not (replay or training.domain):
        return None
    config = training.config
    rows = [*(training.rows[i] for i in replay), *training.held]
    keys = [*replay.values(), *(groups[i % len(groups)] for i in range(len(training.held)))]
    # without the warm start's rows their weight is none, and the domain's rows have their own
    weight = config.dpo.replay_weight if replay else 1.0
    return dpo.Replay(rows, keys, _keeping(config, config.dpo.keep_weight, config.dpo.lead), weight)


def _replayed(training: Training, pairs: Sequence[Pair]) -> tuple[list[str], dict[int, str]]:
    """Return the group of each pair, and of each demonstration that comes along (by its index).

    A pair brings what was learned and kept of its prompt and its twin, and its share of all general answers: what
    must not move is in every step. Of the general ones there are `replay_general` for each pair, evenly taken.
    """
    config = training.config
    group_of = {d.prompt_id: d.group for d in training.demos}
    groups = [group_of.get(p.prompt_id) or p.prompt_id for p in pairs]
    if not (config.dpo.replay_weight and config.passes and groups):
        return groups, {}
    own, order = set(groups), sorted(set(groups))
    rows = {i: g for i, g in enumerate(training.groups) if g in own}
    others = [i for i, d in enumerate(training.demos) if i not in rows and d.kind not in ("harmful", "twin")]
    most = round(config.dpo.replay_general * len(pairs))
    taken = others[:: max(1, math.ceil(len(others) / most))] if most else []
    return groups, rows | {i: order[n % len(order)] for n, i in enumerate(taken)}


def save_both(model: Model, network: Any, adapter: Path, checkpoint: Path) -> None:
    """Write the adapter and the merged model; each folder is whole or not there."""
    from primum.models.saving import writing
    from primum.training.adapter import save_adapter, save_merged

    partial = [folder.with_name(folder.name + ".partial") for folder in (adapter, checkpoint)]
    for folder in partial:
        shutil.rmtree(folder, ignore_errors=True)
    with writing(checkpoint):
        save_adapter(network, partial[0], model.source)
        save_merged(network, model.tokenizer, partial[1])
        for made, folder in zip(partial, (adapter, checkpoint), strict=True):
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
