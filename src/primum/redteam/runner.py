"""Runs attacks: all live conversations advance together, one engine batch a turn.

The runner owns engines, judge, batches, seeds and what is kept; an attack owns its idea. An attack that breaks gives an
attempt that says so, which counts as unscored, never as withstood.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Literal, cast

from primum.core.errors import PrimumError
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict, Message, Messages, Prompt, digest, from_json
from primum.models.sampling import Engine, Generated, Sampling
from primum.redteam.goals import before
from primum.redteam.talk import Ask, Attack, Goal, Rate, Say, Step, Talk

LONGEST = 200
"""Steps after which an attack is stopped: a generator that never ends must not hold a run."""
Rater = Callable[[Sequence[tuple[Prompt, str]]], list[str]]
"""(goal, reply) pairs to the judge's words."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One thing that was said to a model, and what came back.

    `prompt_cut` counts the tokens at its beginning that the model's window had no room for.
    """

    role: Literal["target", "attacker"]
    messages: Messages
    reply: str
    finish: Literal["stop", "length", "error"] = "stop"
    prompt_tokens: int = 0
    reply_tokens: int = 0
    label: str = ""
    lead: bool = False
    decoding: str = ""
    prompt_cut: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attack on one goal: every turn in order; `failed` says why it could not be brought to an end."""

    goal_id: str
    attack: str
    turns: tuple[Turn, ...]
    failed: str | None = None

    @property
    def judged(self) -> list[Turn]:
        """The turns whose replies are judged: what the model under attack said, leads left out."""
        return [turn for turn in self.turns if turn.role == "target" and not turn.lead]

    @classmethod
    def from_json(cls, row: JsonDict) -> Attempt:
        """Read what `to_json` of core.records wrote."""
        turns = tuple(from_json(Turn, turn) for turn in row["turns"])
        return cls(row["goal_id"], row["attack"], turns, row.get("failed"))


@dataclass(frozen=True)
class Setting:
    """What a run holds fixed for every attack.

    Args:
        sampling: of the model under attack.
        tries: tries of an attack that searches.
        system: system prompt of the model under attack, or "".
        seed: of every random choice.
        attacker: sampling of the attacker's model.
    """

    sampling: Sampling
    tries: int = 6
    system: str = ""
    seed: int = 0
    attacker: Sampling = field(default_factory=lambda: Sampling(temperature=0.9, max_new_tokens=160))

    @property
    def key(self) -> JsonDict:
        """What results depend on."""
        own = {"sampling": self.sampling.name, "tries": self.tries, "system": self.system, "seed": self.seed}
        return {**own, "attacker_sampling": self.attacker.name}


@dataclass(frozen=True)
class Crew:
    """Who takes part: the model under attack, the attacker's model, and the judge that rates while attacks go on."""

    target: Engine
    attacker: Engine
    rate: Rater


@dataclass
class Live:
    """A conversation that goes on: its generator, the step it waits on, and its turns so far."""

    goal: Prompt
    talk: Talk
    step: Step | None = None
    turns: list[Turn] = field(default_factory=list[Turn])
    failed: str | None = None


def run(
    name: str, attack: Attack, goals: Sequence[Prompt], crew: Crew, setting: Setting, advance: Advance = silent
) -> list[Attempt]:
    """Attack every goal; return one attempt each, in order.

    The same goals in the same order, with the same setting and crew, give the same attempts.
    """
    lives = [_start(name, attack, goal, setting) for goal in goals]
    live = [one for one in lives if one.step is not None]
    advance(len(lives) - len(live))
    for turn in range(LONGEST):
        if not live:
            break
        _round(live, crew, setting, turn)
        going = [one for one in live if one.step is not None]
        advance(len(live) - len(going))
        live = going
    for one in live:
        one.failed = f"attack failed: no end after {LONGEST} steps"
        one.talk.close()
    return [Attempt(one.goal.id, name, tuple(one.turns), one.failed) for one in lives]


def _start(name: str, attack: Attack, goal: Prompt, setting: Setting) -> Live:
    rng = Random(f"{setting.seed}:{name}:{goal.id}")
    one = Live(goal, attack(Goal(goal.text, setting.tries), rng))
    _send(one, None)
    return one


def _send(one: Live, answer: str | None) -> None:
    """Let the attack take its next step; a broken attack ends here, with the reason."""
    try:
        step = cast(object, next(one.talk) if answer is None else one.talk.send(answer))
        if not isinstance(step, tuple | Say | Ask | Rate):
            raise TypeError(f"it yielded {type(step).__name__}, which is no step")
        one.step = step
    except StopIteration:
        one.step = None
    except PrimumError:
        raise
    except Exception as error:  # the one place where anything may be caught: an attack's failure is a result
        one.step, one.failed = None, f"attack failed: {type(error).__name__}: {error}".splitlines()[0][:200]


def _round(live: Sequence[Live], crew: Crew, setting: Setting, turn: int) -> None:
    """Answer every waiting step once: raters first, then one batch per engine and way of drawing."""
    groups: dict[Any, list[Live]] = defaultdict(list)
    for one in live:
        groups[_group(one.step, setting)].append(one)
    for number, (group, part) in enumerate(groups.items()):
        seed = int(digest([setting.seed, turn, number, part[0].goal.id], 7), 16)
        answers = _rate(part, crew) if group is Rate else _generate(part, crew, group, setting, seed)
        for one, answer in zip(part, answers, strict=True):
            _send(one, answer)


def _group(step: Step | None, setting: Setting) -> Any:
    if isinstance(step, Rate):
        return Rate
    if isinstance(step, Ask):
        return "attacker", setting.attacker
    decoding = step.decoding if isinstance(step, Say) else None
    if decoding is None:
        return "target", setting.sampling
    return "target", replace(setting.sampling, **decoding._asdict())


def _rate(part: Sequence[Live], crew: Crew) -> list[str]:
    return crew.rate([(one.goal, one.step.reply) for one in part if isinstance(one.step, Rate)])


def _generate(
    part: Sequence[Live], crew: Crew, group: tuple[Literal["target", "attacker"], Sampling], setting: Setting, seed: int
) -> list[str]:
    role, sampling = group
    says = [_say(one.step) for one in part]
    if role == "attacker":
        sent, engine = [say.messages for say in says], crew.attacker
    else:
        sent, engine = [_whole(one, say, setting) for one, say in zip(part, says, strict=True)], crew.target
    replies = engine(sent, sampling, seed)
    for one, say, reply in zip(part, says, replies, strict=True):
        one.turns.append(_turn(role, say, reply, sampling, setting))
    return [reply.text for reply in replies]


def _say(step: Step | None) -> Say:
    """Return any step that says something as a Say."""
    if isinstance(step, Ask):
        return Say(step.messages)
    return Say(step) if isinstance(step, tuple) else cast(Say, step)


def _whole(one: Live, say: Say, setting: Setting) -> Messages:
    """Put the run's system prompt and the goal's own earlier turns before what the attack says."""
    own = before(one.goal)
    named = bool(own) and own[0].role == "system"
    system = (Message("system", setting.system),) if setting.system and not named else ()
    return (*system, *own, *say.messages)


def _turn(
    role: Literal["target", "attacker"], say: Say, reply: Generated, sampling: Sampling, setting: Setting
) -> Turn:
    drawn = "" if say.decoding is None or role == "attacker" else sampling.name
    return Turn(
        role,
        say.messages,
        reply.text,
        reply.finish,
        reply.prompt_tokens,
        reply.reply_tokens,
        say.label,
        say.lead,
        drawn,
        reply.prompt_cut,
    )
