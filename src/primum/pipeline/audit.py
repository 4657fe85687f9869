"""`primum audit`: know what is in the data before it is in the model. One pass, then the tables, the page, the card."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from pydantic import Field

from primum import __version__
from primum.audit import summary
from primum.audit.duplicates import duplicate_findings
from primum.audit.engine import Plan, Progress, counts_of, run
from primum.audit.ledger import load as load_ledger
from primum.audit.names.recognizers import recognizer
from primum.audit.notes import Counts, merge
from primum.audit.outputs import gather, join
from primum.audit.pii.numbers import REGIONS
from primum.audit.reading.document import Document
from primum.audit.reading.files import Input, expand
from primum.audit.reading.records import Fields, text_of
from primum.audit.reading.sources import Limits
from primum.audit.risk.rank import drop, write_ranking
from primum.audit.risk.step import References, sides, turns_of
from primum.audit.sample import glance
from primum.audit.settings import Names, Settings, Toxicity, in_order, make
from primum.audit.steps import ALIASES, DEFAULT, FURTHER
from primum.audit.terms.lexicon import Lexicon, builtin
from primum.audit.terms.lexicon import load as load_lexicon
from primum.core.config import Config
from primum.core.errors import Exit, UsageError, did_you_mean
from primum.core.records import JsonDict, Prompt, digest
from primum.core.store import read_json, read_jsonl, write_json, write_text
from primum.pipeline.audit_findings import findings
from primum.pipeline.terminal import Terminal
from primum.prompts.decontaminate import benchmarks_at
from primum.prompts.embedded import embedded
from primum.prompts.files import read_rows
from primum.prompts.shared import default_data_dir
from primum.report.audit_card import croissant
from primum.report.audit_page import audit_page
from primum.report.audit_words import closing_lines

if TYPE_CHECKING:
    from primum.audit.cluster import Cluster

VERSION = 6
"""Raised when the same input and settings give other shards than before."""
FACTS, PAGE, CARD = "audit.json", "audit.html", "croissant.json"
STEPS = (*DEFAULT, *FURTHER)
T = TypeVar("T")


class AuditConfig(Config):
    """Look at a corpus before a model learns it."""

    corpus: tuple[str, ...] = Field(
        default=(),
        description="files or folders (JSONL, Parquet, text, WARC; .gz, .zst, .bz2, .xz), http(s), s3 or gs addresses, "
        "hub:ID[@CONFIG][:SPLIT]",
        json_schema_extra={"positional": True},
    )
    out: str = Field(
        default="runs/audit", description="the folder of the results; an audit that was stopped goes on there"
    )
    ledger: str | None = Field(
        default=None, description="who reviewed which source (YAML, JSON or CSV: source, licence, reviewer, decision)"
    )
    steps: tuple[str, ...] = Field(
        default=(), description=f"a step beside {', '.join(DEFAULT)}: {', '.join(FURTHER)} (repeat, or with commas)"
    )
    only: bool = Field(default=False, description="run the steps named by --steps alone")
    all: bool = Field(default=False, description="run every step")
    terms: str | None = Field(
        default=None, description="pronouns and identity terms from a file (HolisticBias's descriptors.json, or YAML)"
    )
    benchmark: tuple[str, ...] = Field(
        default=(),
        description="a benchmark to find in the corpus (JSONL, CSV or Parquet; default: the public sets at hand)",
    )
    benchmark_scores: str | None = Field(
        default=None,
        description="a model's scores of the benchmarks (rows with benchmark and score, one a sample, in order): did "
        "contamination help it?",
    )
    classifier: str = Field(
        default="embedded",
        description="toxicity: `embedded`, or a text classifier (hub id or folder; the paper took "
        "tomh/toxigen_hatebert)",
    )
    toxic_label: str = Field(default="", description="toxicity: the classifier's label that means toxic")
    sample: float = Field(
        default=1.0, gt=0, le=1, description="toxicity: share of the documents scored (the paper: 0.1)"
    )
    names: str = Field(
        default="",
        description="names of people, found by spacy:MODEL, presidio[:MODEL], gliner:MODEL or list:FILE "
        "(counts and positions; the names themselves are kept nowhere)",
    )
    names_sample: float = Field(default=0.1, gt=0, le=1, description="names: share of the documents read")
    seed: int = Field(default=0, description="of the samples")
    risk_model: str | None = Field(
        default=None,
        description="risk: also ask this model how harmful each request and answer looks (`embedded`, hub id, folder)",
    )
    drop: bool = Field(default=False, description="risk: write clean.jsonl and dropped.jsonl with the reasons")
    drop_at: float = Field(default=1.0, gt=0, description="risk: the score from which a row is dropped")
    drop_share: float | None = Field(
        default=None, ge=0, le=1,
        description="risk: drop at least this share, the riskiest by rank (default: 0.05 with --risk-model, else 0)",
    )  # fmt: skip
    near: float = Field(default=0.8, gt=0, le=1, description="near-duplicates: the least overlap of 5-word runs")
    mask: bool = Field(
        default=False,
        description="also write the documents with placeholders for personal information "
        "(for names too where --names-sample is 1)",
    )
    exclude_share: float = Field(
        default=0.25, gt=0, le=1, description="propose to exclude a source with this share of documents holding PII"
    )
    regions: tuple[str, ...] = Field(
        default=REGIONS, description="country whose national phone formats are known (ISO 3166)"
    )
    text_field: str = Field(default="", description="the field with the text (default: text, content, messages, ...)")
    source_field: str = Field(default="source", description="the field that names the source")
    id_field: str = Field(default="id", description="the field with the document's id")
    text_unit: Literal["file", "line", "paragraph"] = Field(
        default="file", description="what one document of a text file is"
    )
    workers: int = Field(default=0, ge=0, description="processes (0: one a core; with --on: as many as have room)")
    on: str = Field(
        default="", description="`ray` (a cluster that runs, or a new one here) or ray://HOST:PORT; --out must be on a "
        "disk that every node shares"
    )  # fmt: skip
    worker_cpus: float = Field(default=1.0, ge=0, description="with --on: cores for each worker")
    worker_gpus: float = Field(default=0.0, ge=0, description="with --on: GPUs for each worker")
    longest: int = Field(default=32 << 20, ge=1024, description="bytes; a longer record is reported and passed over")
    block: int = Field(default=4 << 20, ge=1024, description="bytes that a worker takes at a time")
    strict: bool = Field(default=False, description="fail (exit code 1) where anything could not be read")


def run_verb(config: AuditConfig, json_output: bool) -> tuple[int, JsonDict]:
    """Audit a corpus; return the exit code and the findings.

    Raises:
        UsageError: nothing to audit, an unknown step, or a file that cannot be used.
        StepFailedError: the disk is full, or a worker died.
    """
    terminal = Terminal(quiet=json_output)
    inputs = expand(_corpora(config), Path(config.out))
    entries = load_ledger(Path(config.ledger)) if config.ledger else None
    settings = settings_of(config, inputs)
    _scores(config, settings)  # read before the pass: wrong ones are told at once
    plan = _plan(config, settings)
    cluster = _cluster(config, terminal)
    _prepare(plan, inputs)
    if one := settings.references:
        first = len(one.harmful) + len(one.benign) + len(one.corpus)
        terminal.note(f"  {one.model} reads {first:,} texts first, to compare the rows with")
    stems = _pass(config, inputs, plan, terminal, cluster)
    counts = merge(counts_of(Path(plan.work), stems))
    facts = findings(config, inputs, settings, counts, entries, _scores(config, settings))
    facts["skipped"] = _skipped(Path(config.out), Path(plan.work), stems, counts)
    facts["files"] = _files(config, inputs, plan, stems)
    with terminal.step("draw conclusions"):
        _conclude(config, settings, Path(plan.work), stems, facts)
    code = _decide(config, facts)
    _write(Path(config.out), facts)
    if not json_output:
        print("\n".join(closing_lines(facts)))
    return code, facts


def _write(out: Path, facts: JsonDict) -> None:
    """Write the page, the card and the facts, which say that the audit is done; its shards are not needed any more."""
    facts["files"] |= {"page": str(out / PAGE), "card": str(out / CARD)}
    write_text(out / PAGE, audit_page(facts))
    write_json(out / CARD, croissant(facts))
    write_json(out / FACTS, facts)
    shutil.rmtree(out / "work")


def _corpora(config: AuditConfig) -> Sequence[str]:
    if not config.corpus:
        raise UsageError("no corpus named", cure="primum audit FILE --out DIR (primum audit --help)")
    return config.corpus


def chosen_steps(config: AuditConfig) -> tuple[str, ...]:
    """Return the steps to run, in their order.

    Raises:
        UsageError: a name that is no step; names the nearest.
    """
    named = [ALIASES.get(name.strip(), name.strip()) for one in config.steps for name in one.split(",") if name.strip()]
    for name in named:
        if name not in STEPS:
            raise UsageError(f"no step '{name}'", cure=did_you_mean(name, [*STEPS, *ALIASES]))
    if "names" in named and not config.names:
        raise UsageError("the step names needs a recognizer", cure="add --names spacy:en_core_web_sm")
    named += ["names"] if config.names else []
    if config.all:
        return tuple(name for name in STEPS if name != "names" or config.names)
    if config.only and not named:
        raise UsageError("--only without a step", cure="name one with --steps")
    return in_order(named if config.only else [*DEFAULT, *named], STEPS)


def settings_of(config: AuditConfig, inputs: Sequence[Input]) -> Settings:
    """Return what the workers must know. Where a model scores risk, some rows of the corpus are read for it.

    Raises:
        UsageError: an unknown step, `--drop` without the risk step, or a file that cannot be used.
    """
    steps = chosen_steps(config)
    if config.drop and "risk" not in steps:
        raise UsageError("--drop needs the risk step", cure="add --steps risk")
    if config.drop_share is not None and not config.drop:
        raise UsageError("--drop-share without --drop", cure="add --drop")
    return Settings(
        steps,
        _lexicon(config),
        config.regions,
        config.mask,
        config.drop,
        Toxicity(config.classifier, config.toxic_label, config.sample, config.seed),
        _benchmarks(config) if "contamination" in steps else {},
        _references(config, inputs) if config.risk_model and "risk" in steps else None,
        _names(config) if config.names else None,
    )


def _names(config: AuditConfig) -> Names:
    """Return which names are sought; the recognizer is loaded now, so that a missing part is told before the work."""
    found = recognizer(config.names)
    return Names(config.names, config.names_sample, config.seed, f"{found.model} {found.state}")


def _lexicon(config: AuditConfig) -> Lexicon:
    if config.terms:
        return load_lexicon(Path(config.terms))
    published = default_data_dir() / "holisticbias" / "descriptors.json"
    return load_lexicon(published) if published.is_file() else builtin()


def _benchmarks(config: AuditConfig) -> dict[str, tuple[str, ...]]:
    """Return the benchmarks' texts: those named, otherwise the public ones at hand."""
    if not config.benchmark:
        return {name: tuple(texts) for name, texts in benchmarks_at(default_data_dir()).items()}
    found: dict[str, tuple[str, ...]] = {}
    for name in config.benchmark:
        texts = [text_of(row.values) or "" for row in read_rows(Path(name))]
        if not any(texts):
            raise UsageError("no text in this benchmark", where=name, cure="a field text, prompt, question or messages")
        found[Path(name).name] = tuple(texts)
    return found


