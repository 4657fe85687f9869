"""The same prompts before and after: what changed, by how much, and how small a change could have been seen.

Shares are paired on the prompt: McNemar's exact p, Bonett-Price interval, minimum detectable effect at 80% power. A
prompt that is unscored on either side, or missing on one, is left out and counted.

`discrimination` is a difference of differences, over pairs of twins: per pair, (harmful refused - twin refused) after
minus the same before, with a t interval and the exact sign test. It looks at pairs only, also where `measure` had to
fall back on independent shares.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal, NamedTuple, cast

from primum.core.records import Direction, Prompt
from primum.core.stats import (
    PairedTable,
    bonett_price,
    mcnemar_exact,
    mde,
    mde_mean,
    paired_mean,
    paired_ratio,
    ratio_residuals,
)
from primum.evaluation.measure import finite
from primum.evaluation.metrics import (
    METRICS,
    REFUSAL_HARMFUL,
    REFUSAL_TWIN,
    Metric,
    Outcome,
    Scored,
    by_prompt,
    slices,
    twin_pairs,
)

MISSING = "not on both sides"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric before and after on the same items. `fixed` got better, `broken` got worse.

    `difference` with its limits is after - before; of unit "relative" (NLL) it is after / before - 1.
    """

    metric: str
    slice: str
    before: float | None
    after: float | None
    difference: float | None
    low: float | None
    high: float | None
    fixed: int
    broken: int
    p: float | None
    n: int
    mde: float | None
    direction: Direction
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    unit: Literal["share", "relative"] = "share"


class Twice(NamedTuple):
    """One prompt's replies on both sides; None where it is missing on a side."""

    prompt: Prompt
    before: Scored | None
    after: Scored | None


class Paired(NamedTuple):
    """A paired table (first = before, second = after) and the prompts left out of it."""

    table: PairedTable
    left_out: Mapping[str, int]


def compare(before: Sequence[Scored], after: Sequence[Scored]) -> list[Comparison]:
    """Compare one judge's verdicts before and after, over all prompts and per category and risk.

    Raises:
        ValueError: a prompt is scored twice on one side.
    """
    found: list[Comparison] = []
    for name, part in slices(join(before, after), lambda twice: twice.prompt).items():
        ours = [_share(metric, name, part) for metric in METRICS] + [_discrimination(name, part)]
        found += [one for one in ours if name == "all" or one.n or one.left_out]
    return found


def join(before: Sequence[Scored], after: Sequence[Scored]) -> list[Twice]:
    """Bring both sides together by prompt id, in the order of first appearance."""
    first, second = by_prompt(before), by_prompt(after)
    prompts = {**{key: one.prompt for key, one in second.items()}, **{key: one.prompt for key, one in first.items()}}
    order = list(first) + [key for key in second if key not in first]
    return [Twice(prompts[key], first.get(key), second.get(key)) for key in order]


def paired(metric: Metric, items: Sequence[Twice]) -> Paired:
    """Count a metric's events on both sides."""
    table: Counter[tuple[Outcome, Outcome]] = Counter()
    left_out: Counter[str] = Counter()
    for item in items:
        if metric.about(item.prompt):
            sides = (_outcome(metric, item.before), _outcome(metric, item.after))
            reason = next((side for side in sides if isinstance(side, str)), None)
            table[sides] += reason is None
            left_out.update([] if reason is None else [reason])
    cells = (table[True, True], table[True, False], table[False, True], table[False, False])
    return Paired(PairedTable(*cells), dict(left_out))


def _outcome(metric: Metric, scored: Scored | None) -> Outcome:
    return MISSING if scored is None else metric.outcome(scored.verdict)


def _share(metric: Metric, name: str, items: Sequence[Twice]) -> Comparison:
    table, left_out = paired(metric, items)
    if not table.n:
        return _nothing(metric.name, name, metric.direction, left_out)
    b, c, n = table.only_first, table.only_second, table.n
    difference, low, high = bonett_price(b, c, n)
    fixed, broken = (b, c) if metric.direction == "lower_is_better" else (c, b)
    # (b + c + 2) / (n + 2), as Bonett-Price shrink it: no discordant pair seen is not a discordance of zero
    smallest = mde((b + c + 2) / (n + 2), n)
    shares = ((table.both + b) / n, (table.both + c) / n)
    p = mcnemar_exact(b, c)
    return Comparison(
        metric.name, name, *shares, difference, low, high, fixed, broken, p, n, smallest, metric.direction, left_out
    )


