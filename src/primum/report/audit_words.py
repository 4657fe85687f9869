"""What an audit ends with on the terminal. Names of sources and terms come from the corpus and are cleaned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from primum.report.words import clean, clip, percent, words

Facts = Mapping[str, Any]
MOST_ROWS = 8
LONGEST_NAME = 60


def closing_lines(facts: Facts) -> list[str]:
    """Return the findings in plain text, a section a step, the outcome last."""
    lines = [f"{facts['documents']:,} documents, {facts['bytes'] / 1e6:,.1f} MB, {len(facts['sources']):,} sources"]
    for section in SECTIONS:
        lines += section(facts)
    lines += [*_sources(facts), "", *_outcome(facts)]
    return lines


def name(value: Any) -> str:
    """Return a name from the corpus, cleaned and cut."""
    return clip(value, LONGEST_NAME)


KINDS = {
    "email": "E-mail", "phone": "Phone", "ip": "IP address", "credit_card": "Credit card", "iban": "IBAN",
    "api_key": "API key", "token": "Token", "private_key": "Private key", "mac": "MAC address",
    "crypto": "Crypto address",
}  # fmt: skip


def kind_name(kind: str) -> str:
    """Return a type of personal information in words; a national id by its country: us_ssn is 'US SSN'."""
    return KINDS.get(kind, clean(kind).replace("_", " ").upper())


def of_whom(row: Mapping[str, Any]) -> str:
    """Return a share's denominator in words."""
    rest = str(row["of"]).removeprefix("all ")
    every = "" if rest == row["of"] else "all "
    return f"of {every}{row['denominator']:,} {rest}"


def _skipped(facts: Facts) -> Iterator[str]:
    skipped = facts.get("skipped") or {}
    if skipped.get("total"):
        reasons = ", ".join(f"{words(reason).lower()} {n:,}" for reason, n in skipped["reasons"].items())
        yield f"not read: {skipped['total']:,} ({reasons}); each with its place in skipped.jsonl"
    for error, n in (facts.get("failed_steps") or {}).items():
        yield f"  a step broke on {n:,} of these, which is a fault of primum: {clean(error)}"


def _pii(facts: Facts) -> Iterator[str]:
    pii = facts.get("pii")
    if not pii:
        return
    yield ""
    yield f"personal information: {pii['items']:,} items in {percent(pii['share_of_documents'])} of documents"
    for kind, row in pii["types"].items():
        if row["items"]:
            yield f"  {kind_name(kind):<18}{row['items']:>10,} items{row['documents']:>10,} documents"


def _names(facts: Facts) -> Iterator[str]:
    table = facts.get("names")
    if not table:
        return
    yield ""
    share = f"{percent(table['share'])} ({percent(table['low'])} to {percent(table['high'])})"
    read = f"{table['documents']:,} documents read of {table['of']:,}"
    yield f"names of people: {table['items']:,} in {share} of {read} ({clean(table['recognizer'])})"
    if table["other_language"]:
        yield f"  {table['other_language']:,} more were not read: the recognizer does not know their language"
    note = names_masked(table)
    if note:
        yield f"  {note}"


def names_masked(table: Mapping[str, Any]) -> str:
    """Return what became of names in the masked documents; "" where nothing was masked or nothing is left to say."""
    if table["masked"] is None:
        return ""
    if not table["masked"]:
        return "not masked, as only a sample was read: --names-sample 1 masks them"
    return (
        f"masked, but not in the {table['other_language']:,} unread documents" if table["other_language"] else "masked"
    )


def _pronouns(facts: Facts) -> Iterator[str]:
    table = facts.get("pronouns")
    if not table or not table["documents"]:
        return
    yield ""
    scope = f" identified as '{clean(table['language'])}'" if table.get("language") else ""
    yield f"pronouns in {table['documents']:,} documents{scope}"
    for key, row in table.items():
        if isinstance(row, Mapping) and "of" in row:
            yield f"  {words(key):<18}{percent(row['share']):>8}  {of_whom(row)}"


