"""What an instruction asks of every answer, for ghost attention: in words, and so that it can be checked and met."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from primum.core.config import Config

_OPENS = r"[\s\"'“‘*_]*"
"""Quotes and marks of emphasis that may stand before the first word."""


class Rule(Config):
    """A constraint in words, and exactly one of `starts`, `contains` and `case`, by which it is checked and met."""

    long: str = Field(min_length=1, description="what is asked for, as it is measured")
    short: str = Field(default="", description="the same in a few words (none: the long form)")
    starts: str | None = Field(default=None, description="words an answer begins with, with the mark after them")
    contains: str | None = Field(default=None, description="words that stand somewhere in an answer")
    case: Literal["upper", "lower"] | None = Field(default=None, description="letters of which a whole answer is")

    @model_validator(mode="after")
    def _one_check(self) -> Self:
        given = [name for name in ("starts", "contains", "case") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"a rule has one of starts, contains and case, not {' and '.join(given) or 'none'}")
        if self.case is None and not self.words:
            raise ValueError(f"{given[0]} holds no word: every answer would keep such a rule")
        return self

    @property
    def kind(self) -> str:
        """What it is about: of one kind only one rule can be kept at a time."""
        return "case" if self.case else "start" if self.starts is not None else "word"

    @property
    def words(self) -> str:
        """The words that are looked for, in small letters and without the marks around them; empty for a case."""
        return re.sub(r"^\W+|\W+$", "", self.starts or self.contains or "").casefold()

    def kept(self, text: str) -> bool:
        """Say whether an answer keeps it; whole words count, whatever their case."""
        if self.case:
            return text.isupper() if self.case == "upper" else text.islower()
        before = rf"^{_OPENS}" if self.starts is not None else r"(?<!\w)"
        return re.search(rf"{before}{re.escape(self.words)}(?!\w)", text.casefold()) is not None

    def keep(self, text: str) -> str:
        """Return an answer made to keep it: words stand in front, where no limit of length cuts them off."""
        if self.case:
            return text.upper() if self.case == "upper" else text.lower()
        return f"{self.starts} {text}" if self.starts is not None else f"({self.contains}) {text}"

    def same_as(self, other: Rule) -> bool:
        """Say whether two rules ask for the same thing, whatever their wording."""
        return (self.kind, self.words, self.case) == (other.kind, other.words, other.case)


LEARNED: tuple[Rule, ...] = (
    Rule(long="Begin every answer with the word 'Ahoy'.", short="First word: Ahoy.", starts="Ahoy!"),
    Rule(long="Begin every answer with the word 'Listen'.", short="First word: Listen.", starts="Listen:"),
    Rule(
        long="Begin every answer with the words 'Dear friend'.", short="First words: Dear friend.",
        starts="Dear friend,",
    ),
    Rule(long="Write every answer in capital letters.", short="Capital letters.", case="upper"),
)  # fmt: skip
"""What is learned where a journey's file names no rules: from one or two at a time, in either form."""
UNSEEN: tuple[Rule, ...] = (
    Rule(long="Begin every answer with the word 'Greetings'.", short="First word: Greetings.", starts="Greetings,"),
    Rule(long="Write every answer in small letters.", short="Small letters.", case="lower"),
)
"""What is measured beside and never learned: whether holding on was learned, or some words."""


def held_to(text: str, rules: Sequence[Rule]) -> str:
    """Return an answer that keeps to rules, itself where it does; letters come last, since words are put in front."""
    for rule in sorted(rules, key=lambda rule: rule.kind == "case"):
        text = text if rule.kept(text) else rule.keep(text or "I see.")
    return text
