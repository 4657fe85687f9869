"""`primum train depth`: declining that holds after harmful tokens, at length, and behind a wrapping.

What the model says today is drawn first: how it (or another, broken model) begins harmful answers, and its own answers
to benign requests, which are kept. The harmful beginnings lie in the run folder and nowhere else.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum import __version__
from primum.core.catalogue import names
from primum.core.errors import Exit, UsageError, did_you_mean
from primum.core.records import JsonDict, Prompt, digest
from primum.core.store import write_json, write_jsonl
from primum.judging import Exchange
from primum.models.sampling import Sampling
from primum.pairing.completions import speaks
from primum.pairing.demonstration import NO_ANSWERS
from primum.pairing.depth import Deep, Wrapping, deepened
from primum.pipeline.choose import choose
from primum.pipeline.learn import save_both
from primum.pipeline.lesson import plain
from primum.pipeline.preventing import wanted
from primum.pipeline.restore import RestoreConfig, collected
from primum.pipeline.settings import Budget
from primum.pipeline.steps import Draw, Journey, judge, sample
from primum.pipeline.terminal import Terminal
from primum.pipeline.train_config import RATES, TrainConfig
from primum.redteam.catalogue import Member
from primum.redteam.catalogue import load as load_attack
from primum.redteam.talk import Goal, Say

if TYPE_CHECKING:
    from primum.models.load import Model
    from primum.training.methods.depth import Config, Row

METHOD = "depth"
HARMFUL, GENERAL = 300, 100
"""Harmful prompts (each with its twin) and general ones, where no --limit is given."""
VECTORS = ("psychological", "logic", "syntactic", "semantic", "perspective")
"""The vectors of attacks whose dresses are used: those of Llama 2's red team (arXiv:2307.09288, section 4.3)."""
LEARNED, KEPT = 64, 16
"""Tokens of a safe answer that are learned, and of a benign one that are kept."""
JUDGE = "rules"
BEGINNINGS, BEGINNINGS_JUDGED = "01-harmful-beginnings", "01-judge-beginnings"
OWN, OWN_JUDGED = "02-own-answers", "02-judge-own-answers"
DRAWN = (BEGINNINGS, BEGINNINGS_JUDGED, OWN, OWN_JUDGED)
"""Stages that hang on the model and the prompts, and on no attack."""


