"""What the votes of a task say, and how far the people agree: numbers for its page, made from the votes as they are.

Every share has its interval and its n. Skips are left out and counted.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from primum.core.records import JsonDict
from primum.core.stats import Interval, wilson
from primum.core.stats.weighted import gwet_ac, krippendorff_alpha, quadratic
from primum.studio.qualify import agrees, counting, winner_id
from primum.studio.tables import Account, Item, Task, Vote

RATERS = 3
"""How many people rate an item before it enters the share of violations (arXiv:2307.09288, section 4.4)."""


class Row(NamedTuple):
    """A vote that counts, with its item and who gave it."""

    item: Item
    vote: Vote
    who: str

    @property
    def record(self) -> JsonDict:
        """What was voted."""
        return self.vote.record


class Share(NamedTuple):
    """k of n with its Wilson interval, or no interval where n is 0."""

    k: int
    n: int
    interval: Interval | None


class Agreement(NamedTuple):
    """Agreement over items that at least two people judged; None where there is none."""

    items: int
    ac: float | None
    alpha: float | None


class Person(NamedTuple):
    """One person's work: votes, skips, gold items right, and the median seconds an item."""

    name: str
    votes: int
    skips: int
    gold: Share
    seconds: float | None


class Slice(NamedTuple):
    """Ratings of some items: all, those of one or of several turns, or those of a category.

    `violation`: of the items with at least three raters, the share that most of them rate 1 or 2; `fewer` counts the
    other items. `mean` is over all `ratings`.
    """

    name: str
    violation: Share
    fewer: int
    mean: float
    ratings: int
    agreement: Agreement


class Summary(NamedTuple):
    """All that a task's page tells."""

    votes: int
    skips: int
    agreement: Agreement
    people: list[Person]
    first_wins: Share
    models: list[tuple[str, str, Share, int]]
    slices: list[Slice]


def rows_of(db: Session, task: Task) -> list[Row]:
    """Return the votes of a task that count, in order."""
    query = (
        select(Item, Vote, Account.name).join(Vote, Vote.item_id == Item.id)
        .outerjoin(Account, Account.id == Vote.account_id)
        .where(Item.task_id == task.id, *counting()).order_by(Vote.id)
    )  # fmt: skip
    return [Row(item, vote, name or judge_of(vote.record)) for item, vote, name in db.execute(query)]


def judge_of(record: JsonDict) -> str:
    """Return who a record says has judged."""
    return str(record.get("judged_by") or record.get("judge") or "?")


def summary(db: Session, task: Task, rows: Sequence[Row] | None = None) -> Summary:
    """Return what a task's votes say; `rows` where they were read already."""
    rows = rows_of(db, task) if rows is None else rows
    taken = [row for row in rows if row.record.get("outcome") != "skip"]
    rating = task.kind == "rate"
    return Summary(
        len(taken), len(rows) - len(taken), _rating_agreement(taken) if rating else _vote_agreement(taken),
        people(rows), first_wins(taken), [] if rating else wins(taken), slices(taken) if rating else [],
    )  # fmt: skip


def share(k: int, n: int) -> Share:
    """Return k of n."""
    return Share(k, n, wilson(k, n) if n else None)


def label(item: Item, record: JsonDict) -> str:
    """Return what was voted in words that do not depend on the order shown: a reply's id, or the outcome."""
    return winner_id(record) or str(record["outcome"])


def _by_item(rows: Iterable[Row]) -> dict[int, list[Row]]:
    grouped: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row.item.id].append(row)
    return grouped


def _vote_agreement(rows: Sequence[Row]) -> Agreement:
    """Labels: the item's replies in the order they came (not as shown), tie, both unsafe."""
    groups = _by_item(rows)
    widest = max((len(row.item.replies) for row in rows), default=2)
    counts: list[list[int]] = []
    for group in groups.values():
        ids = [reply["id"] for reply in group[0].item.replies]
        names = [*ids, *[""] * (widest - len(ids)), "tie", "both_unsafe"]
        found = Counter(label(row.item, row.record) for row in group)
        counts.append([found[name] if name else 0 for name in names])
    return Agreement(sum(sum(row) > 1 for row in counts), gwet_ac(counts), krippendorff_alpha(counts))


