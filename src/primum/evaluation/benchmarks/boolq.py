"""BoolQ (Clark et al. 2019, arXiv:1905.10044), as lm-evaluation-harness asks it: no or yes after the passage."""

from __future__ import annotations

from primum.core.errors import BadInputError
from primum.evaluation import choices, questions
from primum.evaluation.data import field
from primum.prompts.files import Row

about = "BoolQ: 3,270 yes-no questions after a passage."
licence = "CC-BY-SA-3.0"
judge = "likelihood"
cluster = "a question"
metrics = choices.METRICS
score = choices.score
gold = questions.gold()
YES, NO = ("yes", "true", "1"), ("no", "false", "0")


def read(row: Row) -> questions.Question:
    """Return the question after its passage; the answer is a truth value, or 0 and 1.

    Raises:
        BadInputError: it is something else.
    """
    said = str(row.values.get("label", row.values.get("answer"))).strip().lower()
    if said not in YES + NO:
        raise BadInputError(f"neither yes nor no: {said!r:.40}", where=row.where, cure="true, false, 1 or 0")
    right = int(said in YES)
    context = f"{field(row, 'passage')}\nQuestion: {field(row, 'question')}?\nAnswer:"
    return questions.Question(context, ("no", "yes"), right)


items = questions.questions(
    questions.Source("boolq", "boolq/validation.jsonl", "hub:google/boolq:validation", read, licence)
)
