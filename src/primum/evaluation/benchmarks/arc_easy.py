"""ARC-Easy (Clark et al. 2018, arXiv:1803.05457), as lm-evaluation-harness asks it: options as texts."""

from __future__ import annotations

from primum.evaluation import choices, questions

about = "ARC-Easy: 2,376 science questions of school examinations."
licence = "CC-BY-SA-4.0"
judge = "likelihood"
cluster = "a question"
metrics = choices.METRICS
score = choices.score
gold = questions.gold()
READ = questions.by_text("question")
items = questions.questions(
    questions.Source("arc_easy", "arc/arc_easy_test.jsonl", "hub:allenai/ai2_arc@ARC-Easy:test", READ, licence)
)
