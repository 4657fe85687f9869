"""Rounds of votes: the newest model and the one before it on the same prompts, and what each round's votes say.

Llama 2 collected votes in batches, each on the newest model, with the previous one sampled beside it: that gives a
comparison of the two for nothing, and keeps the reward model's data near the policy (arXiv:2307.09288, sections 3.2.1
and 3.4.1). Three numbers tell how it goes: how often the new model wins, how often the reward model agrees with the
people on each new policy, and how many votes are close calls, which rises as the models become good.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from primum.core.progress import Advance, silent
from primum.core.records import Prompt, Reply, Verdict, from_json
from primum.judging import Exchange
from primum.judging.runner import judge_all
from primum.models.sampling import Engine, Sampling, reply_seed
from primum.studio import audit
from primum.studio.agree import Row, Share, share
from primum.studio.annotate import Incoming
from primum.studio.database import Database
from primum.studio.qualify import winner_id
from primum.studio.tables import Item, Round, Task

TEMPERATURES = (0.4, 1.0)
"""Each model's replies take them in turn: two variants with varied temperature (section 3.2.1)."""
SCORED_TOGETHER = 16


# ---------------------------------------------------------------- begin and fill a round


def join(db: Session, task: Task, newest: str, previous: str, by: str) -> Round:
    """Return the round of these two models: the task's last one where it is theirs, else a new one."""
    last = db.scalar(select(Round).where(Round.task_id == task.id).order_by(Round.number.desc()).limit(1))
    if last is not None and (last.newest, last.previous) == (newest, previous):
        return last
    held = db.scalar(select(func.max(Item.round)).where(Item.task_id == task.id)) or 0
    number = max(held, last.number if last else 0) + 1
    made = Round(task_id=task.id, number=number, newest=newest, previous=previous, by=by)
    db.add(made)
    db.flush()
    audit.record(db, by, "begin round", task.name, number=made.number, newest=newest, previous=previous)
    return made


def left(db: Session, task: Task, made: Round, prompts: Sequence[Prompt]) -> list[Prompt]:
    """Return the prompts of which the round has no item yet: a round that was stopped goes on there."""
    rows = db.scalars(select(Item.prompt).where(Item.task_id == task.id, Item.round == made.number))
    done = {row["id"] for row in rows}
    return [prompt for prompt in dict.fromkeys(prompts) if prompt.id not in done]


def sample(
    prompts: Sequence[Prompt], engines: tuple[Engine, Engine], seed: int, max_new_tokens: int, number: int
) -> tuple[list[Incoming], int]:
    """Let the newest and the previous model answer; return the items, and how many gave the same words twice.

    Args:
        prompts: what they are asked.
        engines: the newest model and the previous one.
        seed: the seed of the round.
        max_new_tokens: longest reply, in tokens.
        number: the round's number; it decides which model takes which temperature.
    """
    sides = [
        _replies(engine, prompts, Sampling(TEMPERATURES[(at + number) % 2], max_new_tokens), seed + at)
        for at, engine in enumerate(engines)
    ]
    pairs = list(zip(prompts, *sides, strict=True))
    kept = [Incoming(prompt, (new, old), round=number) for prompt, new, old in pairs if new.text != old.text]
    return kept, len(pairs) - len(kept)


def _replies(engine: Engine, prompts: Sequence[Prompt], sampling: Sampling, seed: int) -> list[Reply]:
    seeds = [reply_seed(seed, prompt.messages, 0) for prompt in prompts]
    made = engine([prompt.messages for prompt in prompts], sampling, seeds)
    return [
        Reply(prompt.id, engine.model_name, sampling.name, one.text, one.finish, one.prompt_tokens, one.reply_tokens,
              own, one.prompt_cut) for prompt, one, own in zip(prompts, made, seeds, strict=True)
    ]  # fmt: skip


def prioritise(items: Sequence[Incoming], judges: Sequence[str]) -> list[Incoming]:
    """Return the items with their priority: how far the judges disagree, so that people look there first.

    Beside it stands, for each reply, the highest p(harmful) that a judge gave it: such a reply is blurred.

    Raises:
        UsageError: no such judge.
    """
    exchanges = [Exchange(item.prompt, reply) for item in items for reply in item.replies]
    said = [judge_all(judge, exchanges) for judge in judges]
    by_reply: dict[str, list[Verdict]] = {}
    for verdicts in said:
        for verdict in verdicts:
            by_reply.setdefault(verdict.reply_id, []).append(verdict)
    return [
        replace(
            item, priority=statistics.fmean(disagreement(by_reply[reply.id]) for reply in item.replies),
            harm=tuple(harm(by_reply[reply.id]) for reply in item.replies),
        ) for item in items
    ]  # fmt: skip


def harm(verdicts: Sequence[Verdict]) -> float:
    """Return the highest p(harmful) that judges gave a reply; one that calls it harmful and names none says 1."""
    said = [v.p_harmful if v.p_harmful is not None else float(v.behaviour == "harmful_compliance") for v in verdicts]
    return max(said, default=0.0)


Score = Callable[[Sequence[Exchange]], list[float]]


