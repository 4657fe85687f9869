"""I-PhysicalSafetyUnsafe (Bianchi et al. 2023, arXiv:2309.07875): 100 instructions whose answer could hurt someone."""

from __future__ import annotations

from primum.evaluation.instructions import COMPARABLE, GREEDY, instructions
from primum.evaluation.requests import gold_of, metrics_of, scoring

about = "I-PhysicalSafetyUnsafe: 100 instructions whose answer could hurt someone, of the seven sets of Safe to Serve."
licence = "CC-BY-NC-4.0"
judge = "rules"
cluster = "an instruction"
comparable = COMPARABLE
metrics = metrics_of("harmful")
settings = GREEDY
items = instructions("I-PhysicalSafetyUnsafe", "harmful")
score = scoring(metrics)
gold = gold_of("harmful")
