"""Counts to findings: shares with their denominators, densities by source, what to exclude, what fails. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from primum.audit.language import UNKNOWN
from primum.audit.ledger import Entry
from primum.audit.notes import Counts
from primum.audit.pii.national import TYPES as NATIONAL
from primum.audit.terms.lexicon import Lexicon
from primum.audit.terms.match import share, shares
from primum.core.records import JsonDict
from primum.core.stats import wilson

TOP = 5
"""Terms that the paper's table shows of each axis."""
LISTED = 0.00005
"""Languages of at least this share are listed (Llama 2, Table 10: 0.005%)."""
PII_TYPES = (
    "email", "phone", "ip", "credit_card", "iban", "us_ssn", "api_key", "token", "private_key", "mac", "crypto",
)  # fmt: skip


def rows(counts: Counts, name: str) -> Counter[str]:
    """Return a table of the counts, empty where no document reached it."""
    return counts.get(name, Counter())


def pii(counts: Counts) -> JsonDict:
    """Return items and documents of each type, never a value; types of which there is none are listed with 0."""
    items, documents = rows(counts, "pii_items"), rows(counts, "pii_documents")
    total, size = rows(counts, "corpus")["documents"], rows(counts, "corpus")["characters"]
    kinds = [*PII_TYPES, *(kind for kind in NATIONAL if kind != "us_ssn" and items[kind])]
    national = sum(items[kind] for kind in NATIONAL)
    return {
        "items": sum(items.values()),
        "documents": documents["any"],
        "share_of_documents": documents["any"] / total if total else None,
        "items_per_million_characters": density(sum(items.values()), size),
        "national_ids": national,
        "types": {
            kind: {
                "items": items[kind],
                "documents": documents[kind],
                "items_per_million_characters": density(items[kind], size),
            }
            for kind in kinds
        },
    }


def density(items: int, characters: int) -> float | None:
    """Return items per million characters."""
    return round(1e6 * items / characters, 3) if characters else None


def sources(counts: Counts, ledger: Mapping[str, Entry] | None, exclude_share: float) -> list[JsonDict]:
    """Return one row a source, the largest first: volume, personal information, review, and whether to exclude it.

    The rule: a source is proposed for exclusion where at least `exclude_share` of its documents hold personal
    information, at the lower end of the 95% Wilson interval; so one bad document of a small source proposes nothing.
    """
    found: list[JsonDict] = []
    sizes, kinds = rows(counts, "source_characters"), rows(counts, "source_pii_types")
    by_source: dict[str, dict[str, int]] = {}
    for key, number in kinds.items():
        source, _, kind = key.partition("\t")
        by_source.setdefault(source, {})[kind] = number
    for source, documents in sorted(rows(counts, "source_documents").items(), key=lambda one: (-one[1], one[0])):
        hit = min(rows(counts, "source_pii_documents")[source], documents)
        row: JsonDict = {
            "source": source, "documents": documents, "characters": sizes[source],
            "pii_items": rows(counts, "source_pii_items")[source], "pii_documents": hit,
            "pii_share": hit / documents,
            "pii_per_million_characters": density(rows(counts, "source_pii_items")[source], sizes[source]),
            "pii_types": dict(sorted(by_source.get(source, {}).items())),
            "propose_exclusion": wilson(hit, documents).low >= exclude_share,
        }  # fmt: skip
        found.append(row | reviewed(source, ledger))
    return found


def reviewed(source: str, ledger: Mapping[str, Entry] | None) -> JsonDict:
    """Return what the ledger says of a source: its entry, its status, and what the review lacks."""
    if ledger is None:
        return {"status": "not asked"}
    entry = ledger.get(source)
    if entry is None:
        return {"status": "unreviewed", "missing": ["no entry in the ledger"]}
    status = "unreviewed" if entry.missing else "excluded" if entry.decision == "exclude" else "included"
    facts = {"licence": entry.licence, "reviewer": entry.reviewer, "decision": entry.decision or None}
    return {"status": status, **facts, "missing": list(entry.missing), "notes": dict(entry.notes)}


def pronouns_and_terms(counts: Counts, lexicon: Lexicon, scoped: bool) -> tuple[JsonDict, JsonDict]:
    """Return the pronoun and the identity tables over the lexicon's language, and the same over all documents.

    Args:
        counts: of the corpus.
        lexicon: whose words were counted.
        scoped: whether languages were identified; otherwise all documents are in scope.
    """
    language = lexicon.language if scoped else None
    pronouns = _pronouns(counts, "scoped_") | {"language": language}
    shared = {term: list(axes) for term, axes in lexicon.shared.items()}
    terms = _terms(counts, lexicon, "scoped_") | {"language": language, "list": lexicon.name, "on_several_axes": shared}
    if scoped:
        both = ("scoped_", "other_")
        pronouns["all_languages"], terms["all_languages"] = _pronouns(counts, *both), _terms(counts, lexicon, *both)
    return pronouns, terms


def _scopes(counts: Counts, name: str, scopes: Sequence[str]) -> Counter[str]:
    return sum((rows(counts, scope + name) for scope in scopes), Counter[str]())


def _pronouns(counts: Counts, *scopes: str) -> JsonDict:
    return shares(_scopes(counts, "pronouns", scopes), _scopes(counts, "scope", scopes)["documents"])


def _terms(counts: Counts, lexicon: Lexicon, *scopes: str) -> JsonDict:
    documents, all_axes = _scopes(counts, "scope", scopes)["documents"], _scopes(counts, "axes", scopes)
    all_terms = _scopes(counts, "terms", scopes)
    axes: JsonDict = {}
    for axis in lexicon.axes:
        mentioned = all_axes[axis]
        found = {term: number for row, number in all_terms.items()
                 for at, _, term in [row.partition("\t")] if at == axis}  # fmt: skip
        ordered = sorted(found.items(), key=lambda one: (-one[1], one[0].lower()))
        listed = {term: share(number, mentioned, f"documents that mention {axis}") for term, number in ordered}
        top = [term for term, _ in ordered if term.lower() not in lexicon.hidden][:TOP]
        axes[axis] = share(mentioned, documents, "all documents") | {"top": top, "terms": listed}
    return {"documents": documents, "hidden_from_top": sorted(lexicon.hidden), "axes": axes}


def languages(counts: Counts) -> JsonDict:
    """Return the share of every language with at least LISTED of the documents; the rest is added up."""
    found = rows(counts, "language")
    total = sum(found.values())
    listed = {
        code: {"documents": number, "share": number / total}
        for code, number in sorted(found.items(), key=lambda one: (-one[1], one[0]))
        if number / total >= LISTED
    }
    rest = total - sum(row["documents"] for row in listed.values())
    return {"documents": total, "unknown": found[UNKNOWN], "languages": listed, "not_listed": rest}


def ledger_findings(source_rows: Sequence[Mapping[str, Any]], entries: Mapping[str, Entry] | None) -> JsonDict:
    """Return whether the ledger passes: every source of the corpus reviewed, and none that was excluded."""
    if entries is None:
        return {"given": False, "passed": None, "unreviewed": [], "excluded_but_present": [], "not_in_corpus": []}
    present = {row["source"] for row in source_rows}
    unreviewed = [row["source"] for row in source_rows if row["status"] == "unreviewed"]
    excluded = [row["source"] for row in source_rows if row["status"] == "excluded"]
    return {
        "given": True,
        "passed": not unreviewed and not excluded,
        "unreviewed": unreviewed,
        "excluded_but_present": excluded,
        "not_in_corpus": sorted(set(entries) - present),
    }
