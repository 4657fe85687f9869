"""`primum train METHOD FILE`: preferences, reward models, fine-tuning or KTO on any data set in TRL's columns.

A run that was stopped goes on where it stopped, with the weights of one that was not. Under OUT lie the adapter, the
merged model, the log (a JSON object a step) and train.json, which says what was done.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from primum import __version__
from primum.core.config import Config
from primum.core.errors import Exit, UsageError, did_you_mean
from primum.core.records import JsonDict
from primum.core.store import Stage, write_json, write_jsonl
from primum.pipeline import train_reward, train_rows
from primum.pipeline.preventing import with_replay
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal
from primum.pipeline.train_facts import facts, summary

if TYPE_CHECKING:
    from primum.models.load import Model
    from primum.pipeline.train_rows import Job
    from primum.training.loop import LoopConfig, MicroLoss
    from primum.training.team import Team

METHODS = ("dpo", "sft", "kto", "reward")
RATES = {"dpo": 5e-5, "sft": 2e-4, "kto": 5e-5, "reward": 1e-3}
"""Peak learning rates of an adapter; all weights take a twentieth."""


class TrainConfig(Config):
    """What is learned from which rows, how, and where it is written."""

    method: str | None = Field(
        default=None,
        description="dpo or reward (prompt, chosen, rejected), sft (messages), kto (prompt, completion, label)",
        json_schema_extra={"positional": True},
    )
    file: str | None = Field(
        default=None,
        description="JSONL, CSV or Parquet in TRL's columns, a folder of them, or hub:ID:SPLIT",
        json_schema_extra={"positional": True},
    )
    model: str = Field(default="embedded", description="hub id, model folder, PEFT adapter folder or .gguf file")
    out: str = Field(default="runs/train", description="the folder of results; a run that was stopped goes on there")
    dry_run: bool = Field(default=False, description="only say what is in the rows, and how long training will take")
    limit: int | None = Field(default=None, ge=1, description="at most so many rows, from the first")
    loss: str = Field(default="sigmoid", description="dpo: sigmoid, hinge, ipo, or safe (rows with safety columns)")
    beta: float = Field(default=0.1, gt=0, description="dpo, kto: pull to the reference; larger stays closer")
    nll_weight: float = Field(default=1.0, ge=0, description="dpo: anchor on chosen answers; 0 is plain DPO")
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5, description="dpo: share of labels taken to be wrong")
    delta: float = Field(default=2.0, ge=0, description="dpo, loss safe: how far a safe answer must lead an unsafe one")
    ipo_mean: bool = Field(default=False, description="dpo, loss ipo: mean log-probabilities, as TRL has it")
    desirable_weight: float = Field(default=1.0, ge=0, description="kto: weight of good answers")
    undesirable_weight: float = Field(default=1.0, ge=0, description="kto: weight of bad answers")
    margin: Literal["none", "small", "large"] = Field(default="small", description="reward: margin by strength")
    safety_weight: float = Field(default=0.5, ge=0, description="reward: weight of the rows' safety labels")
    centre_weight: float = Field(default=0.01, ge=0, description="reward: weight of the squared sum of scores")
    head: Literal["safety", "helpfulness"] | None = Field(
        default=None, description="reward: what rows teach that do not say; none: harmful or unsafe ones safety"
    )
    lent: float = Field(default=0.1, ge=0, lt=1, description="reward: share that each of two heads borrows")
    held_out: float = Field(default=0.1, ge=0, lt=1, description="reward: share of the prompts to measure it on")
    learning_rate: float | None = Field(default=None, gt=0, description="peak learning rate (default: the method's)")
    epochs: float = Field(default=1.0, gt=0, description="passes over the rows")
    batch_size: int = Field(default=16, ge=1, description="rows per optimizer step")
    warmup: float = Field(default=0.1, ge=0, le=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(default=0.0, ge=0, description="of AdamW")
    max_grad_norm: float = Field(default=1.0, gt=0, description="gradients are cut to this norm")
    keep_safe: bool = Field(
        default=False, description="sft: hold the first answer tokens near the model, replay its own safe answers"
    )
    keep_beta: float = Field(default=0.1, gt=0, description="sft --keep-safe: how tightly first tokens are held")
    replay: float = Field(default=0.1, ge=0, le=1, description="sft --keep-safe: share of own answers replayed")
    average: float = Field(default=0.0, ge=0, lt=1, description="decay of an average of the weights, kept in the end")
    lora_rank: int = Field(default=16, ge=1, description="rank of the adapter; its scale is 2")
    lora_start: float = Field(default=0.0, ge=0, lt=1, description="share of the depth below which nothing is learned")
    full: bool = Field(default=False, description="learn all weights, in float32, instead of an adapter")
    load_4bit: bool = Field(
        default=False, description="hold the base in 4 bits under the adapter (QLoRA; NVIDIA GPU, primum[qlora])"
    )
    shard: bool = Field(
        default=False, description="each of several processes (accelerate launch) holds a part of every block (FSDP2)"
    )
    prompt_tokens: int = Field(default=1024, ge=1, description="longest prompt; a longer one loses its beginning")
    answer_tokens: int = Field(default=1024, ge=1, description="longest answer; a longer one loses its end")
    token_budget: int = Field(default=1536, ge=1, description="tokens of a forward pass; halved when memory is short")
    reference_cache: bool = Field(default=True, description="keep reference log-probabilities for the next run")
    merged: bool = Field(default=True, description="also write the whole model, adapter merged")
    save_every: float = Field(default=60.0, ge=0, description="seconds between two states to resume from")
    tracker: tuple[str, ...] = Field(
        default=(), description="also send the log to trackio, mlflow, wandb, tensorboard ... (installed by you)"
    )
    seed: int = Field(default=0, description="of the order of rows and of the adapter's first weights")


class Learned(NamedTuple):
    """The log of a training and its alarms."""

    log: list[JsonDict]
    alarms: list[JsonDict]


def run_verb(config: TrainConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Train, or say what training would do; return the exit code and the facts.

    Raises:
        UsageError: no such method or loss, or settings that do not go together.
        BadInputError: a row that cannot be read, or none that can be learned; names file and line.
        StepFailedError: training diverged, or memory is too short for one row.
    """
    _check(config)
    own = _joined(config)
    journey = Journey(Path(config.out), Terminal(quiet=json_output or not own.leads))
    with journey.step(f"load {Path(config.model).name}"):
        model = _load(config)
    with journey.step("read and tokenise rows"):
        job = train_rows.job(config, model)
    if config.keep_safe and config.replay and not config.dry_run:
        job = with_replay(journey, model, job, config.replay, config.seed)
    document: JsonDict = {
        "primum": __version__,
        "method": config.method,
        "file": config.file,
        "data": facts(job, config.token_budget),
    }
    if config.dry_run:
        with journey.step("time a few steps"):
            document["estimate"] = estimate(config, model, job)
    else:
        document |= train(journey, config, model, job, own)
    own.leave()
    document["seconds"] = journey.seconds
    if not json_output:
        print(summary(document))
    return Exit.PASSED, document


