"""May this run replace the baseline? Passed, failed or undecided, by benchmark, metric and slice.

A check asks how much worse the new run is on the same items, in the direction that the metric names.

    passed      even the unfavourable one-sided limit (95%) is within the margin
    failed      it is certainly worse (one-sided p, adjusted over all checks, below 5%), and by the best estimate by
                more than the margin
    undecided   neither: there are too few items, and the check says how many would decide

The whole fails where any check fails. It passes where every check over all items passes: so many slices are small that
demanding the same of each would never let anything pass; slices that the data cannot settle are named and counted, and
block only where `strict`, or where the limits name them. What the baseline measured, or a file of limits names, and the
new run did not measure is undecided, never passed; so is a limit that is kept by what was scored where much was not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

from primum.core.errors import did_you_mean
from primum.core.stats import Interval, mde, needed_pairs
from primum.core.stats.clusters import cluster_mean, sign_flip
from primum.core.stats.multiple import holm
from primum.core.stats.paired import sign_tail
from primum.evaluation.estimates import interval as estimated
from primum.evaluation.gate import Outcome
from primum.evaluation.items import Metric
from primum.evaluation.limits import BOUNDS, Bounds, Limit, Limits
from primum.evaluation.tables import Table, Values
from primum.evaluation.versus import Equal, Pairs, Settings, differences, equal_by_construction, join, matched, test

ALPHA = 0.05
LEAST = 10
"""Below so many items nothing passes."""
MISSING_SHARE = 0.05
"""More missing or unscored items than this, and a check does not pass: the rest may be a selection."""
TAIL = 0.05
"""The tail of a metric that is no share: the baseline's worst items, so many of them."""


@dataclass(frozen=True, slots=True)
class Check:
    """One question to the gate. `value` with its one-sided limits is how much worse; for `limit` checks, the rate.

    `before` and `after` are the metric in the baseline and in the run, on the items that both have. `asked_for`: the
    check is over all items, or of a slice that the limits name; undecided, it keeps the gate from passing.
    """

    benchmark: str
    metric: str
    slice: str
    kind: str
    outcome: Outcome
    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    p: float | None = None
    n: int = 0
    needed: int | None = None
    unit: str = "share"
    before: float | None = None
    after: float | None = None
    asked_for: bool = True

    @property
    def name(self) -> str:
        """Benchmark, metric and slice in one line."""
        place = "" if self.slice == "all" else f" [{self.slice}]"
        return (
            f"{self.benchmark} {self.metric}".strip() + place + ("" if self.kind == "no worse" else f" ({self.kind})")
        )


@dataclass(frozen=True, slots=True)
class Gated:
    """The gate's word, why, the checks behind it, what else the two runs differ in, and where they cannot differ."""

    outcome: Outcome
    text: str
    checks: tuple[Check, ...]
    differs: tuple[str, ...] = ()
    equal: tuple[Equal, ...] = ()


def gate_tables(new: Sequence[Table], baseline: Sequence[Table], limits: Limits, settings: Settings) -> Gated:
    """Decide. Without a baseline only fixed limits are held."""
    current = {table.name: table for table in new}
    both = [(current[old.name], old) for old in baseline if old.name in current]
    checks = [_absent(old.name, "", "the baseline measured it") for old in baseline if old.name not in current]
    checks += [
        _absent(old.name, name, "the baseline measured it")
        for table, old in both for name in _asked_of(old, limits) if name not in table.metrics
    ]  # fmt: skip
    checks += _unmeasured(new, limits, checks)
    checks += _decided([one for table, old in both for one in _no_worse(table, old, limits, settings)], settings)
    checks += [one for table in new for one in _fixed(table, limits)]
    equal = tuple(equal_by_construction(baseline, new))
    return replace(_whole(checks, limits), differs=tuple(differences(baseline, new)), equal=equal)


