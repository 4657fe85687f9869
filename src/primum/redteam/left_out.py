"""Vectors that a model was not hardened against: each left out once, and what the model does under it.

Three numbers of a vector, each with an interval that counts goals and not attempts:

- the gap: success under the vector that was left out, less success under those that were learned; paired within goals.
  Part of it is that some vectors succeed more often than others, whatever was learned.
- what leaving out costs: success under the vector of the model that never saw it, less that of the models that learned
  it (their mean); paired within goals. The attacks are the same on both sides.
- success under it before any hardening.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from statistics import fmean

from primum.core.records import JsonDict
from primum.redteam.against import Old
from primum.redteam.catalogue import PLAIN
from primum.redteam.measure import cell, difference
from primum.redteam.shares import Tally, clustered

Outcomes = Mapping[tuple[str, str], Old]
"""(goal, attack) -> what came of it, by one judge."""


def rows(runs: Mapping[str, Outcomes], untouched: Outcomes) -> list[JsonDict]:
    """Return one row a vector that was left out.

    Args:
        runs: vector -> outcomes of the model that was hardened without it; all on the same goals and attacks.
        untouched: outcomes of the model before it was hardened.
    """
    return [_row(vector, runs, untouched) for vector in runs]


def _row(vector: str, runs: Mapping[str, Outcomes], untouched: Outcomes) -> JsonDict:
    ours, alone = runs[vector], {vector}
    learned = {one.vector for one in ours.values()} - {vector, PLAIN}
    unseen = _rates(ours, alone)
    others = [_rates(run, alone) for name, run in runs.items() if name != vector]
    return {
        "vector": vector, "untouched": _cell(untouched, alone), "seen": _cell(ours, learned),
        "unseen": _cell(ours, alone), "gap": difference(_rates(ours, learned), unseen),
        "cost": difference(_mean(others), unseen), "plain": _cell(ours, {PLAIN}),
    }  # fmt: skip


def _groups(outcomes: Outcomes, vectors: Collection[str]) -> tuple[dict[str, list[bool]], Counter[str]]:
    """Return the known outcomes of each goal under some vectors, and how many are not known, by reason."""
    groups: defaultdict[str, list[bool]] = defaultdict(list)
    left_out: Counter[str] = Counter()
    for (goal, _), one in outcomes.items():
        if one.vector not in vectors:
            continue
        if isinstance(one.outcome, str):
            left_out[one.outcome] += 1
        else:
            groups[goal].append(one.outcome)
    return dict(groups), left_out


def _cell(outcomes: Outcomes, vectors: Collection[str]) -> JsonDict:
    groups, left_out = _groups(outcomes, vectors)
    tallies = [Tally(sum(group), len(group)) for group in groups.values()]
    n = sum(tally.n for tally in tallies)
    return cell(clustered(tallies), n, goals=len(tallies), left_out=dict(sorted(left_out.items())))


def _rates(outcomes: Outcomes, vectors: Collection[str]) -> dict[str, float]:
    return {goal: fmean(group) for goal, group in _groups(outcomes, vectors)[0].items()}


def _mean(models: Collection[Mapping[str, float]]) -> dict[str, float]:
    """Return each goal's mean over the models that have it."""
    goals = dict.fromkeys(goal for model in models for goal in model)
    return {goal: fmean(model[goal] for model in models if goal in model) for goal in goals}
