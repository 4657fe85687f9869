"""Two runs on the same items: what got better, what got worse, how sure that is, and how little could have been seen.

Pairs are items with a number on both sides; the rest is counted. Shares over independent items have McNemar's exact p
and Bonett and Price's interval. With clusters, and for other numbers, whole clusters are drawn (bootstrap, BCa) and
their signs flipped. p is adjusted by Holm inside a family: all primary metrics over all items are one, the slices of
one metric another.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, NamedTuple, cast

from primum.core.records import JsonDict
from primum.core.stats import Interval, bonett_price, mcnemar_exact, mde
from primum.core.stats.anytime import confidence_sequence, first_certain, sign_evidence
from primum.core.stats.clusters import cluster_bootstrap, cluster_mde, sign_flip
from primum.core.stats.judge_error import ppi_plus
from primum.core.stats.multiple import holm, ppi_mean
from primum.evaluation.estimates import finite
from primum.evaluation.items import Metric
from primum.evaluation.tables import LIKELIHOOD, ScoredItem, Table

MISSING = "not on both sides"
SAME = 1e-9
"""Numbers nearer than this are the same: likelihoods of one model differ in the last digit from batch to batch."""
LEAST_LABELS = 10
TOLD = ("sampling", "engine", "seed", "system", "judge_revision", "scorer", "readers")
UNTOLD = object()
EQUAL = "equal by construction"
"""The method of a comparison of numbers that cannot differ but by rounding."""


@dataclass(frozen=True, slots=True)
class Change:
    """One metric on the same items in run A and run B; `difference` with its limits is B - A."""

    benchmark: str
    metric: str
    slice: str
    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    fixed: int
    broken: int
    p: float | None
    p_holm: float | None
    mcnemar: float | None
    mde: float | None
    n: int
    clusters: int
    method: str
    direction: str
    unit: str
    primary: bool
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    corrected: JsonDict | None = None
    anytime: JsonDict | None = None


class Pairs(NamedTuple):
    """Items with a number on both sides: first, second and cluster of each, its id, and what was left out."""

    first: list[float]
    second: list[float]
    clusters: list[str]
    items: list[str]
    left_out: dict[str, int]

    @property
    def changes(self) -> list[float]:
        """Second minus first; what differs by rounding is the same."""
        both = zip(self.first, self.second, strict=True)
        return [0.0 if abs(b - a) < SAME else b - a for a, b in both]

    @property
    def binary(self) -> bool:
        """Whether every number on both sides is 0 or 1."""
        return all(value in (0.0, 1.0) for value in (*self.first, *self.second))

    @property
    def independent(self) -> bool:
        """Whether every item is a cluster of its own."""
        return len(set(self.clusters)) == len(self.clusters)


class Settings(NamedTuple):
    """How a comparison is made."""

    confidence: float = 0.95
    draws: int = 10_000
    seed: int = 0
    anytime: bool = False


def compare_tables(a: Sequence[Table], b: Sequence[Table], settings: Settings | None = None) -> list[Change]:
    """Compare what both runs measured, over all items and by slice."""
    settings = settings or Settings()
    second = {table.name: table for table in b}
    changes: list[Change] = []
    for table in a:
        if table.name in second:
            changes += _compare(table, second[table.name], settings)
    return adjusted(changes)


def _compare(a: Table, b: Table, settings: Settings) -> list[Change]:
    found: list[Change] = []
    both = matched(a, b)
    for name, metric in a.metrics.items():
        if name not in b.metrics:
            continue
        for part in both.parts:
            pairs = join(both, name, part)
            if part == "all" or pairs.first:
                one = change(a.name, name, metric, part, pairs, settings)
                found.append(replace(one, corrected=corrected(a, b, name, pairs) if part == "all" else None))
    return found


class Matched(NamedTuple):
    """Two tables laid side by side, once for all their metrics and slices.

    `parts` holds A's rows by slice ("all" first), `other` B's row of an item, `alone` the rows that only B has.
    """

    parts: Mapping[str, Sequence[ScoredItem]]
    other: Mapping[str, ScoredItem]
    alone: Sequence[ScoredItem]


def matched(a: Table, b: Table) -> Matched:
    """Lay two tables side by side by the ids of their items."""
    parts: dict[str, list[ScoredItem]] = {"all": list(a.rows), **{part: [] for part in a.slices}}
    for row in a.rows:
        for part in dict.fromkeys(row.groups):
            parts[part].append(row)
    known = {row.item for row in a.rows}
    return Matched(parts, {row.item: row for row in b.rows}, [row for row in b.rows if row.item not in known])


def join(both: Matched, metric: str, part: str = "all") -> Pairs:
    """Pair the items of two tables by id, in A's order."""
    pairs = Pairs([], [], [], [], {})
    left: Counter[str] = Counter()
    for row in both.parts[part]:
        other = both.other.get(row.item)
        reason = _reason(row, other, metric)
        if reason is None and other is not None and metric in row.scores:
            pairs.first.append(row.scores[metric])
            pairs.second.append(other.scores[metric])
            pairs.clusters.append(row.cluster or row.item)
            pairs.items.append(row.item)
        elif reason:
            left[reason] += 1
    if part == "all":
        left[MISSING] += sum(metric in row.scores for row in both.alone)
    pairs.left_out.update({reason: count for reason, count in sorted(left.items()) if count})
    return pairs


