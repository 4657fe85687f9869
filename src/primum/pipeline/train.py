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
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from primum import __version__
from primum.core.errors import Exit, UsageError
from primum.core.records import JsonDict
from primum.core.store import Stage, write_json, write_jsonl
from primum.pipeline import deepen, teachers, train_against, train_reward, train_rows
from primum.pipeline.preventing import screened, with_replay
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal
from primum.pipeline.train_config import RATES, TrainConfig, check
from primum.pipeline.train_facts import facts, summary

if TYPE_CHECKING:
    from primum.models.load import Model
    from primum.pipeline.train_rows import Job
    from primum.training.loop import LoopConfig, MicroLoss
    from primum.training.methods.dpo import Replay
    from primum.training.team import Team

__all__ = ["TrainConfig", "run_verb"]
ON_POLICY = {"two_teacher": teachers.run_verb, "depth": deepen.run_verb}
"""Methods that learn from what models say, not from rows of a file."""


class Learned(NamedTuple):
    """The log of a training, its alarms, and the tokens of a micro-batch in the end."""

    log: list[JsonDict]
    alarms: list[JsonDict]
    token_budget: int


def run_verb(config: TrainConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Train, or say what training would do; return the exit code and the facts.

    Raises:
        UsageError: no such method or loss, or settings that do not go together.
        BadInputError: a row that cannot be read, or none that can be learned; names file and line.
        StepFailedError: training diverged, or memory is too short for one row.
    """
    check(config)
    own = _joined(config)
    if own_verb := ON_POLICY.get(str(config.method)):
        return own_verb(config, json_output)
    if config.against:
        return train_against.run_verb(config, json_output, run_verb)
    journey = Journey(Path(config.out), Terminal(quiet=json_output or not own.leads))
    with journey.step(f"load {Path(config.model).name}"):
        model = _load(config)
    with journey.step("read and tokenise rows"):
        job = train_rows.job(config, model)
    if config.keep_safe and config.screen and not config.dry_run:
        job = screened(journey, model, job, train_rows.given(config), config.seed)
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
        document["seconds"] = journey.seconds
    else:
        document |= train(journey, config, model, job, own)
    own.leave()
    if not json_output:
        print(summary(document))
    return Exit.PASSED, document


def _joined(config: TrainConfig) -> Team:
    """Join the processes that were started together; all but the first say nothing."""
    from primum.training.team import team

    own = team()
    alone = {"--keep-safe": config.keep_safe, "--keep-domain": config.keep_domain, "--against": config.against}
    if own.size > 1 and (any(alone.values()) or config.method in ON_POLICY):
        what = next((flag for flag, given in alone.items() if given), config.method)
        raise UsageError(f"{what} trains in one process", cure="start it without accelerate launch")
    if own.size == 1 and config.shard and not config.dry_run:
        cure = "accelerate launch --num_processes N -m primum train ... --shard (or torchrun), or leave --shard out"
        raise UsageError("--shard needs several processes", where="primum train", cure=cure)
    if not own.leads:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    return own


def _load(config: TrainConfig) -> Model:
    import torch

    from primum.models.load import load

    own = config.template is None
    if config.load_4bit:
        from primum.models.device import device
        from primum.models.quantised import nf4

        model = load(config.model, quantisation=nf4(device().dtype), chat=own)
    else:
        number, place = torch.float32 if config.full else None, "cpu" if config.shard else None
        model = load(config.model, number, place, chat=own)
    if config.template:
        from primum.training.templates import TEMPLATES

        model.tokenizer.chat_template = TEMPLATES[config.template]
    return model


def _replay(journey: Journey, config: TrainConfig, job: Job, network: Any) -> Replay | None:
    """Return the domain's rows as the network, which has learned nothing yet, answers them; each beside a pair."""
    if not job.kept:
        return None
    from primum.training.keeping import KeepConfig, keep
    from primum.training.methods.dpo import Replay

    network.eval()
    with journey.step("note the domain's answers", len(job.kept), "answers") as advance:
        rows = keep(network, job.kept, advance)
    as_it_is = KeepConfig(keep_weight=config.keep_weight, temperature=1.0)
    return Replay(rows, [i % len(job.rows) for i in range(len(rows))], as_it_is)


def estimate(config: TrainConfig, model: Model, job: Job) -> JsonDict:
    """Time a few micro-batches, forward and backward; say how long all of them will take, and in how much memory.

    Memory is the most that these took, with the weights, what a pass keeps and the gradients, and what the optimizer
    will hold from its first step on, which is not taken here.
    """
    from primum.training.batches import micro_batches, plain_steps, planned
    from primum.training.constrained import zeros
    from primum.training.fitting import fitted
    from primum.training.rows import lengths_of
    from primum.training.score import score_all

    network = _network(config, model, job)
    plan = plain_steps(len(job.rows), config.batch_size, config.epochs, config.seed)
    known = _known(config, job, array("d", bytes(8 * len(job.references))), zeros(job.rows) if config.keep_safe else ())
    objective = _objective(config, job)
    first, budget = [known[i] for i in plan[0]], config.token_budget
    if not budget:
        longest = max(lengths_of(known))
        budget = fitted(network, lambda group: objective.loss(network, group, 1.0).loss, first, longest).token_budget
    groups = micro_batches(first, budget)
    groups = [groups[0], *groups[:3]]  # the first one again: what it takes anew is not timed
    tokens = seconds = 0.0
    for number, group in enumerate(groups):
        start = time.perf_counter()
        objective.loss(network, group, objective.scale(group)).loss.backward()
        if number:
            tokens, seconds = tokens + sum(x.length for x in group), seconds + time.perf_counter() - start
    learned = sum(lengths_of(known)) + sum(x.length for x in job.kept)
    all_tokens = learned * planned(len(known), config.epochs) / len(known)
    total = seconds / tokens * all_tokens
    if job.references:
        few = job.references[:8]
        start = time.perf_counter()
        score_all(network, few)
        per_token = (time.perf_counter() - start) / sum(e.length for e in few)
        total += per_token * sum(lengths_of(job.references))
    found = {"seconds": total, "steps": len(plan), "tokens_per_second": tokens / seconds, "token_budget": budget}
    measured, held = _peak(model.place.type), _held(config, network)
    parts = {"measured_gb": measured, "optimizer_gb": held}
    return {**found, "memory_gb": measured + held, "memory": parts}


def _held(config: TrainConfig, network: Any) -> float:
    """Return what AdamW's two states of all that learns will take, in GB, and the average where one is kept."""
    from primum.training.adapter import trainable

    copies = 3 if config.average else 2
    return copies * sum(p.numel() * p.element_size() for p in trainable(network).values()) / 1e9


def _peak(kind: str) -> float:
    """Return the most memory taken so far, in GB: of a GPU where the model lies on one, else of the process."""
    import torch

    if kind == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def _network(config: TrainConfig, model: Model, job: Job) -> Any:
    from primum.training.adapter import add_lora, all_learn

    if config.full:
        return all_learn(model.network)
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
    own |= {"loss": "cost"} if config.method == "reward" and config.loss == "cost" else {}
    return kind(**own, **shared)


class Objective(NamedTuple):
    """How rows are learned: the loss of a micro-batch, what a step's sum is divided by, and what watches over it."""

    loss: Callable[[Any, Any, float], MicroLoss]
    scale: Callable[[Any], float]
    check_first: Callable[[JsonDict], None]
    before_step: Callable[[Any, Any], None]


def _objective(config: TrainConfig, job: Job, replay: Replay | None = None) -> Objective:
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
    return Objective(dpo.objective(settings, replay), len, dpo.check_of(settings), nothing)


def _loop(config: TrainConfig) -> LoopConfig:
    from primum.training.loop import LoopConfig

    return LoopConfig(
        _settings(config).learning_rate, config.batch_size, config.epochs, config.warmup, config.weight_decay,
        config.max_grad_norm, token_budget=config.token_budget, seed=config.seed, save_every_seconds=config.save_every,
        average=config.average,
    )  # fmt: skip


OUTPUTS = ("out", "dry_run", "merged", "save_every", "reference_cache", "file", "limit", "tracker", "shard",
           "against")  # fmt: skip
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
    found |= {key: manifest[key] for key in train_reward.MEASURED if key in manifest}
    settings |= {"token_budget": manifest["token_budget"]}  # what was measured, where nothing was asked for
    document = {**found, "alarms": manifest["alarms"], "settings": settings, "outputs": _outputs(config, folder),
                "seconds": manifest.get("seconds", journey.seconds)}  # fmt: skip
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
    if config.keep_safe:
        write_jsonl(journey.folder / "replaced.jsonl", job.count.replaced)
    shutil.copyfile(stage.path("log.jsonl"), journey.folder / "log.jsonl")
    held = train_reward.measured(network, job.held, learned, journey.folder) if config.method == "reward" else {}
    with journey.step("write the weights"):
        _save(config, model, network, journey.folder)
    stage.finish(log=learned.log, alarms=learned.alarms, token_budget=learned.token_budget, **held,
                 seconds=journey.seconds)  # fmt: skip


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
    replay = _replay(journey, config, job, network)
    groups: list[Hashable] | None = None
    if replay:
        known, groups = [*known, *replay.rows], [*range(len(known)), *replay.groups]
    loop, objective, total = _loop(config), _objective(config, job, replay), planned(len(known), config.epochs)
    settings, trackers = config.model_dump(mode="json"), config.tracker if own.leads else ()
    with (
        journey.step(f"train ({config.method})", total, "rows") as advance,
        following(trackers, "primum", journey.folder, settings, model.network.device.type == "cpu") as follow,
    ):
        run = Run(
            network, known, objective.loss, objective.scale, loop, folder, Alarms(total=total // config.batch_size),
            advance, objective.check_first, groups, before_step=objective.before_step, follow=follow,
            team=own, tell=partial(journey.tell, "micro-batches"),
        )  # fmt: skip
        log = run.train()
    return Learned(log, run.alarms.rows, run.token_budget)


def _guarded(journey: Journey, config: TrainConfig, job: Job, network: Any) -> Sequence[Any]:
    """Return the rows with the log-probabilities that the model gives their tokens before it learns."""
    if not config.keep_safe:
        return []
    from primum.training.constrained import guard

    with journey.step("where first tokens are now", len(job.rows), "answers") as advance:
        return guard(network, job.rows, advance=advance)


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
    from primum.models.saving import writing
    from primum.training.adapter import save_adapter, save_merged

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
