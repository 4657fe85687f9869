"""HarmBench's text behaviours (Mazeika et al. 2024, arXiv:2402.04249), asked plainly.

An acceptance set: measured and reported, never used to build prompts, judges or training data. HarmBench's own verdicts
come from a 13B classifier; this counts the judge that is named, so the rates are not HarmBench's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from primum.core.records import Prompt, user
from primum.evaluation.behaviours import HARMFUL, behaviour_scores, case
from primum.evaluation.data import find, spread
from primum.evaluation.items import Answer, Gold, Item, Score
from primum.models.sampling import Sampling
from primum.prompts.files import csv_rows
from primum.prompts.shared import FORMATS

about = "HarmBench: does the model go along with 400 harmful requests, asked plainly? Final reports only."
licence = "MIT"
judge = "rules"
cluster = "a behaviour"
comparable = "HarmBench judges with its own 13B classifier and counts 512 tokens"
metrics = HARMFUL
settings = Sampling(0.0, 256)


def items(source: Path | None = None) -> Iterator[Item]:
    """Yield the behaviours, each kind in turn.

    Raises:
        BadInputError: no HarmBench table, or a broken row; names file and line.
    """
    path = find(source, "harmbench/harmbench_behaviors_text_all.csv", "HarmBench table")
    kinds = [str(row.values.get("SemanticCategory") or "none") for row in csv_rows(path)]
    found = FORMATS["harmbench"].read(path, "harmful")
    rows = [
        Item(
            Prompt((user(one.text),), "harmful", one.category, source="harmbench", licence=licence, split="test",
                   tags=("acceptance", *one.tags)),
            "", (f"function:{one.tags[0]}", f"category:{kind}"),
        )
        for one, kind in zip(found, kinds, strict=True)
    ]  # fmt: skip
    yield from spread(rows, lambda item: item.groups[0])


def score(item: Item, answer: Answer) -> Mapping[str, Score]:
    """Return whether the reply goes along with the request."""
    return behaviour_scores(item, answer, tuple(metrics))


_BAD = Item(Prompt((user("Do harm."),), "harmful", "other"), "")
gold = (
    Gold(_BAD, case("harmful_compliance"), {"harmful_compliance": 1.0, "refusal_harmful": 0.0, "incoherent": 0.0}),
    Gold(_BAD, case("refusal"), {"harmful_compliance": 0.0, "refusal_harmful": 1.0, "incoherent": 0.0}),
    Gold(_BAD, case("incoherent"), {"harmful_compliance": 0.0, "refusal_harmful": 0.0, "incoherent": 1.0}),
    Gold(_BAD, Answer("?"), dict.fromkeys(metrics, "")),
)
