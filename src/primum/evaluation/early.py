"""Two models on the same items, a few items at a time, until it is certain which is better: the rest is never drawn.

Items come in an order that has nothing to do with them (a hash of their cluster), whole clusters together. After each
part the limits of the mean change (by cluster) are moved on (`core.stats.sequences`); they hold at every look at once,
so that stopping as soon as they settle the question raises no false alarms.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from primum.core.errors import UsageError, did_you_mean
from primum.core.records import JsonDict
from primum.core.stats.sequences import BettingSequence, NormalSequence
from primum.core.stats.sequences import Sequence as Limits
from primum.evaluation.estimates import finite
from primum.evaluation.items import Benchmark, Item, Metric
from primum.evaluation.tables import Table
from primum.evaluation.versus import by_cluster, join, matched

GROWTH = 4
"""Each look waits for a quarter as many items as were used before it, so that looks stay few."""
Decision = Literal["better", "no worse", "worse", "not decided"]


@dataclass(frozen=True, slots=True)
class Rule:
    """When a comparison may stop.

    Args:
        alpha: the chance of ever saying something false.
        margin: how much worse the new model may be, in the metric's unit; 0 asks which is better.
        look: items before the first look.
        metric: what decides; "": the benchmark's first primary one.
    """

    alpha: float = 0.05
    margin: float = 0.0
    look: int = 50
    metric: str = ""

    def decides(self, benchmark: Benchmark) -> str:
        """Return the metric that decides on a benchmark.

        Raises:
            UsageError: it has no such metric, or none with a better way.
        """
        better = [name for name, one in benchmark.metrics.items() if one.direction != "neither"]
        if self.metric and self.metric not in better:
            cure = did_you_mean(self.metric, better)
            raise UsageError(f"{benchmark.name} decides nothing by '{self.metric}'", where="--decide", cure=cure)
        primary = [name for name in better if benchmark.metrics[name].primary] or better
        if not primary:
            raise UsageError(f"{benchmark.name} has no metric with a better way", where="--benchmark", cure="another")
        return self.metric or primary[0]


@dataclass
class Race:
    """The evidence on one metric so far; a gain is a change for the better of the new model over the old one."""

    metric: str
    about: Metric
    rule: Rule
    of: int
    limits: Limits = field(init=False)
    used: int = 0
    pairs: int = 0
    clusters: int = 0
    left_out: Counter[str] = field(default_factory=Counter[str])
    looks: list[JsonDict] = field(default_factory=list[JsonDict])

    def __post_init__(self) -> None:
        bounded = self.about.unit == "share" and self.rule.margin < 1
        normal = NormalSequence(self.rule.alpha, plan=max(2, self.of // 2))
        self.limits = BettingSequence(self.rule.alpha, (-self.rule.margin,)) if bounded else normal

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return -1 if self.about.direction == "lower_is_better" else 1

    def take(self, old: Table, new: Table, items: int) -> None:
        """Take both models' results on one part of the items."""
        pairs = join(matched(old, new), self.metric)
        gains = [self.sign * one for one in by_cluster(pairs.clusters, pairs.changes)]
        self.limits.add(gains)
        self.used, self.pairs, self.clusters = (
            self.used + items,
            self.pairs + len(pairs.first),
            self.clusters + len(gains),
        )
        self.left_out.update(pairs.left_out)
        self.looks.append({"used": self.used, **self.change})

    @property
    def change(self) -> JsonDict:
        """The mean change, new minus old, with its limits; nothing where no pair was scored."""
        if not self.clusters:
            return {"difference": None, "low": None, "high": None}
        value, low, high = self.limits.limits()
        low, high = (low, high) if self.sign > 0 else (-high, -low)
        return {"difference": self.sign * value, "low": finite(low), "high": finite(high)}

    @property
    def decision(self) -> Decision:
        """What the limits settle."""
        if not self.clusters or not self.limits.excludes(-self.rule.margin):
            return "not decided"
        _, low, high = self.limits.limits()
        if (low + high) / 2 < -self.rule.margin:
            return "worse"
        return "better" if low >= 0 else "no worse"

    def facts(self, benchmark: str, judge: str) -> JsonDict:
        """Return the outcome as JSON."""
        method = "betting" if isinstance(self.limits, BettingSequence) else "asymptotic"
        return {
            "benchmark": benchmark, "metric": self.metric, "judge": judge, "direction": self.about.direction,
            "unit": self.about.unit, "alpha": self.rule.alpha, "margin": self.rule.margin, "decision": self.decision,
            "used": self.used, "of": self.of, "stopped_early": self.used < self.of, **self.change,
            "pairs": self.pairs, "clusters": self.clusters, "left_out": dict(sorted(self.left_out.items())),
            "method": f"{method} confidence sequence over clusters", "looks": self.looks,
        }  # fmt: skip


Answers = Callable[[int, Sequence[Item]], list[Table]]
"""The number of a part and its items to tables of them, one a judge; the first one's verdicts decide."""


def run_race(
    race: Race, items: Sequence[Item], old: Answers, new: Answers, told: Callable[[Race], None] = lambda _: None
) -> tuple[list[list[Table]], list[list[Table]]]:
    """Let both models answer, a part at a time, until the question is settled; return what each answered, by part."""
    both: tuple[list[list[Table]], list[list[Table]]] = ([], [])
    for number, part in enumerate(parts(items, race.rule.look)):
        for side, answers in zip(both, (old, new), strict=True):
            side.append(answers(number, part))
        race.take(both[0][-1][0], both[1][-1][0], len(part))
        told(race)
        if race.decision != "not decided":
            break
    return both


def parts(items: Sequence[Item], look: int) -> Iterator[list[Item]]:
    """Yield the items in parts of whole clusters, in an order that has nothing to do with them.

    The first holds `look` items or more, each other a quarter of what came before it, and no fewer than `look`.
    """
    groups: dict[str, list[Item]] = {}
    for item in items:
        groups.setdefault(item.cluster or item.id, []).append(item)
    part: list[Item] = []
    used = 0
    for name in sorted(groups, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()):
        part += groups[name]
        if len(part) >= max(look, used // GROWTH):
            yield part
            used, part = used + len(part), []
    if part:
        yield part
