"""PIQA (Bisk et al. 2019, arXiv:1911.11641), as lm-evaluation-harness asks it: two solutions as texts."""

from __future__ import annotations

from primum.evaluation import choices, questions
from primum.evaluation.data import field
from primum.prompts.files import Row

about = "PIQA: 1,838 pairs of ways to reach an everyday goal; which one works?"
licence = "AFL-3.0"
judge = "likelihood"
cluster = "a question"
metrics = choices.METRICS
score = choices.score
gold = questions.gold()


def read(row: Row) -> questions.Question:
    """Return the goal with its two solutions."""
    options = (field(row, "sol1"), field(row, "sol2"))
    return questions.Question(
        f"Question: {field(row, 'goal')}\nAnswer:", options, choices.right_of(row, "label", options)
    )


items = questions.questions(
    questions.Source("piqa", "piqa/validation.jsonl", "hub:baber/piqa:validation", read, licence)
)