def _identity(facts: Facts) -> Iterator[str]:
    table = facts.get("identity")
    if not table or not table["documents"]:
        return
    yield ""
    yield f"identity terms ({clean(table['list'])})"
    for axis, row in table["axes"].items():
        top = ", ".join(f"{name(term).lower()} {percent(row['terms'][term]['share'], 0)}" for term in row["top"][:3])
        yield f"  {name(words(axis)):<18}{percent(row['share']):>8}  {top}".rstrip()


def _language(facts: Facts) -> Iterator[str]:
    table = facts.get("language")
    if table and table["documents"]:
        found = list(table["languages"].items())
        shown = ", ".join(f"{clean(code)} {percent(row['share'])}" for code, row in found[:MOST_ROWS])
        more = f" and {len(found) - MOST_ROWS} more" if len(found) > MOST_ROWS else ""
        yield ""
        yield f"languages: {shown}{more}"


def _toxicity(facts: Facts) -> Iterator[str]:
    table = facts.get("toxicity")
    if table:
        yield ""
        share = percent(table["share"], 2)
        yield f"toxic at {table['threshold']}: {share} of {table['documents']:,} documents ({table['classifier']})"
        yield "  what it makes of harmless sentences:    called toxic     mean score"
        for about, row in {"no group": table["bias"]["no_group"], **table["bias"]["axes"]}.items():
            called = f"{row['called_toxic']:,} of {row['sentences']:,}"
            yield f"    about {name(words(about)).lower():<28}{called:>18}{row['mean']:>15.2f}"


def _duplicates(facts: Facts) -> Iterator[str]:
    table = facts.get("duplicates")
    if table:
        yield ""
        yield f"near-duplicates: {table['duplicates']:,} documents in {table['groups']:,} groups"


def _contamination(facts: Facts) -> Iterator[str]:
    table = facts.get("contamination")
    if not table:
        return
    yield ""
    yield "contamination" + (f": {table['note']}" if table.get("note") else "")
    for benchmark, row in table["benchmarks"].items():
        yield f"  {name(benchmark):<28}{row['dirty']:>7,} dirty{row['not_clean']:>7,} not clean of {row['samples']:,}"
        if row.get("verdict"):
            helped = "helped" if row["verdict"]["helped"] else "does not show in"
            yield f"    contamination {helped} the model's scores (Llama 2, A.6)"


def _risk(facts: Facts) -> Iterator[str]:
    table = facts.get("risk")
    if table:
        yield ""
        yield f"fine-tuning risk: {table['flagged']:,} of {table['documents']:,} rows flagged"
        for rule, number in table["rules"].items():
            yield f"  {words(rule):<28}{number:>8,}"


def _sources(facts: Facts) -> Iterator[str]:
    yield ""
    yield "sources" + ("" if facts["ledger"]["given"] else " (no ledger: none is checked)")
    for row in facts["sources"][:MOST_ROWS]:
        mark = "  propose to exclude" if row["propose_exclusion"] else ""
        status = "" if row["status"] == "not asked" else f"  {row['status']}"
        yield f"  {name(row['source']):<28}{row['documents']:>9,} documents{status}{mark}"
    if len(facts["sources"]) > MOST_ROWS:
        yield f"  and {len(facts['sources']) - MOST_ROWS:,} more"


def _outcome(facts: Facts) -> Iterator[str]:
    if facts["outcome"] == "passed" and not facts["ledger"]["given"]:
        yield "READ TO THE END: nothing was checked against a ledger (--ledger)"
        return
    yield f"{facts['outcome'].upper()}" + (": " + "; ".join(map(clean, facts["problems"])) if facts["problems"] else "")
    if facts["files"].get("page"):
        yield ""
        yield "report:"
        yield clean(facts["files"]["page"])


SECTIONS = (
    _skipped, _pii, _names, _pronouns, _identity, _language, _toxicity, _duplicates, _contamination, _risk,
)  # fmt: skip