def _check(config: TrainConfig) -> None:
    if config.method not in METHODS:
        problem = f"no method '{config.method}'" if config.method else "no method named"
        cure = did_you_mean(config.method, METHODS) if config.method else f"one of: {', '.join(METHODS)}"
        raise UsageError(problem, where="primum train", cure=cure)
    if not config.file:
        raise UsageError("no rows named", where="primum train", cure=f"primum train {config.method} FILE")
    losses = ("sigmoid", "hinge", "ipo", "safe")
    if config.loss not in losses:
        raise UsageError(f"no loss '{config.loss}'", where="--loss", cure=did_you_mean(config.loss, losses))
    if config.label_smoothing and config.loss != "sigmoid":
        raise UsageError("--label-smoothing goes with --loss sigmoid only", cure="leave one of the two out")
    if config.keep_safe and config.method != "sft":
        raise UsageError("--keep-safe goes with sft only", cure="dpo and kto have a reference of their own")
    if config.method == "kto" and config.batch_size < 2:
        raise UsageError("kto compares the answers of a step", where="--batch-size", cure="at least 2")
    from primum.training.trackers import check

    check(config.tracker)
    if config.method == "reward" and (config.full or not config.merged):
        raise UsageError("a reward model is one folder, an adapter merged", cure="leave --full and --no-merged out")
    if config.load_4bit and (config.full or config.shard):
        raise UsageError("weights in 4 bits do not learn and are not sharded", cure="leave --full and --shard out")
    if config.full and not config.merged:
        raise UsageError("--full --no-merged would write no weights", cure="leave --no-merged out")


