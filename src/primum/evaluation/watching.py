"""A log that grows: each new line is judged once, and the evidence that too many are bad is kept.

The test may be looked at after every line (core.stats.anytime.Betting): the chance that it ever alarms while the true
share is at or below the limit is at most alpha. It takes lines to be draws of one traffic, in an order that does not
depend on their outcomes; a burst of copies of one bad reply alarms sooner than that promise allows for.

What was read so far stands in a state file, written whole after each part: a watch that is killed goes on where it was,
with the same evidence as one that was not.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from primum.core.errors import BadInputError, UsageError
from primum.core.records import JsonDict, Prompt, Reply, Verdict, user
from primum.core.stats.anytime import Betting
from primum.core.store import read_json, write_json
from primum.evaluation import metrics
from primum.evaluation.metrics import Outcome
from primum.judging import Exchange

PART = 256
"""Lines judged together."""
EVENTS: dict[str, tuple[Callable[[Prompt], bool], Callable[[Verdict], Outcome]]] = {
    "harmful_compliance": (metrics.is_harmful, metrics.complied),
    "false_refusal": (metrics.is_benign, metrics.falsely_refused),
    "refusal": (metrics.is_any, metrics.refused),
    "incoherent": (metrics.is_any, metrics.incoherent),
    "hateful": (metrics.is_any, metrics.hateful),
}
"""Event -> which prompts it is about, and when a verdict is one."""
INTENTS = ("harmful", "borderline", "benign")
Value = float | str | None
"""A number in [0, 1]; in words why there is none; None where the event is not about this line."""


@dataclass(frozen=True)
class Reading:
    """How a line becomes a number: a field that holds it, or what is asked and answered, judged."""

    event: str = "incoherent"
    intent: str | None = None
    score: str | None = None
    prompt: str = "prompt"
    reply: str = "reply"


@dataclass
class State:
    """What has been read, counted and shown so far. `head` is a hash of the log's first line: another log is refused.

    `alarm` is the number of the line at which the alarm was raised.
    """

    settings: JsonDict
    offset: int = 0
    line: int = 0
    head: str = ""
    passed_over: int = 0
    unscored: dict[str, int] = field(default_factory=dict[str, int])
    alarm: int | None = None
    bet: JsonDict = field(default_factory=dict[str, Any])

    def betting(self) -> Betting:
        """Return the test as it stood."""
        return Betting(**{"limit": self.settings["limit"], "alpha": self.settings["alpha"], **self.bet})


def resumed(path: Path, settings: JsonDict) -> State:
    """Return the state of an earlier watch with the same settings, or a fresh one.

    Raises:
        UsageError: the file holds a watch with other settings: its evidence cannot be carried over.
    """
    if not path.is_file():
        return State(settings)
    try:
        state = State(**read_json(path, "give another --out"))
    except TypeError as error:
        raise BadInputError(f"not a watch's state ({error})", where=str(path), cure="give another --out") from error
    if state.settings != settings:
        raise UsageError("this folder holds a watch with other settings", where=str(path), cure="give another --out")
    return state


def new_lines(path: Path, state: State) -> Iterator[list[str]]:
    """Yield the whole lines that were not read yet, a part at a time, and move the state behind each part.

    A last line without its end is still being written: it waits.

    Raises:
        BadInputError: no such log, or it is shorter than what was read of it, or begins otherwise.
    """
    if not path.is_file():
        raise BadInputError("no such log", where=str(path), cure="check the path")
    with path.open("rb") as file:
        head = file.readline()
        if state.head and (sha256(head).hexdigest() != state.head or path.stat().st_size < state.offset):
            cure = "a log that was replaced is another log: give another --out"
            raise BadInputError("this log is not the one that was watched", where=str(path), cure=cure)
        if head.endswith(b"\n"):
            state.head = sha256(head).hexdigest()
        file.seek(state.offset)
        part: list[bytes] = []
        for line in file:
            if line.endswith(b"\n"):
                part.append(line)
            if len(part) == PART:
                yield _take(state, part)
                part = []
        if part:
            yield _take(state, part)


def _take(state: State, part: Sequence[bytes]) -> list[str]:
    state.offset += sum(map(len, part))
    state.line += len(part)
    return [line.decode("utf-8", "replace") for line in part]


def values_of(
    lines: Sequence[str], reading: Reading, judge: Callable[[Sequence[Exchange]], list[Verdict]]
) -> list[Value]:
    """Return a number, a reason or None for each line; the lines that need it are judged together."""
    rows = [_parsed(line) for line in lines]
    if reading.score:
        return [row if isinstance(row, str) or row is None else _number(row.get(reading.score)) for row in rows]
    asked = [row if isinstance(row, str) or row is None else _exchange(row, reading) for row in rows]
    verdicts = iter(judge([one for one in asked if isinstance(one, Exchange)]))
    return [_outcome(one, next(verdicts), reading.event) if isinstance(one, Exchange) else one for one in asked]


def _parsed(line: str) -> JsonDict | str | None:
    if not line.strip():
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "not JSON"
    return cast(JsonDict, row) if isinstance(row, dict) else "not an object"


def _number(value: Any) -> Value:
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return float(value) if 0 <= value <= 1 else "score outside 0 to 1"  # a whole number may be too large for float
    return "no score"


def _exchange(row: JsonDict, reading: Reading) -> Exchange | str | None:
    prompt, reply = row.get(reading.prompt), row.get(reading.reply)
    if not isinstance(prompt, str) or not isinstance(reply, str):
        return f"no text in '{reading.reply if isinstance(prompt, str) else reading.prompt}'"
    intent = row.get("intent") or reading.intent or "borderline"
    if intent not in INTENTS:
        return "unknown intent"
    asked = Prompt((user(prompt or " "),), intent, "other")
    finish = "length" if row.get("finish") == "length" else "stop"
    return Exchange(asked, Reply(asked.id, "log", "", reply, finish, 0, 0, 0))


def _outcome(one: Exchange, verdict: Verdict, event: str) -> Value:
    about, outcome = EVENTS[event]
    if not about(one.prompt):
        return None
    found = outcome(verdict)
    return found if isinstance(found, str) else float(found)


def take(state: State, values: Sequence[Value]) -> None:
    """Count values into the state, in order; `state.line` is the number of the last one."""
    bet, reasons = state.betting(), Counter(state.unscored)
    first = state.line - len(values)
    for number, value in enumerate(values, first + 1):
        if isinstance(value, float):
            if bet.add(value) and state.alarm is None:
                state.alarm = number
        elif value is None:
            state.passed_over += 1
        else:
            reasons[str(value)] += 1
    held = asdict(bet)
    state.bet = {key: held[key] for key in held if key not in ("limit", "alpha")}
    state.unscored = dict(sorted(reasons.items()))


def keep(path: Path, state: State) -> None:
    """Write the state, whole or not at all."""
    write_json(path, asdict(state))
