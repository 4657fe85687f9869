"""One benchmark on one model: items to answers to scores, each step resumable, as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from primum.core.errors import BadInputError
from primum.core.records import JsonDict, Prompt, Reply, digest, from_json, with_system
from primum.core.store import Stage, fingerprint, read_json
from primum.evaluation.disclaimer import with_disclaimers
from primum.evaluation.items import Answer, Benchmark, Case, Gauge, Gauging, Item, scored
from primum.evaluation.tables import LIKELIHOOD, ScoredItem, Table
from primum.judging import Exchange
from primum.judging.options import ChosenJudge
from primum.models.runner import Asked, Plan, draw_all, drawn, lay_in, reopen_failed
from primum.models.sampling import Sampling, Streaming
from primum.pipeline.steps import VERSION, Journey, judge, prompts_key
from primum.report.words import too_long

if TYPE_CHECKING:
    from primum.models.load import Model

SHARD = 64
"""Items whose likelihoods are written at a time."""
REPLIES = 1000
"""Replies in one file."""


@dataclass(frozen=True)
class Subject:
    """The model that is asked: what its answers are keyed by, and how it is loaded when it is needed.

    `engine_name` is the engine's id: engines round differently, so replies are keyed by it too. `likelihood` gives the
    model in the number format in which likelihoods are taken.
    """

    key: str
    likelihood_key: str
    engine_name: str
    engine: Callable[[], Streaming]
    likelihood: Callable[[], Model]


@dataclass(frozen=True)
class Ask:
    """How a benchmark is asked: which of its items, before them what, and how replies are drawn."""

    sampling: Sampling
    seed: int = 0
    system: str | None = None
    limit: int | None = None
    per_group: int | None = None
    source: Path | None = None
    readers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Role -> the model that reads the replies in it."""


class Picked(NamedTuple):
    """The items to ask, and how many were left out because they ask what one before them asks."""

    items: list[Item]
    repeated: int


def picked(benchmark: Benchmark, ask: Ask) -> Picked:
    """Return the items to ask, each once: the first of the benchmark's order, or the first of each group.

    Raises:
        BadInputError: there are none.
    """
    most = ask.per_group or (benchmark.per_group if ask.limit is None else None)
    seen: set[str] = set()
    taken: dict[tuple[str, ...], int] = {}
    repeated = 0

    def wanted(item: Item) -> bool:
        nonlocal repeated
        fresh = item.id not in seen
        seen.add(item.id)
        repeated += not fresh
        if fresh and most is not None:
            group = tuple(one for one in item.groups if one.partition(":")[0] == benchmark.counted_by) or item.groups
            taken[group] = taken.get(group, 0) + 1
            return taken[group] <= most
        return fresh

    items = list(islice(filter(wanted, benchmark.items(ask.source)), ask.limit))
    if not items:
        where = str(ask.source or benchmark.name)
        raise BadInputError(f"{benchmark.name} has no items", where=where, cure="check --data and --limit")
    return Picked(items, repeated)


def chosen(benchmark: Benchmark, ask: Ask) -> list[Item]:
    """Return the items to ask."""
    return picked(benchmark, ask).items


def measure(
    journey: Journey, benchmark: Benchmark, ask: Ask, subject: Subject, judges: Sequence[ChosenJudge]
) -> list[Table]:
    """Return the benchmark's table, one for each judge that reads its replies (`judges`, where it is judged)."""
    items, repeated = picked(benchmark, ask)
    benchmark = with_disclaimers(benchmark, items)
    facts = {"cluster": benchmark.cluster, "licence": benchmark.licence, "about": benchmark.about,
             "own_judge": benchmark.judge, "comparable": benchmark.comparable, "scorer": benchmark.scorer,
             "limit": ask.limit, "source": str(ask.source) if ask.source else None, "repeated": repeated}  # fmt: skip
    if benchmark.by_likelihood:
        facts |= {"model": subject.likelihood_key, "sampling": LIKELIHOOD, "unused": unused(benchmark, ask)}
        answers = _likelihoods(journey, benchmark, items, subject)
        return [_table(benchmark, benchmark.judge, items, answers, facts)]
    replies = _replies(journey, benchmark, items, ask, subject)
    roles = (*benchmark.readers, *benchmark.gauges)
    facts |= {"model": subject.key, "engine": subject.engine_name, "sampling": ask.sampling.name, "seed": ask.seed,
              "system": ask.system}  # fmt: skip
    facts |= {"readers": {role: ask.readers[role] for role in roles if role in ask.readers}} if roles else {}
    facts |= {"not_named": {role: gauge.needs for role, gauge in benchmark.gauges.items() if role not in ask.readers}}
    answers = _gauged(journey, benchmark, items, [_answer(reply) for reply in replies], ask.readers)
    wider = benchmark.gauged(ask.readers)
    if not benchmark.judged:
        answers = _read(journey, benchmark, items, answers, ask.readers)
        return [_table(wider, benchmark.judge, items, answers, facts)]
    return [
        _table(wider, one.id, items, _judged(journey, benchmark, items, replies, answers, one), {**facts, **one.facts})
        for one in judges
    ]


