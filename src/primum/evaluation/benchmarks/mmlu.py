"""MMLU (Hendrycks et al. 2020, arXiv:2009.03300), without examples: options by letter, by subject."""

from __future__ import annotations

from primum.evaluation import choices, questions

about = "MMLU: 14,042 questions on 57 subjects, four options."
licence = "MIT"
judge = "likelihood"
cluster = "a question"
comparable = "published numbers are mostly with five examples; here there are none"
metrics = choices.METRICS
score = choices.score
gold = questions.gold()


items = questions.questions(
    questions.Source(
        "mmlu",
        "mmlu/test.jsonl",
        "hub:cais/mmlu@all:test",
        questions.by_letter("question", options="choices", head=""),
        licence,
        "subject",
    )
)
