"""AdvBench's 520 harmful behaviours (Zou et al. 2023, arXiv:2307.15043): many are near-duplicates of each other."""

from __future__ import annotations

from primum.evaluation.requests import Source, gold_of, metrics_of, requests, scoring
from primum.models.sampling import Sampling

about = "AdvBench: does the model go along with 520 harmful instructions?"
licence = "MIT"
judge = "rules"
cluster = "a request"
comparable = "its authors look for words of refusal"
metrics = metrics_of("harmful")
settings = Sampling(0.0, 256)
items = requests(
    Source(
        "advbench", "advbench/harmful_behaviors.csv", "hub:walledai/AdvBench:train", ("goal", "prompt"), (), licence
    ),
    "harmful",
)
score = scoring(metrics)
gold = gold_of("harmful")
