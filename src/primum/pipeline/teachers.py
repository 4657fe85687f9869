"""Two-teacher on-policy distillation: `primum train two_teacher`, and a candidate of a repair from a parent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from primum import __version__
from primum.core.errors import Exit
from primum.core.records import JsonDict, Messages, Prompt, digest, user
from primum.core.store import write_json
from primum.evaluation.domain import read_domain
from primum.models.sampling import Sampling
from primum.pipeline.learn import save_both
from primum.pipeline.lesson import plain
from primum.pipeline.restore import RestoreConfig, collected
from primum.pipeline.steps import Journey, prompts_key
from primum.pipeline.terminal import Terminal
from primum.pipeline.train_config import RATES, TrainConfig

if TYPE_CHECKING:
    from primum.training.methods.two_teacher import Config
    from primum.training.teachers import Classroom

METHOD = "two_teacher"
PROMPT_TOKENS = 512
"""Longest prompt; a longer one loses its beginning."""
LAST = 8
"""Steps of a teacher over which its first and its last divergence are averaged."""


def run_verb(config: TrainConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Distil, or say what would be done; return the exit code and the facts."""
    from primum.training.methods import two_teacher

    journey = Journey(Path(config.out), Terminal(quiet=json_output))
    domain: list[Messages] = [(user(row.prompt),) for row in read_domain(Path(config.file or ""))[: config.limit]]
    sets = collected(journey, RestoreConfig(method="auto", prompts=config.prompts))
    settings = two_teacher.Config(
        **config.teachers.model_dump(), learning_rate=config.learning_rate or RATES[METHOD],
        batch_size=config.batch_size, max_grad_norm=config.max_grad_norm,
    )  # fmt: skip
    document: JsonDict = {
        "primum": __version__, "method": METHOD, "file": config.file, "model": config.model, "parent": config.parent,
        "prompts": {"parent": len(sets.train), "tuned": len(domain)}, "settings": settings.model_dump(mode="json"),
    }  # fmt: skip
    if not config.dry_run:
        document |= _trained(journey, config, settings, sets.train, domain)
    if not json_output:
        print(summary(document))
    return Exit.PASSED, document


def _trained(
    journey: Journey, config: TrainConfig, settings: Config, prompts: Sequence[Prompt], domain: Sequence[Messages]
) -> JsonDict:
    from primum.training.teachers import seated

    with journey.step(f"load {Path(config.model).name} and its teachers"):
        seats = seated(config.model, config.parent, config.lora_rank, config.seed)
    key = digest([seats.key, config.lora_rank])
    found = teach(journey, journey.folder, key, lambda: seats, (prompts, domain), settings, config.seed)
    outputs = {name: str(journey.folder / name) for name in ("adapter", "checkpoint", "log.jsonl")}
    document: JsonDict = {"one_base": seats.one_base, **moved(found["log"]), "alarms": found["alarms"],
                          "outputs": outputs, "seconds": journey.seconds}  # fmt: skip
    write_json(journey.folder / "train.json", document)
    return document


def teach(
    journey: Journey, folder: Path, key: str, seat: Callable[[], Classroom],
    asked: tuple[Sequence[Prompt], Sequence[Messages]], config: Config, seed: int,
) -> JsonDict:  # fmt: skip
    """Distil, and write the adapter and the merged checkpoint; a finished one is only read.

    Args:
        journey: the run.
        folder: gets `adapter`, `checkpoint` and `log.jsonl`.
        key: what the models' answers depend on.
        seat: loads student and teachers, where there is something to do.
        asked: prompts of the parent, and of the fine-tuned model.
        config: of the method.
        seed: of prompts and replies.

    Returns:
        The log and the alarms.
    """
    prompts, domain = asked
    facts = {"prompts": prompts_key(prompts), "domain": digest([plain(m) for m in domain])}
    stage = journey.stage(METHOD, models=key, **facts, settings=config.model_dump(mode="json"), seed=seed)
    with journey.step("two-teacher distillation", config.steps, "steps") as advance:
        if stage.manifest and (folder / "checkpoint").is_dir():
            advance(config.steps)
            return stage.manifest
        found = _distil(seat(), folder, stage.folder, asked, config, seed, advance)
        return stage.finish(**found)


def _distil(
    seats: Classroom, folder: Path, state: Path, asked: tuple[Sequence[Prompt], Sequence[Messages]], config: Config,
    seed: int, advance: Callable[[int], None],
) -> JsonDict:  # fmt: skip
    from primum.core.store import write_jsonl
    from primum.models.chat import encode
    from primum.training.methods.two_teacher import PARENT, TUNED, Players, train
    from primum.training.rollouts import drawing

    draw = drawing(seats.model, Sampling(config.temperature, config.tokens))
    texts = {PARENT: [p.messages for p in asked[0]], TUNED: list(asked[1])}
    ids = {
        name: [tuple(row) for row in encode(rows, seats.model.tokenizer, PROMPT_TOKENS)] for name, rows in texts.items()
    }
    log, alarms = train(config, Players(seats.network, draw, seats.teachers), ids, state, seed, advance)
    if TUNED in seats.network.peft_config:
        seats.network.delete_adapter(TUNED)
    folder.mkdir(parents=True, exist_ok=True)
    save_both(seats.model, seats.network, folder / "adapter", folder / "checkpoint")
    write_jsonl(folder / "log.jsonl", log)
    return {"log": log, "alarms": alarms}


def moved(log: Sequence[Mapping[str, Any]]) -> JsonDict:
    """Return the mean divergence from each teacher over its first and its last steps, nats a token."""
    found: JsonDict = {"steps": len(log), "first": {}, "last": {}}
    for name in dict.fromkeys(row["teacher"] for row in log):
        own = [row["divergence"] for row in log if row["teacher"] == name]
        found["first"][name], found["last"][name] = fmean(own[:LAST]), fmean(own[-LAST:])
    return found


def summary(document: JsonDict) -> str:
    """Return what a run, or a dry run, ends with."""
    asked, settings = document["prompts"], document["settings"]
    every = settings["domain_every"]
    lines = [
        f"{settings['steps']:,} steps of {settings['batch_size']} own replies each; of {every}, the parent teaches "
        f"{every - 1} on {asked['parent']:,} prompts, the fine-tuned model one on {asked['tuned']:,} of the domain"
    ]
    if "last" not in document:
        return lines[0]
    lines.append("one base in memory" if document["one_base"] else "two models in memory")
    lines += [
        f"divergence from the {'parent' if name == 'parent' else 'fine-tuned model'}: {value:.3f} -> "
        f"{document['last'][name]:.3f} nats a token" for name, value in document["first"].items()
    ]  # fmt: skip
    lines += [f"alarm at step {alarm['step']}: {alarm['text']}" for alarm in document["alarms"]]
    return "\n".join([*lines, *(f"{name}: {path}" for name, path in document["outputs"].items())])
