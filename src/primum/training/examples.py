"""Records to token ids: a prompt and its answers, cut where they must be cut, and counted.

Prompt and answer are tokenised apart, so that no merge crosses the border and no token stands twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from primum.core.records import Messages, Pair, files_of
from primum.models.chat import encode_answer
from primum.models.seeing import encode_all


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of one prompt and one answer of it.

    seen: the prompt itself where it holds pictures: a vision-language model looks at them when the row is scored.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    seen: Messages | None = None

    @property
    def length(self) -> int:
        """Tokens of the whole row."""
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True)
class PairExample:
    """Token ids of one prompt with its chosen and its rejected answer.

    benign: the prompt deserves an answer. unsafe: whether the chosen and the rejected answer is unsafe.
    """

    chosen: Example
    rejected: Example
    benign: bool = False
    unsafe: tuple[bool, bool] = (False, True)

    @property
    def length(self) -> int:
        """Tokens of both rows."""
        return self.chosen.length + self.rejected.length


@dataclass(frozen=True, slots=True)
class Lesson:
    """One answer after two prompts: the row that is learned, and the row from which its teacher reads."""

    student: Example
    teacher: Example

    def __post_init__(self) -> None:
        if self.student.answer != self.teacher.answer:
            raise ValueError("teacher and student read different answers")

    @property
    def length(self) -> int:
        """Tokens of the row that is learned."""
        return self.student.length


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a prompt and an answer may be, in tokens.

    A prompt loses its beginning (its end holds the question), an answer its end; a cut answer gets no end-of-turn
    token, so that the model does not learn to stop there. A prompt with pictures is never cut.
    """

    prompt: int = 512
    answer: int = 96


def example(
    prompt_ids: Sequence[int], answer: str, tokenizer: Any, limits: Limits, *, ends: bool = True,
    seen: Messages | None = None,
) -> Example:  # fmt: skip
    """Return the example of a prompt's ids and an answer's text; `ends` False leaves the end-of-turn token out."""
    ids = encode_answer(answer, tokenizer, end=ends)[: limits.answer]
    return Example(tuple(prompt_ids if seen else prompt_ids[-limits.prompt :]), tuple(ids), seen)


def pictured(messages: Messages) -> Messages | None:
    """Return a prompt where it holds pictures, which must be looked at when it is scored; None where it is text."""
    return messages if files_of(messages) else None


class Answered(NamedTuple):
    """A prompt, an answer to it, how much of it is learned, and whether it ends where its author ended."""

    prompt: Messages
    answer: str
    limits: Limits = Limits()
    ends: bool = True


def answered(rows: Sequence[Answered], tokenizer: Any) -> list[Example]:
    """Tokenise answers to prompts."""
    prompts = encode_all([row.prompt for row in rows], tokenizer)
    return [
        example(p, r.answer, tokenizer, r.limits, ends=r.ends, seen=pictured(r.prompt))
        for p, r in zip(prompts, rows, strict=True)
    ]


def paired(pairs: Sequence[Pair], tokenizer: Any, limits: Limits) -> list[PairExample]:
    """Tokenise preference pairs; each prompt once."""
    prompts = encode_all([pair.prompt for pair in pairs], tokenizer)
    return [
        PairExample(
            example(ids, p.chosen, tokenizer, limits, ends=p.chosen_ends, seen=pictured(p.prompt)),
            example(ids, p.rejected, tokenizer, limits, ends=p.rejected_ends, seen=pictured(p.prompt)),
            p.kind in ("twin", "general", "advice"),
        )
        for ids, p in zip(prompts, pairs, strict=True)
    ]