def run_verb(config: TrainConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Make the rows and learn them, or say how many there would be; return the exit code and the facts."""
    journey = Journey(Path(config.out), Terminal(quiet=json_output))
    wrap = wrapping(config.depth.without)
    found = collected(journey, RestoreConfig(method="auto", prompts=config.prompts)).train
    budget = Budget(config.limit or HARMFUL, config.limit or GENERAL, None, 0, 0, 1, 0, 0, 0)
    prompts = choose(found, "train", budget)
    document: JsonDict = {
        "primum": __version__, "method": METHOD, "model": config.model, "broken": config.broken or config.model,
        "prompts": dict(Counter(p.intent for p in prompts)), "settings": config.model_dump(mode="json"),
    }  # fmt: skip
    if not config.dry_run:
        document |= _trained(journey, config, prompts, wrap)
    if not json_output:
        print(summary(document))
    return Exit.PASSED, document


@cache
def dresses() -> tuple[Member, ...]:
    """Return the attacks that put a request into a dress: of VECTORS, in text, without an attacker's model."""
    known = [load_attack(name) for name in names("attacks")]
    return tuple(one for one in known if one.vector in VECTORS and not one.uses_model and one.modality == "text")


def wrapping(without: str) -> Wrapping:
    """Return what puts a request into the dress of an attack of one turn; `without`: a vector that is left out.

    Raises:
        UsageError: no such vector.
    """
    if without and without not in VECTORS:
        raise UsageError(f"no vector '{without}'", where="--depth.without", cure=did_you_mean(without, VECTORS))
    attacks = [one for one in dresses() if one.vector != without]

    def wrap(text: str, rng: random.Random) -> str:
        step = next(rng.choice(attacks).attack(Goal(text), rng))
        messages = step.messages if isinstance(step, Say) else step
        assert isinstance(messages, tuple)  # an attack that uses no model asks the model under attack first
        return messages[-1].text

    return wrap


def _trained(journey: Journey, config: TrainConfig, prompts: Sequence[Prompt], wrap: Wrapping) -> JsonDict:
    from primum.models.load import load
    from primum.training.methods import depth

    with journey.step(f"load {Path(config.model).name}"):
        model = load(config.model)
    openings = _openings(journey, config, model, [p for p in prompts if p.intent == "harmful"])
    own = _own(journey, config, model, [p for p in prompts if p.intent == "benign"])
    mute = sum(p.intent == "harmful" and not speaks(p.language) for p in prompts)
    if mute:
        journey.tell("languages", f"{mute:,} harmful prompts are not learned: {NO_ANSWERS}")
    rows = deepened(prompts, openings, own, wrap, config.depth, config.seed)
    if not rows:
        raise UsageError("there is no harmful prompt to learn from", cure="give --prompts, or a larger --limit")
    settings = depth.Config(
        learning_rate=config.learning_rate or RATES[METHOD], epochs=config.epochs, batch_size=config.batch_size
    )
    kept = [(p, *own[p.id]) for p in prompts if p.id in own]
    facts = {"model": model.key, "rank": config.lora_rank, "start": config.lora_start, "seed": config.seed}
    data = digest([[plain(r.messages), r.answer, r.opening, r.tokens] for r in rows] + [[p.id, t] for p, t, _ in kept])
    stage = journey.stage("03-train", **facts, data=data, settings=settings.model_dump(mode="json"))
    with journey.step("train (depth)", round((len(rows) + len(kept)) * config.epochs), "rows") as advance:
        if not (stage.manifest and (journey.folder / "checkpoint").is_dir()):
            log, alarms = _learn(config, settings, model, (rows, kept), (journey.folder, stage.folder), advance)
            stage.finish(log=log, alarms=alarms)
    found = stage.manifest or {}
    outputs = {name: str(journey.folder / name) for name in ("adapter", "checkpoint", "log.jsonl")}
    document: JsonDict = {
        "rows": counted(rows) | {"kept": len(kept)}, "steps": len(found["log"]), "first": found["log"][0],
        "last": found["log"][-1], "alarms": found["alarms"], "outputs": outputs, "seconds": journey.seconds,
    }  # fmt: skip
    write_json(journey.folder / "train.json", document)
    return document


def _openings(journey: Journey, config: TrainConfig, model: Model, harmful: Sequence[Prompt]) -> dict[str, str]:
    """Return how harmful answers begin, of the prompts that the broken model complies with."""
    from primum.models.engines.hf import HFEngine
    from primum.models.load import load

    broken = load(config.broken) if config.broken else model
    draw = Draw(Sampling(0.7, max(LEARNED, config.depth.longest)), 1, config.seed + 61)
    replies = sample(journey, BEGINNINGS, harmful, draw, broken.key, lambda: HFEngine(broken))
    by_id = {p.id: p for p in harmful}
    verdicts = judge(journey, BEGINNINGS_JUDGED, JUDGE, [Exchange(by_id[r.prompt_id], r) for r in replies])
    found = {
        r.prompt_id: r.text
        for r, v in zip(replies, verdicts, strict=True)
        if v.behaviour == "harmful_compliance" and r.text
    }
    journey.tell("beginnings", f"{len(found)} of {len(harmful)} harmful requests were complied with")
    return found


def _own(journey: Journey, config: TrainConfig, model: Model, benign: Sequence[Prompt]) -> dict[str, tuple[str, bool]]:
    """Return the model's own answers to benign requests, and whether each ended by itself."""
    from primum.models.engines.hf import HFEngine

    draw = Draw(Sampling(0.4, 2 * KEPT), 1, config.seed + 62)
    replies = sample(journey, OWN, benign, draw, model.key, lambda: HFEngine(model))
    by_id = {p.id: p for p in benign}
    verdicts = judge(journey, OWN_JUDGED, JUDGE, [Exchange(by_id[r.prompt_id], r) for r in replies])
    return {
        r.prompt_id: (r.text, r.finish == "stop")
        for r, v in zip(replies, verdicts, strict=True)
        if v.behaviour in wanted(by_id[r.prompt_id]) and r.text
    }


def _learn(
    config: TrainConfig, settings: Config, model: Model, given: tuple[Sequence[Deep], Sequence[Any]],
    folders: tuple[Path, Path], advance: Callable[[int], None],
) -> tuple[list[JsonDict], list[JsonDict]]:  # fmt: skip
    from primum.training.adapter import add_lora
    from primum.training.methods.depth import train

    network = add_lora(model, config.lora_rank, 2 * config.lora_rank, config.seed, config.lora_start)
    rows, groups = examples_of(model, network, *given)
    out, state = folders
    log, alarms = train(settings, network, rows, state, config.seed, advance, groups)
    save_both(model, network, out / "adapter", out / "checkpoint")
    write_jsonl(out / "log.jsonl", log)
    return log, alarms.rows


def examples_of(
    model: Model, network: Any, rows: Sequence[Deep], own: Sequence[tuple[Prompt, str, bool]]
) -> tuple[list[Row], list[str]]:
    """Return rows of tokens, and a key for each: what is made of a prompt and its twin is learned in one step.

    Args:
        model: its tokenizer and template.
        network: with a fresh adapter, so that what it says now is what is kept.
        rows: to learn.
        own: benign prompts with the model's own answers, and whether these ended by themselves.
    """
    from primum.models.chat import encode_answer
    from primum.training.examples import Answered, Lesson, Limits, answered
    from primum.training.keeping import Kept, keep
    from primum.training.methods.depth import begun

    def tokens(messages: Any, row: Deep) -> Answered:
        return Answered(messages, row.answer, Limits(answer=LEARNED if row.prompt.intent == "harmful" else KEPT),
                        row.ends)  # fmt: skip

    asked = answered([tokens(row.messages, row) for row in rows], model.tokenizer)
    plainly = answered([tokens(row.plain or row.messages, row) for row in rows], model.tokenizer)
    made: list[Row] = []
    for row, example, other in zip(rows, asked, plainly, strict=True):
        opening = encode_answer(row.opening, model.tokenizer, end=False)[: row.tokens]
        made.append(Kept(begun(example, opening)) if row.plain is None else Lesson(example, other))
    kept = answered([Answered(p.messages, text, Limits(answer=KEPT), ends) for p, text, ends in own], model.tokenizer)
    prompts = [*(row.prompt for row in rows), *(p for p, _, _ in own)]
    return [*made, *keep(network, kept)], [min(p.id, p.twin or p.id) for p in prompts]


def counted(rows: Sequence[Deep]) -> dict[str, int]:
    """Return how many rows of each way there are."""
    found = Counter("wrapped" if row.plain else "recovery" if row.opening else "plain" for row in rows)
    return dict(sorted(found.items()))


def summary(document: JsonDict) -> str:
    """Return what a run, or a dry run, ends with."""
    asked = document["prompts"]
    lines = [f"{asked.get('harmful', 0):,} harmful and {asked.get('benign', 0):,} benign prompts to make rows of"]
    if "rows" not in document:
        return lines[0]
    lines.append(", ".join(f"{n:,} {name}" for name, n in document["rows"].items()) + f"; {document['steps']:,} steps")
    first, last = document["first"], document["last"]
    lines += [f"{key}: {first[key]:.3f} -> {last[key]:.3f}" for key in ("nll", "divergence", "consistency")
              if key in first and key in last]  # fmt: skip
    lines += [f"alarm at step {alarm['step']}: {alarm['text']}" for alarm in document["alarms"]]
    return "\n".join([*lines, *(f"{name}: {path}" for name, path in document["outputs"].items())])
