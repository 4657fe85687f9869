"""`primum evaluate`: benchmarks on one model, with intervals, in a folder that compare, gate and report read."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal, cast

from pydantic import Field

from primum import __version__
from primum.core.errors import Exit, UsageError, did_you_mean
from primum.core.records import JsonDict
from primum.core.store import disk_error, read_json, write_json, write_text
from primum.core.taxonomy import stamp
from primum.evaluation.early import Rule
from primum.evaluation.estimates import estimate, extremes, lengths
from primum.evaluation.items import Benchmark
from primum.evaluation.suite import benchmarks
from primum.evaluation.tables import FORMAT, LABELS, RESULTS, Table, table_facts, write_table
from primum.judging.options import ChosenJudge, JudgeOptions, Options, chosen_judges
from primum.pipeline.benchmark import Ask, chosen, measure, unused
from primum.pipeline.evaluate_against import Asked, check, other_of, race, said
from primum.pipeline.evaluate_plan import Part, Tour, described, part
from primum.pipeline.models import Models, Wanted
from primum.pipeline.presets import Presets, changed
from primum.pipeline.steps import Journey
from primum.pipeline.terminal import Terminal

PAGE = "results.html"
EARLIER = "earlier"
"""The folder in a run's that keeps what it held before under another model or other settings, numbered."""


class EvaluateConfig(Presets, Options):
    """What is measured, on which model, how it is asked, and who reads the replies."""

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
        description="model that a judge runs here: 'embedded', a hub id or a path; or ROLE=NAME, a model or file that "
        "metrics of a benchmark rest on (truthfulqa_generation: truth, info; helpfulness: reward, bertscore, learned; "
        "bold: vectors, norms, regard, toxicity)",
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
    against: str | None = Field(
        default=None,
        description="an earlier run, or a model: replies are drawn part by part, until it is certain which is better",
    )
    decide: str | None = Field(
        default=None, description="with --against: the metric that decides (default: the benchmark's first)"
    )
    margin: float = Field(
        default=0.0,
        ge=0,
        description="with --against: how much worse it may be (0.05: 5 points); 0 asks which is better",
    )
    alpha: float = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="with --against: chance of a false decision, over all benchmarks and looks",
    )
    look: int = Field(default=50, ge=2, description="with --against: items before the first look")
    dry_run: bool = Field(default=False, description="print what would be asked and about how long it takes, and stop")

    @property
    def judging(self) -> JudgeOptions:
        """What judges are given: of `judge_model` the one that names no role.

        Raises:
            UsageError: two models are named for judges.
        """
        plain = [one for one in self.judge_model if "=" not in one]
        if len(plain) > 1:
            cure = "name one; a classifier that a benchmark asks for is named like truth=FOLDER"
            raise UsageError(f"two models for the judges: --judge-model {' and '.join(plain)}", cure=cure)
        given = {name: getattr(self, name) for name in Options.model_fields}
        return JudgeOptions(**given, judge_model=plain[0] if plain else None)


