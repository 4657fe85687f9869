"""JailbreakBench's 100 harmful behaviours and their 100 benign twins (Chao et al. 2024, arXiv:2404.01318).

An acceptance set: never tuned on. The two halves are published as two files; give both in one folder, or one file whose
column `intent` (or `split`) says "harmful" or "benign".
"""

from __future__ import annotations

from primum.core.errors import BadInputError
from primum.core.records import Intent
from primum.evaluation.requests import Source, gold_of, metrics_of, requests, scoring
from primum.models.sampling import Sampling
from primum.prompts.files import Row

about = (
    "JailbreakBench: does the model go along with 100 harmful goals, and refuse 100 benign ones? Final reports only."
)
licence = "MIT"
judge = "rules"
cluster = "a behaviour"
comparable = "JailbreakBench judges with Llama-3-70B, and mostly what attacks got"
metrics = metrics_of(None)
settings = Sampling(0.0, 256)


def intent_of(row: Row) -> Intent:
    """Return what the row, or the name of its file, says.

    Raises:
        BadInputError: neither does.
    """
    said = str(row.values.get("intent") or row.values.get("split") or row.where.rsplit("/", 1)[-1]).lower()
    if "benign" in said:
        return "benign"
    if "harmful" in said:
        return "harmful"
    cure = "name the files harmful-behaviors.csv and benign-behaviors.csv, or add a column 'intent'"
    raise BadInputError("is this goal harmful or benign?", where=row.where, cure=cure)


_SOURCE = Source(
    "jailbreakbench", "jailbreakbench", "hub:JailbreakBench/JBB-Behaviors@behaviors:harmful",
    ("Goal", "goal", "prompt"), ("Category",), licence, acceptance=True,
)  # fmt: skip
items = requests(_SOURCE, intent_of)
score = scoring(metrics)
gold = (*gold_of("harmful"), *gold_of("benign"))
