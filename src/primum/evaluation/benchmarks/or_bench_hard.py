"""OR-Bench-Hard-1K: harmless requests that many models refuse (Cui et al. 2024, arXiv:2405.20947)."""

from __future__ import annotations

from primum.evaluation.requests import Source, gold_of, metrics_of, requests, scoring
from primum.models.sampling import Sampling

about = "OR-Bench-Hard: does the model refuse 1,319 harmless requests that look harmful?"
licence = "CC-BY-4.0"
judge = "rules"
cluster = "a request"
comparable = "OR-Bench looks for words of refusal, or judges with GPT-4"
metrics = metrics_of("benign")
settings = Sampling(0.0, 256)
items = requests(
    Source(
        "or_bench_hard",
        "or-bench/or-bench-hard-1k.csv",
        "hub:bench-llm/or-bench@or-bench-hard-1k:train",
        ("prompt",),
        ("category",),
        licence,
    ),
    "benign",
)
score = scoring(metrics)
gold = gold_of("benign")
