r"""The user's domain data: one format everywhere, from which each step takes what it needs.

    {"prompt": "What does aspirin do?", "answer": "It eases pain and thins the blood."}
    {"prompt": "Which vitamin is ascorbic acid?", "options": ["A", "B12", "C"], "right": 2}       index from 0
    {"prompt": "Which vitamin is ascorbic acid?", "options": ["A", "B12", "C"], "right": "C"}     or a letter

JSONL, CSV or Parquet (in a CSV cell, options are a JSON list, or lines "A. ...", "B. ..."). Read as they are, too:

    MedQA, MedMCQA   {"question", "options": "A. ...\nB. ...", "answer": "B. ..."}
    PubMedQA         {"question", "passage", "answer": "yes" | "no" | "maybe"}

Likelihoods come from above, as a function: this file knows no model.
"""

from __future__ import annotations

import json
import math
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from primum.core.errors import BadInputError
from primum.core.records import JsonDict, Measurement
from primum.core.stats import wilson
from primum.prompts.files import read_rows

PUBMEDQA = ("yes", "no", "maybe")
_CURE = 'a row is {"prompt": ..., "answer": ...} or {"prompt": ..., "options": [...], "right": index or letter}'


class Text(NamedTuple):
    """A prompt and what should follow it."""

    prompt: str
    answer: str


LogLikelihood = Callable[[Sequence[Text]], Sequence[float]]
"""Sum of the log-probabilities of each answer's tokens after its prompt, in nats."""


@dataclass(frozen=True, slots=True)
class DomainRow:
    """One row. With options, `right` is the index of the right one and `answer` is its text."""

    prompt: str
    answer: str
    options: tuple[str, ...] = ()
    right: int | None = None


def read_domain(path: Path) -> list[DomainRow]:
    """Read a domain file, or every one of a folder.

    Raises:
        BadInputError: no such file, no rows, a broken row, a missing field; names file and line.
        MissingExtraError: Parquet without pyarrow.
    """
    # an empty cell of a table is a missing one
    rows = [_row({k: v for k, v in row.values.items() if v != ""}, row.where) for row in read_rows(path)]
    if not rows:
        raise BadInputError("no rows", where=str(path), cure=_CURE)
    return rows


def _row(fields: Mapping[str, Any], where: str) -> DomainRow:
    prompt = _prompt(fields, where)
    if fields.get("options") is not None:
        options = _options(fields["options"], where)
        right = _right(fields, options, where)
        return DomainRow(prompt, options[right], options, right)
    answer = _text(fields, "answer", where)
    if "passage" in fields and answer.strip().lower() in PUBMEDQA:
        right = PUBMEDQA.index(answer.strip().lower())
        return DomainRow(prompt, PUBMEDQA[right], PUBMEDQA, right)
    return DomainRow(prompt, answer)


def _prompt(fields: Mapping[str, Any], where: str) -> str:
    text = _text(fields, "question" if "prompt" not in fields and "question" in fields else "prompt", where)
    if "passage" not in fields:
        return text
    return f"Abstract: {_text(fields, 'passage', where).strip()}\nQuestion: {text}"


def _text(fields: Mapping[str, Any], key: str, where: str) -> str:
    value = fields.get(key)
    if value is None:
        raise BadInputError(f"no '{key}'", where=where, cure=_CURE)
    if not isinstance(value, str) or not value.strip():
        raise BadInputError(f"'{key}' must be text that is not empty, got {value!r}", where=where, cure=_CURE)
    return value