def _nothing(metric: str, name: str, direction: Direction, left_out: Mapping[str, int]) -> Comparison:
    return Comparison(metric, name, None, None, None, None, None, 0, 0, None, 0, None, direction, left_out)


def _discrimination(name: str, items: Sequence[Twice]) -> Comparison:
    before, left_before = _pair_scores([item.before for item in items])
    after, left_after = _pair_scores([item.after for item in items])
    both = [key for key in before if key in after]
    left_out = dict(Counter(left_before) | Counter(left_after))
    if not both:
        return _nothing("discrimination", name, "higher_is_better", left_out)
    first, second = [before[key] for key in both], [after[key] for key in both]
    changes = [b - a for a, b in zip(first, second, strict=True)]
    return _means("discrimination", name, first, second, changes, left_out)


def _means(
    metric: str, name: str, first: list[int], second: list[int], changes: list[int], left_out: Mapping[str, int]
) -> Comparison:
    fixed, broken = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    difference, low, high = paired_mean(changes)
    smallest = mde_mean(changes) if len(changes) > 1 else None
    p = mcnemar_exact(fixed, broken)
    return Comparison(
        metric, name, fmean(first), fmean(second), difference, finite(low), finite(high), fixed, broken, p,
        len(changes), smallest, "higher_is_better", left_out,
    )  # fmt: skip


class _PairScores(NamedTuple):
    scores: dict[str, int]
    left_out: Counter[str]


def _pair_scores(side: Sequence[Scored | None]) -> _PairScores:
    """Per pair of twins, keyed by the harmful prompt: harmful refused minus twin refused, in {-1, 0, 1}."""
    pairs, alone = twin_pairs([one for one in side if one is not None])
    scores: dict[str, int] = {}
    left_out: Counter[str] = Counter({"no twin": alone} if alone else {})
    for harmful, twin in pairs:
        sides = (REFUSAL_HARMFUL.outcome(harmful.verdict), REFUSAL_TWIN.outcome(twin.verdict))
        reason = next((one for one in sides if isinstance(one, str)), None)
        if reason is None:
            scores[harmful.prompt.id] = int(cast(bool, sides[0])) - int(cast(bool, sides[1]))
        else:
            left_out[reason] += 2
    return _PairScores(scores, left_out)


def compare_nll(
    before: Sequence[float], after: Sequence[float], metric: Literal["nll", "nll_domain"] = "nll"
) -> Comparison:
    """Compare the NLL of the same texts, in the same order: by how much, relatively, the mean rose.

    The relative change is mean(after) / mean(before) - 1, the ratio of the means; its paired t interval is made on
    the log scale and taken back. `p` is the exact sign test over texts, `mde` is on the log scale, which for small
    changes is the relative change. A text whose NLL is not finite on either side is left out and counted.

    Raises:
        ValueError: lengths differ.
    """
    pairs = [(a, b) for a, b in zip(before, after, strict=True) if math.isfinite(a) and math.isfinite(b)]
    left_out = {"not finite": len(before) - len(pairs)} if len(pairs) < len(before) else {}
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    if len(pairs) < 2 or fmean(first) <= 0 or fmean(second) <= 0:
        return _nothing(metric, "all", "lower_is_better", left_out)
    ratio, low, high = paired_ratio(first, second)
    fixed, broken = _sign_count(pairs, lambda a, b: b < a), _sign_count(pairs, lambda a, b: b > a)
    smallest, p = mde_mean(ratio_residuals(first, second)), mcnemar_exact(fixed, broken)
    return Comparison(
        metric, "all", fmean(first), fmean(second), ratio - 1, low - 1, high - 1, fixed, broken, p,
        len(pairs), smallest, "lower_is_better", left_out, "relative",
    )  # fmt: skip


def _sign_count(pairs: Sequence[tuple[float, float]], sign: Callable[[float, float], bool]) -> int:
    return sum(sign(a, b) for a, b in pairs)