def _reason(row: ScoredItem, other: ScoredItem | None, metric: str) -> str | None:
    """Return why an item has no pair; None where it has one, or where the metric is not about this item."""
    if metric not in row.scores and metric not in row.unscored:
        return None
    if other is None or (metric not in other.scores and metric not in other.unscored):
        return MISSING
    return row.unscored.get(metric) or other.unscored.get(metric)


def change(benchmark: str, name: str, metric: Metric, part: str, pairs: Pairs, settings: Settings) -> Change:
    """Compare one metric on one slice."""
    facts = (metric.direction, metric.unit, metric.primary, pairs.left_out)
    if not pairs.first:
        return Change(
            benchmark, name, part, None, None, None, None, None, 0, 0, None, None, None, None, 0, 0, "", *facts
        )
    changes = pairs.changes
    up, down = sum(one > 0 for one in changes), sum(one < 0 for one in changes)
    fixed, broken = (down, up) if metric.direction == "lower_is_better" else (up, down)
    interval, p, method = test(pairs, settings)
    n = len(changes)
    exact = mcnemar_exact(up, down) if pairs.binary else None
    return Change(
        benchmark, name, part, fmean(pairs.first), fmean(pairs.second), interval.value, finite(interval.low),
        finite(interval.high), fixed, broken, p, None, exact, smallest(pairs, up + down), n, len(set(pairs.clusters)),
        method, *facts, anytime=_anytime(pairs, 1 - settings.confidence) if settings.anytime else None,
    )  # fmt: skip


class Tested(NamedTuple):
    """The change with its interval, its two-sided p, and by what method."""

    interval: Interval
    p: float
    method: str


def test(pairs: Pairs, settings: Settings) -> Tested:
    """Return the mean change with its interval and p, by the test that fits the numbers.

    A bootstrap of few changes is too sure of itself (of none, it is a point): shares take the wider interval.
    """
    changes = pairs.changes
    up, down = sum(one > 0 for one in changes), sum(one < 0 for one in changes)
    by_item = bonett_price(down, up, len(changes), settings.confidence)
    if pairs.binary and pairs.independent:
        return Tested(by_item, mcnemar_exact(up, down), "McNemar exact, Bonett-Price")
    drawn = cluster_bootstrap(changes, pairs.clusters, settings.confidence, settings.draws, settings.seed)
    if pairs.binary or not up + down:
        drawn = Interval(drawn.value, min(drawn.low, by_item.low), max(drawn.high, by_item.high))
    p = sign_flip(changes, pairs.clusters, settings.draws, settings.seed)
    return Tested(drawn, p, "cluster sign flips, cluster bootstrap")


def smallest(pairs: Pairs, discordant: int) -> float | None:
    """Return the smallest change that these items would find four times in five.

    No discordant pair seen is not a discordance of zero: shares count two more pairs, one each way.
    """
    n = len(pairs.first)
    by_cluster = cluster_mde(pairs.changes, pairs.clusters)
    if discordant and not pairs.binary:
        return by_cluster
    by_item = mde((discordant + 2) / (n + 2), n)
    return by_item if pairs.independent else max(by_item, by_cluster or 0.0)


