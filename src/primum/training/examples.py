"""Records to token ids: a prompt and its answers, cut where they must be cut, and counted.

Prompt and answer are tokenised apart, so that no merge crosses the border and no token stands twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from primum.core.records import Messages, Pair
from primum.models.chat import encode, encode_answer


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of one prompt and one answer of it; `weight` scales its loss."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    weight: float = 1.0

    @property
    def length(self) -> int:
        """Tokens of the whole row."""
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True)
class PairExample:
    """Token ids of one prompt with its chosen and its rejected answer."""

    chosen: Example
    rejected: Example

    @property
    def length(self) -> int:
        """Tokens of both rows."""
        return self.chosen.length + self.rejected.length


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a prompt and an answer may be, in tokens.

    A prompt loses its beginning (its end holds the question), an answer its end; a cut answer gets no end-of-turn
    token, so that the model does not learn to stop there.
    """

    prompt: int = 512
    answer: int = 96


def example(prompt_ids: Sequence[int], answer: str, tokenizer: Any, limits: Limits) -> Example:
    """Return the example of a prompt's ids and an answer's text."""
    ids = encode_answer(answer, tokenizer)[: limits.answer]
    return Example(tuple(prompt_ids[-limits.prompt :]), tuple(ids))


def answered(rows: Iterable[tuple[Messages, str]], tokenizer: Any, limits: Limits) -> list[Example]:
    """Tokenise (prompt, answer) rows."""
    rows = list(rows)
    prompts = encode([messages for messages, _ in rows], tokenizer)
    return [example(ids, answer, tokenizer, limits) for ids, (_, answer) in zip(prompts, rows, strict=True)]


def paired(pairs: Sequence[Pair], tokenizer: Any, limits: Limits) -> list[PairExample]:
    """Tokenise preference pairs; each prompt once."""
    prompts = encode([pair.prompt for pair in pairs], tokenizer)
    return [
        PairExample(example(ids, p.chosen, tokenizer, limits), example(ids, p.rejected, tokenizer, limits))
        for ids, p in zip(prompts, pairs, strict=True)
    ]
