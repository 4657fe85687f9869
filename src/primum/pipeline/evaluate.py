"""`primum evaluate`: benchmarks on one model, with intervals, in a folder that compare, gate and report read."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from pydantic import Field

from primum import __version__
from primum.core.catalogue import member
from primum.core.errors import BadInputError, Exit, UsageError, did_you_mean
from primum.core.records import JsonDict, digest
from primum.core.store import disk_error, read_json, write_json, write_text
from primum.core.taxonomy import stamp
from primum.evaluation.estimates import estimate, extremes, lengths
from primum.evaluation.items import Benchmark
from primum.evaluation.suite import benchmarks
from primum.evaluation.tables import FORMAT, LABELS, RESULTS, Table, table_facts, write_table
from primum.models.opening import Chosen, choose, open_engine
from primum.models.sampling import Opening, Streaming
from primum.pipeline.benchmark import Ask, Subject, chosen, measure, unused
from primum.pipeline.evaluate_plan import Part, Tour, described, part
from primum.pipeline.presets import Presets, changed
from primum.pipeline.sample import fingerprint
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal

if TYPE_CHECKING:
    from primum.models.load import Model, Outline

PAGE = "results.html"
EARLIER = "earlier"
"""The folder in a run's that keeps what it held before under another model or other settings, numbered."""


class EvaluateConfig(Presets):
    """What is measured, on which model, and how it is asked."""

    model: str = Field(
        default="embedded",
        description="hub id, model folder, PEFT adapter folder or .gguf file",
        json_schema_extra={"positional": True},
    )
    benchmark: tuple[str, ...] = Field(
        default=("card",), description="a benchmark (primum list benchmarks), a YAML file, or: card, safe-to-serve"
    )
    out: str = Field(default="runs/evaluate", description="the folder of results; a run that was stopped goes on there")
    limit: int | None = Field(default=None, ge=1, description="at most so many items of each benchmark, in its order")
    per_group: int | None = Field(default=None, ge=1, description="at most so many items of each group of a benchmark")
    data: tuple[str, ...] = Field(
        default=(), description="where rows are: FILE or hub:ID:SPLIT (one benchmark), or BENCHMARK=FILE"
    )
    judge: tuple[str, ...] = Field(
        default=(), description="who reads the replies (primum list judges; default: the benchmark's own)"
    )
    system: str | None = Field(default=None, description="a system prompt before every request")
    temperature: float | None = Field(default=None, ge=0, description="0 is greedy (default: the benchmark's)")
    top_p: float | None = Field(
        default=None, gt=0, le=1, description="nucleus: share of probability that is kept (default: the benchmark's)"
    )
    top_k: int | None = Field(
        default=None, ge=0, description="likeliest tokens that are kept; 0 keeps all (default: the benchmark's)"
    )
    reply_tokens: int | None = Field(default=None, ge=1, description="longest reply (default: the benchmark's)")
    judge_model: tuple[str, ...] = Field(
        default=(),
        description="ROLE=NAME: a model or file that metrics of a benchmark rest on (truthfulqa_generation: truth, "
        "info; helpfulness: reward, bertscore, learned; bold: vectors, norms, regard, toxicity)",
    )
    engine: str = Field(
        default="auto", description="what draws replies: auto, transformers, openvino or vllm; auto is the fastest here"
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="number format of transformers; auto is the fastest one here, and float32 for likelihoods on a CPU",
    )
    batch: int | None = Field(
        default=None, ge=1, description="replies drawn together (96; transformers on a CPU: 96 to 384, by their length)"
    )
    seed: int = Field(default=0, description="of the replies drawn")
    dry_run: bool = Field(default=False, description="print what would be asked and about how long it takes, and stop")


