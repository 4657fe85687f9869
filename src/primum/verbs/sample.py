"""`primum sample`: replies of one or several models, under one or several settings, to any number of prompts.

    OUT/prompts.jsonl            the prompts that were asked, each once, as records
    OUT/dropped.jsonl            repeated prompts, with the place of the first
    OUT/MODEL-SETTINGS/          the replies of one variant (primum.models.runner)
    OUT/report.json              what was drawn: counts, tokens, failures, engine and why it was taken

A stopped run goes on where it was. Several processes or machines share a run by `--part 0/4` ... `--part 3/4` over one
folder: each draws every fourth shard.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from primum.core.config import Config
from primum.core.errors import Exit, UsageError
from primum.core.records import JsonDict, Prompt, digest, from_json, to_json
from primum.core.store import file_sha256, read_json, read_jsonl, write_json
from primum.models.runner import Asked, Plan, Tally, draw_all, reopen_failed
from primum.models.sampling import Opening, Sampling, Streaming
from primum.pipeline.terminal import Terminal
from primum.prompts.embedded import embedded
from primum.prompts.files import Row, read_rows
from primum.prompts.rows import Defaults, to_prompts

VERSION = 1
"""Raise when the same settings draw other replies."""


class SampleConfig(Config):
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
    engine: str = Field("auto", description="auto, transformers, openvino, http or canned; auto says why it took which")
    precision: Literal["Q8_0", "Q4_1", "Q4_0", "F16"] | None = Field(
        None, description="format of the weights for engines that read GGUF"
    )
    batch_size: int = Field(96, ge=1, description="conversations decoded together; over HTTP requests under way")
    url: str = Field("", description="an OpenAI-compatible endpoint, like http://localhost:8000/v1")
    key_name: str = Field("OPENAI_API_KEY", description="the environment variable that holds the endpoint's key")
    timeout: float = Field(120.0, gt=0, description="seconds for one attempt of one reply over HTTP")
    out: str = Field("runs/sample", description="the folder of the replies; a run that was stopped goes on there")
    shard: int = Field(1000, ge=1, description="replies in one file")
    part: str = Field("0/1", description="which part of the shards this process draws, like 2/8")
    retry_failed: bool = Field(False, description="draw failed replies again")
    dry_run: bool = Field(False, description="say what would be drawn, and stop")


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
    count, sha = ask(config, out, terminal)
    if config.dry_run:
        names = [v.name for v in wanted]
        terminal.note(f"{count:,} prompts x {config.samples} x {len(wanted)} variants: {', '.join(names)}")
        return Exit.PASSED, {"prompts": count, "samples": config.samples, "variants": names}
    found = [_draw(config, variant, (offset, modulo), (count, sha), terminal) for variant in wanted]
    report = {"prompts": count, "seed": config.seed, "part": config.part, "variants": found}
    write_json(out / ("report.json" if modulo == 1 else f"report-{offset}-of-{modulo}.json"), report)
    failed = sum(sum(f["failed"].values()) for f in found)
    if failed:
        terminal.note(f"{failed:,} replies failed; --retry-failed draws them again")
    terminal.note(f"replies: {out}")
    return (Exit.STEP_FAILED if failed else Exit.PASSED), report


def variants(config: SampleConfig) -> list[Variant]:
    """Return every combination of models, temperatures, top-p and system prompts.

    Raises:
        UsageError: a temperature below 0, a top-p outside (0, 1], or the same variant twice.
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
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as kept, (path.parent / "dropped.jsonl").open("w") as dropped:
        for prompt in itertools.islice(_prompts(config), config.limit):
            number = int(prompt.id, 16)
            file = dropped if number in seen else kept
            row = {"reason": "repeated prompt", "id": prompt.id} if number in seen else to_json(prompt)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            repeated += number in seen
            seen.add(number)
    partial.replace(path)
    return len(seen), repeated


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
    return (Row(f"{path}:{number}", values) for number, values in read_jsonl(path))


def asked(path: Path) -> Iterator[Asked]:
    """Yield the prompts of a run's folder."""
    for _, row in read_jsonl(path):
        prompt = from_json(Prompt, row)
        yield Asked(row["id"], prompt.messages)


