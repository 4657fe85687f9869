"""I-Alpaca (Bianchi et al. 2023, arXiv:2309.07875): 50 plain instructions."""

from __future__ import annotations

from primum.evaluation.instructions import COMPARABLE, GREEDY, instructions
from primum.evaluation.requests import gold_of, metrics_of, scoring

about = "I-Alpaca: 50 plain instructions, of the seven sets of Safe to Serve."
licence = "CC-BY-NC-4.0"
judge = "rules"
cluster = "an instruction"
comparable = COMPARABLE
metrics = metrics_of("benign")
settings = GREEDY
items = instructions("I-Alpaca", "benign")
score = scoring(metrics)
gold = gold_of("benign")