def run_verb(config: EvaluateConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Measure every benchmark; return the exit code and results.json."""
    wanted = benchmarks(config.benchmark)
    sources = _sources(config, wanted)
    judges = _judges(config, wanted)
    _check(config, wanted, sources)
    journey = Tour(Path(config.out), Terminal(quiet=json_output))
    unread = [one.name for one in wanted if not one.judged]
    if config.judge and unread:
        journey.terminal.note(f"  no judge reads {', '.join(unread)}: --judge changes nothing there")
    if config.preset_said:
        journey.terminal.note(f"  {config.preset_said}")
    _tell_unused(journey, [(one, _ask(config, one, sources)) for one in wanted])
    models = _models(config, config.model, journey)
    parts = _parts(config, wanted, sources, models)
    if config.dry_run:
        plan = described(models.outline, models.chosen.engine, parts)
        journey.terminal.note(plan["text"])
        return Exit.PASSED, plan
    journey.whole.weights = {one.step: one.seconds for one in parts}
    journey.terminal.note(f"replies by {models.chosen.engine}: {models.chosen.why}")
    if config.against:
        return _against(config, journey, models, [Asked(one, _ask(config, one, sources), judges[one.name])
                                                  for one in wanted], json_output)  # fmt: skip
    tables: list[Table] = []
    # replies first: likelihoods may want the model in another number format
    for benchmark in sorted(wanted, key=lambda one: one.by_likelihood):
        ask = _ask(config, benchmark, sources)
        tables += measure(journey, benchmark, ask, models.subject(benchmark.by_likelihood), judges[benchmark.name])
    document = _write(journey, config, models, chain(*judges.values()), tables)
    if not json_output:
        from primum.report.results import summary

        print(summary(document, Path(config.out) / PAGE))
    return Exit.PASSED, document


def _models(config: EvaluateConfig, name: str, journey: Journey) -> Models:
    return Models(Wanted(name, config.engine, config.dtype, config.batch), journey)


def _against(
    config: EvaluateConfig, journey: Journey, models: Models, asked: Sequence[Asked], quiet: bool
) -> tuple[int, JsonDict]:
    """Compare with another run or model, drawing no more than that takes; return the exit code and results.json."""
    name = str(config.against)
    rule = Rule(config.alpha / len(asked), config.margin, config.look, config.decide or "")
    other = other_of(name, journey, partial(_models, config, name))
    check(asked, rule, other)
    found = [
        race(journey, one, rule, models, other) for one in sorted(asked, key=lambda one: one.benchmark.by_likelihood)
    ]
    outcomes, judges = [one.outcome for one in found], [judge for one in asked for judge in one.judges]
    if other.models and other.journey:
        _write(other.journey, config, other.models, judges, other.tables)
    tables = [table for one in found for table in one.tables]
    document = _write(journey, config, models, judges, tables, {"against": {"run": name, "outcomes": outcomes}})
    if not quiet:
        from primum.report.results import summary

        print(summary(document, Path(config.out) / PAGE), said(name, outcomes), sep="\n")
    decisions = {one["decision"] for one in outcomes}
    if "worse" in decisions:
        return Exit.GATE_FAILED, document
    return (Exit.UNDECIDED if "not decided" in decisions else Exit.PASSED), document


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
    """Return {role: model} of texts ROLE=MODEL; a text without "=" is a judge's model.

    Raises:
        UsageError: one has no role or no model beside its "=".
    """
    both = [pair for pair in pairs if "=" in pair]
    for pair in both:
        if not all(pair.partition("=")):
            raise UsageError(f"--judge-model {pair} names no role and model", cure="like truth=FOLDER or truth=HUB/ID")
    return {role: model for role, _, model in (pair.partition("=") for pair in both)}


def _judges(config: EvaluateConfig, wanted: Sequence[Benchmark]) -> dict[str, list[ChosenJudge]]:
    """Return who reads the replies of each benchmark: those that were named, else its own.

    Raises:
        UsageError: no such judge, it lacks what it needs, or an option that none of them reads.
    """
    judged = [one for one in wanted if one.judged]
    names = config.judge or tuple(one.judge for one in judged)
    options = config.judging
    if options.judge_model and not judged and any(one.readers for one in wanted):
        cure = "like truth=FOLDER or truth=HUB/ID"
        raise UsageError(f"--judge-model {options.judge_model} names no role and model", cure=cure)
    found = {one.id: one for one in chosen_judges(names, options)}
    return {one.name: [found[name] for name in dict.fromkeys(config.judge or (one.judge,))] for one in judged} | {
        one.name: [] for one in wanted if not one.judged
    }


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


def _write(
    journey: Journey, config: EvaluateConfig, models: Models, judges: Iterable[ChosenJudge], tables: Sequence[Table],
    more: JsonDict | None = None,
) -> JsonDict:  # fmt: skip
    from primum.report.results import results_page

    folder = journey.folder
    other = {"out", "benchmark", "limit", "per_group", "data", "judge_model", "dry_run", "preset"}
    other |= {"against", "decide", "margin", "alpha", "look"}  # they say how much is drawn, not how
    settings = config.model_dump(mode="json", exclude={*other, *Options.model_fields})
    options = {key: value for one in judges for key, value in one.options.items()}
    settings |= {"judge_options": options or None}
    document: JsonDict = {
        "primum": __version__, "format": FORMAT, "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": models.facts, "engine": models.chosen._asdict(), "settings": settings,
        "preset": config.preset_said or None,
        "tables": [_with_numbers(table) for table in tables],
        "seconds": journey.seconds, "policy": stamp(), **(more or {}),
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
    before = read_json(path, "give another --out, or move the file away")
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
