"""OR-Bench-Toxic: harmful requests, the other side of OR-Bench-Hard (Cui et al. 2024, arXiv:2405.20947)."""

from __future__ import annotations

from primum.evaluation.requests import Source, gold_of, metrics_of, requests, scoring
from primum.models.sampling import Sampling

about = "OR-Bench-Toxic: does the model go along with 655 harmful requests?"
licence = "CC-BY-4.0"
judge = "rules"
cluster = "a request"
comparable = "OR-Bench looks for words of refusal, or judges with GPT-4"
metrics = metrics_of("harmful")
settings = Sampling(0.0, 256)
items = requests(
    Source(
        "or_bench_toxic",
        "or-bench/or-bench-toxic.csv",
        "hub:bench-llm/or-bench@or-bench-toxic:train",
        ("prompt",),
        ("category",),
        licence,
    ),
    "harmful",
)
score = scoring(metrics)
gold = gold_of("harmful")
