"""A model's preferences beside people's: how often the order decided, and how often it agrees with them.

Agreement among people is the ceiling: on the same pairs of replies, the share of people whom the model agrees with is
laid beside the share of other people with whom a person agrees. Both are means over the pairs of replies; pairs of one
prompt are a cluster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import NamedTuple

from primum.core.records import JsonDict, Preference, from_json
from primum.evaluation.estimates import finite, interval
from primum.evaluation.items import Metric
from primum.evaluation.tables import Values
from primum.evaluation.versus import Pairs, Settings, change
from primum.judging.duel import Twice
from primum.pairing.votes import TIE, Two, by_two, two_of

AGREE = Metric("agreement on which of two replies is better")


class Compared(NamedTuple):
    """Two replies: the cluster, what the model said of them (a reply's id, TIE, or None), and what each person said."""

    prompt_id: str
    two: Two
    model: str | None
    people: Mapping[str, str]


def compared(labels: Sequence[JsonDict], votes: Sequence[Preference]) -> list[Compared]:
    """Bring the model's labels and people's votes together, in the labels' order.

    Args:
        labels: `Built.labels`.
        votes: people's.
    """
    people = by_two(votes)
    found: list[Compared] = []
    for label in labels:
        own = from_json(Preference, label)
        two = two_of(own.reply_ids[0], own.reply_ids[1])
        said = TIE if own.outcome == "tie" else own.reply_ids[own.winner] if own.winner is not None else None
        found.append(Compared(own.prompt_id, two, said, people.get(two, {})))
    return found


def orders(labels: Sequence[JsonDict]) -> JsonDict:
    """Return how often asking in the other order turned the model's preference, and to which place it kept.

    Returns:
        n pairs; decided, flipped, unscored; `flip_rate` of those scored with its interval; `to_first`, `to_second` of
        the flipped (the rest leant to neither).
    """
    said = [Twice(*(float("nan") if one is None else one for one in label["margins"])) for label in labels]
    scored = [(one, label["prompt_id"]) for one, label in zip(said, labels, strict=True) if one.outcome != "unscored"]
    flips = [float(one.outcome == "tie") for one, _ in scored]
    places = [one.place for one, _ in scored]
    return {
        "n": len(labels), "decided": len(flips) - round(sum(flips)), "flipped": round(sum(flips)),
        "unscored": len(labels) - len(flips), "flip_rate": _estimate(flips, [prompt for _, prompt in scored]),
        "to_first": places.count("first"), "to_second": places.count("second"),
    }  # fmt: skip


def _estimate(numbers: Sequence[float], clusters: Sequence[str]) -> JsonDict | None:
    """Return the mean of shares with its interval; None where there are none."""
    if not numbers:
        return None
    value, low, high = interval(Values(list(numbers), list(clusters), {}))
    return {"value": value, "low": finite(low), "high": finite(high), "n": len(numbers), "prompts": len(set(clusters))}


def agreement(items: Sequence[Compared], votes: Sequence[Preference]) -> JsonDict:
    """Return how the model agrees with people, and people with each other.

    Returns:
        `decided`: pairs that the model decided, and votes that name a winner. `all`: a tie is a label like others, the
        model's ties being those that the order decided. Each holds `with_people` (over all pairs with a vote) and, on
        the pairs on which several people voted, `several`: `model_with_people`, `people_with_each_other`, and the
        difference, model less people, with its interval and p. `not_asked`: pairs on which only people voted.
    """
    voted = [one for one in items if one.people]
    seconds = [vote.seconds for vote in votes if vote.seconds is not None]
    return {
        "people": len({name for one in voted for name in one.people}), "pairs": len(voted),
        "not_asked": len(by_two(votes).keys() - {one.two for one in items}),
        "unscored": sum(one.model is None for one in voted),
        "tied_votes": sum(said == TIE for one in voted for said in one.people.values()),
        "votes": sum(len(one.people) for one in voted), "seconds_a_vote": fmean(seconds) if seconds else None,
        "decided": _agreement(voted, ties=False), "all": _agreement(voted, ties=True),
    }  # fmt: skip


def _agreement(items: Sequence[Compared], ties: bool) -> JsonDict:
    kept = [(one, _said(one, ties)) for one in items if one.model is not None and (ties or one.model != TIE)]
    kept = [(one, said) for one, said in kept if said]
    alone = [_with(one.model, said) for one, said in kept]
    several = [(one, said) for one, said in kept if len(said) > 1]
    return {
        "with_people": _estimate(alone, [one.prompt_id for one, _ in kept]),
        "several": _several(several) if several else None,
    }


def _said(one: Compared, ties: bool) -> list[str]:
    return [said for said in one.people.values() if ties or said != TIE]


def _with(label: str | None, said: Sequence[str]) -> float:
    """Return the share of people who say what the model says."""
    return fmean(one == label for one in said)


def _among(said: Sequence[str]) -> float:
    """Return the share of all two people who say the same: with whom a person, drawn at random, agrees."""
    return fmean(one == other for one, other in combinations(said, 2))


def _several(items: Sequence[tuple[Compared, list[str]]]) -> JsonDict:
    clusters = [one.prompt_id for one, _ in items]
    model, people = [_with(one.model, said) for one, said in items], [_among(said) for _, said in items]
    pairs = Pairs(people, model, clusters, [f"{one.two[0]} {one.two[1]}" for one, _ in items], {})
    return {
        "model_with_people": _estimate(model, clusters), "people_with_each_other": _estimate(people, clusters),
        "difference": difference(AGREE, pairs),
    }  # fmt: skip


def difference(metric: Metric, pairs: Pairs) -> JsonDict:
    """Return a paired difference of shares, second less first, as `versus.change` tests it.

    Its limits are kept to [-1, 1], and `mde` is None where no difference could have been found: the t interval of few
    clusters knows no bounds.
    """
    one = change("", "", metric, "all", pairs, Settings())
    low, high = (None if end is None else min(1.0, max(-1.0, end)) for end in (one.low, one.high))
    return {
        "difference": one.difference, "low": low, "high": high, "p": one.p, "fixed": one.fixed, "broken": one.broken,
        "n": one.n, "clusters": one.clusters, "mde": one.mde if one.mde is not None and one.mde < 1 else None,
        "method": one.method,
    }  # fmt: skip