def _scores(config: AuditConfig, settings: Settings) -> dict[str, list[float]]:
    """Return a model's scores by benchmark.

    Raises:
        UsageError: a row without a score, scores of no benchmark that is sought, or not one for each sample.
    """
    if not config.benchmark_scores:
        return {}
    texts, path = settings.benchmarks, Path(config.benchmark_scores)
    found: dict[str, list[float]] = {}
    for row in read_rows(path):
        name, score = row.values.get("benchmark", next(iter(texts), "")), row.values.get("score")
        try:
            value = float(score)  # pyright: ignore[reportArgumentType]
        except (TypeError, ValueError) as error:
            cure = 'a row is {"benchmark": "xstest", "score": 1}'
            raise UsageError("a row without a score", where=row.where, cure=cure) from error
        if name not in texts:
            raise UsageError(f"no benchmark '{name}' is sought", where=row.where, cure=f"one of: {', '.join(texts)}")
        found.setdefault(str(name), []).append(value)
    for name, own in found.items():
        if len(own) != len(texts[name]):
            wrong = f"{len(own):,} scores of '{name}', which has {len(texts[name]):,} samples"
            raise UsageError(wrong, where=str(path), cure="one score for each sample, in the benchmark's order")
    return found


REFERENCES, ROWS = 200, 200
"""Of each kind of request that the direction of the risk model is taken from, and rows of the corpus."""


