"""Q-Harm of Safe to Serve and Safety-Tuned LLaMAs (Bianchi et al. 2023, arXiv:2309.07875): 100 harmful questions."""

from __future__ import annotations

from primum.evaluation.instructions import COMPARABLE, GREEDY, instructions
from primum.evaluation.requests import gold_of, metrics_of, scoring

about = "Q-Harm: 100 harmful questions, of the seven sets of Safe to Serve."
licence = "CC-BY-NC-4.0"
judge = "rules"
cluster = "an instruction"
comparable = COMPARABLE
metrics = metrics_of("harmful")
settings = GREEDY
items = instructions("Q-Harm", "harmful")
score = scoring(metrics)
gold = gold_of("harmful")
