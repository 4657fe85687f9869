"""What an audit's counts say: one document, a part a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from primum import __version__
from primum.audit import contamination, summary
from primum.audit.hiding import hidden
from primum.audit.ledger import Entry
from primum.audit.names.recognizers import recognizer
from primum.audit.names.summary import FIELDS as NAME_FIELDS
from primum.audit.names.summary import summarise as names_summary
from primum.audit.notes import Counts
from primum.audit.reading.files import Input
from primum.audit.risk.rules import WEIGHTS
from primum.audit.risk.step import REPRESENTATION
from primum.audit.settings import Names, Settings
from primum.audit.toxicity import bias
from primum.audit.toxicity.classifier import classifier
from primum.audit.toxicity.step import THRESHOLD
from primum.audit.toxicity.summary import summarise as toxicity_summary
from primum.core.records import JsonDict

if TYPE_CHECKING:
    from primum.pipeline.audit import AuditConfig


def findings(
    config: AuditConfig,
    inputs: Sequence[Input],
    settings: Settings,
    counts: Counts,
    entries: dict[str, Entry] | None,
    scores: dict[str, list[float]],
) -> JsonDict:
    """Return what was found, as one document; a part whose step did not run is missing.

    Args:
        config: of the command.
        inputs: what was read.
        settings: of the steps.
        counts: of all shards.
        entries: of the ledger, where there is one.
        scores: benchmark -> what a model got on each of its items, where the user gave them.
    """
    corpus, steps = summary.rows(counts, "corpus"), settings.steps
    facts: JsonDict = {
        "primum": __version__, "verb": "audit", "corpus": [one.place for one in inputs], "out": config.out,
        "steps": list(steps), "documents": corpus["documents"], "characters": corpus["characters"],
        "bytes": corpus["bytes"], "failed_steps": dict(sorted(summary.rows(counts, "failed_steps").items())),
    }  # fmt: skip
    if "pii" in steps:
        facts["pii"] = summary.pii(counts)
    if entries and settings.hides:
        entries = {hidden(source, config.regions): entry for source, entry in entries.items()}
    facts["fields"] = _fields(config, counts)
    rows = summary.sources(counts, entries, config.exclude_share)
    facts["sources"] = rows
    facts["ledger"] = summary.ledger_findings(rows, entries)
    facts["proposed_exclusions"] = [row["source"] for row in rows if row["propose_exclusion"]]
    facts["exclude_share"] = config.exclude_share
    if "language" in steps:
        facts["language"] = summary.languages(counts)
    if "terms" in steps:
        facts["pronouns"], facts["identity"] = summary.pronouns_and_terms(counts, settings.lexicon, settings.scoped)
    if settings.names:
        facts["names"] = _names_found(settings, settings.names, counts)
    if "toxicity" in steps:
        facts["toxicity"] = _toxicity(settings, counts)
    if "contamination" in steps:
        facts["contamination"] = contamination.summarise(counts, settings.benchmarks)
        for name, told in contamination.verdicts(counts, settings.benchmarks, scores).items():
            facts["contamination"]["benchmarks"][name]["verdict"] = told
        if not settings.benchmarks:
            facts["contamination"]["note"] = "no benchmark at hand; name one with --benchmark"
    if "risk" in steps:
        names = (*WEIGHTS, REPRESENTATION) if config.risk_model else tuple(WEIGHTS)
        rules = {name: summary.rows(counts, "risk_rules")[name] for name in names}
        found = summary.rows(counts, "risk")
        facts["risk"] = {"documents": found["documents"], "flagged": found["flagged"], "rules": rules}
        facts["risk"]["model"] = config.risk_model
    return facts


def _fields(config: AuditConfig, counts: Counts) -> JsonDict:
    """Return which fields of a row were read; those of the text are the most frequent ones."""
    found = summary.rows(counts, "text_fields").most_common(1)
    text = (
        [config.text_field]
        if config.text_field
        else [name for name in found[0][0].split("\t") if name]
        if found
        else []
    )
    return {"id": config.id_field, "text": text, "source": config.source_field}


def _names_found(settings: Settings, chosen: Names, counts: Counts) -> JsonDict:
    tables = {field: summary.rows(counts, f"source_names_{field}") for field in NAME_FIELDS}
    told = {"recognizer": recognizer(chosen.recognizer).model, "sample": chosen.sample}
    told["masked"] = settings.names_masked if settings.mask else None
    unread = summary.rows(counts, "names")["other_language"]
    return told | names_summary(tables, summary.rows(counts, "source_documents"), unread)


def _toxicity(settings: Settings, counts: Counts) -> JsonDict:
    chosen = settings.toxicity
    tables = (summary.rows(counts, f"toxicity_{name}") for name in ("scored", "removed", "histogram"))
    facts = {"classifier": chosen.classifier, "sample": chosen.sample} | toxicity_summary(*tables)
    return facts | {"bias": bias.table(classifier(chosen.classifier, chosen.label), settings.lexicon.axes, THRESHOLD)}
