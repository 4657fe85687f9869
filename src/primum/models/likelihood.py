"""How likely a given continuation is: the words that every engine which can say it speaks in.

For multiple-choice items, guard models' p(unsafe) and rewards. Tokenised as lm-evaluation-harness does it: spaces at
the end of a text context go to the continuation, both are tokenised together, and cut where the context's tokens end.
An answer in a conversation begins behind the template's opening of the assistant's turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from primum.core.records import JsonDict, Messages
from primum.models.chat import encode, encode_answer
from primum.models.endpoint import PassingError


class Continuation(NamedTuple):
    """A context (plain text, or a conversation that goes through the model's template) and what may follow it."""

    context: str | Messages
    text: str


class Likelihood(NamedTuple):
    """Summed log-probability of a continuation (nats, NaN where `error` says why there is none), and its tokens."""

    logp: float
    tokens: int
    error: str = ""

    @classmethod
    def failed(cls, reason: str) -> Likelihood:
        """Return the likelihood that could not be had."""
        return cls(math.nan, 0, reason)


class Scoring(Protocol):
    """An engine that can say how likely given continuations are."""

    def likelihoods(self, asked: Sequence[Continuation]) -> list[Likelihood]:
        """Return one likelihood for each continuation, in the order given."""
        ...


class Cut(NamedTuple):
    """Token ids of a context and of its continuation."""

    context: list[int]
    answer: list[int]


def moved(context: str, text: str) -> tuple[str, str]:
    """Move spaces from the end of a context to the front of its continuation: they belong to its first token."""
    bare = context.rstrip()
    return bare, context[len(bare) :] + text


def cut_all(asked: Sequence[Continuation], tokenizer: Any, limit: int | None = None) -> list[Cut]:
    """Tokenise continuations; a context that does not fit `limit` tokens loses its beginning."""
    found: list[Cut] = []
    for one in asked:
        row = _text_row(one.context, one.text, tokenizer) if isinstance(one.context, str) else _turn_row(one, tokenizer)
        kept = row.context if limit is None else row.context[-max(1, limit + 1 - len(row.answer)) :]
        found.append(Cut(kept, row.answer))
    return found


def _text_row(context: str, text: str, tokenizer: Any) -> Cut:
    context, text = moved(context, text)
    ids = tokenizer(context)["input_ids"] or [tokenizer.eos_token_id]
    whole = tokenizer(context + text)["input_ids"]
    return Cut(ids, whole[len(ids) if context else 0 :])


def _turn_row(one: Continuation, tokenizer: Any) -> Cut:
    assert not isinstance(one.context, str)
    return Cut(encode([one.context], tokenizer)[0], encode_answer(one.text, tokenizer, end=False))


def echoed_text(start: int) -> Callable[[JsonDict], Likelihood]:
    """Return a reader of echoed completions: sums what lies from character `start` to the end of the prompt."""

    def read(answer: JsonDict) -> Likelihood:
        logps, offsets = _echoed(answer)
        if len(offsets) != len(logps):
            raise PassingError("an answer that does not say where its tokens lie")
        # the last token is the one that was generated; one that lies across `start` belongs to the continuation
        ends = [*offsets[1:], math.inf]
        own = [logp for logp, end in list(zip(logps, ends, strict=True))[:-1] if end > start]
        return _summed(own)

    return read


def echoed_tokens(context: int, answer: int) -> Callable[[JsonDict], Likelihood]:
    """Return a reader of echoed completions: sums `answer` tokens behind the first `context` ones."""

    def read(got: JsonDict) -> Likelihood:
        logps, _ = _echoed(got)
        if len(logps) < context + answer:
            raise PassingError("an answer with fewer tokens than the prompt")
        return _summed(logps[context : context + answer])

    return read


def _echoed(answer: JsonDict) -> tuple[list[float | None], list[int]]:
    try:
        found = answer["choices"][0]["logprobs"]
        logps, offsets = list(found["token_logprobs"]), list(found.get("text_offset") or [])
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise PassingError("an answer without the prompt's log-probabilities") from error
    if not all(p is None or (isinstance(p, int | float) and -1e9 < p < 1) for p in logps):
        raise PassingError("log-probabilities that are none")
    if not all(isinstance(at, int) for at in offsets):
        raise PassingError("an answer that does not say where its tokens lie")
    return logps, offsets


def _summed(logps: Sequence[float | None]) -> Likelihood:
    """Sum log-probabilities; the first token of a text has none, as nothing stands before it."""
    known = [p for p in logps if p is not None]
    return Likelihood(math.fsum(known), len(known))