def _draw(
    config: SampleConfig, variant: Variant, part: tuple[int, int], prompts: tuple[int, str], terminal: Terminal
) -> JsonDict:
    """Draw one variant and say what came of it."""
    folder = Path(config.out) / variant.name
    plan = Plan(variant.sampling, config.samples, config.seed, variant.system, config.shard, *part)
    opening = Opening(variant.model, config.batch_size, config.url, config.key_name, config.timeout, config.precision)
    chosen: list[str] = []

    def engine() -> Streaming:
        from primum.models.opening import open_engine

        opened, found = open_engine(config.engine, opening)
        chosen[:] = [found.engine, found.why]
        terminal.note(f"  engine {found.engine}: {found.why}")
        return opened

    if config.retry_failed:
        reopen_failed(folder)
    key = {
        "version": VERSION, "model": variant.model, "weights": fingerprint(variant.model), "system": variant.system,
        "sampling": asdict(variant.sampling), "samples": config.samples, "seed": config.seed, "prompts": prompts[1],
        "engine": config.engine, "precision": config.precision, "url": config.url, "shard": config.shard,
    }  # fmt: skip
    due = sum(1 for i in range(-(-prompts[0] * config.samples // config.shard)) if plan.mine(i)) * config.shard
    with terminal.step(f"replies {variant.name}", min(due, prompts[0] * config.samples), "replies") as advance:
        meter = Meter(advance, terminal)
        tally = draw_all(folder, key, asked(Path(config.out) / "prompts.jsonl"), plan, engine, meter)
    terminal.note(f"  {meter.summary(tally)}")
    return {
        "variant": variant.name, "model": variant.model, "engine": chosen[0] if chosen else None,
        "why": chosen[1] if chosen else "all replies were there", "replies": tally.replies, "tokens": tally.tokens,
        "prompt_tokens": tally.prompt_tokens, "failed": dict(tally.failed), "seconds": round(meter.seconds, 3),
        "tokens_per_second": meter.rate(),
    }  # fmt: skip


def fingerprint(model: str) -> str:
    """Return what tells a folder's or file's weights from others: names, sizes and times; "" for names elsewhere."""
    path = Path(model)
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    return digest([[f.name, f.stat().st_size, f.stat().st_mtime_ns] for f in files if f.is_file()]) if files else ""


class Meter:
    """Advances a bar, and says now and then how many new tokens a second are drawn."""

    def __init__(self, advance: Any, terminal: Terminal, every: float = 30.0) -> None:
        self._advance, self._terminal, self._every = advance, terminal, every
        self.found = self.drawn = self.tokens = 0
        self._started: float | None = None
        self._said = self._last = time.monotonic()

    def __call__(self, replies: int, tokens: int) -> None:
        """Take up replies: many at once were found on disk, the rest come one by one."""
        self._advance(replies)
        now = time.monotonic()
        if self._started is None:
            self._started, self._said = now, now
        if replies == 1:
            self.drawn, self.tokens, self._last = self.drawn + 1, self.tokens + tokens, now
        else:
            self.found += replies
        if now - self._said >= self._every:
            self._said = now
            self._terminal.note(f"  {self.drawn:,} replies, {self.rate() or 0:,.0f} tokens/s")

    @property
    def seconds(self) -> float:
        """From the first word of the ledger to the last reply."""
        return self._last - self._started if self._started is not None and self.drawn else 0.0

    def rate(self) -> float | None:
        """New tokens a second, or None where nothing was drawn."""
        return round(self.tokens / self.seconds, 1) if self.seconds > 0 else None

    def summary(self, tally: Tally) -> str:
        """One line on a finished variant."""
        failed = sum(tally.failed.values())
        rate = f", {self.rate():,.0f} tokens/s" if self.rate() else ""
        reasons = "; ".join(f"{n} x {reason}" for reason, n in tally.failed.most_common(3))
        return f"{tally.replies:,} replies, {tally.tokens:,} tokens{rate}" + (
            f"; {failed} failed: {reasons}" if failed else ""
        )