def _absent(benchmark: str, metric: str, who: str) -> Check:
    text = f"{f'{benchmark} {metric}'.strip()}: undecided, {who} and this run did not"
    return Check(benchmark, metric, "all", "measured", "undecided", text)


def _no_slice(table: Table, metric: str, part: str) -> Check:
    made = Check(table.name, metric, part, "measured", "undecided", "")
    near = f"; {did_you_mean(part, table.slices)}" if table.slices else ""
    return replace(made, text=f"{made.name}: undecided, the limits name this slice and the run has no such one{near}")


def _unmeasured(new: Sequence[Table], limits: Limits, told: Sequence[Check]) -> list[Check]:
    """Return what the limits name and the run lacks, be it a wrong name or a measurement that was left out."""
    known = {(name, metric) for table in new for name in (table.name, table.benchmark) for metric in table.metrics}
    known |= {(one.benchmark, one.metric) for one in told}
    named = [(name, metric) for name, metrics in limits.benchmarks.items() for metric in metrics]
    return [_absent(*one, "the limits name it") for one in named if one not in known] + [
        _no_slice(table, metric, part)
        for table in new for metric in table.metrics for part in _slices_of(table, metric, limits)
        if part not in table.slices
    ]  # fmt: skip


def _slices_of(table: Table, metric: str, limits: Limits) -> Mapping[str, Bounds]:
    """Return what the limits say of a metric's slices."""
    own = limits.named(table, metric)
    return own.slices if own else {}


def _directed(metric: Metric, own: Limit | None) -> Metric:
    """Return the metric with the direction that the limits give it, if any."""
    return replace(metric, direction=own.direction) if own and own.direction else metric


def _asked_of(table: Table, limits: Limits) -> dict[str, Metric]:
    """Return the metrics that must not get worse: primary ones and those that the limits give a margin or direction."""
    found: dict[str, Metric] = {}
    for name, metric in table.metrics.items():
        own = limits.named(table, name)
        margins = [own.margin, *(one.margin for one in own.slices.values())] if own else []
        told = own is not None and (own.direction is not None or any(one is not None for one in margins))
        metric = _directed(metric, own)
        if metric.direction != "neither" and (metric.primary or told):
            found[name] = metric
    return found


class Asked(NamedTuple):
    """A comparison not yet decided: how much worse by item and in all, p, margin, and what stands against passing."""

    table: Table
    metric: str
    part: str
    kind: str
    worse: Interval
    p: float
    margin: float
    pairs: Pairs
    doubt: str
    harms: Sequence[float] = ()
    asked_for: bool = True


def _no_worse(new: Table, old: Table, limits: Limits, settings: Settings) -> list[Asked]:
    found: list[Asked] = []
    both = matched(old, new)
    for name, metric in _asked_of(old, limits).items():
        if name not in new.metrics:
            continue
        margin = limits.margin_of(new, name)
        whole = join(both, name)
        found.append(_ask((new, name, "all", "no worse"), metric, whole, margin, settings))
        named = [part for part in new.slices if limits.names(new, name, part)]
        for part in dict.fromkeys([*both.parts, *named]):
            pairs = join(both, name, part) if part in both.parts else Pairs([], [], [], [], {})
            # a slice that is the whole is the same question: asked twice it spends the 5% twice
            same = (pairs.items, pairs.left_out) == (whole.items, whole.left_out)
            if part in named or (not same and (pairs.first or pairs.left_out)):
                asked = _ask((new, name, part, "no worse"), metric, pairs, limits.margin_of(new, name, part), settings)
                found.append(asked._replace(asked_for=part in named))
        tail = _tail(whole, metric)
        if tail is not None:
            found.append(
                _ask((new, name, "all", "tail"), replace(metric, direction="lower_is_better"), tail, margin, settings)
            )
    return found