def _anytime(pairs: Pairs, alpha: float) -> JsonDict:
    """Go through the pairs in an order that has nothing to do with them; say when the evidence would have sufficed."""
    names = [name.encode("utf-8", "surrogatepass") for name in pairs.items]
    order, found = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i]).digest()), pairs.changes
    changes = [found[i] for i in order]
    if not (pairs.binary and pairs.independent):
        return _anytime_mean(by_cluster([pairs.clusters[i] for i in order], changes), alpha)
    up = down = 0
    stop: int | None = None
    for i, one in enumerate(changes, 1):
        up, down = up + (one > 0), down + (one < 0)
        if stop is None and sign_evidence(up, down) >= -math.log(alpha):
            stop = i
    return {"method": "sign e-process", "log_e": sign_evidence(up, down), "enough_after": stop, "of": len(changes)}


def by_cluster(clusters: Sequence[str], changes: Sequence[float]) -> list[float]:
    """Return the mean of each cluster, in the order in which clusters appear."""
    means: dict[str, list[float]] = {}
    for cluster, one in zip(clusters, changes, strict=True):
        means.setdefault(cluster, []).append(one)
    return [fmean(one) for one in means.values()]


def _anytime_mean(means: Sequence[float], alpha: float) -> JsonDict:
    plan = max(2, len(means) // 2)
    stop = first_certain(means, alpha, plan)
    value, low, high = confidence_sequence(means, alpha, plan)
    return {
        "method": "asymptotic confidence sequence over clusters", "value": value, "low": finite(low),
        "high": finite(high), "enough_after": stop, "of": len(means),
    }  # fmt: skip


def corrected(a: Table, b: Table, metric: str, pairs: Pairs) -> JsonDict | None:
    """Return both rates and their difference corrected by people's labels (PPI++); None where there are too few."""
    sides = {"a": rate(a, metric), "b": rate(b, metric)}
    if not all(sides.values()):
        return None
    first, second = a.labels.get(metric, {}), b.labels.get(metric, {})
    judged = dict(zip(pairs.items, pairs.changes, strict=True))
    both = [item for item in pairs.items if item in first and item in second]
    if len(both) < LEAST_LABELS:
        return {**sides, "difference": None, "labelled_on_both": len(both)}
    found = _put_right(
        [second[item] - first[item] for item in both],
        [judged[item] for item in both],
        [judged[item] for item in pairs.items if item not in set(both)],
        (-1.0, 1.0) if a.metrics[metric].unit == "share" else None,
    )
    return {**sides, "difference": found._asdict(), "labelled_on_both": len(both)}


def rate(table: Table, metric: str) -> JsonDict | None:
    """Return a metric's mean corrected by the labels that the run has; None below LEAST_LABELS.

    `elsewhere` counts labels of items that have no number here: other items, or unscored ones.
    """
    labels = table.labels.get(metric, {})
    judged = {row.item: row.scores[metric] for row in table.rows if metric in row.scores}
    both = [item for item in judged if item in labels]
    if len(both) < LEAST_LABELS:
        return None
    others = [value for item, value in judged.items() if item not in labels]
    span = (0.0, 1.0) if table.metrics[metric].unit == "share" else None
    found = _put_right([labels[item] for item in both], [judged[item] for item in both], others, span)
    return {
        **found._asdict(), "labels": len(both), "elsewhere": len(labels) - len(both),
        "agree": fmean(labels[item] == judged[item] for item in both),
    }  # fmt: skip


def _put_right(
    labels: Sequence[float], judged: Sequence[float], others: Sequence[float], span: tuple[float, float] | None
) -> Interval:
    """Return PPI++'s mean; numbers that have a least and a largest value never get an interval of no width."""
    return ppi_mean(labels, judged, others) if span is None else ppi_plus(labels, judged, others, span=span).rate


def adjusted(changes: Sequence[Change]) -> list[Change]:
    """Adjust p by Holm inside each family."""
    families: dict[tuple[str, ...], list[int]] = {}
    for i, one in enumerate(changes):
        if one.p is not None and one.direction != "neither":
            overall = ("overall",) if one.primary else ("described",)
            families.setdefault(overall if one.slice == "all" else (one.benchmark, one.metric), []).append(i)
    found = list(changes)
    for members in families.values():
        for i, p in zip(members, holm([found[i].p or 0.0 for i in members]), strict=True):
            found[i] = replace(found[i], p_holm=p)
    return found


def differences(a: Sequence[Table], b: Sequence[Table]) -> list[str]:
    """Return what else the two runs differ in, where both say it: such a difference may make a change, too."""
    second = {table.name: table for table in b}
    found: dict[str, list[str]] = {}
    for one in a:
        other = second.get(one.name)
        for name in TOLD if other else ():
            sides = [table.facts.get(name, UNTOLD) for table in (one, other) if table]
            if UNTOLD not in sides and sides[0] != sides[1]:
                found.setdefault(f"{name.replace('_', ' ')} {sides[0]} / {sides[1]}", []).append(one.name)
    return [f"{what} ({', '.join(names)})" for what, names in found.items()]


def differing(told: Mapping[str, JsonDict]) -> dict[str, list[tuple[Any, list[str]]]]:
    """Return in what many runs differ: by fact, each value with the runs that say so; one value is no difference."""
    found: dict[str, list[tuple[Any, list[str]]]] = {}
    for name in TOLD:
        values: list[tuple[Any, list[str]]] = []
        for run, facts in told.items():
            if name in facts:
                same = next((runs for value, runs in values if value == facts[name]), None)
                if same is None:
                    values.append((facts[name], [run]))
                else:
                    same.append(run)
        if len(values) > 1:
            found[name] = values
    return found


class Equal(NamedTuple):
    """A benchmark whose numbers cannot differ but by rounding, and the settings of both runs that it does not know."""

    benchmark: str
    unused: list[str]


def equal_by_construction(a: Sequence[Table], b: Sequence[Table]) -> list[Equal]:
    """Return the benchmarks of which both runs took likelihoods by the same weights in the same number format.

    They are of the bare text: neither a system prompt nor decode settings reach them, so nothing can have changed.
    """
    second = {table.name: table for table in b}
    found: list[Equal] = []
    for one in a:
        other = second.get(one.name)
        if other is None or not one.facts.get("model") or one.facts["model"] != other.facts.get("model"):
            continue
        sides = (one.facts, other.facts)
        if all(facts.get("sampling") == LIKELIHOOD for facts in sides):
            unused = [cast(JsonDict, facts.get("unused") or {}) for facts in sides]
            found.append(Equal(one.name, sorted({name for side in unused for name in side})))
    return found


def settled(changes: Sequence[Change], benchmarks: Collection[str]) -> list[Change]:
    """Return the changes, those of benchmarks that are equal by construction without a smallest detectable one.

    There is none: however many items were asked, no change could be found.
    """
    return [replace(one, mde=None, method=EQUAL) if one.benchmark in benchmarks and one.n else one for one in changes]


def changed_items(a: Table, b: Table, metric: str, most: int = 50) -> list[JsonDict]:
    """Return the items whose number changed most, with both replies; what got worse stands first."""
    second = {row.item: row for row in b.rows}
    lower = a.metrics[metric].direction == "lower_is_better"
    found: list[tuple[float, JsonDict]] = []
    for row in a.rows:
        other = second.get(row.item)
        if other is None or metric not in row.scores or metric not in other.scores:
            continue
        gain = (row.scores[metric] - other.scores[metric]) * (1 if lower else -1)
        if abs(gain) >= SAME:
            found.append((gain, {
                "item": row.item, "groups": list(row.groups), "prompt": row.prompt, "a": row.scores[metric],
                "b": other.scores[metric], "reply_a": row.reply, "reply_b": other.reply, "label_a": row.label,
                "label_b": other.label, "worse": gain < 0,
            }))  # fmt: skip
    return [one for _, one in sorted(found, key=lambda pair: pair[0])[:most]]
