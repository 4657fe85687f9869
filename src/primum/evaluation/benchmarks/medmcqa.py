"""MedMCQA (Pal et al. 2022, arXiv:2203.14371), asked as lm-evaluation-harness asks it: options by letter."""

from __future__ import annotations

from primum.evaluation import choices, questions
from primum.evaluation.data import field
from primum.prompts.files import Row

about = "MedMCQA: 4,183 questions of Indian medical entrance examinations, by subject."
licence = "Apache-2.0"
judge = "likelihood"
cluster = "a question"
metrics = choices.METRICS
score = choices.score
gold = questions.gold()


def read(row: Row) -> questions.Question:
    """Return the question under the word "Choices:"; the hub has its options in opa to opd and the index in cop."""
    if "opa" in row.values:
        options = tuple(field(row, f"op{letter}") for letter in "abcd")
        right = choices.right_of(row, "cop", options)
    else:
        options = choices.options_of(row, "options")
        right = choices.right_of(row, "answer", options)
    context = choices.lettered(f"Question: {field(row, 'question')}\nChoices:", options)
    return questions.Question(context, tuple(choices.LETTERS[: len(options)]), right)


items = questions.questions(
    questions.Source(
        "medmcqa",
        "medical/medmcqa_validation.jsonl",
        "hub:openlifescienceai/medmcqa:validation",
        read,
        licence,
        "subject",
    )
)