@dataclass
class Models:
    """Loads the model when it is first needed, in one number format at a time.

    Where another engine draws the replies it reads the weights itself: here they are loaded for likelihoods alone.
    """

    config: EvaluateConfig
    journey: Journey
    held: dict[str, Model] = field(default_factory=dict)
    keys: dict[bool, str] = field(default_factory=dict)
    opened: Streaming | None = None

    @cached_property
    def chosen(self) -> Chosen:
        """The engine that draws replies, and why; a number format that was asked for means transformers."""
        if self.config.engine == "auto" and self.config.dtype != "auto":
            return Chosen("hf", "a number format was asked for")
        return choose(self.config.engine, Opening(self.config.model, self.config.batch))

    def load(self, likelihood: bool) -> Model:
        """Return the model as generation or likelihoods want it."""
        wanted = self.format(likelihood)
        if wanted not in self.held:
            import torch

            from primum.models.load import load

            self.held.clear()
            with self.journey.step(f"load {Path(self.config.model).name} in {wanted}"):
                self.held[wanted] = load(self.config.model, getattr(torch, wanted))
        return self.held[wanted]

    @cached_property
    def outline(self) -> Outline:
        """What is known of the model without its weights."""
        from primum.models.load import outline

        return outline(self.config.model)

    @cached_property
    def facts(self) -> JsonDict:
        """What the results say of the model."""
        from primum.models.chat import template_hash
        from primum.models.device import device
        from primum.models.load import adapter_base

        model, place = self.outline, self.config.model
        return {
            "name": model.name, "source": model.source, "parameters": model.parameters,
            "weights": digest([fingerprint(adapter_base(place)), fingerprint(place)]),
            "template": template_hash(model.tokenizer), "device": device().describe(),
        }  # fmt: skip

    def key(self, likelihood: bool) -> str:
        """Return what answers depend on: the weights where they are loaded here, else their files."""
        if likelihood or self.chosen.engine == "hf":
            model = self.load(likelihood)
            return f"{model.name}@{model.key}"
        from primum.models.chat import template_hash
        from primum.models.load import adapter_base

        name, template = self.config.model, template_hash(self.outline.tokenizer)
        return f"{self.outline.name}@{digest([fingerprint(adapter_base(name)), fingerprint(name), template])}"

    def format(self, likelihood: bool) -> str:
        """Return the number format: on a CPU likelihoods are taken in float32, so that other tools get the same."""
        from primum.models.device import device

        if self.config.dtype != "auto":
            return self.config.dtype
        here = device()
        return "float32" if likelihood and here.name == "cpu" else str(here.dtype).removeprefix("torch.")

    def subject(self, likelihood: bool) -> Subject:
        """Return the model as a benchmark asks it."""
        if likelihood not in self.keys:
            self.keys[likelihood] = self.key(likelihood)
        key = self.keys[likelihood]
        likelihood_key = f"{key}-{self.format(True)}"
        return Subject(key, likelihood_key, self.chosen.engine, self.engine, lambda: self.load(True))

    def engine(self) -> Streaming:
        """Return the engine that draws replies; one that reads the weights itself replaces those in memory."""
        from primum.models.engines.hf import HFEngine

        if self.chosen.engine == "hf":
            return HFEngine(self.load(False), self.config.batch)
        if self.opened is None:
            self.held.clear()
            with self.journey.step(f"open {self.chosen.engine}"):
                self.opened = open_engine(self.chosen.engine, Opening(self.config.model, self.config.batch))
        return self.opened


