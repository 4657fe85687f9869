"""Runs a judge over exchanges: one verdict each, in their order, whatever happens.

A member of the catalogue is called in one of two ways. `judge(exchanges)` returns verdicts. Where the member has
`configure(settings)`, that gives the function to call; it checks the settings at once, and leaves the reading of
weights to the first exchange. Either function may also be a generator: it yields batches of
conversations, is sent the answers of the model in `settings.ask`, and returns the verdicts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import ModuleType
from typing import Any, cast

from primum.core.catalogue import member
from primum.core.errors import PrimumError, StepFailedError, UsageError
from primum.core.progress import Advance, silent
from primum.core.records import Messages, Verdict, described, files_of
from primum.judging import Exchange
from primum.judging.ask import Answer, Ask, Endpoint

Asking = Generator[Sequence[Messages], list[Answer], list[Verdict]]
Judge = Callable[[Sequence[Exchange]], "list[Verdict] | Asking"]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a judge may need beside the exchanges; each takes what is its own.

    Args:
        ask: asks a chat model.
        complete: asks the same model with a whole prompt and no chat template around it.
        endpoint: where a moderation service is.
        rubric: name of a shipped rubric, or the path of a YAML file.
        members: the judges of a panel.
        options: anything else, by name.
    """

    ask: Ask | None = None
    complete: Ask | None = None
    endpoint: Endpoint | None = None
    rubric: str = "meditron"
    members: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])


NOTHING = Settings()
BROKEN = ("judge failed:", "judge returned", "no answer:")
NO_WORDS = "the prompt holds a picture or recording, and no words say what is in it"


def judge_all(
    name: str, exchanges: Sequence[Exchange], settings: Settings = NOTHING, advance: Advance = silent, batch: int = 0
) -> list[Verdict]:
    """Return one verdict per exchange by the judge of that name, in the order given.

    An exchange on which the judge fails becomes an unscored verdict that says why; an unscored reply is never safe.

    Args:
        name: the judge.
        exchanges: what to judge.
        settings: the model, endpoint or rubric that it needs.
        advance: called with the number of exchanges just judged.
        batch: exchanges at a time; 0: all at once.

    Raises:
        UsageError: no such judge, or it needs a setting that is missing.
        PrimumError: the judge cannot work at all (its model is not installed, say).
    """
    return judge_by(name, with_settings(member("judges", name), name, settings), exchanges, advance, batch)


def judge_by(
    name: str,
    judge: Callable[[Sequence[Exchange]], list[Verdict]],
    exchanges: Sequence[Exchange],
    advance: Advance = silent,
    batch: int = 0,
) -> list[Verdict]:
    """Return one verdict per exchange by a judge that has its settings (`with_settings`); otherwise as `judge_all`."""
    revision = cast(str, member("judges", name).revision)
    found: list[Verdict] = []
    for start in range(0, len(exchanges), batch or max(1, len(exchanges))):
        part = exchanges[start : start + (batch or len(exchanges))]
        found += read_as_text(part, partial(run, name, judge, revision=revision), name)
        advance(len(part))
    return found


def read_as_text(
    exchanges: Sequence[Exchange], judge: Callable[[Sequence[Exchange]], list[Verdict]], name: str
) -> list[Verdict]:
    """Judge exchanges by readers of text: a picture or recording in the prompt is given by its words, where known.

    A verdict that rests on such words says so (`by_words`); a prompt that holds a file without words is not judged.
    """
    read = [_read(one) for one in exchanges]
    readable = [one for one in read if one is not None]
    told = iter(judge(readable) if readable else ())
    found: list[Verdict] = []
    for one, in_text in zip(exchanges, read, strict=True):
        if in_text is None:
            found.append(Verdict(one.reply.id, name, None, unscored=NO_WORDS))
        else:
            found.append(next(told) if in_text is one else replace(next(told), by_words=True))
    return found


def _read(one: Exchange) -> Exchange | None:
    """Return an exchange as text, the same one where it is text already; None where a file has no words."""
    if not files_of(one.prompt.messages):
        return one
    messages = described(one.prompt.messages)
    return None if messages is None else Exchange(replace(one.prompt, messages=messages), one.reply)


def with_settings(module: ModuleType, name: str, settings: Settings) -> Callable[[Sequence[Exchange]], list[Verdict]]:
    """Return the member's function over exchanges, with what it asks answered.

    Raises:
        UsageError: it asks a model, and none is given.
    """
    configure = getattr(module, "configure", None)
    judge = cast(Judge, configure(settings) if configure else module.judge)

    def call(exchanges: Sequence[Exchange]) -> list[Verdict]:
        result = judge(exchanges)
        asked = settings.complete if "complete" in getattr(module, "needs", ()) else settings.ask
        return drive(cast(Asking, result), asked, name) if inspect.isgenerator(result) else cast(Any, result)

    return call


def drive(asking: Asking, ask: Ask | None, name: str) -> list[Verdict]:
    """Answer a generator's batches until it returns its verdicts.

    Raises:
        UsageError: there is no model to ask.
        StepFailedError: the model gives more or fewer answers than it was asked for.
    """
    try:
        batch = next(asking)
        while True:
            if ask is None:
                cure = "give --endpoint http://localhost:8000/v1 --endpoint-model NAME, or --judge-model NAME"
                raise UsageError(f"the judge '{name}' asks a chat model, and none is given", cure=cure)
            answers = ask(batch)
            if len(answers) != len(batch):
                raise StepFailedError(f"asked {len(batch)} questions, got {len(answers)} answers")
            batch = asking.send(answers)
    except StopIteration as end:
        return cast(list[Verdict], end.value)


def run(
    name: str, judge: Callable[[Sequence[Exchange]], list[Verdict]], exchanges: Sequence[Exchange], revision: str = ""
) -> list[Verdict]:
    """Apply a judge to all exchanges at once; after a failure one by one, so that one bad reply costs one verdict."""
    whole = _attempt(judge, exchanges)
    if isinstance(whole, list):
        return whole
    return [_one(name, judge, one, revision) for one in exchanges]


def _one(name: str, judge: Callable[[Sequence[Exchange]], list[Verdict]], one: Exchange, revision: str) -> Verdict:
    result = _attempt(judge, [one])
    if isinstance(result, list):
        return result[0]
    return Verdict(one.reply.id, name, None, unscored=result, judge_revision=revision)


def broke(verdict: Verdict) -> bool:
    """Whether the judge itself failed on a reply, or its service did not answer: that says nothing about the reply."""
    return verdict.behaviour is None and (verdict.unscored or "").startswith(BROKEN)


def _attempt(
    judge: Callable[[Sequence[Exchange]], list[Verdict]], exchanges: Sequence[Exchange]
) -> list[Verdict] | str:
    """Return the verdicts, or in one line why there are none."""
    try:
        verdicts = judge(exchanges)
    except PrimumError:
        raise
    except Exception as error:  # the one place where anything may be caught: a judge's failure is a result
        return f"judge failed: {type(error).__name__}: {error}".splitlines()[0][:200]
    if not isinstance(verdicts, list) or not all(isinstance(v, Verdict) for v in verdicts):  # pyright: ignore[reportUnnecessaryIsInstance]
        return "judge returned something else than verdicts"
    if [v.reply_id for v in verdicts] != [one.reply.id for one in exchanges]:
        return f"judge returned {len(verdicts)} verdicts for {len(exchanges)} replies, or in another order"
    return verdicts
