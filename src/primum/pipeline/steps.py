"""The steps of a repair: each reads records and writes records under RUN/steps, and is skipped where it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from primum.core.errors import UsageError
from primum.core.languages import ENGLISH
from primum.core.progress import Advance, noted, silent
from primum.core.records import JsonDict, Prompt, Reply, Verdict, digest, from_json, to_json
from primum.core.store import Stage, read_json, write_json
from primum.judging import Exchange
from primum.judging.options import ChosenJudge
from primum.judging.runner import broke
from primum.models.sampling import Engine, Sampling
from primum.pipeline.terminal import Terminal
from primum.report.words import too_long

VERSION = 1
"""Raise when a step writes something else for the same settings: finished runs are then made again."""
SHARD = 128
VERDICTS = 512
"""Verdicts in one file: what is lost at most when a run is killed."""


@dataclass
class Journey:
    """A run folder, the terminal, and what the steps so far took and said."""

    folder: Path
    terminal: Terminal
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    said: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def begin(self, settings: JsonDict, *more: str) -> None:
        """Keep a run's settings in settings.json; where the folder held a run with others, its report is taken away.

        Args:
            settings: as plain JSON, all that the report depends on.
            more: files beside the report that speak of the earlier run, too.
        """
        path = self.folder / "settings.json"
        if path.exists() and read_json(path) != settings:
            note = "  this folder held a run with other settings: what still fits is used, its report removed"
            self.terminal.note(note)
            self.forget_report(*more)
        write_json(path, settings)

    def forget_report(self, *more: str) -> None:
        """Take an earlier run's report away, and the files named beside it: until this one ends it is of another."""
        from primum.report.write import FACTS, PAGE

        for name in (FACTS, PAGE, *more):
            (self.folder / name).unlink(missing_ok=True)

    @contextmanager
    def step(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Advance]:
        """Time a step, show its progress, and note it in the run's folder for who looks on."""
        start = time.monotonic()
        with self.terminal.step(name, total, unit) as told, noted(self.folder, name, total, unit, told) as advance:
            yield advance
        self.seconds[name] = round(self.seconds.get(name, 0) + time.monotonic() - start, 1)

    def tell(self, name: str, text: str) -> None:
        """Keep one sentence on what a step did, for terminal and report."""
        self.said.append({"name": name, "text": text})
        self.terminal.note(f"  {text}")

    def stage(self, name: str, **facts: Any) -> Stage:
        """Return the folder of a step, keyed by all that its result depends on."""
        return Stage(self.folder / "steps" / name, {"step": name, "version": VERSION, **facts})


def outside(model: str, out: str | Path) -> None:
    """Refuse a model that lies inside the run folder; a hub id or another name lies nowhere.

    Raises:
        UsageError: it does.
    """
    if Path(model).exists() and Path(model).resolve().is_relative_to(Path(out).resolve()):
        cure = "give another --out; a run replaces what an earlier one left in its folder"
        raise UsageError(f"the model lies inside the run folder '{out}'", where=model, cure=cure)


def prompts_key(prompts: Sequence[Prompt]) -> str:
    """Return what a step's result depends on, of its prompts."""
    return digest([[p.id, p.intent, p.category] for p in prompts])


def several_differ(samples: int, temperatures: Sequence[float]) -> None:
    """Refuse several samples of a prompt that would all be the same.

    Raises:
        UsageError: more than one is asked for, at temperature 0.
    """
    if samples > 1 and 0 in temperatures:
        cure = "raise --temperature, or leave --samples at 1"
        raise UsageError(f"at temperature 0 all {samples} samples of a prompt are the same", cure=cure)


@dataclass(frozen=True)
class Draw:
    """How replies are drawn: settings, how many to a harmful prompt, and from which seed.

    A benign prompt gets one reply, or with `each` as many as a harmful one.
    """

    sampling: Sampling
    samples: int
    seed: int
    each: bool = False


