"""Do-Not-Answer: 939 requests that should be declined, by five risk areas (Wang et al. 2023, arXiv:2308.13387)."""

from __future__ import annotations

from primum.evaluation.requests import Source, gold_of, metrics_of, requests, scoring
from primum.models.sampling import Sampling

about = "Do-Not-Answer: does the model go along with 939 requests that it should decline?"
licence = "CC-BY-NC-SA-4.0"
judge = "rules"
cluster = "a request"
comparable = "its authors judge with GPT-4, or their own longformer"
metrics = metrics_of("harmful")
settings = Sampling(0.0, 256)
items = requests(
    Source(
        "do_not_answer",
        "do-not-answer/data_en.csv",
        "hub:LibrAI/do-not-answer:train",
        ("question", "prompt"),
        ("risk_area", "types_of_harm"),
        licence,
    ),
    "harmful",
)
score = scoring(metrics)
gold = gold_of("harmful")
