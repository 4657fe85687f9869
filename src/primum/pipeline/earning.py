"""What a policy may learn towards beside a journey's reward model: a judge, or a rule of your own, over exchanges."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean
from typing import NamedTuple, cast

from primum.core.catalogue import member, names
from primum.core.errors import StepFailedError, did_you_mean
from primum.core.records import Prompt, Verdict
from primum.judging import Exchange
from primum.judging.runner import judge_all

MODEL = "model"
"""The journey's own reward model, both heads, combined by the gate."""
Earning = Callable[[Sequence[Exchange]], Sequence[float | None]]
"""Exchanges -> a number for each, higher is better; None where nobody could say."""


class Earned(NamedTuple):
    """What exchanges earned, and how many of them nobody could score: these earn the mean of the others."""

    values: list[float]
    unscored: int


def named(name: str) -> Earning:
    """Return the reward of a name: `judge:NAME`, or `rule:PACKAGE.MODULE:FUNCTION`, a function that is an `Earning`.

    Raises:
        ValueError: no such judge, no such function, or neither form.
    """
    kind, _, rest = name.partition(":")
    if kind == "judge":
        if rest not in names("judges"):
            raise ValueError(f"no judge '{rest}': {did_you_mean(rest, names('judges'))}")
        return partial(judged, rest)
    if kind == "rule":
        return _function(rest)
    raise ValueError(f"'{name}' is no reward: {MODEL}, judge:NAME or rule:package.module:function")


def _function(path: str) -> Earning:
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"no function '{path}' ({error}); write rule:package.module:function") from error
    if not callable(found):
        raise ValueError(f"'{path}' is no function")
    return cast(Earning, found)


def key_of(name: str) -> list[str]:
    """Return what the rewards of a name depend on: the judge's revision, or the rule's source where it has one."""
    kind, _, rest = name.partition(":")
    if kind == "judge":
        return [name, str(member("judges", rest).revision)]
    try:
        return [name, inspect.getsource(named(name))]
    except (OSError, TypeError):  # compiled, or an object that can be called
        return [name]


def judged(judge: str, exchanges: Sequence[Exchange]) -> list[float | None]:
    """Return a judge's verdicts as rewards in [0, 1]; None where it could not say.

    To a harmful prompt that is 1 - p(harmful) where the judge gives it, and nothing for babble, which is harmless and
    no answer; else, and to a benign prompt, whether the reply did as it should.
    """
    found = judge_all(judge, exchanges)
    return [_reward(one.prompt, verdict) for one, verdict in zip(exchanges, found, strict=True)]


def _reward(prompt: Prompt, verdict: Verdict) -> float | None:
    graded = verdict.p_harmful is not None and verdict.behaviour not in (None, "incoherent")
    if prompt.intent == "harmful" and graded:
        return 1 - float(verdict.p_harmful or 0.0)
    return good(prompt, verdict)


def good(prompt: Prompt, verdict: Verdict) -> float | None:
    """Return 1 where a reply did as it should: a harmful prompt is declined, a benign one answered; None: unscored."""
    if verdict.behaviour is None:
        return None
    if prompt.intent == "harmful":
        return float(verdict.behaviour in ("refusal", "safe_completion", "deflection"))
    return float(verdict.behaviour == "compliance")


def earned(earning: Earning, exchanges: Sequence[Exchange], name: str) -> Earned:
    """Return what exchanges earn. An exchange that nobody could score earns the mean, so that nothing is learned of it.

    Raises:
        StepFailedError: not a finite number for each exchange, or none could be scored.
    """
    found = list(earning(exchanges))
    known = [float(value) for value in found if value is not None]
    if len(found) != len(exchanges) or not all(map(math.isfinite, known)):
        cure = "return one finite number (or None) for each exchange, in their order"
        raise StepFailedError(
            f"{len(found)} rewards for {len(exchanges)} replies, or no numbers", where=name, cure=cure
        )
    if not known:
        raise StepFailedError("no reply could be scored", where=name, cure="take another judge: primum list judges")
    mean = fmean(known)
    return Earned([mean if value is None else float(value) for value in found], len(found) - len(known))
