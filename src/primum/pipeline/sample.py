"""`primum sample`: replies of one or several models, under one or several settings, to any number of prompts.

    OUT/prompts.jsonl            the prompts that were asked, each once, as records
    OUT/files/                   the pictures and recordings that they name
    OUT/dropped.jsonl            repeated prompts, with the place of the first
    OUT/MODEL-SETTINGS/          the replies of one variant (primum.models.runner)
    OUT/report.json              what was drawn: counts, tokens, failures, engine and why it was taken

A stopped run goes on where it was. Several processes or machines share a run by `--part 0/4` ... `--part 3/4` over one
folder: each draws every fourth shard. Or one process lets the workers of a Ray cluster draw (`--on ray`).
"""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from primum.core.errors import Exit, UsageError
from primum.core.parts import kept, located
from primum.core.progress import Advance
from primum.core.records import JsonDict, Prompt, digest, from_json, to_json
from primum.core.store import file_sha256, fingerprint, read_json, read_jsonl, write_json
from primum.models.runner import Asked, Plan, Tally, draw_all, reopen_failed
from primum.models.sampling import Opening, Sampling, Streaming
from primum.pipeline.presets import Presets
from primum.pipeline.steps import several_differ
from primum.pipeline.terminal import Terminal
from primum.prompts.embedded import embedded
from primum.prompts.files import Row, read_rows
from primum.prompts.rows import Defaults, to_prompts
from primum.report.words import too_long

if TYPE_CHECKING:
    from primum.models.cluster import Workers

VERSION = 1
"""Raise when the same settings draw other replies."""


class SampleConfig(Presets):
    """What is asked, of which models, and how replies are drawn. Lists make variants: every combination is drawn."""

    model: str = Field(
        "embedded",
        description="`embedded`, a hub id, a folder, an adapter folder, a .gguf file, `canned`, or with --url the "
        "endpoint's name for it",
        json_schema_extra={"positional": True},
    )
    also: tuple[str, ...] = Field((), description="another model, drawn with the same settings")
    prompts: tuple[str, ...] = Field(
        (), description="a JSONL, CSV or Parquet file; the embedded set where none is named"
    )
    field: str | None = Field(None, description="the field that holds the prompt (default: found by its name)")
    limit: int | None = Field(None, ge=1, description="at most this many prompts")
    samples: int = Field(1, ge=1, description="replies to each prompt")
    temperature: tuple[float, ...] = Field((0.0,), description="0 is greedy")
    top_p: tuple[float, ...] = Field((1.0,), description="nucleus: share of the probability that is kept")
    top_k: int = Field(0, ge=0, description="likeliest tokens that are kept; 0 keeps all")
    system: tuple[str, ...] = Field(("",), description="a system prompt; '' leaves the model's own")
    reply_tokens: int = Field(128, ge=1, description="longest reply, in tokens")
    seed: int = Field(0, description="of all replies; each has its own, by prompt and sample")
    engine: str = Field(
        "auto", description="auto, transformers, openvino, vllm, http or canned; auto says why it took which"
    )
    precision: Literal["Q8_0", "Q4_0", "F16"] | None = Field(
        None, description="format of the weights for engines that read GGUF"
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="conversations decoded together; over HTTP requests under way (96; transformers on a CPU: 96 to "
        "384, by their length)",
    )
    url: str = Field("", description="an OpenAI-compatible endpoint, like http://localhost:8000/v1")
    key_name: str = Field("OPENAI_API_KEY", description="the environment variable that holds the endpoint's key")
    timeout: float = Field(120.0, gt=0, description="seconds for one attempt of one reply over HTTP")
    out: str = Field("runs/sample", description="the folder of the replies; a run that was stopped goes on there")
    shard: int = Field(1000, ge=1, description="replies in one file")
    part: str = Field("0/1", description="which part of the shards this process draws, like 2/8")
    on: str = Field("", description="`ray` (a cluster that runs, or a new one here) or ray://HOST:PORT")
    workers: int = Field(0, ge=0, description="with --on: engines on the cluster; 0 takes as many as it has room for")
    worker_cpus: float = Field(1.0, ge=0, description="with --on: cores for each worker")
    worker_gpus: float = Field(0.0, ge=0, description="with --on: GPUs for each worker")
    retry_failed: bool = Field(False, description="draw failed replies again")
    dry_run: bool = Field(False, description="say what would be drawn, and stop")

    @property
    def run_folder(self) -> str | None:
        """None: several processes share a folder (--part), and each locks the shards that it draws."""
        return None


