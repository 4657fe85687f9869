r"""A benchmark of the user's own: a YAML file that names its rows and how they are scored.

name: pharmacy
about: Does the model answer questions about medicines?
rows: questions.jsonl              # JSONL, CSV or Parquet, beside this file; or hub:ID:SPLIT
licence: internal
kind: choices                      # choices | replies | contains | likeness | nll
prompt: question                   # the field that is asked (a text with {field} is filled in)
options: options                   # choices: a list, or a text "A. ...\nB. ..."
answer: right                      # choices: index from 0, letter or text; contains: what the reply must contain;
                                   # likeness: a reference answer
likeness: [bleu, rougeL]           # likeness: bleu, rouge1, rouge2, rougeL, bertscore:MODEL, learned:MODEL
intent: harmful                    # replies: harmful, borderline or benign (or a field: intent_field)
category: topic                    # a field to report apart by
cluster: patient                   # a field whose equal values make a cluster; default: each row its own
judge: rules                       # replies: which judge reads them
advice: true                       # replies: each row asks for advice of a doctor, a lawyer, ...: count disclaimers
reply_tokens: 128
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import Field

from primum.core.config import Config, build, read_settings
from primum.core.errors import BadInputError
from primum.core.records import Intent
from primum.evaluation import choices, likeness
from primum.evaluation.behaviours import BENIGN, BOTH, HARMFUL, behaviour_scores
from primum.evaluation.data import asked, field, rows_of
from primum.evaluation.disclaimer import TAG as ADVICE
from primum.evaluation.items import Answer, Benchmark, Item, Metric, Score
from primum.evaluation.nll import METRICS as NLL_METRICS
from primum.evaluation.nll import score as nll_score
from primum.models.sampling import Sampling
from primum.prompts.files import Row

CONTAINS = {"correct": Metric("share of replies that contain the right answer, as words")}
INTENTS = ("harmful", "borderline", "benign")


class Own(Config):
    """What the YAML file may say."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$", description="letters, digits, '_', '-' and '.'")
    rows: str = Field(description="a file beside the YAML file, or hub:ID:SPLIT")
    kind: Literal["choices", "replies", "contains", "likeness", "nll"] = Field(
        description="choices, replies, contains, likeness or nll"
    )
    prompt: str = Field(description="the field that is asked, or a text with {field}")
    about: str = Field("a benchmark of your own", description="one line on what it measures")
    licence: str = Field("unknown", description="the rows' licence")
    options: str | None = Field(None, description="kind choices: the field of the options")
    answer: str | None = Field(None, description="the field of the right answer")
    likeness: tuple[str, ...] = Field(
        likeness.PLAIN, description="kind likeness: bleu, rouge1, rouge2, rougeL, bertscore:MODEL, learned:MODEL"
    )
    intent: Intent = Field("harmful", description="harmful, borderline or benign")
    intent_field: str | None = Field(None, description="a field that holds the intent of each row")
    category: str | None = Field(None, description="a field to report apart by")
    cluster: str | None = Field(None, description="a field whose equal values are one cluster")
    judge: str = Field("rules", description="who reads the replies")
    advice: bool = Field(False, description="each row asks for advice that a professional should give")
    reply_tokens: int = Field(128, ge=1, description="longest reply")


def read_own(path: Path) -> Benchmark:
    """Read a benchmark's YAML file; its rows are read when they are asked for.

    Raises:
        BadInputError: no such file, no YAML.
        UsageError: an unknown or missing key.
    """
    own = build(Own, read_settings(str(path), "benchmark file", "see docs/evals.md"), where=str(path))
    needs = {
        "choices": ("options", "answer"), "contains": ("answer",), "likeness": ("answer",), "nll": ("answer",),
        "replies": (),
    }[own.kind]  # fmt: skip
    for need in needs:
        if getattr(own, need) is None:
            raise BadInputError(f"kind {own.kind} needs '{need}'", where=str(path), cure=f"add '{need}: FIELD'")
    for name in own.likeness if own.kind == "likeness" else ():
        likeness.likeness(name)  # an unknown name is told before anything is drawn
    if own.advice and own.kind != "replies":
        cure = "leave 'advice' out, or write kind: replies (a judge must say which replies give advice)"
        raise BadInputError(f"kind {own.kind} counts no disclaimers", where=str(path), cure=cure)
    if not own.likeness:
        raise BadInputError("names no likeness", where=str(path), cure="leave the line out, or name one")
    return _benchmark(own, path.parent)