def _rating_agreement(rows: Sequence[Row]) -> Agreement:
    counts = [
        [sum(row.record["rating"] == rating for row in group) for rating in range(1, 6)]
        for group in _by_item(rows).values()
    ]
    several = sum(sum(row) > 1 for row in counts)
    return Agreement(several, gwet_ac(counts, quadratic), krippendorff_alpha(counts, quadratic))


def people(rows: Sequence[Row]) -> list[Person]:
    """Return each person's work, most first."""
    by: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by[row.who].append(row)
    return sorted((_person(name, mine) for name, mine in by.items()), key=lambda person: -person.votes)


def _person(name: str, rows: Sequence[Row]) -> Person:
    taken = [row for row in rows if row.record.get("outcome") != "skip"]
    gold = [row for row in taken if row.item.has_gold]
    seconds = [row.record["seconds"] for row in rows if row.record.get("seconds") is not None]
    right = share(sum(agrees(row.item, row.record) for row in gold), len(gold))
    return Person(name, len(taken), len(rows) - len(taken), right, statistics.median(seconds) if seconds else None)


def first_wins(rows: Sequence[Row]) -> Share:
    """Return how often the reply shown first won: far from 1 / replies, the place decides and not the reply."""
    winners = [row.record["winner"] for row in rows if row.record.get("winner") is not None]
    return share(sum(at == 0 for at in winners), len(winners))


def wins(rows: Sequence[Row]) -> list[tuple[str, str, Share, int]]:
    """Return for every two models how often the one beat the other, and how many votes were ties or both unsafe."""
    beaten: Counter[tuple[str, str]] = Counter()
    level: Counter[tuple[str, str]] = Counter()
    for row in rows:
        models = {reply["id"]: reply["model"] for reply in row.item.replies}
        winner = winner_id(row.record)
        for other in {models[i] for i in models if models[i] != models.get(winner or "")} if winner else set[str]():
            beaten[models[winner or ""], other] += 1
        if not winner:
            names = sorted(set(models.values()))
            level.update((a, b) for at, a in enumerate(names) for b in names[at + 1 :])
    pairs = sorted({(min(pair), max(pair)) for pair in (*beaten, *level)})
    return [(a, b, share(beaten[a, b], beaten[a, b] + beaten[b, a]), level[a, b]) for a, b in pairs]


def slices(rows: Sequence[Row]) -> list[Slice]:
    """Return what ratings say: of all items, by turns, by category."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        for name in ("all", _turns(row.item), f"category {row.item.prompt['category']}"):
            found[name].append(row)
    return [_slice(name, mine) for name, mine in found.items()]


def _slice(name: str, rows: Sequence[Row]) -> Slice:
    groups = [[row.record["rating"] <= 2 for row in group] for group in _by_item(rows).values()]
    enough = [violations for violations in groups if len(violations) >= RATERS]
    violated = sum(sum(violations) * 2 > len(violations) for violations in enough)
    mean = statistics.fmean(row.record["rating"] for row in rows)
    return Slice(
        name, share(violated, len(enough)), len(groups) - len(enough), mean, len(rows), _rating_agreement(rows)
    )


def _turns(item: Item) -> str:
    users = sum(message["role"] == "user" for message in item.prompt["messages"])
    return "single-turn" if users == 1 else "multi-turn"


def json_summary(found: Summary) -> dict[str, Any]:
    """Return the summary as plain JSON."""
    return {
        "votes": found.votes, "skips": found.skips, "agreement": found.agreement._asdict(),
        "first_wins": _plain(found.first_wins),
        "ratings": {
            one.name: {"violation": _plain(one.violation), "rated_by_fewer": one.fewer, "mean_rating": one.mean,
                       "ratings": one.ratings, "agreement": one.agreement._asdict()} for one in found.slices
        },
        "models": [{"model": a, "against": b, "level": level, **_plain(won)} for a, b, won, level in found.models],
        "people": [{**person._asdict(), "gold": _plain(person.gold)} for person in found.people],
    }  # fmt: skip


def _plain(found: Share) -> dict[str, Any]:
    low, high = (found.interval.low, found.interval.high) if found.interval else (None, None)
    return {"k": found.k, "n": found.n, "low": low, "high": high}