def _joined(config: TrainConfig) -> Team:
    """Join the processes that were started together; all but the first say nothing."""
    from primum.training.team import team

    own = team()
    if own.size > 1 and config.keep_safe:
        raise UsageError("--keep-safe trains in one process", cure="start it without accelerate launch")
    if own.size == 1 and config.shard and not config.dry_run:
        cure = "accelerate launch --num_processes N -m primum train ... --shard (or torchrun), or leave --shard out"
        raise UsageError("--shard needs several processes", where="primum train", cure=cure)
    if not own.leads:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    return own


def _load(config: TrainConfig) -> Model:
    import torch

    from primum.models.load import load

    if config.load_4bit:
        from primum.models.device import device
        from primum.models.quantised import nf4

        return load(config.model, quantisation=nf4(device().dtype))
    return load(config.model, torch.float32 if config.full else None, "cpu" if config.shard else None)


def estimate(config: TrainConfig, model: Model, job: Job) -> JsonDict:
    """Time a few micro-batches, forward and backward, and say how long all of them will take, and the memory so far."""
    from primum.training.batches import micro_batches, plain_steps, planned
    from primum.training.constrained import zeros
    from primum.training.rows import lengths_of
    from primum.training.score import score_all

    network = _network(config, model, job)
    plan = plain_steps(len(job.rows), config.batch_size, config.epochs, config.seed)
    known = _known(config, job, array("d", bytes(8 * len(job.references))), zeros(job.rows) if config.keep_safe else ())
    objective = _objective(config, job)
    groups = micro_batches([known[i] for i in plan[0]], config.token_budget)
    groups = [groups[0], *groups[:3]]  # the first one again: what it takes anew is not timed
    tokens = seconds = 0.0
    for number, group in enumerate(groups):
        start = time.perf_counter()
        objective.loss(network, group, objective.scale(group)).loss.backward()
        if number:
            tokens, seconds = tokens + sum(x.length for x in group), seconds + time.perf_counter() - start
    all_tokens = sum(lengths_of(known)) * planned(len(known), config.epochs) / len(known)
    total = seconds / tokens * all_tokens
    if job.references:
        few = job.references[:8]
        start = time.perf_counter()
        score_all(network, few)
        per_token = (time.perf_counter() - start) / sum(e.length for e in few)
        total += per_token * sum(lengths_of(job.references))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"seconds": total, "steps": len(plan), "tokens_per_second": tokens / seconds, "memory_gb": peak}


def _network(config: TrainConfig, model: Model, job: Job) -> Any:
    from primum.training.adapter import add_lora

    if config.full:
        return model.network.requires_grad_(True)
    network = add_lora(model, config.lora_rank, 2 * config.lora_rank, config.seed, config.lora_start)
    if config.method != "reward":
        return network
    from primum.training.heads import with_heads

    return with_heads(network, train_reward.heads(job.rows), config.seed)


def _known(config: TrainConfig, job: Job, logps: Sequence[float], guarded: Sequence[Any] = ()) -> Sequence[Any]:
    """Put reference log-probabilities beside the rows."""
    from primum.training.methods import dpo, kto
    from primum.training.rows import Lazy, lengths_of

    if config.method in ("sft", "reward"):
        return guarded if config.keep_safe else job.rows
    kind: Any = dpo.Referenced if config.method == "dpo" else kto.Referenced
    rows = job.rows
    return Lazy(len(rows), lambda i: kind(rows[i], logps[2 * i], logps[2 * i + 1]), lengths_of(rows))


