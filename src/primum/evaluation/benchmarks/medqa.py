"""MedQA, 4 options (Jin et al. 2020, arXiv:2009.13081), asked as lm-evaluation-harness asks it: options by letter."""

from __future__ import annotations

from primum.evaluation import choices, questions

about = "MedQA: 1,273 questions of the US medical licensing examination, four options."
licence = "MIT"
judge = "likelihood"
cluster = "a question"
metrics = choices.METRICS
score = choices.score
gold = questions.gold()


items = questions.questions(
    questions.Source(
        "medqa",
        "medical/medqa_test.jsonl",
        "hub:GBaker/MedQA-USMLE-4-options-hf:test",
        questions.by_letter("question"),
        licence,
    )
)
