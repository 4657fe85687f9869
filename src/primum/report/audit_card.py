"""An audit's findings as a data card for machines: Croissant 1.0 JSON-LD, with its responsible-AI vocabulary.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html, https://docs.mlcommons.org/croissant/docs/croissant-rai-spec.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from primum.core.store import file_sha256
from primum.report.audit_words import kind_name
from primum.report.words import clip, percent, words

Facts = Mapping[str, Any]
CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
    "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format",
    "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
    "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet", "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated",
    "replace": "cr:replace", "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source",
    "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
FORMATS = {
    ".jsonl": "application/jsonlines", ".ndjson": "application/jsonlines", ".json": "application/jsonlines",
    ".parquet": "application/x-parquet", ".txt": "text/plain", ".warc": "application/warc",
}  # fmt: skip
PACKED = {
    ".gz": "application/gzip", ".zst": "application/zstd", ".bz2": "application/x-bzip2", ".xz": "application/x-xz",
}  # fmt: skip
CHATS = ("messages", "conversations", "conversation")
MOST_SETS = 100
LONGEST = 200


def croissant(facts: Facts) -> dict[str, Any]:
    """Return the card. Local files carry their SHA-256; remote ones, which would be read again for it, do not."""
    files = [_file(str(place), number) for number, place in enumerate(facts["corpus"])]
    name = Path(str(facts["corpus"][0])).name if facts["corpus"] else "corpus"
    card: dict[str, Any] = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": re.sub(r"[^\w.-]", "-", clip(name, LONGEST)),
        "description": f"{facts['documents']:,} documents from {len(facts['sources']):,} sources, audited by primum.",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "license": licences(facts),
        "distribution": files,
        "recordSet": _record_sets(files, facts.get("fields") or {}),
    }
    return card | {key: text for key, text in _responsible(facts).items() if text}


def licences(facts: Facts) -> list[str]:
    """Return the licences that the ledger names, or a plain statement that they are not known."""
    known = sorted({clip(row["licence"], LONGEST) for row in facts["sources"] if row.get("licence")})
    return known or ["not reviewed"]


def _file(place: str, number: int) -> dict[str, Any]:
    path = Path(place)
    facts: dict[str, Any] = {
        "@type": "cr:FileObject", "@id": f"file-{number}", "name": path.name,
        "contentUrl": place if "://" in place else path.name,
        "encodingFormat": _format(path),
    }  # fmt: skip
    if path.is_file():
        facts |= {"contentSize": f"{path.stat().st_size} B", "sha256": file_sha256(path)}
    return facts


def _format(path: Path) -> str:
    """Return a file's format; of a packed one that of its records, which a record set describes."""
    packed = PACKED.get(path.suffix.lower())
    inner = path.with_suffix("") if packed else path
    return FORMATS.get(inner.suffix.lower(), packed or "application/octet-stream")


def _record_sets(files: list[dict[str, Any]], fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one record set for each file that holds rows: JSON lines and Parquet, packed or not."""
    rows = [one for one in files if one["encodingFormat"] in (FORMATS[".jsonl"], FORMATS[".parquet"])]
    names = [str(fields.get("id", "id")), *fields.get("text", ["text"]), str(fields.get("source", "source"))]
    return [_records(one, number, list(dict.fromkeys(names))) for number, one in enumerate(rows[:MOST_SETS])]


def _records(file: dict[str, Any], number: int, names: list[str]) -> dict[str, Any]:
    name = "documents" if number == 0 else f"documents-{number}"

    def field(column: str) -> dict[str, Any]:
        if file["encodingFormat"] == FORMATS[".parquet"]:
            extract = {"column": column}
        else:
            extract = {"jsonPath": f"$.{column}[*].content" if column in CHATS else f"$.{column}"}
        found = {"@type": "cr:Field", "@id": f"{name}/{column}", "name": column, "dataType": "sc:Text",
                 "source": {"fileObject": {"@id": file["@id"]}, "extract": extract}}  # fmt: skip
        return found | ({"repeated": True} if column in CHATS else {})

    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": [field(column) for column in names]}


def _responsible(facts: Facts) -> dict[str, str]:
    return {
        "rai:personalSensitiveInformation": _personal(facts),
        "rai:dataBiases": _biases(facts),
        "rai:dataLimitations": _limits(facts),
    }


def _personal(facts: Facts) -> str:
    parts: list[str] = []
    if facts.get("pii"):
        pii = facts["pii"]
        found = ", ".join(f"{kind_name(kind)} {row['items']:,}" for kind, row in pii["types"].items() if row["items"])
        share = f"By patterns, {pii['items']:,} items in {percent(pii['share_of_documents'])} of documents"
        parts.append(share + (f": {found}." if found else "."))
    if facts.get("names"):
        names = facts["names"]
        share = f"Names of people in {percent(names['share'])} of {names['documents']:,} documents read"
        parts.append(f"{share} ({names['recognizer']}).")
    return " ".join(parts)


def _biases(facts: Facts) -> str:
    parts: list[str] = []
    if facts.get("pronouns"):
        table = facts["pronouns"]
        shares = ", ".join(f"{key} {percent(table[key]['share'])}" for key in ("she", "he", "unspecified"))
        parts.append(f"Of documents with a gendered pronoun: {shares}.")
    if facts.get("identity"):
        axes = facts["identity"]["axes"].items()
        shares = ", ".join(f"{words(axis).lower()} {percent(row['share'], 2)}" for axis, row in axes)
        parts.append(f"Documents that mention an identity term: {shares} ({facts['identity']['list']}).")
    return " ".join(parts)


def _limits(facts: Facts) -> str:
    parts = [f"{facts['skipped']['total']:,} records could not be read."]
    if facts.get("toxicity"):
        toxicity = facts["toxicity"]
        parts.append(f"Toxic at {toxicity['threshold']} by {toxicity['classifier']}: {percent(toxicity['share'], 2)}.")
    if facts.get("duplicates"):
        parts.append(f"Near-duplicates: {percent(facts['duplicates']['share'])}.")
    return " ".join(parts)
