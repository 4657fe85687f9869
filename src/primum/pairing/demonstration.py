"""What a strategy returns: pairs, demonstrations, and what was left out; and who may not enter it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from primum.core.errors import UsageError
from primum.core.records import JsonDict, Messages, Pair, Prompt
from primum.core.taxonomy import policy
from primum.prompts.sources import for_evaluation

Kind = Literal["harmful", "twin", "general", "advice"]
UNQUALIFIED = "unqualified"
NO_ANSWERS = "no answers in its language"
"""Why a prompt is dropped for which no completion could be composed: an English one would teach the wrong language."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt with the answer it should get, for the supervised warm start.

    A harmful prompt and its benign twin have the same `group`: they are learned together.
    """

    prompt: Messages
    prompt_id: str
    answer: str
    kind: Kind
    category: str
    answer_from: str
    ends: bool = True
    group: str = ""


@dataclass(frozen=True, slots=True)
class Built:
    """What a strategy made of the prompts. A row of `dropped` holds prompt_id, reason, kind and category.

    `labels` are what a model said of two replies, where one was asked: a `Preference` each, with its `margins`.
    A prompt can be in `dropped` (it gave no pair) and still give a demonstration.
    """

    pairs: list[Pair] = field(default_factory=list[Pair])
    demonstrations: list[Demonstration] = field(default_factory=list[Demonstration])
    dropped: list[JsonDict] = field(default_factory=list[JsonDict])
    labels: list[JsonDict] = field(default_factory=list[JsonDict])

    def drop(self, prompt: Prompt, reason: str) -> None:
        """Note that the prompt gave no pair, and why."""
        kind = kind_of(prompt)
        self.dropped.append({"prompt_id": prompt.id, "reason": reason, "kind": kind, "category": prompt.category})


def kind_of(prompt: Prompt) -> Kind:
    """Say what part the prompt plays in a set of pairs."""
    if prompt.intent == "harmful":
        return "harmful"
    if prompt.twin is not None:
        return "twin"
    known = policy().categories.get(prompt.category)
    return "advice" if "advice" in prompt.tags or (known and known.risk == UNQUALIFIED) else "general"


def only_for_training(prompts: Sequence[Prompt]) -> None:
    """Refuse prompts that must stay unseen.

    Raises:
        UsageError: one is in the test split, or belongs to a public evaluation set; names it.
    """
    for prompt in prompts:
        if prompt.split != "test" and not for_evaluation(prompt):
            continue
        what = "belongs to an evaluation set" if for_evaluation(prompt) else "is in the test split"
        problem = f"prompt {prompt.id} of '{prompt.source}' {what} and would be trained on: {prompt.text[:60]!r}"
        raise UsageError(problem, cure="give only prompts whose split is train (or dev) to a pairing strategy")
