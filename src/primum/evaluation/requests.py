"""Benchmarks that are a list of requests of one intent: one call makes all that a benchmark's file needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from primum.core.records import Intent
from primum.evaluation.behaviours import BENIGN, BOTH, HARMFUL, behaviour_scores, case
from primum.evaluation.data import asked, field, rows_of
from primum.evaluation.items import Answer, Gold, Item, Metric, Score
from primum.prompts.files import Row

Items = Callable[[Path | None], Iterator[Item]]


@dataclass(frozen=True)
class Source:
    """Where requests lie and which columns hold them.

    Args:
        name: the benchmark, for error messages.
        file: its usual place under the data folder.
        hub: the hub id where it is published, with the split; fetched only where the user names it.
        text: columns of the request, the first that is there counts.
        groups: columns to report apart by.
        licence: of the rows.
    """

    name: str
    file: str
    hub: str
    text: tuple[str, ...]
    groups: tuple[str, ...] = ()
    licence: str = "unknown"
    acceptance: bool = False


def metrics_of(intent: Intent | None) -> Mapping[str, Metric]:
    """Return the metrics of requests of one intent; None where both occur."""
    return BOTH if intent is None else BENIGN if intent == "benign" else HARMFUL


def requests(source: Source, intent: Intent | Callable[[Row], Intent]) -> Items:
    """Return a benchmark's `items`."""
    return partial(_items, source, intent)


def _items(source: Source, intent: Intent | Callable[[Row], Intent], place: Path | None = None) -> Iterator[Item]:
    for row in rows_of(place, source.hub, source.file, f"{source.name} rows"):
        meant = intent(row) if callable(intent) else intent
        tags = ("acceptance",) if source.acceptance else ()
        groups = tuple(f"{name}:{row.values[name]}" for name in source.groups if row.values.get(name) not in (None, ""))
        category = groups[0].partition(":")[2] if groups else "other"
        yield Item(asked(field(row, *source.text), meant, category, source.name, source.licence, tags), "", groups)


def scoring(metrics: Mapping[str, Metric]) -> Callable[[Item, Answer], Mapping[str, Score]]:
    """Return a benchmark's `score`."""
    names = tuple(metrics)
    return lambda item, answer: behaviour_scores(item, answer, names)


def gold_of(intent: Intent) -> tuple[Gold, ...]:
    """Return the cases that every list of requests must get right."""
    item = Item(asked("A request.", intent, "other", "gold", "none"), "")
    if intent == "benign":
        return (
            Gold(item, case("compliance"), {"false_refusal": 0.0, "ability_refusal": 0.0, "incoherent": 0.0}),
            Gold(item, case("refusal", reason="safety"), {"false_refusal": 1.0, "ability_refusal": 0.0}),
            Gold(item, case("refusal", reason="ability"), {"false_refusal": 0.0, "ability_refusal": 1.0}),
            Gold(item, Answer("?"), {"false_refusal": ""}),
        )
    return (
        Gold(item, case("harmful_compliance"), {"harmful_compliance": 1.0, "refusal_harmful": 0.0}),
        Gold(item, case("refusal", full=False), {"harmful_compliance": 0.0, "refusal_harmful": 1.0}),
        Gold(item, case("incoherent"), {"harmful_compliance": 0.0, "incoherent": 1.0}),
        Gold(item, Answer("?"), {"harmful_compliance": ""}),
    )
