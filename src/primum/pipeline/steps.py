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
from primum.core.progress import Advance, noted
from primum.core.records import JsonDict, Prompt, Reply, Verdict, digest, from_json, to_json
from primum.core.store import Stage
from primum.judging import Exchange
from primum.judging.runner import broke, judge_all
from primum.models.sampling import Engine, Sampling
from primum.pipeline.terminal import Terminal
from primum.report.words import too_long

VERSION = 1
"""Raise when a step writes something else for the same settings: finished runs are then made again."""
SHARD = 128


@dataclass
class Journey:
    """A run folder, the terminal, and what the steps so far took and said."""

    folder: Path
    terminal: Terminal
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    said: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

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


def judge(journey: Journey, name: str, judge_id: str, exchanges: Sequence[Exchange]) -> list[Verdict]:
    """Judge replies; one verdict each, in order. A judge that could not answer gives `unscored`.

    Verdicts of a judge that broke are not kept: a rerun asks it again.
    """
    from primum.core.catalogue import member

    revision = member("judges", judge_id).revision
    asked = digest([[e.reply.id, e.prompt.intent, e.prompt.category, *_foreign(e.prompt)] for e in exchanges])
    stage = journey.stage(name, judge=judge_id, revision=revision, asked=asked)
    label = name.split("-", 1)[1].replace("-", " ")
    with journey.step(label, len(exchanges), "verdicts") as advance:
        if not stage.manifest:
            verdicts = judge_all(judge_id, exchanges)
            if any(broke(v) for v in verdicts):
                advance(len(exchanges))
                return verdicts
            stage.write_shard(0, [to_json(v) for v in verdicts])
            stage.finish(unscored=sum(v.behaviour is None for v in verdicts))
        advance(len(exchanges))
    return [from_json(Verdict, row) for row in stage.rows()]
