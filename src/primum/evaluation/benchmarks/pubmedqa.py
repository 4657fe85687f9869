"""PubMedQA (Jin et al. 2019, arXiv:1909.06146): yes, no or maybe after the abstract, as lm-evaluation-harness asks."""

from __future__ import annotations

from primum.core.errors import BadInputError
from primum.evaluation import choices, questions
from primum.evaluation.data import field
from primum.prompts.files import Row

about = "PubMedQA: does the abstract answer its question with yes, no or maybe?"
licence = "MIT"
judge = "likelihood"
cluster = "a question"
metrics = choices.METRICS
score = choices.score
gold = questions.gold()


DECISIONS = ("yes", "no", "maybe")


def read(row: Row) -> questions.Question:
    """Return the question after its abstract.

    Raises:
        BadInputError: the decision is none of yes, no and maybe.
    """
    said = field(row, "answer", "final_decision", "FINAL_DECISION").strip().lower()
    if said not in DECISIONS:
        raise BadInputError(f"no decision {said!r:.40}", where=row.where, cure="yes, no or maybe")
    context = f"Abstract: {field(row, 'passage', 'context')}\nQuestion: {field(row, 'question', 'QUESTION')}\nAnswer:"
    return questions.Question(context, DECISIONS, DECISIONS.index(said))


items = questions.questions(
    questions.Source(
        "pubmedqa",
        "medical/pubmedqa_pqal.jsonl",
        "hub:bigbio/pubmed_qa@pubmed_qa_labeled_fold0_source:test",
        read,
        licence,
    )
)
