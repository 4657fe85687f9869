"""One benchmark on one model: items to answers to scores, each step resumable, as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from primum.core.errors import BadInputError
from primum.core.records import JsonDict, Prompt, Reply, Verdict, digest, system
from primum.evaluation.items import Answer, Benchmark, Item, scored
from primum.evaluation.tables import ScoredItem, Table
from primum.judging import Exchange
from primum.models.sampling import Engine, Sampling
from primum.pipeline.steps import Draw, Journey, judge, sample

if TYPE_CHECKING:
    from primum.models.load import Model

SHARD = 64
"""Items whose likelihoods are written at a time."""


@dataclass(frozen=True)
class Subject:
    """The model that is asked: what its answers are keyed by, and how it is loaded when it is needed.

    `likelihood` gives it in the number format in which likelihoods are taken.
    """

    key: str
    likelihood_key: str
    engine: Callable[[], Engine]
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


def chosen(benchmark: Benchmark, ask: Ask) -> list[Item]:
    """Return the items to ask, each once: the first of the benchmark's order, or the first of each group.

    Raises:
        BadInputError: there are none.
    """
    most = ask.per_group or (benchmark.per_group if ask.limit is None else None)
    seen: set[str] = set()
    taken: dict[tuple[str, ...], int] = {}

    def wanted(item: Item) -> bool:
        fresh = item.id not in seen
        seen.add(item.id)
        if fresh and most is not None:
            taken[item.groups] = taken.get(item.groups, 0) + 1
            return taken[item.groups] <= most
        return fresh

    items = list(islice(filter(wanted, benchmark.items(ask.source)), ask.limit))
    if not items:
        where = str(ask.source or benchmark.name)
        raise BadInputError(f"{benchmark.name} has no items", where=where, cure="check --data and --limit")
    return items


def measure(journey: Journey, benchmark: Benchmark, ask: Ask, subject: Subject, judges: Sequence[str]) -> list[Table]:
    """Return the benchmark's table, one for each judge that reads its replies."""
    items = chosen(benchmark, ask)
    facts = {"cluster": benchmark.cluster, "licence": benchmark.licence, "about": benchmark.about,
             "own_judge": benchmark.judge, "comparable": benchmark.comparable, "scorer": benchmark.scorer,
             "limit": ask.limit, "source": str(ask.source) if ask.source else None}  # fmt: skip
    if benchmark.by_likelihood:
        facts |= {"model": subject.likelihood_key, "sampling": "likelihood"}
        answers = _likelihoods(journey, benchmark, items, subject)
        return [_table(benchmark, benchmark.judge, items, answers, facts)]
    replies = _replies(journey, benchmark, items, ask, subject)
    facts |= {"model": subject.key, "sampling": ask.sampling.name, "seed": ask.seed, "system": ask.system}
    if not benchmark.judged:
        return [_table(benchmark, benchmark.judge, items, [_answer(reply) for reply in replies], facts)]
    return [
        _table(benchmark, name, items, _judged(journey, benchmark, items, replies, name), facts)
        for name in judges or (benchmark.judge,)
    ]


def _table(benchmark: Benchmark, judge: str, items: Sequence[Item], answers: Sequence[Answer], facts: Any) -> Table:
    rows = tuple(_scored(benchmark, item, answer) for item, answer in zip(items, answers, strict=True))
    return Table(benchmark.name, judge, benchmark.metrics, rows, facts)


def _scored(benchmark: Benchmark, item: Item, answer: Answer) -> ScoredItem:
    numbers, reasons = scored(benchmark.score(item, answer))
    said = answer.verdict.behaviour or "unscored" if answer.verdict else ""
    finish = "" if answer.logps else answer.finish
    shown = item.key or item.prompt.text
    return ScoredItem(
        item.id, item.cluster, numbers, reasons, item.groups, shown, answer.text, said, finish, answer.tokens
    )


def _replies(journey: Journey, benchmark: Benchmark, items: Sequence[Item], ask: Ask, subject: Subject) -> list[Reply]:
    asked = [_with_system(item.prompt, ask.system) for item in items]
    unique = list({prompt.id: prompt for prompt in asked}.values())
    draw = Draw(ask.sampling, 1, ask.seed)
    replies = sample(journey, f"1-{benchmark.name}-replies", unique, draw, subject.key, subject.engine)
    by_prompt = {reply.prompt_id: reply for reply in replies}
    return [by_prompt[prompt.id] for prompt in asked]


def _with_system(prompt: Prompt, text: str | None) -> Prompt:
    return replace(prompt, messages=(system(text), *prompt.messages)) if text else prompt


def _answer(reply: Reply, verdict: Verdict | None = None) -> Answer:
    return Answer(reply.text, finish=reply.finish, tokens=reply.reply_tokens, verdict=verdict)


def _judged(
    journey: Journey, benchmark: Benchmark, items: Sequence[Item], replies: Sequence[Reply], name: str
) -> list[Answer]:
    exchanges = [Exchange(item.prompt, reply) for item, reply in zip(items, replies, strict=True)]
    verdicts = judge(journey, f"2-{benchmark.name}-verdicts-by-{name}", name, exchanges)
    return [_answer(reply, verdict) for reply, verdict in zip(replies, verdicts, strict=True)]


def _likelihoods(journey: Journey, benchmark: Benchmark, items: Sequence[Item], subject: Subject) -> list[Answer]:
    """Take likelihoods, a shard of items at a time: a run that was killed goes on at the next shard."""
    from primum.evaluation.likelihood import Request, loglikelihoods

    asked = digest([[item.prompt.text, list(item.options)] for item in items])
    stage = journey.stage(f"1-{benchmark.name}-likelihoods", model=subject.likelihood_key, asked=asked)

    def work(index: int, part: Sequence[Item]) -> list[JsonDict]:
        requests = [Request(item.prompt.text, option) for item in part for option in item.options]
        found = iter(loglikelihoods(subject.likelihood(), requests))
        per_item = [[next(found) for _ in item.options] for item in part]
        return [{"logps": [one.logp for one in row], "lengths": [one.tokens for one in row]} for row in per_item]

    with journey.step(f"{benchmark.name} likelihoods", len(items), "items") as advance:
        rows = stage.map(items, SHARD, work, advance)
        if not stage.manifest:
            stage.finish(items=len(rows))
    return [Answer(logps=tuple(row["logps"]), lengths=tuple(row["lengths"])) for row in rows]


def settings_of(benchmark: Benchmark, temperature: float | None, tokens: int | None) -> Sampling:
    """Return the benchmark's decoding with what the user changed."""
    changed: Mapping[str, Any] = {"temperature": temperature, "max_new_tokens": tokens}
    return replace(benchmark.settings, **{key: value for key, value in changed.items() if value is not None})
