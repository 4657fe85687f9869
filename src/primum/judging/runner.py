"""Runs a judge over exchanges: one verdict each, in their order, whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from primum.core.catalogue import member
from primum.core.errors import PrimumError
from primum.core.records import Verdict
from primum.judging import Exchange

Judge = Callable[[Sequence[Exchange]], list[Verdict]]


def judge_all(name: str, exchanges: Sequence[Exchange]) -> list[Verdict]:
    """Return one verdict per exchange by the judge of that name, in the order given.

    An exchange on which the judge fails becomes an unscored verdict that says why; an unscored reply is never safe.

    Raises:
        UsageError: no such judge.
        PrimumError: the judge cannot work at all (its model is not installed, say).
    """
    module = member("judges", name)
    return run(name, cast(Judge, module.judge), exchanges, cast(str, module.revision))


def run(name: str, judge: Judge, exchanges: Sequence[Exchange], revision: str = "") -> list[Verdict]:
    """Apply a judge to all exchanges at once; after a failure one by one, so that one bad reply costs one verdict."""
    whole = _attempt(judge, exchanges)
    if isinstance(whole, list):
        return whole
    return [_one(name, judge, one, revision) for one in exchanges]


def _one(name: str, judge: Judge, one: Exchange, revision: str) -> Verdict:
    result = _attempt(judge, [one])
    if isinstance(result, list):
        return result[0]
    return Verdict(one.reply.id, name, None, unscored=result, judge_revision=revision)


def _attempt(judge: Judge, exchanges: Sequence[Exchange]) -> list[Verdict] | str:
    """Return the verdicts, or in one line why there are none."""
    try:
        verdicts = judge(exchanges)
    except PrimumError:
        raise
    except Exception as error:  # the one place where anything may be caught: a judge's failure is a result
        return f"judge failed: {type(error).__name__}: {error}".splitlines()[0][:200]
    if [v.reply_id for v in verdicts] != [one.reply.id for one in exchanges]:
        return f"judge returned {len(verdicts)} verdicts for {len(exchanges)} replies, or in another order"
    return verdicts
