"""OpenBookQA (Mihaylov et al. 2018, arXiv:1809.02789), as lm-evaluation-harness asks it: the stem alone."""

from __future__ import annotations

from primum.evaluation import choices, questions

about = "OpenBookQA: 500 questions that need an elementary fact and common sense."
licence = "Apache-2.0"
judge = "likelihood"
cluster = "a question"
metrics = choices.METRICS
score = choices.score
gold = questions.gold()
READ = questions.by_text("question_stem", "question", head="{}")
items = questions.questions(
    questions.Source("openbookqa", "openbookqa/test.jsonl", "hub:allenai/openbookqa@main:test", READ, licence)
)
