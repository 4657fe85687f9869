"""`primum watch LOG`: judges a growing log and alarms by a test that may be looked at after every line."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from primum import __version__
from primum.core.errors import Exit, UsageError
from primum.core.records import Intent
from primum.evaluation.watching import Reading, State, keep, new_lines, resumed, take, values_of
from primum.judging.options import ChosenJudge, JudgeOptions, chosen_judges
from primum.pipeline.terminal import Terminal

STATE = "watch.json"


class WatchConfig(JudgeOptions):
    """Which log is watched, what counts as bad, and how much of it is too much."""

    log: str | None = Field(
        None, description="a JSONL file that grows, an object a line", json_schema_extra={"positional": True}
    )
    limit: float = Field(default=0.05, gt=0, lt=1, description="the share of bad replies that is tolerated")
    event: Literal["harmful_compliance", "false_refusal", "refusal", "incoherent", "hateful"] = Field(
        default="harmful_compliance", description="what is bad; false_refusal is about benign prompts alone"
    )
    intent: Intent | None = Field(
        default=None,
        description="what prompts ask for where a line has no field 'intent' (harmful_compliance needs it)",
    )
    judge: str = Field(default="rules", description="who reads the replies (primum list judges)")
    score: str | None = Field(
        default=None, description="a field with a number from 0 to 1 (1 is bad): nothing is judged"
    )
    prompt: str = Field(default="prompt", description="the field of what was asked")
    reply: str = Field(default="reply", description="the field of what was answered")
    alpha: float = Field(default=0.05, gt=0, lt=1, description="the chance of a false alarm, ever")
    follow: bool = Field(default=False, description="wait for new lines until the alarm, or until stopped")
    every: float = Field(default=5.0, gt=0, description="seconds between looks at the log")
    out: str = Field(
        default="runs/watch", description="the folder of the state; a watch that was stopped goes on there"
    )


def run_verb(config: WatchConfig, json_output: bool) -> tuple[int, dict[str, Any]]:
    """Watch; return the exit code (1 where the alarm was raised, 3 where nothing could be judged) and the evidence.

    Raises:
        UsageError: no log, no such judge, or a folder that watches something else.
        BadInputError: the log is not there, or was replaced.
    """
    if not config.log:
        raise UsageError("a log is needed", cure="primum watch replies.jsonl --limit 0.05 --intent harmful")
    found = chosen_judges(() if config.score else (config.judge,), config)
    judge = found[0] if found else ChosenJudge(config.judge)
    log, path = Path(config.log), Path(config.out) / STATE
    state, terminal = resumed(path, _settings(config, judge)), Terminal(quiet=json_output)
    terminal.note(f"  {state.line:,} lines were read before" if state.line else f"  watching {log}")
    while True:
        _look(config, judge, log, path, state, terminal)
        if not config.follow or state.alarm is not None:
            break
        time.sleep(config.every)
    document = _document(config, judge, state)
    if not json_output:
        from primum.report import words

        print(words.wrapped([document["text"]]))
    if state.alarm is not None:
        return Exit.GATE_FAILED, document
    return (Exit.PASSED if document["n"] else Exit.UNDECIDED), document


def _settings(config: WatchConfig, judge: ChosenJudge) -> dict[str, Any]:
    """Return what the evidence rests on; the judge's options and their files are in its revision."""
    settings = config.model_dump(mode="json", exclude={"out", "follow", "every", *JudgeOptions.model_fields})
    revision = "" if config.score else judge.revision
    return {**settings, "log": str(Path(settings["log"]).resolve()), "revision": revision}


def _look(config: WatchConfig, judge: ChosenJudge, log: Path, path: Path, state: State, terminal: Terminal) -> None:
    reading = Reading(config.event, config.intent, config.score, config.prompt, config.reply)
    for lines in new_lines(log, state):
        take(state, values_of(lines, reading, judge))
        keep(path, state)
        terminal.note(f"  {_said(state)}")


def _said(state: State) -> str:
    bet = state.betting()
    left = sum(state.unscored.values())
    share = "nothing to judge yet" if bet.mean is None else f"{bet.mean:.1%} of {bet.n:,} are bad"
    more = f", {left:,} unscored" if left else ""
    return f"{state.line:,} lines, {share}{more}; evidence {math.exp(min(bet.highest, 50)):,.3g} of {1 / bet.alpha:g}"


def _document(config: WatchConfig, judge: ChosenJudge, state: State) -> dict[str, Any]:
    bet = state.betting()
    alarmed = f"ALARM at line {state.alarm}: certainly more than {config.limit:.1%} are bad"
    quiet = f"No alarm: nothing shows that more than {config.limit:.1%} are bad (which does not show that fewer are)"
    text = f"{quiet if state.alarm is None else alarmed}. {_said(state)}."
    if not bet.n:
        text += _nothing(config, state)
    return {
        "primum": __version__, "log": config.log, "event": config.score or config.event, "limit": config.limit,
        "alpha": config.alpha, "alarm": state.alarm is not None, "at_line": state.alarm, "lines": state.line,
        "n": bet.n, "mean": bet.mean, "log_evidence": bet.log_evidence, "highest_log_evidence": bet.highest,
        "unscored": state.unscored, "passed_over": state.passed_over, "text": text,
        **({} if config.score else {"judge": judge.id, **judge.facts}),
    }  # fmt: skip


def _nothing(config: WatchConfig, state: State) -> str:
    if not state.line:
        return " The log holds no whole line yet."
    if state.passed_over and not config.score and config.intent is None:
        return f" No line was about {config.event}: lines need a field 'intent', or give --intent."
    return " No line could be judged: check --prompt, --reply or --score."