def _ask(what: tuple[Table, str, str, str], metric: Metric, pairs: Pairs, margin: float, settings: Settings) -> Asked:
    if not pairs.first:
        return Asked(
            *what, Interval(math.nan, -math.inf, math.inf), 1.0, margin, pairs, "no item has a number in both runs"
        )
    lower = metric.direction == "lower_is_better"
    value, low, high = test(pairs, settings._replace(confidence=1 - 2 * ALPHA)).interval
    worse = Interval(value, low, high) if lower else Interval(-value, -high, -low)
    harms = pairs.changes if lower else [-one for one in pairs.changes]
    lost = sum(pairs.left_out.values())
    doubt = f"{lost} items have no number in one of the runs" if _too_many(lost, len(harms)) else ""
    return Asked(*what, worse, _one_sided(harms, pairs, settings), margin, pairs, doubt, harms)


def _too_many(lost: int, kept: int) -> bool:
    """Whether so much is missing that the rest may be a selection."""
    return lost > MISSING_SHARE * (lost + kept)


def _one_sided(harms: Sequence[float], pairs: Pairs, settings: Settings) -> float:
    """Return p of "it is not worse": exact where items are independent and binary, else by flipping signs."""
    if not (pairs.binary and pairs.independent):
        return sign_flip(harms, pairs.clusters, settings.draws, settings.seed, "greater")
    broken, fixed = sum(one > 0 for one in harms), sum(one < 0 for one in harms)
    return sign_tail(fixed, broken + fixed)  # as many broken or more: as many fixed or fewer


def _tail(pairs: Pairs, metric: Metric) -> Pairs | None:
    """Return, for a metric that is no share of events, whether each item lies in the baseline's worst part."""
    if pairs.binary or len(pairs.first) < 2 * LEAST:
        return None
    sign = 1.0 if metric.direction == "lower_is_better" else -1.0
    bad = sorted((sign * value for value in pairs.first), reverse=True)
    edge = bad[max(0, math.ceil(TAIL * len(bad)) - 1)]
    sides = [[float(sign * value >= edge) for value in side] for side in (pairs.first, pairs.second)]
    return pairs._replace(first=sides[0], second=sides[1])


def _decided(asked: Sequence[Asked], settings: Settings) -> list[Check]:
    """Adjust p and decide each check: Holm inside all items and inside slices, Bonferroni between these two.

    One family of all would let many slices drown what is certain over all items. What could not be compared is in none.
    """
    families: dict[str, list[int]] = {}
    for i, one in enumerate(asked):
        if one.harms:
            families.setdefault("all" if one.part == "all" else "slices", []).append(i)
    adjusted = [1.0] * len(asked)
    for members in families.values():
        tests = len(members) * len(families)
        found = [_finer(asked[i], tests, settings) for i in members]
        for i, p in zip(members, holm(found), strict=True):
            adjusted[i] = min(1.0, p * len(families))
    return [_check(one, p) for one, p in zip(asked, adjusted, strict=True)]


def _finer(one: Asked, tests: int, settings: Settings) -> float:
    """Return p, with more flips where no flip was as extreme and so few cannot tell p from 0 among so many tests."""
    enough = math.ceil(2 * tests / ALPHA)
    if one.p > 1.5 / (settings.draws + 1) or enough <= settings.draws:
        return one.p
    return _one_sided(one.harms, one.pairs, settings._replace(draws=enough))


def _check(one: Asked, p: float) -> Check:
    value, low, high = one.worse
    n = len(one.pairs.first)
    outcome: Outcome = "undecided"
    if p < ALPHA and value > one.margin:
        outcome = "failed"
    elif high <= one.margin and n >= LEAST and not one.doubt:
        outcome = "passed"
    needed = _needed(one) if outcome == "undecided" and n and value < one.margin else None
    unit = one.table.metrics[one.metric].unit if one.kind == "no worse" else "share"
    sides = (fmean(one.pairs.first), fmean(one.pairs.second)) if n else (None, None)
    made = Check(
        one.table.name, one.metric, one.part, one.kind, outcome, "", value, low, high, one.margin, p, n, needed, unit,
        *sides, one.asked_for,
    )  # fmt: skip
    return replace(_finite(made), text=_text(made, one))