def score(database: Database, task_id: int, scorer: Score, by: str, advance: Advance = silent) -> int:
    """Let a reward model score the replies of all items of a task that have no scores; return how many items.

    Kept batch by batch: what was stopped goes on with the rest. An item with a score that is no number keeps none.
    """
    with database.reading() as db:
        todo = [item.id for item in db.scalars(_unscored(task_id))]
    done = 0
    for start in range(0, len(todo), SCORED_TOGETHER):
        part = todo[start : start + SCORED_TOGETHER]
        with database.reading() as db:
            held = [(item.id, _exchanges(item)) for item in db.scalars(select(Item).where(Item.id.in_(part)))]
        values = iter(scorer([one for _, exchanges in held for one in exchanges]))
        found = {id_: {one.reply.id: next(values) for one in exchanges} for id_, exchanges in held}
        whole = {id_: scores for id_, scores in found.items() if all(math.isfinite(value) for value in scores.values())}
        with database.writing() as db:
            for item in db.scalars(select(Item).where(Item.id.in_(whole))):
                item.rewards = whole[item.id]
            audit.record(db, by, "score items", str(task_id), items=len(whole))
        done += len(whole)
        advance(len(part))
    return done


def unscored(db: Session, task_id: int) -> int:
    """Return how many items of a task have no scores."""
    return len(db.scalars(_unscored(task_id)).all())


def _unscored(task_id: int) -> Any:
    return select(Item).where(Item.task_id == task_id, Item.rewards.is_(None)).order_by(Item.id)


def _exchanges(item: Item) -> list[Exchange]:
    prompt = from_json(Prompt, item.prompt)
    return [Exchange(prompt, from_json(Reply, reply)) for reply in item.replies]


def disagreement(verdicts: Sequence[Verdict]) -> float:
    """Return the share of pairs of verdicts on one reply that name different behaviours, 0 to 1.

    A judge that could not answer disagrees with one that could: somebody must look.
    """
    pairs = list(combinations([verdict.behaviour for verdict in verdicts], 2))
    return sum(one != other for one, other in pairs) / len(pairs) if pairs else 0.0


# ---------------------------------------------------------------- what a round's votes say


class Numbers(NamedTuple):
    """One round: who played, how often the newest won, and how hard the choices were.

    `reward`: votes in which the reply that the reward model scored higher is the one that won. `close`: votes that are
    a tie or were called negligibly better. `seconds`: the median over votes.
    """

    number: int
    newest: str
    previous: str
    votes: int
    won: Share
    level: int
    reward: Share
    close: Share
    seconds: float | None


class Trend(NamedTuple):
    """Whether the share of close calls rises from round to round: change a round, z, and the two-sided p."""

    slope: float
    z: float
    p: float


def trend(rows: Sequence[Numbers]) -> Trend | None:
    """Return the linear trend of close calls over rounds (Cochran 1954, Biometrics 10:417; Armitage 1955).

    slope = sum n_i (x_i - x) (p_i - p) / sum n_i (x_i - x)^2, z = slope sqrt(sum n_i (x_i - x)^2 / (p (1 - p))), with x
    the round's number and both means over votes. Votes are taken to be independent. None: fewer than two rounds with
    votes, or all calls alike.
    """
    held = [(row.number, row.close.n, row.close.k) for row in rows if row.close.n]
    total, close = sum(n for _, n, _ in held), sum(k for _, _, k in held)
    if len(held) < 2 or close in (0, total):
        return None
    middle, share_ = sum(n * x for x, n, _ in held) / total, close / total
    spread = sum(n * (x - middle) ** 2 for x, n, _ in held)
    slope = sum((x - middle) * (k - n * share_) for x, n, k in held) / spread
    z = slope * math.sqrt(spread / (share_ * (1 - share_)))
    return Trend(slope, z, math.erfc(abs(z) / math.sqrt(2)))


def numbers(db: Session, task: Task, rows: Sequence[Row]) -> list[Numbers]:
    """Return the numbers of every round that was begun or voted on, in order.

    Args:
        db: a session that reads.
        task: the task.
        rows: the votes that count (agree.rows_of).
    """
    known = {one.number: one for one in db.scalars(select(Round).where(Round.task_id == task.id))}
    by_round: dict[int, list[Row]] = {number: [] for number in known}
    for row in rows:
        if row.record.get("outcome") != "skip":
            by_round.setdefault(row.item.round, []).append(row)
    return [_numbers(number, known.get(number), found) for number, found in sorted(by_round.items())]


def _numbers(number: int, made: Round | None, rows: Sequence[Row]) -> Numbers:
    newest, previous = (made.newest, made.previous) if made else ("", "")
    winners = [w for row in rows if (w := _winner(row)) in (newest, previous) and w]
    level = sum(winner_id(row.record) is None for row in rows)
    agreed = [right for row in rows if (right := _reward_is_right(row)) is not None]
    close = sum(winner_id(row.record) is None or row.record.get("strength") == "unsure" for row in rows)
    seconds = [row.record["seconds"] for row in rows if row.record.get("seconds") is not None]
    return Numbers(
        number, newest, previous, len(rows), share(winners.count(newest), len(winners)), level,
        share(sum(agreed), len(agreed)), share(close, len(rows)), statistics.median(seconds) if seconds else None,
    )  # fmt: skip


def _winner(row: Row) -> str | None:
    """Return the model whose reply won, where the replies are of two models."""
    models = {reply["id"]: reply["model"] for reply in row.item.replies}
    return models.get(winner_id(row.record) or "") if len(set(models.values())) > 1 else None


def _reward_is_right(row: Row) -> bool | None:
    """Return whether the winner has the highest score alone; None where there is no winner or no score."""
    scores, won = row.item.rewards, winner_id(row.record)
    if not scores or won not in scores:
        return None
    return all(scores[won] > score for reply, score in scores.items() if reply != won)