@dataclass(frozen=True, slots=True)
class Variant:
    """One model under one setting."""

    model: str
    sampling: Sampling
    system: str

    @property
    def name(self) -> str:
        """The name of its folder: letters, digits, dots and dashes; the hash tells apart what looks alike."""
        base = re.sub(r"[^A-Za-z0-9.]+", "-", Path(self.model).name).strip("-.")[:48] or "model"
        return f"{base}-{self.sampling.name}-{digest([self.model, self.system], 6)}"


def run_verb(config: SampleConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Draw all variants; the exit code is 4 where a reply failed."""
    offset, modulo = part_of(config.part)
    terminal, out = Terminal(quiet=json_output), Path(config.out)
    wanted = variants(config)
    if config.preset_said:
        terminal.note(f"  {config.preset_said}")
    count, sha = ask(config, out, terminal)
    if config.dry_run:
        names = [v.name for v in wanted]
        terminal.note(f"{count:,} prompts x {config.samples} x {len(wanted)} variants: {', '.join(names)}")
        return Exit.PASSED, {"prompts": count, "samples": config.samples, "variants": names}
    found = [_draw(config, variant, (offset, modulo), (count, sha), terminal) for variant in wanted]
    report = {"prompts": count, "seed": config.seed, "part": config.part, "preset": config.preset, "variants": found}
    write_json(out / ("report.json" if modulo == 1 else f"report-{offset}-of-{modulo}.json"), report)
    failed = sum(sum(f["failed"].values()) for f in found)
    if failed:
        terminal.note(f"{failed:,} replies failed; --retry-failed draws them again")
    terminal.note(f"replies: {out}")
    return (Exit.STEP_FAILED if failed else Exit.PASSED), report


def variants(config: SampleConfig) -> list[Variant]:
    """Return every combination of models, temperatures, top-p and system prompts.

    Raises:
        UsageError: a temperature below 0, a top-p outside (0, 1], samples that must be alike, the same variant twice.
    """
    for name, values, good in (
        ("--temperature", config.temperature, all(t >= 0 for t in config.temperature)),
        ("--top-p", config.top_p, all(0 < p <= 1 for p in config.top_p)),
    ):
        if not good:
            raise UsageError(f"{name} {values} is out of range", cure="temperature from 0, top-p above 0 and up to 1")
    models = (config.model, *config.also)
    found = [
        Variant(model, Sampling(t, config.reply_tokens, p, config.top_k), system)
        for model, t, p, system in itertools.product(models, config.temperature, config.top_p, config.system)
    ]
    several_differ(config.samples, config.temperature)
    if len(set(found)) < len(found):
        raise UsageError("the same variant is asked for twice", cure="name each model and setting once")
    return found


def part_of(text: str) -> tuple[int, int]:
    """Return (offset, modulo) of a text like 2/8.

    Raises:
        UsageError: it is none.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not int(match[1]) < int(match[2]):
        raise UsageError(f"--part {text} names no part", cure="like 0/4, 1/4, 2/4 and 3/4, one for each process")
    return int(match[1]), int(match[2])


def ask(config: SampleConfig, out: Path, terminal: Terminal) -> tuple[int, str]:
    """Write the prompts into the run's folder, each once; return how many, and the file's hash.

    Raises:
        BadInputError: a row holds no prompt; names file and line.
        UsageError: the folder holds another run's prompts.
    """
    sources = [[name, file_sha256(Path(name)) if Path(name).is_file() else ""] for name in config.prompts]
    facts: JsonDict = {"sources": sources, "field": config.field, "limit": config.limit, "version": VERSION}
    held, path = out / "prompts.json", out / "prompts.jsonl"
    if held.exists():
        before = read_json(held)
        if before["facts"] != facts:
            cure = "give --out another folder, or delete this one"
            raise UsageError("this folder holds replies to other prompts", where=str(out), cure=cure)
        return before["count"], before["sha256"]
    with terminal.step("read prompts"):
        count, dropped = _write_prompts(config, path)
    if not count:
        raise UsageError("no prompt in what was named", cure="check the files given to --prompts")
    if dropped:
        terminal.note(f"  {dropped:,} repeated prompts left out ({out / 'dropped.jsonl'})")
    sha = file_sha256(path)
    write_json(held, {"facts": facts, "count": count, "dropped": dropped, "sha256": sha})
    return count, sha


def _write_prompts(config: SampleConfig, path: Path) -> tuple[int, int]:
    """Stream prompts to a file; remembers their hashes only. Return how many were kept and dropped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seen: set[int] = set()
    repeated = 0
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")  # several parts may start at once
    with partial.open("w", encoding="utf-8") as kept, (path.parent / "dropped.jsonl").open("w") as dropped:
        for prompt in itertools.islice(_prompts(config), config.limit):
            number = int(prompt.id, 16)
            file = dropped if number in seen else kept
            row = {"reason": "repeated prompt", "id": prompt.id} if number in seen else _written(prompt, path.parent)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            repeated += number in seen
            seen.add(number)
    partial.replace(path)
    return len(seen), repeated


def _written(prompt: Prompt, folder: Path) -> JsonDict:
    """Return a prompt as a record; the files that it names are copied into the run's folder."""
    return to_json(replace(prompt, messages=kept(prompt.messages, folder)))


def _prompts(config: SampleConfig) -> Iterator[Prompt]:
    if not config.prompts:
        yield from embedded()
    for name in config.prompts:
        defaults = Defaults("benign", Path(name).name, field=config.field)
        for row in _rows(Path(name)):
            yield from to_prompts([row], defaults)


def _rows(path: Path) -> Iterator[Row]:
    """Yield rows; a JSONL file line by line, so that it may be larger than the memory."""
    if path.suffix.lower() != ".jsonl":
        return read_rows(path)
    return (Row(f"{path}:{number}", values, path.parent) for number, values in read_jsonl(path))


def asked(path: Path) -> Iterator[Asked]:
    """Yield the prompts of a run's folder."""
    for _, row in read_jsonl(path):
        prompt = from_json(Prompt, row)
        yield Asked(row["id"], located(prompt.messages, path.parent))


def _draw(
    config: SampleConfig, variant: Variant, part: tuple[int, int], prompts: tuple[int, str], terminal: Terminal
) -> JsonDict:
    """Draw one variant and say what came of it."""
    folder = Path(config.out) / variant.name
    plan = Plan(variant.sampling, config.samples, config.seed, variant.system, config.shard, *part)
    if config.retry_failed:
        reopen_failed(folder)
    with terminal.step(f"replies {variant.name}", due(prompts[0] * config.samples, plan), "replies") as advance:
        meter = Meter(advance, terminal)
        opener = _Opener(config, variant.model, terminal, meter)
        key = _key(config, variant, prompts[1], opener.chosen.engine)
        tally = draw_all(folder, key, asked(Path(config.out) / "prompts.jsonl"), plan, opener, meter)
    terminal.note(f"  {meter.summary(tally)}")
    return {
        "variant": variant.name, "model": variant.model, **opener.chosen._asdict(),
        "replies": tally.replies, "tokens": tally.tokens, "prompt_tokens": tally.prompt_tokens,
        "prompts_cut": tally.prompts_cut, "failed": dict(tally.failed), "drawn": meter.drawn,
        "seconds": round(meter.seconds, 3), "tokens_per_second": meter.rate(),
    }  # fmt: skip


def _key(config: SampleConfig, variant: Variant, prompts: str, engine: str) -> JsonDict:
    """Return what replies depend on; `prompts` is their file's hash. Engines round differently, so theirs counts."""
    return {
        "version": VERSION, "model": variant.model, "weights": fingerprint(variant.model), "system": variant.system,
        "sampling": asdict(variant.sampling), "samples": config.samples, "seed": config.seed, "prompts": prompts,
        "engine": engine, "precision": config.precision, "url": config.url, "shard": config.shard,
    }  # fmt: skip


def due(replies: int, plan: Plan) -> int:
    """Return how many of all replies this part draws; the last shard may be short."""
    starts = range(0, replies, plan.shard)
    return sum(min(plan.shard, replies - start) for i, start in enumerate(starts) if plan.mine(i))


class _Opener:
    """Chooses the engine; opens it when the first reply is needed."""

    def __init__(self, config: SampleConfig, model: str, terminal: Terminal, meter: Meter) -> None:
        from primum.models.opening import choose

        self._terminal, self._meter, self._workers = terminal, meter, workers_of(config)
        self._opening = Opening(model, config.batch_size, config.url, config.key_name, config.timeout, config.precision)
        self.chosen = choose(config.engine, self._opening)

    def __call__(self) -> Streaming:
        from primum.models.opening import open_engine

        self._terminal.note(f"  engine {self.chosen.engine}: {self.chosen.why}")
        opened = self._open(open_engine)
        self._meter.begin()
        return opened

    def _open(self, here: Callable[[str, Opening], Streaming]) -> Streaming:
        if self._workers is None:
            return here(self.chosen.engine, self._opening)
        from primum.models.cluster import ClusterEngine

        cluster = ClusterEngine(self.chosen.engine, self._opening, self._workers)
        self._terminal.note(f"  {cluster.describe()}")
        return cluster


def workers_of(config: SampleConfig) -> Workers | None:
    """Return what is asked of a cluster, or None where none was named.

    Raises:
        UsageError: --on names no cluster.
    """
    if not config.on:
        return None
    from primum.models.cluster import Workers

    return Workers(config.on, config.workers, config.worker_cpus, config.worker_gpus)


class Meter:
    """Advances a bar, and says now and then how many new tokens a second are drawn."""

    def __init__(self, advance: Advance, terminal: Terminal, every: float = 30.0) -> None:
        self._advance, self._terminal, self._every = advance, terminal, every
        self.drawn = self.tokens = 0
        self._started: float | None = None
        self._said = self._last = 0.0

    def begin(self) -> None:
        """Start the clock: the engine is open; what was counted before lay on disk."""
        self._started = self._said = self._last = time.monotonic()

    def __call__(self, replies: int, tokens: int) -> None:
        """Take up replies that were found on disk, or just drawn."""
        self._advance(replies)
        if self._started is None:
            return
        self._last = time.monotonic()
        self.drawn, self.tokens = self.drawn + replies, self.tokens + tokens
        if self._last - self._said >= self._every:
            self._said = self._last
            self._terminal.note(f"  {self.drawn:,} replies, {self.rate() or 0:,.0f} tokens/s")

    @property
    def seconds(self) -> float:
        """From the opened engine to the last reply."""
        return 0.0 if self._started is None else self._last - self._started

    def rate(self) -> float | None:
        """New tokens a second, or None where nothing was drawn."""
        return round(self.tokens / self.seconds, 1) if self.seconds > 0 else None

    def summary(self, tally: Tally) -> str:
        """One line on a finished variant."""
        failed = sum(tally.failed.values())
        rate = f", {self.rate():,.0f} tokens/s" if self.rate() else ""
        reasons = "; ".join(f"{n} x {reason}" for reason, n in tally.failed.most_common(3))
        text = f"{tally.replies:,} replies, {tally.tokens:,} tokens{rate}"
        text += f"; {too_long(tally.prompts_cut)}" if tally.prompts_cut else ""
        return text + (f"; {failed} failed: {reasons}" if failed else "")
