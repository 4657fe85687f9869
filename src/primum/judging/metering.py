"""What asking a model costs: questions, tokens, seconds, and money where a price is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from primum.core.records import JsonDict, Messages
from primum.judging.ask import Answer, Ask

MILLION = 1_000_000


class Price(NamedTuple):
    """Money for a million tokens that are read, and for a million that are written."""

    prompt: float
    answer: float


@dataclass
class Meter:
    """Asks as the function that it is given does, and counts what that takes.

    `counted` are the answers whose tokens are told: a server need not say them.
    """

    ask: Ask
    clock: Callable[[], float] = time.monotonic
    questions: int = 0
    failed: int = 0
    counted: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    seconds: float = 0.0

    def __call__(self, batch: Sequence[Messages]) -> list[Answer]:
        """Ask a batch."""
        start = self.clock()
        answers = self.ask(batch)
        self.seconds += self.clock() - start
        self.questions += len(batch)
        for answer in answers:
            self.failed += answer.error is not None
            if answer.tokens is not None:
                self.counted += 1
                self.prompt_tokens += answer.tokens.prompt
                self.answer_tokens += answer.tokens.answer
        return answers

    def cost(self, labels: int, price: Price | None = None) -> JsonDict:
        """Return what all and what one label took.

        Args:
            labels: how many there are; each is asked for twice, in both orders.
            price: of tokens, where it is known.

        Returns:
            Totals, and `per_label`: seconds by the clock while the model was asked (and loaded, where the first
            question loads it), tokens by the answers that told theirs (None where none did), money by these tokens
            (None without a price).
        """
        tokens = [total / self.counted if self.counted else None for total in (self.prompt_tokens, self.answer_tokens)]
        each = self.questions / labels if labels else 0.0
        prompt, answer = (None if mean is None else mean * each for mean in tokens)
        money = None
        if price is not None and prompt is not None and answer is not None:
            money = (prompt * price.prompt + answer * price.answer) / MILLION
        return {
            "labels": labels, "questions": self.questions, "failed": self.failed, "tokens_told": self.counted,
            "prompt_tokens": self.prompt_tokens, "answer_tokens": self.answer_tokens, "seconds": self.seconds,
            "per_label": {
                "prompt_tokens": prompt, "answer_tokens": answer,
                "seconds": self.seconds / labels if labels else None, "money": money,
            },
        }  # fmt: skip