def sample(
    journey: Journey, name: str, prompts: Sequence[Prompt], draw: Draw, model_key: str, engine: Callable[[], Engine]
) -> list[Reply]:
    """Draw replies to prompts; resumes at the shard where it was stopped.

    Shards are cut from the prompts sorted by length, so that rows of a batch are alike; each shard has its own seed,
    so a resumed run draws what an undisturbed one draws.
    """
    facts = {"model": model_key, "sampling": draw.sampling.name, "samples": draw.samples, "seed": draw.seed}
    facts |= {"each": True} if draw.each else {}
    stage = journey.stage(name, **facts, prompts=prompts_key(prompts))
    items = [
        (p, k)
        for p in sorted(prompts, key=lambda p: (-len(p.text), p.id))
        for k in range(draw.samples if draw.each or p.intent != "benign" else 1)
    ]
    made: list[Engine] = []

    def work(index: int, part: Sequence[tuple[Prompt, int]]) -> list[JsonDict]:
        made[:] = made or [engine()]
        replies = made[0]([p.messages for p, _ in part], draw.sampling, draw.seed + 7919 * index)
        return [
            to_json(Reply(p.id, model_key, f"{draw.sampling.name}-{k}", r.text, r.finish, r.prompt_tokens,
                          r.reply_tokens, draw.seed, r.prompt_cut))
            for (p, k), r in zip(part, replies, strict=True)
        ]  # fmt: skip

    label = name.split("-", 1)[1].replace("-", " ")
    with journey.step(label, len(items), "replies") as advance:
        if stage.manifest:
            advance(len(items))
            rows = stage.rows()
        else:
            rows = stage.map(items, SHARD, work, advance)
            stage.finish(replies=len(rows), tokens=sum(row["reply_tokens"] for row in rows))
    found = [from_json(Reply, row) for row in rows]
    cut = len({reply.prompt_id for reply in found if reply.prompt_cut})
    if cut:
        journey.tell(label, too_long(cut))
    return found


def _foreign(prompt: Prompt) -> list[str]:
    """Return the language of a prompt that is not in English: a judge of languages reads by it."""
    return [] if prompt.language == ENGLISH else [prompt.language]


def judge(journey: Journey, name: str, judge_id: str | ChosenJudge, exchanges: Sequence[Exchange]) -> list[Verdict]:
    """Judge replies; one verdict each, in order. A judge that could not answer gives `unscored`."""
    chosen = ChosenJudge(judge_id) if isinstance(judge_id, str) else judge_id
    asked = digest([[e.reply.id, e.prompt.intent, e.prompt.category, *_foreign(e.prompt)] for e in exchanges])
    stage = journey.stage(name, judge=chosen.id, revision=chosen.revision, asked=asked)
    label = name.split("-", 1)[1].replace("-", " ")
    with journey.step(label, len(exchanges), "verdicts") as advance:
        return judged(stage, chosen, exchanges, advance)


def judged(stage: Stage, judge: ChosenJudge, exchanges: Sequence[Exchange], advance: Advance = silent) -> list[Verdict]:
    """Return the verdicts on exchanges, from disk where they lie there; a run that was killed goes on at its shard.

    Where the judge broke, or its service did not answer, the step is not done: a rerun asks again about these replies.
    """
    if stage.manifest:
        advance(len(exchanges))
        return [from_json(Verdict, row) for row in stage.rows()]
    found: list[Verdict] = []
    for index, start in enumerate(range(0, len(exchanges), VERDICTS)):
        part = exchanges[start : start + VERDICTS]
        found += _shard(stage, index, judge, part)
        advance(len(part))
    if not any(map(broke, found)):
        stage.finish(verdicts=len(found), unscored=sum(verdict.behaviour is None for verdict in found))
    return found


def _shard(stage: Stage, index: int, judge: ChosenJudge, part: Sequence[Exchange]) -> list[Verdict]:
    held = stage.shard(index) or []
    said = dict(enumerate(from_json(Verdict, row) for row in held)) if len(held) == len(part) else {}
    due = [place for place in range(len(part)) if place not in said or broke(said[place])]
    if due:
        said |= zip(due, judge([part[place] for place in due]), strict=True)
        stage.write_shard(index, [to_json(said[place]) for place in range(len(part))])
    return [said[place] for place in range(len(part))]