def _table(benchmark: Benchmark, judge: str, items: Sequence[Item], answers: Sequence[Answer], facts: Any) -> Table:
    rows = tuple(_scored(benchmark, item, answer) for item, answer in zip(items, answers, strict=True))
    return Table(benchmark.name, judge, benchmark.metrics, rows, facts)


def _scored(benchmark: Benchmark, item: Item, answer: Answer) -> ScoredItem:
    found = dict.fromkeys(benchmark.metrics, "no reply") if answer.finish == "error" else benchmark.score(item, answer)
    numbers, reasons = scored(found)
    said = answer.verdict.behaviour or "unscored" if answer.verdict else ""
    finish = "" if answer.logps else answer.finish
    shown = item.key or item.prompt.text
    return ScoredItem(
        item.id, item.cluster, numbers, reasons, item.groups, shown, answer.text, said, finish, answer.tokens,
        answer.prompt_cut,
    )  # fmt: skip


def _replies(journey: Journey, benchmark: Benchmark, items: Sequence[Item], ask: Ask, subject: Subject) -> list[Reply]:
    """Draw a reply to each prompt; a run that was killed goes on with the next reply.

    Prompts that begin alike stand together, so that engines read what they share once.
    """
    asked = [told(item.prompt, ask.system) for item in items]
    unique = sorted({prompt.id: prompt for prompt in asked}.values(), key=lambda prompt: (prompt.text, prompt.id))
    plan = Plan(ask.sampling, seed=ask.seed, shard=REPLIES)
    facts = {"model": subject.key, "engine": subject.engine_name, "sampling": ask.sampling.name, "seed": ask.seed}
    stage = _begun(journey, f"1-{benchmark.name}-replies", facts, unique, plan)
    reopen_failed(stage.folder)
    with journey.step(f"{benchmark.name} replies", len(unique), "replies") as advance:
        if stage.manifest:
            advance(len(unique))
        else:
            wanted = (Asked(prompt.id, prompt.messages) for prompt in unique)
            draw_all(stage.folder, stage.key_facts, wanted, plan, subject.engine, lambda replies, _: advance(replies))
    by_prompt = {row["prompt_id"]: from_json(Reply, row) for row in stage.rows()}
    return [by_prompt[prompt.id] for prompt in asked]


def _begun(journey: Journey, name: str, facts: JsonDict, prompts: Sequence[Prompt], plan: Plan) -> Stage:
    """Return the folder of a benchmark's replies; those drawn alike for other items of it (a smaller limit) go in."""
    held = journey.folder / "steps" / name / "key.json"
    before = read_json(held)["facts"] if held.exists() else {}
    key = {**facts, "prompts": prompts_key(prompts)}
    alike = {**before, "prompts": key["prompts"]} == {"step": name, "version": VERSION, **key}
    found = list(drawn(held.parent)) if alike and before["prompts"] != key["prompts"] else []
    stage = journey.stage(name, **key)
    if found:
        used = lay_in(stage.folder, found, [prompt.id for prompt in prompts], plan)
        journey.terminal.note(f"  {used:,} of {len(found):,} replies that lie here from other items are used again")
    return stage


def told(prompt: Prompt, text: str | None) -> Prompt:
    """Return a prompt behind a system prompt, where there is one."""
    return replace(prompt, messages=with_system(prompt.messages, text))


def _answer(reply: Reply) -> Answer:
    return Answer(reply.text, finish=reply.finish, tokens=reply.reply_tokens, prompt_cut=reply.prompt_cut)


def _read(
    journey: Journey, benchmark: Benchmark, items: Sequence[Item], answers: Sequence[Answer], readers: Mapping[str, str]
) -> list[Answer]:
    """Let each model that is named for a role read all replies; one model is in memory at a time."""
    read = {
        role: _read_by(journey, f"2-{benchmark.name}-{role}", readers[role],
                       [reader(item, answer.text) for item, answer in zip(items, answers, strict=True)])
        for role, reader in benchmark.readers.items() if role in readers
    }  # fmt: skip
    return [answer._replace(read={role: found[i] for role, found in read.items()}) for i, answer in enumerate(answers)]