def _settings(config: TrainConfig) -> Any:
    """Return the method's own configuration."""
    from primum.training.methods import dpo, kto, reward, sft

    rate = config.learning_rate or RATES[config.method or ""] / (20 if config.full else 1)
    shared = {"learning_rate": rate, "epochs": config.epochs, "batch_size": config.batch_size}
    if config.method == "sft":
        return sft.Config(**shared)
    kinds: dict[str, Any] = {"dpo": dpo.Config, "kto": kto.Config, "reward": reward.Config}
    kind = kinds[str(config.method)]
    other = {*shared, "loss"} if config.method == "reward" else shared
    own = {k: v for k, v in config.model_dump().items() if k in kind.model_fields and k not in other}
    return kind(**own, **shared)


class Objective(NamedTuple):
    """How rows are learned: the loss of a micro-batch, what a step's sum is divided by, and what watches over it."""

    loss: Callable[[Any, Any, float], MicroLoss]
    scale: Callable[[Any], float]
    check_first: Callable[[JsonDict], None]
    before_step: Callable[[Any, Any], None]


def _objective(config: TrainConfig, job: Job) -> Objective:
    from primum.training.loop import nothing
    from primum.training.methods import dpo, kto, reward, sft

    if config.method == "sft" and config.keep_safe:
        from primum.training import constrained

        return Objective(constrained.Objective(config.keep_beta), constrained.answer_tokens, lambda _: None, nothing)
    if config.method == "sft":
        return Objective(sft.likelihood, sft.answer_tokens, lambda _: None, nothing)
    settings = _settings(config)
    if config.method == "reward":
        return Objective(reward.objective(settings, train_reward.heads(job.rows)), len, lambda _: None, nothing)
    if config.method == "kto":
        objective = kto.Objective(settings)
        return Objective(objective, len, kto.check_start, objective.before_step)
    return Objective(dpo.objective(settings), len, dpo.check_of(settings), nothing)


def _loop(config: TrainConfig) -> LoopConfig:
    from primum.training.loop import LoopConfig

    return LoopConfig(
        _settings(config).learning_rate, config.batch_size, config.epochs, config.warmup, config.weight_decay,
        config.max_grad_norm, token_budget=config.token_budget, seed=config.seed, save_every_seconds=config.save_every,
        average=config.average,
    )  # fmt: skip


OUTPUTS = ("out", "dry_run", "merged", "save_every", "reference_cache", "file", "limit", "tracker", "shard")
"""Settings on which the weights do not depend."""


def train(journey: Journey, config: TrainConfig, model: Model, job: Job, own: Team) -> JsonDict:
    """Train and write everything; a finished run is only read again. Of several processes the first one writes."""
    settings = config.model_dump(mode="json", exclude=set(OUTPUTS))
    if not own.leads:
        own.wait()  # until the folder is there: a stale one is cleared once
    stage = journey.stage("train", model=model.key, dtype=str(model.network.dtype), data=job.key, settings=settings)
    if own.leads:
        own.wait()
    folder = journey.folder
    if own.first(not stage.manifest or not _written(config, folder)):
        network = _network(config, model, job)
        if config.shard:
            _shard(journey, network, own)
        learned = _learn(journey, config, model, job, network, stage.folder, own)
        if config.shard or config.load_4bit:
            network = _put_together(config, job, network, own)
        if own.leads:
            _write(journey, config, model, job, network, stage, learned)
        own.wait()
    manifest = stage.manifest or {}
    found: JsonDict = {"steps": len(manifest["log"]), "first": manifest["log"][0], "last": manifest["log"][-1]}
    found |= {"accuracy": manifest["accuracy"]} if config.method == "reward" else {}
    document = {**found, "alarms": manifest["alarms"], "settings": settings, "outputs": _outputs(config, folder)}
    if own.leads:
        said = {"method": config.method, "file": config.file, "data": facts(job, config.token_budget)}
        write_json(folder / "train.json", {**said, **document})
    return document


def _shard(journey: Journey, network: Any, own: Team) -> None:
    from primum.training.sharding import shard

    blocks = shard(network, own)
    parts = f"{blocks} blocks in {own.size} parts, each put together while it computes"
    journey.tell("shard", f"{parts}; layer by layer, as blocks in one piece cannot be sharded")


