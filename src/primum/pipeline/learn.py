"""The training steps of a repair: warm start, preferences, adapter and merged checkpoint; each resumable.

torch is imported inside functions: a dry run and a finished run need none.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.core.records import JsonDict, Pair, digest, to_json
from primum.pairing.demonstration import Demonstration
from primum.pipeline.settings import RepairConfig
from primum.pipeline.steps import Journey

if TYPE_CHECKING:
    from primum.models.load import Model


COLDEST = 0.1
"""Greedy decoding is treated as this temperature where benign answers are kept."""


@dataclass(frozen=True)
class Learned:
    """What training left behind: two folders, and what its log says."""

    adapter: Path
    checkpoint: Path
    sft: list[JsonDict]
    dpo: list[JsonDict]
    alarms: list[JsonDict]
    key: str


def learn(
    journey: Journey, config: RepairConfig, model: Model, pairs: Sequence[Pair], demos: Sequence[Demonstration]
) -> Learned:
    """Train the adapter on demonstrations, then on pairs, and save adapter and merged checkpoint.

    The network inside `model` is changed; load the checkpoint to go on.
    """
    adapter, checkpoint = journey.folder / "adapter", journey.folder / "checkpoint"
    shared = {"model": model.key, "rank": config.lora_rank, "start": config.lora_start, "seed": config.seed}
    shared["temperature"] = config.temperature
    data = digest([[to_json(p) for p in pairs], [to_json(d) for d in demos]])
    facts = {
        **shared,
        "data": data,
        "sft": config.sft.model_dump(),
        "passes": config.passes,
        "dpo": config.dpo.model_dump(),
    }
    stage = journey.stage("08-checkpoint", **facts)
    if not stage.manifest:
        network = _network(model, config)
        sft = _sft(journey, config, model, network, demos, facts)
        dpo = _dpo(journey, config, model, network, pairs, facts, {d.prompt_id: d.group for d in demos})
        with journey.step("save adapter and merged model"):
            _save(model, network, adapter, checkpoint)
        stage.finish(sft=sft["log"], dpo=dpo["log"], alarms=[*sft["alarms"], *dpo["alarms"]])
    found = stage.manifest or {}
    return Learned(adapter, checkpoint, found["sft"], found["dpo"], found["alarms"], stage.key)


def _network(model: Model, config: RepairConfig) -> Any:
    from primum.training.adapter import add_lora

    return add_lora(model, config.lora_rank, 2 * config.lora_rank, config.seed, config.lora_start)


def _sft(
    journey: Journey, config: RepairConfig, model: Model, network: Any, demos: Sequence[Demonstration], facts: JsonDict
) -> JsonDict:
    from primum.training.adapter import load_weights, save_weights
    from primum.training.batches import planned
    from primum.training.examples import Answered, Limits, answered
    from primum.training.methods import sft

    stage = journey.stage("06-sft", **{k: v for k, v in facts.items() if k != "dpo"})
    if config.passes == 0 or not demos:
        return stage.manifest or stage.finish(log=[], alarms=[])
    total = planned(len(demos), config.passes)
    with journey.step("supervised warm start", total, "examples") as advance:
        if stage.manifest:
            load_weights(network, stage.path("weights.safetensors"))
            advance(total)
            return stage.manifest
        rows = [Answered(d.prompt, d.answer, Limits(answer=_learned(d, config)), d.ends) for d in demos]
        examples = answered(rows, model.tokenizer)
        kept = iter(sft.keep(network, [e for e, d in zip(examples, demos, strict=True) if d.kind != "harmful"]))
        ready = [sft.Kept(e) if d.kind == "harmful" else next(kept) for e, d in zip(examples, demos, strict=True)]
        given = config.sft.model_dump(exclude={"epochs", "kept_tokens", "short_tokens", "whole", "whole_tokens"})
        settings = sft.Config(**given, epochs=config.passes, temperature=max(config.temperature, COLDEST))
        groups = [d.group or d.prompt_id for d in demos]
        log, alarms = sft.train(settings, network, ready, stage.folder, config.seed, advance, groups)
        save_weights(network, stage.path("weights.safetensors"))
        return stage.finish(log=log, alarms=alarms.rows)


def _learned(demo: Demonstration, config: RepairConfig) -> int:
    """Return how many tokens of an answer count: of some safe completions all, so that what follows is learned too."""
    if demo.kind != "harmful":
        return config.sft.kept_tokens
    return config.sft.whole_tokens if int(demo.prompt_id, 16) % config.sft.whole == 0 else config.sft.short_tokens


def _dpo(
    journey: Journey,
    config: RepairConfig,
    model: Model,
    network: Any,
    pairs: Sequence[Pair],
    facts: JsonDict,
    group_of: Mapping[str, str],
) -> JsonDict:
    from primum.core.store import read_json, write_json
    from primum.training.adapter import load_weights, save_weights
    from primum.training.batches import planned
    from primum.training.examples import Limits, paired
    from primum.training.methods import dpo

    stage = journey.stage("07-dpo", **facts)
    examples = paired(pairs, model.tokenizer, Limits(answer=config.dpo.tokens))
    held = stage.path("reference.json")
    with journey.step("reference log-probabilities", 2 * len(examples), "answers") as advance:
        if held.exists():
            known = [dpo.Referenced(e, c, r) for e, (c, r) in zip(examples, read_json(held), strict=True)]
            advance(2 * len(examples))
        else:
            known = dpo.reference(network, examples, advance)
            write_json(held, [[k.ref_chosen, k.ref_rejected] for k in known])
    total = planned(len(known), config.dpo.epochs)
    with journey.step("preference optimisation", total, "pairs") as advance:
        if stage.manifest:
            load_weights(network, stage.path("weights.safetensors"))
            advance(total)
            return stage.manifest
        settings = dpo.Config(**config.dpo.model_dump(exclude={"tokens", "benign_share"}))
        groups = [group_of.get(p.prompt_id) or p.prompt_id for p in pairs]
        log, alarms = dpo.train(settings, network, known, stage.folder, config.seed, advance, groups)
        save_weights(network, stage.path("weights.safetensors"))
        return stage.finish(log=log, alarms=alarms.rows)


def _save(model: Model, network: Any, adapter: Path, checkpoint: Path) -> None:
    from primum.training.adapter import save_adapter, save_merged, writing

    partial = [folder.with_name(folder.name + ".partial") for folder in (adapter, checkpoint)]
    for folder in partial:
        shutil.rmtree(folder, ignore_errors=True)
    with writing(checkpoint):
        save_adapter(network, partial[0], model.source)
        save_merged(network, model.tokenizer, partial[1])
        for made, folder in zip(partial, (adapter, checkpoint), strict=True):
            shutil.rmtree(folder, ignore_errors=True)
            made.rename(folder)