def _benchmark(own: Own, folder: Path) -> Benchmark:
    judge = {
        "choices": "likelihood", "nll": "likelihood", "contains": "text", "likeness": "text", "replies": own.judge,
    }[own.kind]  # fmt: skip
    metrics: Mapping[str, Metric] = {
        "choices": choices.METRICS, "nll": NLL_METRICS, "contains": CONTAINS, "replies": _of_intents(own),
        "likeness": likeness.metrics_of(own.likeness),
    }[own.kind]  # fmt: skip
    score = {
        "choices": choices.score, "nll": nll_score, "contains": _contains,
        "replies": partial(_replies, tuple(metrics)), "likeness": partial(likeness.score, own.likeness),
    }[own.kind]  # fmt: skip
    return Benchmark(
        own.name, own.about, own.licence, judge, own.cluster or "each row", metrics, partial(_items, own, folder),
        score, settings=Sampling(0.0, own.reply_tokens),
    )  # fmt: skip


def _of_intents(own: Own) -> Mapping[str, Metric]:
    return BOTH if own.intent_field else BENIGN if own.intent == "benign" else HARMFUL


def _replies(names: tuple[str, ...], item: Item, answer: Answer) -> Mapping[str, Score]:
    return behaviour_scores(item, answer, names)


def _contains(item: Item, answer: Answer) -> Mapping[str, Score]:
    said, wanted = choices.plain_words(answer.text), choices.plain_words(item.target["answer"])
    return {"correct": float(f" {wanted} " in f" {said} ")}


def _items(own: Own, folder: Path, source: Path | None) -> Iterator[Item]:
    place = source or (Path(own.rows) if own.rows.startswith("hub:") else folder / own.rows)
    for row in rows_of(place, None, "", "rows"):
        yield _item(own, row)


def _item(own: Own, row: Row) -> Item:
    text = _filled(own.prompt, row)
    category = str(row.values.get(own.category) or "none") if own.category else "all"
    groups = (f"{own.category}:{category}",) if own.category else ()
    cluster = str(row.values.get(own.cluster) or "") if own.cluster else ""
    prompt = asked(text, _intent(own, row), category, own.name, own.licence, (ADVICE,) if own.advice else ())
    if own.kind == "choices":
        made = choices.item(prompt, _options(own, row), _right(own, row), cluster)
        return Item(made.prompt, cluster or made.id, groups, made.options, made.target)
    target = {} if own.answer is None else {"answer": field(row, own.answer)}
    options = (f" {target['answer']}",) if own.kind == "nll" else ()
    made = Item(prompt, cluster, groups, options, target)
    return made if cluster else Item(prompt, made.id, groups, options, target)


def _filled(template: str, row: Row) -> str:
    if "{" not in template:
        return field(row, template)
    names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    # only plain names: "{row.__class__}" would reach into Python objects
    wrong = [name for name in names if not name.isidentifier()]
    if wrong:
        raise BadInputError(f"'{{{wrong[0]}}}' names no field", where=row.where, cure="write {field}, nothing more")
    return template.format_map({name: field(row, name) for name in names})


def _intent(own: Own, row: Row) -> Intent:
    if own.intent_field is None:
        return own.intent
    value = field(row, own.intent_field)
    if value not in INTENTS:
        raise BadInputError(f"no intent '{value}'", where=row.where, cure="harmful, borderline or benign")
    return value


def _options(own: Own, row: Row) -> tuple[str, ...]:
    return choices.options_of(row, own.options or "options")


def _right(own: Own, row: Row) -> int:
    return choices.right_of(row, own.answer or "answer", _options(own, row))