def references_of(model: str, prompts: Sequence[Prompt], rows: Sequence[Document]) -> References:
    """Return harmful requests, and what is held for harmless.

    These are as many of the requests' twins and of requests that are nobody's twin, and rows of the corpus.
    """
    by_id = {prompt.id: prompt for prompt in prompts}
    pairs = _spread([(p.text, by_id[p.twin].text) for p in prompts if p.intent == "harmful" and p.twin in by_id])
    general = _spread([p.text for p in prompts if p.intent == "benign" and p.twin is None])
    own = tuple(text for row in rows for text in sides(turns_of(row)))
    return References(model, tuple(bad for bad, _ in pairs), (*(twin for _, twin in pairs), *general), own)


def _references(config: AuditConfig, inputs: Sequence[Input]) -> References:
    limits, fields = _reading(config)
    return references_of(str(config.risk_model), embedded(), glance(inputs, limits, fields, ROWS))


def _spread(items: Sequence[T]) -> Sequence[T]:
    """Return at most REFERENCES, evenly spread over all."""
    return items[:: max(len(items) // REFERENCES, 1)][:REFERENCES]


def _reading(config: AuditConfig) -> tuple[Limits, Fields]:
    limits = Limits(config.block, config.longest, config.text_unit)
    return limits, Fields(config.text_field, config.source_field, config.id_field)


def _plan(config: AuditConfig, settings: Settings) -> Plan:
    return Plan(str(Path(config.out) / "work"), *_reading(config), make, settings)


def _prepare(plan: Plan, inputs: Sequence[Input]) -> None:
    """Keep the shards of an earlier run where the inputs and settings are the same, and clear them otherwise."""
    facts = {
        "version": VERSION, "primum": __version__, "inputs": [one.identity() for one in inputs],
        "limits": plan.limits._asdict(), "fields": plan.fields._asdict(), "settings": plan.settings.key(),
    }  # fmt: skip
    work = Path(plan.work)
    held = work / "key.json"
    if work.exists() and (not held.exists() or read_json(held)["key"] != digest(facts)):
        shutil.rmtree(work)
    if not held.exists():
        write_json(held, {"key": digest(facts), "facts": facts})


def _cluster(config: AuditConfig, terminal: Terminal) -> Cluster | None:
    """Join the cluster that was named.

    Raises:
        UsageError: there is none, or it has no room.
        MissingExtraError: Ray is not installed.
    """
    if not config.on:
        return None
    from primum.audit.cluster import Cluster
    from primum.models.cluster import Workers

    cluster = Cluster(Workers(config.on, config.workers, config.worker_cpus, config.worker_gpus))
    terminal.note(f"  {cluster.workers.describe(cluster.count)}")
    return cluster


def _pass(
    config: AuditConfig, inputs: Sequence[Input], plan: Plan, terminal: Terminal, cluster: Cluster | None
) -> list[str]:
    sizes = [Path(one.place).stat().st_size for one in inputs if not one.remote]
    known = sum(sizes) if len(sizes) == len(inputs) and not any(_packed(one) for one in inputs) else None
    megabytes = [0]

    with terminal.step("read the corpus", max(known >> 20, 1) if known else None, "MB") as advance:

        def tell(done: int) -> None:
            before, megabytes[0] = megabytes[0] >> 20, megabytes[0] + done
            advance((megabytes[0] >> 20) - before)

        progress = Progress(tell)
        enough = -(-known // config.block) if known else _cores()  # a worker takes longer to start than a block to do
        alone = config.risk_model or config.names.startswith("gliner")  # one copy of the model
        workers = 1 if alone else config.workers or min(_cores(), enough)
        stems = run(inputs, plan, cluster.count if cluster else workers, progress, cluster)
    if cluster and cluster.lost:
        terminal.note(f"  {cluster.lost:,} workers were lost; others did their blocks")
    if progress.resumed:
        terminal.note(f"  {progress.resumed:,} of {len(stems):,} blocks were done before")
    return stems


def _packed(one: Input) -> bool:
    return one.place.lower().endswith((".gz", ".zst", ".bz2", ".xz", ".parquet"))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


RANKED, LEAST_RANKED = 0.1, 100
"""Share of the documents that risk.jsonl ranks, and how many at least."""
DROPPED = 0.05
"""Share of the rows that a representation score drops: it has no line of its own between harmless and harmful."""


def _conclude(config: AuditConfig, settings: Settings, work: Path, stems: Sequence[str], facts: JsonDict) -> None:
    """Do what needs all shards at once: near-duplicates, the ranking by risk, dropping."""
    out = Path(config.out)
    if "duplicates" in settings.steps:
        facts["duplicates"] = duplicate_findings(work, stems, config.near, out / "duplicates.jsonl")
        facts["files"]["duplicates"] = str(out / "duplicates.jsonl")
    if "risk" in settings.steps:
        facts["risk"]["first"] = write_ranking(work, stems, RANKED, LEAST_RANKED, out / "risk.jsonl")
        facts["files"]["risk"] = str(out / "risk.jsonl")
    if config.drop:
        share = config.drop_share if config.drop_share is not None else DROPPED if config.risk_model else 0.0
        facts["risk"] |= drop(work, stems, config.drop_at, share, out)
        facts["files"] |= {"clean": str(out / "clean.jsonl"), "dropped": str(out / "dropped.jsonl")}


MOST_SHOWN = 20


def _skipped(out: Path, work: Path, stems: Sequence[str], counts: Counts) -> JsonDict:
    join((work / f"{stem}.skipped" for stem in stems), out / "skipped.jsonl")
    reasons = dict(sorted(summary.rows(counts, "skipped").items()))
    first: list[JsonDict] = []
    for _, row in read_jsonl(out / "skipped.jsonl"):
        if len(first) == MOST_SHOWN:
            break
        first.append(row)
    return {"total": sum(reasons.values()), "reasons": reasons, "first": first}


def _files(config: AuditConfig, inputs: Sequence[Input], plan: Plan, stems: Sequence[str]) -> JsonDict:
    out, work = Path(config.out), Path(plan.work)
    files: JsonDict = {
        "facts": str(out / FACTS), "skipped": str(out / "skipped.jsonl"),
        "attributes": gather(work, stems, inputs, ".jsonl", out / "attributes" / "primum"),
    }  # fmt: skip
    if config.mask:
        files["masked"] = gather(work, stems, inputs, ".masked", out / "masked")
    return files


def _decide(config: AuditConfig, facts: JsonDict) -> int:
    """Write the outcome into the facts and return the exit code.

    An unreviewed or excluded source fails where there is a ledger; what could not be read fails with --strict; a corpus
    without a single document says nothing, which is undecided.
    """
    problems: list[str] = []
    ledger = facts["ledger"]
    if ledger["unreviewed"]:
        problems.append(f"{len(ledger['unreviewed'])} unreviewed: {_some(ledger['unreviewed'])}")
    if ledger["excluded_but_present"]:
        problems.append(f"excluded by the ledger but in the corpus: {_some(ledger['excluded_but_present'])}")
    if config.strict and facts["skipped"]["total"]:
        problems.append(f"{facts['skipped']['total']} records could not be read")
    undecided = not problems and not facts["documents"]
    code = Exit.GATE_FAILED if problems else Exit.UNDECIDED if undecided else Exit.PASSED
    facts["outcome"] = {Exit.GATE_FAILED: "failed", Exit.UNDECIDED: "undecided"}.get(code, "passed")
    facts["problems"] = problems or (["not one document could be read"] if undecided else [])
    facts["exit_code"] = int(code)
    return int(code)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown + (f" and {len(names) - 5} more" if len(names) > 5 else "")


__all__ = ["AuditConfig", "run_verb"]
