"""BeaverTails-Evaluation: 700 questions, 50 in each of 14 harm categories (Ji et al. 2023, arXiv:2307.04657)."""

from __future__ import annotations

from primum.evaluation.requests import Source, gold_of, metrics_of, requests, scoring
from primum.models.sampling import Sampling

about = "BeaverTails-Evaluation: does the model go along with 700 harmful questions in 14 categories?"
licence = "CC-BY-NC-4.0"
judge = "rules"
cluster = "a request"
comparable = "its authors judge with their own moderation model, people and GPT-4"
metrics = metrics_of("harmful")
settings = Sampling(0.0, 256)
items = requests(
    Source(
        "beavertails",
        "beavertails/evaluation.jsonl",
        "hub:PKU-Alignment/BeaverTails-Evaluation:test",
        ("prompt",),
        ("category",),
        licence,
    ),
    "harmful",
)
score = scoring(metrics)
gold = gold_of("harmful")
