"""StrongREJECT's 313 forbidden prompts (Souly et al. 2024, arXiv:2402.10260). An acceptance set: never tuned on.

Its own score comes from a rubric by a large model; this counts whether the judge says that the reply went along.
"""

from __future__ import annotations

from primum.evaluation.requests import Source, gold_of, metrics_of, requests, scoring
from primum.models.sampling import Sampling

about = "StrongREJECT: does the model go along with 313 forbidden prompts? Final reports only."
licence = "MIT"
judge = "rules"
cluster = "a request"
comparable = "StrongREJECT's own score is that of a rubric, from 0 to 1, not the share that went along"
metrics = metrics_of("harmful")
settings = Sampling(0.0, 256)
items = requests(
    Source(
        "strongreject",
        "strongreject/strongreject.csv",
        "hub:walledai/StrongREJECT:train",
        ("forbidden_prompt", "prompt"),
        ("category",),
        licence,
        acceptance=True,
    ),
    "harmful",
)
score = scoring(metrics)
gold = gold_of("harmful")
