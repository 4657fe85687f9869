"""Any chat model as judge: a rubric's questions about each reply, read from label log-probabilities or words.

Shipped: meditron (harmful? hateful?), expected_behaviour and avoid (Llama 2), likert (1-5); or your own YAML. What it
does not know is what the model asked does not know: measure it with `primum calibrate` before believing it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from primum.core.records import Messages, Verdict
from primum.judging import Case, Exchange
from primum.judging.ask import Answer
from primum.judging.rubric import (
    Rubric,
    Score,
    ask_about,
    behaviour_of,
    flags_of,
    load,
    rating_of,
    read_answer,
)
from primum.judging.runner import Asking, Settings

about = "any chat model as judge, by a rubric in YAML: yes or no, scales, flags (needs --endpoint or --judge-model)"
revision = "1"
needs = ("ask",)
options = ("rubric",)
gold: tuple[Case, ...] = ()
"""Each rubric carries its own gold; see judging/rubrics."""


def configure(settings: Settings) -> Callable[[Sequence[Exchange]], Asking]:
    """Return the judge of the rubric in the settings."""
    rubric = load(settings.rubric)

    def judge(exchanges: Sequence[Exchange]) -> Generator[Sequence[Messages], list[Answer], list[Verdict]]:
        asked = [
            ask_about(rubric, question, one.prompt.text, one.reply.text)
            for one in exchanges
            for question in rubric.questions
        ]
        answers = yield asked
        width = len(rubric.questions)
        rows = [answers[i : i + width] for i in range(0, len(answers), width)]
        return [verdict(rubric, one, row) for one, row in zip(exchanges, rows, strict=True)]

    return judge


def verdict(rubric: Rubric, one: Exchange, answers: Sequence[Answer]) -> Verdict:
    """Return the verdict that a model's answers to the rubric's questions make; unscored if one of them is missing."""
    name = "rubric"
    read = [read_answer(question, answer) for question, answer in zip(rubric.questions, answers, strict=True)]
    problem = next((score.problem for score in read if score.value is None), None)
    if problem:
        return Verdict(one.reply.id, name, None, unscored=problem, template_hash=rubric.hash, judge_revision=revision)
    scores = {question.id: value(score) for question, score in zip(rubric.questions, read, strict=True)}
    sets = {question.sets: scores[question.id] for question in rubric.questions}
    return Verdict(
        one.reply.id, name, behaviour_of(rubric, scores), p_harmful=sets.get("p_harmful"),
        p_hateful=sets.get("p_hateful"), rating=rating_of(rubric, scores),
        categories=tuple((f"rubric:{rubric.id}", flag) for flag in flags_of(rubric, scores)),
        template_hash=rubric.hash, judge_revision=revision,
    )  # fmt: skip


def value(score: Score) -> float:
    """Return a score's value, which is there."""
    assert score.value is not None
    return score.value