def _put_together(config: TrainConfig, job: Job, network: Any, own: Team) -> Any:
    """Return a network with the weights that were learned on a base that is whole, on the leading process."""
    from primum.training.adapter import put_weights
    from primum.training.sharding import gathered

    weights = gathered(network, own)
    if not own.leads:
        return None
    whole = _network(config, _load(config.model_copy(update={"load_4bit": False, "shard": True})), job)
    put_weights(whole, weights)
    return whole.eval()


def _write(
    journey: Journey, config: TrainConfig, model: Model, job: Job, network: Any, stage: Stage, learned: Learned
) -> None:
    """Write what was left out, the log, the weights, and that all of it is done."""
    write_jsonl(journey.folder / "dropped.jsonl", job.count.dropped)
    shutil.copyfile(stage.path("log.jsonl"), journey.folder / "log.jsonl")
    held = train_reward.measured(network, job.held, learned) if config.method == "reward" else {}
    with journey.step("write the weights"):
        _save(config, model, network, journey.folder)
    stage.finish(log=learned.log, alarms=learned.alarms, **held)


def _learn(
    journey: Journey, config: TrainConfig, model: Model, job: Job, network: Any, folder: Path, own: Team
) -> Learned:
    from primum.training.alarms import Alarms
    from primum.training.batches import planned
    from primum.training.loop import Run
    from primum.training.trackers import following

    known = _known(
        config, job, _references(journey, config, model, job, network, own), _guarded(journey, config, job, network)
    )
    loop, objective, total = _loop(config), _objective(config, job), planned(len(known), config.epochs)
    settings, trackers = config.model_dump(mode="json"), config.tracker if own.leads else ()
    with (
        journey.step(f"train ({config.method})", total, "rows") as advance,
        following(trackers, "primum", journey.folder, settings, model.network.device.type == "cpu") as follow,
    ):
        run = Run(
            network, known, objective.loss, objective.scale, loop, folder, Alarms(total=total // config.batch_size),
            advance, objective.check_first, before_step=objective.before_step, follow=follow,
            team=own,
        )  # fmt: skip
        log = run.train()
    return Learned(log, run.alarms.rows)


def _guarded(journey: Journey, config: TrainConfig, job: Job, network: Any) -> Sequence[Any]:
    """Return the rows with the log-probabilities that the model gives their tokens before it learns."""
    if not config.keep_safe:
        return []
    from primum.training.constrained import guard

    with journey.step("where first tokens are now", len(job.rows), "answers") as advance:
        return guard(network, job.rows, config.token_budget, advance)


def _references(
    journey: Journey, config: TrainConfig, model: Model, job: Job, network: Any, own: Team
) -> Sequence[float]:
    if not job.references:
        return []
    from primum.training.reference import References

    network.eval()
    path = None if config.reference_cache else journey.folder / "reference.sqlite"
    with journey.step("reference log-probabilities", len(job.references), "answers") as advance:
        return References(model, path).scores(network, job.references, advance=advance, team=own)


def _outputs(config: TrainConfig, folder: Path) -> dict[str, str]:
    wanted = {"adapter": not config.full and config.method != "reward", "checkpoint": config.merged}
    return {name: str(folder / name) for name, made in wanted.items() if made} | {"log": str(folder / "log.jsonl")}


def _written(config: TrainConfig, folder: Path) -> bool:
    return all(Path(path).exists() for path in _outputs(config, folder).values())


def _save(config: TrainConfig, model: Model, network: Any, folder: Path) -> None:
    from primum.training.adapter import save_adapter, save_merged, writing

    for name in _outputs(config, folder):
        if name == "log":
            continue
        partial = folder / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        with writing(folder / name):
            if config.method == "reward":
                train_reward.save(config, network, model.tokenizer, partial)
            elif name == "adapter":
                save_adapter(network, partial, model.source)
            else:
                save_merged(network, model.tokenizer, partial)
            shutil.rmtree(folder / name, ignore_errors=True)
            partial.rename(folder / name)