def _finite(check: Check) -> Check:
    numbers = {key: getattr(check, key) for key in ("value", "low", "high")}
    return replace(
        check,
        **{key: None if number is None or not math.isfinite(number) else number for key, number in numbers.items()},
    )


def _text(check: Check, one: Asked) -> str:
    if not check.n:
        return f"{check.name}: undecided, {one.doubt}"
    unit = check.unit
    text = (
        f"{check.name}: {check.outcome}, {level(check.before, unit)} -> {level(check.after, unit)}, "
        f"{moved(check.value, unit)} (limits: {moved(check.low, unit)} to {moved(check.high, unit)}), "
        f"allowed: {moved(check.limit, unit)}, n={check.n:,}"
    )
    if check.outcome == "failed":
        text += f", adjusted p={check.p:.2g}"
    if one.doubt:
        text += f"; {one.doubt}"
    return text + (f"; about {check.needed:,} items would decide" if check.needed else "")


def moved(worse: float | None, unit: str) -> str:
    """Return how much worse in words: '7.2 points worse', '16.8 points better', 'no change'."""
    if worse is None or not math.isfinite(worse):
        return "unknown"
    size = f"{abs(100 * worse):.1f} points" if unit == "share" else f"{abs(worse):.4g}"
    if not float(size.split()[0]):
        return "no change"
    return f"{size} {'worse' if worse > 0 else 'better'}"


def level(value: float | None, unit: str) -> str:
    """Return a metric's value: per cent for shares, else four digits."""
    if value is None or not math.isfinite(value):
        return "unknown"
    return f"{100 * value:.1f}%" if unit == "share" else f"{value:.4g}"


def _needed(one: Asked) -> int | None:
    """Return how many items would pass such a change: the spread seen, at 80% power."""
    gap = one.margin - one.worse.value
    n = len(one.pairs.first)
    discordant = sum(change != 0 for change in one.pairs.changes)
    if not discordant or (one.pairs.binary and one.pairs.independent):
        return max(LEAST, needed_pairs((discordant + 2) / (n + 2), gap, 1 - ALPHA))
    spread = _spread(one.pairs)
    return max(LEAST, needed_pairs(spread * n, gap, 1 - ALPHA)) if spread else LEAST


def _spread(pairs: Pairs) -> float:
    """Return the squared standard error of the mean change; for shares at least what the items alone give."""
    n = len(pairs.first)
    inner = cluster_mean(pairs.changes, pairs.clusters, 0.6827)
    robust = (inner.high - inner.value) ** 2 if math.isfinite(inner.high) else 0.0
    discordant = sum(change != 0 for change in pairs.changes)
    return max(robust, (mde((discordant + 2) / (n + 2), n) / 2.8016) ** 2) if pairs.binary else robust


class Held(NamedTuple):
    """A fixed limit: of which table, metric and slice, which bound, and among how many of its kind it is held."""

    table: Table
    name: str
    metric: Metric
    part: str
    key: str
    limit: float
    tests: int = 1


def _fixed(table: Table, limits: Limits) -> list[Check]:
    """Hold metrics against fixed limits, over all items and in the slices that the limits name."""
    found: list[Check] = []
    for name, metric in table.metrics.items():
        own = limits.named(table, name)
        if own is None:
            continue
        inside = [(part, bounds) for part, bounds in own.slices.items() if part in table.slices]
        whole, parts = ([
            Held(table, name, _directed(metric, own), part, key, limit)
            for part, bounds in group for key in BOUNDS if (limit := getattr(bounds, key)) is not None
        ] for group in ([("all", own)], inside))  # fmt: skip
        found += [_hold(one) for one in whole] + [_hold(one._replace(tests=len(parts))) for one in parts]
    return found