def run_verb(config: EvaluateConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Measure every benchmark; return the exit code and results.json."""
    wanted = benchmarks(config.benchmark)
    sources = _sources(config, wanted)
    _check(config, wanted, sources)
    journey = Tour(Path(config.out), Terminal(quiet=json_output))
    unread = [one.name for one in wanted if not one.judged]
    if config.judge and unread:
        journey.terminal.note(f"  no judge reads {', '.join(unread)}: --judge changes nothing there")
    if config.preset_said:
        journey.terminal.note(f"  {config.preset_said}")
    _tell_unused(journey, [(one, _ask(config, one, sources)) for one in wanted])
    models = Models(config, journey)
    parts = _parts(config, wanted, sources, models)
    if config.dry_run:
        plan = described(models.outline, models.chosen.engine, parts)
        journey.terminal.note(plan["text"])
        return Exit.PASSED, plan
    journey.whole.weights = {one.step: one.seconds for one in parts}
    journey.terminal.note(f"replies by {models.chosen.engine}: {models.chosen.why}")
    tables: list[Table] = []
    # replies first: likelihoods may want the model in another number format
    for benchmark in sorted(wanted, key=lambda one: one.by_likelihood):
        ask = _ask(config, benchmark, sources)
        tables += measure(journey, benchmark, ask, models.subject(benchmark.by_likelihood), config.judge)
    document = _write(journey, config, models, tables)
    if not json_output:
        from primum.report.results import summary

        print(summary(document, Path(config.out) / PAGE))
    return Exit.PASSED, document


def _tell_unused(journey: Journey, asked: Sequence[tuple[Benchmark, Ask]]) -> None:
    """Say which settings do not reach the likelihoods that are asked for."""
    from primum.report.words import flag

    found = {benchmark.name: unused(benchmark, ask) for benchmark, ask in asked}
    flags = list(dict.fromkeys(flag(name) for names in found.values() for name in names))
    if flags:
        names, change = ", ".join(name for name in found if found[name]), "changes" if len(flags) == 1 else "change"
        journey.terminal.note(f"  {names}: likelihoods of the bare text, {', '.join(flags)} {change} nothing there")


def _ask(config: EvaluateConfig, benchmark: Benchmark, sources: dict[str, Path]) -> Ask:
    sampling = changed(benchmark.settings, config)
    source = sources.get(benchmark.name)
    readers = named(config.judge_model)
    return Ask(sampling, config.seed, config.system, config.limit, config.per_group, source, readers)


def named(pairs: Sequence[str]) -> dict[str, str]:
    """Return {role: model} of texts ROLE=MODEL.

    Raises:
        UsageError: one is no such text.
    """
    for pair in pairs:
        if not all(pair.partition("=")):
            raise UsageError(f"--judge-model {pair} names no role and model", cure="like truth=FOLDER or truth=HUB/ID")
    return {role: model for role, _, model in (pair.partition("=") for pair in pairs)}


def _parts(config: EvaluateConfig, wanted: Sequence[Benchmark], sources: dict[str, Path], models: Models) -> list[Part]:
    """Return what each benchmark costs; of a single one only where it is asked for."""
    if len(wanted) < 2 and not config.dry_run:
        return []
    asks = [_ask(config, benchmark, sources) for benchmark in wanted]
    model, engine = models.outline, models.chosen.engine
    return [part(one, ask, chosen(one, ask), model, engine) for one, ask in zip(wanted, asks, strict=True)]


def _sources(config: EvaluateConfig, wanted: Sequence[Benchmark]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for one in config.data:
        name, separator, place = one.partition("=")
        if separator and any(benchmark.name == name for benchmark in wanted):
            found[name] = Path(place)
        elif len(wanted) == 1:
            found[wanted[0].name] = Path(one)
        else:
            known = ", ".join(benchmark.name for benchmark in wanted)
            raise UsageError(f"--data {one} names no benchmark", cure=f"write BENCHMARK={one}, one of: {known}")
    return found


def _check(config: EvaluateConfig, wanted: Sequence[Benchmark], sources: dict[str, Path]) -> None:
    """Find what is wrong with names and files before a model is loaded."""
    for name in config.judge:
        member("judges", name)
    for benchmark in wanted:
        chosen(benchmark, _ask(config.model_copy(update={"limit": config.limit or 1}), benchmark, sources))
    _before(Path(config.out))
    gauges = {role: gauge for benchmark in wanted for role, gauge in benchmark.gauges.items()}
    roles = {role for benchmark in wanted for role in benchmark.readers} | {*gauges}
    for role, name in named(config.judge_model).items():
        if role not in roles:
            raise UsageError(f"no benchmark here asks for a '{role}' model", cure=did_you_mean(role, roles))
        if role in gauges:
            gauges[role].check(name)


def _write(journey: Journey, config: EvaluateConfig, models: Models, tables: Sequence[Table]) -> JsonDict:
    from primum.report.results import results_page

    folder = journey.folder
    other = {"out", "benchmark", "limit", "per_group", "data", "judge_model", "dry_run", "preset"}
    settings = config.model_dump(mode="json", exclude=other)
    document: JsonDict = {
        "primum": __version__, "format": FORMAT, "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": models.facts, "engine": models.chosen._asdict(), "settings": settings,
        "preset": config.preset_said or None,
        "tables": [_with_numbers(table) for table in tables],
        "seconds": journey.seconds, "policy": stamp(),
    }  # fmt: skip
    document["tables"] = _kept(journey, document) + document["tables"]
    (folder / "items").mkdir(parents=True, exist_ok=True)
    for table in tables:
        write_table(folder / "items", table)
    write_json(folder / RESULTS, document)
    write_text(folder / PAGE, results_page(document, {table.name: table for table in tables}))
    return document


def _with_numbers(table: Table) -> JsonDict:
    return {
        **table_facts(table), "estimates": estimate(table), "extremes": extremes(table), "lengths": lengths(table),
        "bias": _bias(table),
    }  # fmt: skip


def _bias(table: Table) -> list[JsonDict] | None:
    """Return the identity-bias table of an embedded scorer that stands in for a paper's classifier."""
    from primum.evaluation.identity import identity_bias

    return identity_bias() if table.facts.get("scorer") == "lexicon" else None


def _kept(journey: Journey, document: JsonDict) -> list[JsonDict]:
    """Return tables of an earlier run into this folder that hold for the same model and settings.

    What holds for another goes into a folder of its own, which is named: a folder speaks of one model and its settings.
    """
    before = _before(journey.folder)
    new = {row["rows"] for row in document["tables"]}
    other = _differs(before, document)
    if not other:
        return [row for row in before.get("tables") or [] if row["rows"] not in new]
    if before.get("tables"):
        names = ", ".join(str(row.get("benchmark")) for row in before["tables"])
        place = _set_aside(journey.folder)
        journey.terminal.note(f"  this folder held results of {other}; they lie in {place} now: {names}")
    return _cleared(journey.folder)


def _set_aside(folder: Path) -> Path:
    """Copy the results of a run into a folder of their own, whole or not at all; compare and gate read it as a run."""
    earlier = folder / EARLIER
    place = earlier / str(1 + max((int(one.name) for one in earlier.glob("*") if one.name.isdigit()), default=0))
    partial = earlier / "partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for name in (RESULTS, PAGE, LABELS):
            if (folder / name).is_file():
                shutil.copy2(folder / name, partial / name)
        if (folder / "items").is_dir():
            shutil.copytree(folder / "items", partial / "items")
        partial.rename(place)
    except OSError as error:
        raise disk_error(error, place) from error
    return place


def _before(folder: Path) -> JsonDict:
    """Return what an earlier run into this folder found.

    Raises:
        BadInputError: its results cannot be read.
    """
    path = folder / RESULTS
    if not path.is_file():
        return {}
    try:
        before = read_json(path)
    except ValueError as error:
        cure = "give another --out, or move the file away"
        raise BadInputError(f"broken JSON ({error})", where=str(path), cure=cure) from error
    return cast(JsonDict, before) if isinstance(before, dict) else {}


def _differs(before: JsonDict, document: JsonDict) -> str:
    """Say in what an earlier run differs, so that its numbers do not stand beside these; "" where in nothing.

    Older runs do not say which weights they are of.
    """
    model, now = before.get("model") or {}, document["model"]
    if model.get("source") != now["source"] or model.get("weights", now["weights"]) != now["weights"]:
        return "another model"
    settings, new = _given(before), _given(document)
    other = [name for name in {**settings, **new} if settings.get(name) != new.get(name)]
    if other:
        return "other settings (" + ", ".join(f"{name} {_said(settings.get(name))}" for name in other) + ")"
    return "" if before.get("format") == document["format"] else "another format"


def _said(value: object) -> str:
    return "not set" if value is None else str(value)


def _given(document: JsonDict) -> JsonDict:
    """Return the settings that say something: an older run knew fewer of them."""
    return {key: value for key, value in (document.get("settings") or {}).items() if value is not None}


def _cleared(folder: Path) -> list[JsonDict]:
    (folder / RESULTS).unlink(missing_ok=True)  # first: results without items would be broken
    shutil.rmtree(folder / "items", ignore_errors=True)
    return []