def _read_by(journey: Journey, name: str, model: str, asked: Sequence[tuple[str, str]]) -> list[float]:
    """Return the probability of each continuation by a model; resumes at the shard where it was stopped."""
    from primum.evaluation.likelihood import VERSION, Request, loglikelihoods
    from primum.models.load import load

    key = digest([list(one) for one in asked])
    stage = journey.stage(name, model=model, weights=fingerprint(model), asked=key, likelihood=VERSION)
    made: list[Model] = []

    def work(index: int, part: Sequence[tuple[str, str]]) -> list[JsonDict]:
        made[:] = made or [load(model, chat=False)]
        found = loglikelihoods(made[0], [Request(*one) for one in part])
        return [{"p": math.exp(one.logp), "cut": one.context_cut} for one in found]

    with journey.step(name.split("-", 1)[1].replace("-", " by "), len(asked), "replies") as advance:
        rows = stage.map(asked, SHARD, work, advance)
        if not stage.manifest:
            stage.finish(items=len(rows))
    cut = sum(row["cut"] > 0 for row in rows)
    if cut:
        journey.tell(name, f"{model} reads {too_long(cut, 'text')}")
    return [row["p"] for row in rows]


def _gauged(
    journey: Journey, benchmark: Benchmark, items: Sequence[Item], answers: Sequence[Answer], named: Mapping[str, str]
) -> list[Answer]:
    """Measure all replies by what is named for each of the benchmark's gauges, one after the other."""
    found: list[dict[str, Any]] = [{} for _ in answers]
    said = [(item, answer) for item, answer in zip(items, answers, strict=True)]
    for role, gauge in benchmark.gauges.items():
        if role in named:
            rows = _gauged_by(journey, f"2-{benchmark.name}-by-{role}", gauge, named[role], said)
            found = [{**one, **row} for one, row in zip(found, rows, strict=True)]
    return [answer._replace(gauged=one) for answer, one in zip(answers, found, strict=True)]


def _gauged_by(journey: Journey, name: str, gauge: Gauge, place: str, cases: Sequence[Case]) -> list[JsonDict]:
    """Return what one gauge measures of each reply; resumes at the shard where it was stopped."""
    from primum.evaluation.gauges import VERSION

    asked = digest([[item.id, answer.text, answer.finish] for item, answer in cases])
    stage = journey.stage(name, named=place, weights=fingerprint(place), asked=asked, gauges=VERSION)
    made: list[Gauging] = []

    def work(index: int, part: Sequence[Case]) -> list[JsonDict]:
        made[:] = made or [gauge.opened(place)]
        return [dict(one) for one in made[0](part)]

    with journey.step(name.split("-", 1)[1].replace("-", " "), len(cases), "replies") as advance:
        rows = stage.map(cases, SHARD, work, advance)
        if not stage.manifest:
            stage.finish(items=len(rows))
    return rows


def _judged(
    journey: Journey, benchmark: Benchmark, items: Sequence[Item], replies: Sequence[Reply],
    answers: Sequence[Answer], by: ChosenJudge,
) -> list[Answer]:  # fmt: skip
    exchanges = [Exchange(item.prompt, reply) for item, reply in zip(items, replies, strict=True)]
    verdicts = judge(journey, f"2-{benchmark.name}-verdicts-by-{by.id}", by, exchanges)
    return [answer._replace(verdict=verdict) for answer, verdict in zip(answers, verdicts, strict=True)]


def _likelihoods(journey: Journey, benchmark: Benchmark, items: Sequence[Item], subject: Subject) -> list[Answer]:
    """Take likelihoods, a shard of items at a time: a run that was killed goes on at the next shard."""
    from primum.evaluation.likelihood import VERSION, Request, loglikelihoods

    asked = digest([[item.prompt.text, list(item.options)] for item in items])
    name = f"1-{benchmark.name}-likelihoods"
    stage = journey.stage(name, model=subject.likelihood_key, asked=asked, likelihood=VERSION)

    def work(index: int, part: Sequence[Item]) -> list[JsonDict]:
        requests = [Request(item.prompt.text, option) for item in part for option in item.options]
        found = iter(loglikelihoods(subject.likelihood(), requests))
        per_item = [[next(found) for _ in item.options] for item in part]
        return [
            {"logps": [one.logp for one in row], "lengths": [one.tokens for one in row],
             "prompt_cut": max((one.context_cut for one in row), default=0)}
            for row in per_item
        ]  # fmt: skip

    with journey.step(f"{benchmark.name} likelihoods", len(items), "items") as advance:
        rows = stage.map(items, SHARD, work, advance)
        if not stage.manifest:
            stage.finish(items=len(rows))
    return [
        Answer(logps=tuple(row["logps"]), lengths=tuple(row["lengths"]), prompt_cut=row["prompt_cut"]) for row in rows
    ]


def unused(benchmark: Benchmark, ask: Ask) -> JsonDict:
    """Return what the user set and likelihoods do not know: they are of the bare text, and nothing is drawn."""
    if not benchmark.by_likelihood:
        return {}
    usual = benchmark.settings
    asked = {"system": (ask.system, None), "temperature": (ask.sampling.temperature, usual.temperature),
             "reply_tokens": (ask.sampling.max_new_tokens, usual.max_new_tokens)}  # fmt: skip
    return {name: value for name, (value, default) in asked.items() if value != default}