def _hold(one: Held) -> Check:
    """Decide one fixed limit: it passes where even the unfavourable one-sided limit (95%) keeps it.

    It fails where it is certainly not kept: among many slices by Bonferroni, lest one of them fail by chance.
    """
    values = one.table.values(one.name, one.part)
    blank = Check(one.table.name, one.name, one.part, one.key, "undecided", "", limit=one.limit)
    unit, limit = one.metric.unit, one.limit
    if one.key == "worst":
        if one.metric.direction == "neither":
            return replace(blank, text=f"{blank.name}: undecided, no way is better; give the limit a direction")
        values, unit, limit = _beyond(values, one.metric, limit), "share", TAIL
    n, lost = len(values.numbers), sum(values.left_out.values())
    if not n:
        why = f"none of {lost} items has a number" if lost else "no numbers"
        return replace(blank, text=f"{blank.name}: undecided, {why}")
    value, *kept = estimated(values, unit, 1 - 2 * ALPHA)
    _, *broken = estimated(values, unit, 1 - 2 * ALPHA / one.tests)
    low, high = (kept[0], broken[1]) if one.key == "min" else (broken[0], kept[1])
    good, bad = (low >= limit, high < limit) if one.key == "min" else (high <= limit, low > limit)
    sure = n >= LEAST and not _too_many(lost, n)
    outcome: Outcome = "failed" if bad else "passed" if good and sure else "undecided"
    made = replace(blank, outcome=outcome, value=value, low=low, high=high, limit=limit, n=n, unit=unit)
    lacking = f"; {lost} items have no number" if lost else ""
    return replace(_finite(made), text=_held_text(made, one) + lacking)


def _held_text(check: Check, one: Held) -> str:
    unit, what = check.unit, level(check.value, check.unit)
    if one.key == "worst":
        side = "above" if one.metric.direction == "lower_is_better" else "below"
        what += f" of items {side} {level(one.limit, one.metric.unit)}"
    ends = f"limits: {level(check.low, unit)} to {level(check.high, unit)}"
    if one.tests > 1:
        ends += f", the {'upper' if one.key == 'min' else 'lower'} for {one.tests} limits of slices together"
    allowed = f"{BOUNDS[one.key]} {level(check.limit, unit)}"
    return f"{check.name}: {check.outcome}, {what} ({ends}), allowed: {allowed}, n={check.n:,}"


def _beyond(values: Values, metric: Metric, limit: float) -> Values:
    """Return, for each item, whether it is worse than the limit."""
    lower = metric.direction == "lower_is_better"
    return replace(values, numbers=[float(one > limit if lower else one < limit) for one in values.numbers])


def _whole(checks: Sequence[Check], limits: Limits) -> Gated:
    failed = [one for one in checks if one.outcome == "failed"]
    if failed:
        return Gated("failed", f"Failed: {'; '.join(one.name for one in failed)}.", tuple(checks))
    open_ = [one for one in checks if one.outcome == "undecided"]
    blocking = [one for one in open_ if one.asked_for or limits.strict]
    if blocking or not checks:
        why = "; ".join(one.name + _would(one) for one in blocking) or "nothing was measured"
        return Gated("undecided", f"Undecided: the data cannot settle {why}.", tuple(checks))
    rest = f" The data cannot settle {_many(len(open_), 'slice')}." if open_ else ""
    return Gated("passed", f"Passed: {_many(len(checks) - len(open_), 'check')}.{rest}", tuple(checks))


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _would(check: Check) -> str:
    return f" (n={check.n}; about {check.needed:,} items would decide)" if check.needed else ""


def by_outcome(checks: Sequence[Check]) -> Mapping[str, int]:
    """Count checks by outcome."""
    return {outcome: sum(one.outcome == outcome for one in checks) for outcome in ("passed", "failed", "undecided")}