def _options(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = _options_in_text(value, where)
    options = cast(list[Any], value) if isinstance(value, list) else []
    texts = tuple(one.strip() for one in options if isinstance(one, str) and one.strip())
    if len(texts) < 2 or len(texts) != len(options) or len(texts) > len(string.ascii_uppercase):
        raise BadInputError("'options' must be 2 to 26 texts, none empty", where=where, cure=_CURE)
    return texts


def _options_in_text(value: str, where: str) -> list[Any]:
    if not value.lstrip().startswith("["):
        return _lettered(value)
    try:
        return json.loads(value)
    except ValueError as error:
        raise BadInputError(f"'options' is a broken JSON list ({error})", where=where, cure=_CURE) from error


def _lettered(text: str) -> list[str]:
    r"""Split "A. one\nB. two"; a line without the next letter goes on with the option before it.

    Such a line without a letter or digit is dropped: MedQA has stray quotation marks.
    """
    options: list[str] = []
    for line in text.strip().splitlines():
        letter = string.ascii_uppercase[len(options) % 26]
        if line.startswith((f"{letter}. ", f"{letter}) ")):
            options.append(line[3:])
        elif options and any(map(str.isalnum, line)):
            options[-1] += "\n" + line
    return options


def _right(fields: Mapping[str, Any], options: tuple[str, ...], where: str) -> int:
    value = fields.get("right", fields.get("answer"))
    if value is None:
        raise BadInputError("no 'right' option", where=where, cure=_CURE)
    found = _index(value, options) if "right" in fields else _index_of_answer(value, options)
    if found is None or not 0 <= found < len(options):
        raise BadInputError(f"no option {value!r} among {len(options)}", where=where, cure=_CURE)
    return found


def _index(value: Any, options: tuple[str, ...]) -> int | None:
    """Read an index from 0, or a letter."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    text = str(value).strip().upper()
    if text.isascii() and text.isdigit():
        return int(text)
    return string.ascii_uppercase.index(text) if len(text) == 1 and text in string.ascii_uppercase else None


def _index_of_answer(value: Any, options: tuple[str, ...]) -> int | None:
    """Read "B. its text", then an option's own text, then an index or a letter."""
    text = str(value).strip()
    lettered = [f"{letter}{mark} {one}" for mark in ".)" for letter, one in zip(string.ascii_uppercase, options)]  # noqa: B905
    if text in lettered:
        return lettered.index(text) % len(options)
    return options.index(text) if text in options else _index(value, options)


class Parts(NamedTuple):
    """A domain's rows, in parts that share none: to train on, to choose on, to report on."""

    train: Sequence[DomainRow]
    dev: Sequence[DomainRow]
    test: Sequence[DomainRow]


def parts(rows: Sequence[DomainRow]) -> Parts:
    """Return every fourth row to train on, as many to choose on, half to report on; of fewer than four none to train.

    Every caller finds the same parts of the same rows: a question that one trains on, none measures.
    """
    train = rows[0::4] if len(rows) >= 4 else ()
    seen = {row.prompt for row in train}
    dev, test = (
        [row for row in some if row.prompt not in seen] for some in (rows[2::4] if train else rows[0::2], rows[1::2])
    )
    return Parts(train, dev, test)


def texts(rows: Sequence[DomainRow]) -> list[Text]:
    """Return prompt and right answer of every row: the text for NLL."""
    return [Text(row.prompt, row.answer) for row in rows]


def training_rows(rows: Sequence[DomainRow]) -> list[JsonDict]:
    """Return the rows in TRL's conversational prompt-completion columns."""
    return [
        {
            "prompt": [{"role": "user", "content": row.prompt}],
            "completion": [{"role": "assistant", "content": row.answer}],
        }
        for row in rows
    ]


class Choice(NamedTuple):
    """Whether the right option was the likeliest, by sum and by sum over its length in characters."""

    acc: bool
    acc_norm: bool


def accuracy(rows: Sequence[DomainRow], loglikelihood: LogLikelihood) -> list[Measurement]:
    """Return `acc` and `acc_norm` as lm-evaluation-harness defines them for multiple choice.

    acc: argmax of the summed log-likelihood; acc_norm: argmax of the sum over the option's characters. A tie goes to
    the first option. Rows without options, and rows with a likelihood that is NaN, are left out and counted.
    """
    asked = [row for row in rows if row.options]
    scores = iter(loglikelihood([Text(row.prompt, option) for row in asked for option in row.options]))
    per_row = [[next(scores) for _ in row.options] for row in asked]
    chosen = [_choice(row, part) for row, part in zip(asked, per_row, strict=True) if not any(map(math.isnan, part))]
    reasons = {"no options": len(rows) - len(asked), "no likelihood": len(asked) - len(chosen)}
    left_out = {reason: n for reason, n in reasons.items() if n}
    hits = {"acc": sum(one.acc for one in chosen), "acc_norm": sum(one.acc_norm for one in chosen)}
    return [_measured(metric, k, len(chosen), left_out) for metric, k in hits.items()]


def _choice(row: DomainRow, scores: Sequence[float]) -> Choice:
    normed = [score / len(option) for score, option in zip(scores, row.options, strict=True)]
    return Choice(scores.index(max(scores)) == row.right, normed.index(max(normed)) == row.right)


def _measured(metric: str, k: int, n: int, left_out: Mapping[str, int]) -> Measurement:
    value, low, high = wilson(k, n) if n else (None, None, None)
    return Measurement(metric, "all", value, low, high, n, "higher_is_better", left_out)
