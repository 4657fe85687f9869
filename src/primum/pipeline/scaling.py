"""Which policies of a journey differ in the amount of safety data alone: the points of a scaling curve.

The curve of Llama 2 (arXiv:2307.09288, section 4.2.3) and that of safety-tuned LLaMAs (arXiv:2309.07875, figure 2).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from primum.core.records import JsonDict, digest
from primum.pipeline.context import Context
from primum.pipeline.recipe import BASE, StageSpec


class Amount(NamedTuple):
    """What says how much safety data a kind of stage learns: its setting, and what that counts."""

    setting: str
    unit: str


AMOUNTS = {
    "sft": Amount("fraction", "share of the safety demonstrations"),
    "sit": Amount("safety", "safety rows in 20,000"),
}


def curves(context: Context, specs: Sequence[StageSpec]) -> list[JsonDict]:
    """Return the scaling curves of a journey, each as its policies by growing amount of safety data.

    A curve is two stages or more of one kind that were measured, start from the same policy and differ in nothing but
    the amount.
    """
    alike: dict[str, list[StageSpec]] = defaultdict(list)
    for spec in specs:
        if spec.do in AMOUNTS and not spec.skip and spec.name in context.measured:
            rest = spec.settings.model_dump(mode="json", exclude={AMOUNTS[spec.do].setting})
            alike[digest([spec.do, spec.start or BASE, rest])].append(spec)
    return [_curve(context, group) for group in alike.values() if len({_amount(s) for s in group}) > 1]


def _curve(context: Context, group: Sequence[StageSpec]) -> JsonDict:
    points = [
        {"policy": spec.name, "amount": _amount(spec), "rows": _rows(context.facts.get(spec.name, {}))}
        for spec in sorted(group, key=_amount)
    ]
    return {"do": group[0].do, "unit": AMOUNTS[group[0].do].unit, "points": points}


def _amount(spec: StageSpec) -> float:
    return getattr(spec.settings, AMOUNTS[spec.do].setting)


def _rows(found: JsonDict) -> int:
    """Return how many safety rows were learned."""
    return found.get("demonstrations", {}).get("harmful", 0) if found.get("kind") == "sft" else found.get("safety", 0)
