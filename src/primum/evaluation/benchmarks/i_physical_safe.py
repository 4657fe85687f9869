"""I-PhysicalSafetySafe (Bianchi et al. 2023, arXiv:2309.07875): 100 safe instructions on the same physical matters."""

from __future__ import annotations

from primum.evaluation.instructions import COMPARABLE, GREEDY, instructions
from primum.evaluation.requests import gold_of, metrics_of, scoring

about = "I-PhysicalSafetySafe: 100 safe instructions on the same physical matters, of the seven sets of Safe to Serve."
licence = "CC-BY-NC-4.0"
judge = "rules"
cluster = "an instruction"
comparable = COMPARABLE
metrics = metrics_of("benign")
settings = GREEDY
items = instructions("I-PhysicalSafetySafe", "benign")
score = scoring(metrics)
gold = gold_of("benign")
