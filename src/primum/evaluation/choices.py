"""Multiple choice by likelihood, as lm-evaluation-harness scores it; what the benchmarks of it share.

acc: the right option has the highest summed log-likelihood. acc_norm: the highest sum divided by the option's length
in characters. acc_bytes: in UTF-8 bytes. A tie goes to the first option.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, cast

from primum.core.errors import BadInputError
from primum.core.records import Prompt
from primum.evaluation.items import Answer, Gold, Item, Metric, Score
from primum.prompts.files import Row

METRICS: Mapping[str, Metric] = {
    "acc": Metric("share of questions whose right option has the highest likelihood"),
    "acc_norm": Metric("the same, likelihood divided by the option's length in characters", primary=False),
}
LETTERS = string.ascii_uppercase


def item(
    prompt: Prompt, options: Sequence[str], right: int, cluster: str = "", groups: Sequence[str] = (), space: str = " "
) -> Item:
    """Return the item of a question: each option follows the context after a space."""
    made = Item(prompt, cluster, tuple(groups), tuple(f"{space}{one}" for one in options), {"right": right})
    return made if cluster else Item(prompt, made.id, tuple(groups), made.options, made.target)


def score(item: Item, answer: Answer) -> Mapping[str, Score]:
    """Return whether the right option was the likeliest."""
    if len(answer.logps) != len(item.options) or any(map(math.isnan, answer.logps)):
        return dict.fromkeys(METRICS, "no likelihood")
    normed = [logp / len(option.strip()) for logp, option in zip(answer.logps, item.options, strict=True)]
    right = item.target["right"]
    return {
        "acc": float(answer.logps.index(max(answer.logps)) == right),
        "acc_norm": float(normed.index(max(normed)) == right),
    }


def gold(prompt: Prompt) -> tuple[Gold, ...]:
    """Return cases that hold for every benchmark of this kind.

    The right option " bbbb" has -4: -1 a character; " a" has -3: the sum prefers the wrong, the norm the right one.
    """
    asked = item(prompt, ("a", "bbbb"), 1)
    return (
        Gold(asked, Answer(logps=(-3.0, -4.0)), {"acc": 0.0, "acc_norm": 1.0}),
        Gold(asked, Answer(logps=(-5.0, -4.0)), {"acc": 1.0, "acc_norm": 1.0}),
        Gold(asked, Answer(logps=(-0.5, -4.0)), {"acc": 0.0, "acc_norm": 0.0}),
        Gold(asked, Answer(logps=(math.nan, -4.0)), {"acc": "", "acc_norm": ""}),
    )


def lettered(question: str, options: Sequence[str]) -> str:
    """Return the question with its options, each behind its letter, and "Answer:"."""
    listed = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return f"{question.strip()}\n{listed}\nAnswer:"


def options_of(row: Row, name: str) -> tuple[str, ...]:
    r"""Return a row's options: a list, a JSON list, lines "A. ...", or the hub's {"text": [...], "label": [...]}.

    Raises:
        BadInputError: fewer than two, or none.
    """
    value = row.values.get(name)
    if isinstance(value, Mapping):
        value = cast(Mapping[str, Any], value).get("text")
    if isinstance(value, str):
        value = _parted(value)
    options = [one.strip() for one in cast(list[Any], value or []) if isinstance(one, str) and one.strip()]
    if not 2 <= len(options) <= len(LETTERS):
        cure = 'a list of texts, or lines "A. ...", "B. ..."'
        raise BadInputError(f"'{name}' must hold 2 to 26 options", where=row.where, cure=cure)
    return tuple(options)


def _parted(text: str) -> list[str]:
    if text.lstrip().startswith("["):
        try:
            return cast(list[str], json.loads(text))
        except ValueError:
            return []
    # MedQA has lines of stray quotation marks
    lines = (line for line in text.splitlines() if any(map(str.isalnum, line)))
    return [part.strip() for part in re.split(r"^[A-Z][.)] ", "\n".join(lines), flags=re.M)[1:]]


def labels_of(row: Row, name: str) -> tuple[str, ...]:
    """Return the labels of the hub's {"text": [...], "label": [...]}; empty where there are none."""
    value = row.values.get(name)
    labels = cast(Mapping[str, Any], value).get("label") if isinstance(value, Mapping) else None
    return tuple(str(one).strip() for one in cast(list[Any], labels or []))


def right_of(row: Row, name: str, options: Sequence[str], labels: Sequence[str] = ()) -> int:
    """Return the index of the right option: an index from 0, a letter (or one of `labels`), its text, "B. its text".

    Raises:
        BadInputError: it is none of these.
    """
    value = row.values.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(options):
        return value
    text = str(value).strip()
    if text in labels:
        return list(labels).index(text)
    for i, option in enumerate(options):
        if text in (option, LETTERS[i], f"{LETTERS[i]}. {option}", f"{LETTERS[i]}) {option}"):
            return i
    if text.isdigit() and int(text) < len(options):
        return int(text)
    cure = "an index from 0, or a letter"
    raise BadInputError(f"no option {text!r:.60} among {len(options)}", where=row.where, cure=cure)


def plain_words(text: str) -> str:
    """Return lower-case words parted by one space, nothing else."""
    return " ".join(re.findall(r"\w+", text.lower()))
