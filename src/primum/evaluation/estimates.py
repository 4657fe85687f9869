"""A table to numbers: each metric with its interval, over all items and by group, the worst group and the gap.

A share has Wilson's interval, another number the t interval. Where several items make a cluster, the interval is the
wider of that and the cluster-robust t interval: with few clusters the second can be narrow by chance.
"""

from __future__ import annotations

import math
from statistics import fmean, median, median_low

from primum.core.records import JsonDict, to_json
from primum.core.stats import Interval, wilson
from primum.core.stats.clusters import cluster_mean
from primum.evaluation.items import Metric
from primum.evaluation.tables import Table, Values

LEAST_IN_GROUP = 5
"""A group of fewer items is shown, and not called the worst."""


def estimate(table: Table) -> list[JsonDict]:
    """Return every metric over all items and in every group, as rows for results.json."""
    rows = [_row(name, metric, "all", table.values(name)) for name, metric in table.metrics.items()]
    for part in table.slices:
        found = [_row(name, metric, part, table.values(name, part)) for name, metric in table.metrics.items()]
        rows += [row for row in found if row["n"] or row["left_out"]]
    return rows


def _row(name: str, metric: Metric, part: str, values: Values) -> JsonDict:
    value, low, high = interval(values, metric.unit) if values.numbers else (None, None, None)
    # of an even number the lower one: Safe to Serve's median of 952 rewards is the 476th (arXiv:2412.00074, its code)
    middle = {"median": median_low(values.numbers)} if metric.unit == "score" and values.numbers else {}
    return {
        "metric": name, "slice": part, "value": value, "low": finite(low), "high": finite(high), **middle,
        "n": len(values.numbers), "clusters": len(set(values.clusters)), "left_out": values.left_out,
        **{key: value for key, value in to_json(metric).items() if key in ("direction", "unit", "primary")},
    }  # fmt: skip


def interval(values: Values, unit: str = "share", confidence: float = 0.95) -> Interval:
    """Return the mean of a metric's numbers with its interval."""
    numbers, items = values.numbers, range(len(values.numbers))
    if values.binary and unit == "share":
        plain = wilson(round(sum(numbers)), len(numbers), confidence)
    else:
        plain = cluster_mean(numbers, items, confidence)
    wide = plain
    if 1 < len(set(values.clusters)) < len(numbers):
        robust = cluster_mean(numbers, values.clusters, confidence)
        wide = Interval(plain.value, min(plain.low, robust.low), max(plain.high, robust.high))
    ends = (0.0, 1.0) if unit == "share" else (-math.inf, math.inf)
    return Interval(wide.value, max(ends[0], wide.low), min(ends[1], wide.high))


def finite(limit: float | None) -> float | None:
    """Return the limit, or None where there is none: JSON has no infinity."""
    return limit if limit is not None and math.isfinite(limit) else None


def extremes(table: Table) -> JsonDict:
    """Return, by metric and kind of group, the worst group and the gap between the worst and the best."""
    found: JsonDict = {}
    kinds = sorted({part.partition(":")[0] for part in table.slices})
    for name, metric in table.metrics.items():
        for kind in kinds if metric.direction != "neither" else []:
            means = {part: _mean(table, name, part) for part in table.slices if part.startswith(f"{kind}:")}
            known = {part: value for part, value in means.items() if value is not None}
            if len(known) > 1:
                found.setdefault(name, {})[kind] = _extreme(known, metric)
    return found


def _mean(table: Table, name: str, part: str) -> float | None:
    numbers = table.values(name, part).numbers
    return fmean(numbers) if len(numbers) >= LEAST_IN_GROUP else None


def _extreme(means: dict[str, float], metric: Metric) -> JsonDict:
    lower = metric.direction == "lower_is_better"
    worst = max(means, key=lambda part: means[part] if lower else -means[part])
    return {"worst": worst, "value": means[worst], "gap": max(means.values()) - min(means.values()), "of": len(means)}


def lengths(table: Table) -> JsonDict | None:
    """Return median words and tokens of the replies and the share cut at the limit; None where nothing was said."""
    said = [row for row in table.rows if row.finish]
    if not said:
        return None
    return {
        "median_words": median(len(row.reply.split()) for row in said),
        "median_tokens": median(row.tokens for row in said),
        "empty": fmean(not row.reply.strip() for row in said),
        "cut": fmean(row.finish == "length" for row in said),
    }
