"""Counts to how many names of people there are, by source, with intervals for what was not read. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from primum.core.records import JsonDict
from primum.core.stats import Interval, Sums, ratio_of_sums, wilson

FIELDS = ("documents", "characters", "items", "with", "xx", "xy", "yy")
LEAST = 5
"""Documents with a name that the interval of a density needs: fewer tell nothing of its spread."""
Tables = Mapping[str, Mapping[str, int]]


def summarise(tables: Tables, documents: Mapping[str, int], other_language: int) -> JsonDict:
    """Return names and documents with a name in the sample, of the corpus and of each source.

    The share of documents has its 95% Wilson interval. Names per million characters are a ratio of two sums over
    documents, with the t interval of `ratio_of_sums`, so that many names in few documents make it wide.

    Args:
        tables: field -> source -> number; the fields are FIELDS.
        documents: source -> documents in the corpus.
        other_language: documents of the sample that were not read, as the recognizer does not know their language.
    """
    total = {field: sum(tables.get(field, {}).values()) for field in FIELDS}
    found: list[JsonDict] = []
    for source, size in sorted(documents.items(), key=lambda one: (-one[1], one[0])):
        own = {field: tables.get(field, {}).get(source, 0) for field in FIELDS}
        found.append({"source": source, "of": size} | estimates(own))
    return {"of": sum(documents.values()), "other_language": other_language} | estimates(total) | {"sources": found}


def estimates(numbers: Mapping[str, int]) -> JsonDict:
    """Return the numbers of some documents that were read: what was counted, the share and the density."""
    read, items, with_names = numbers["documents"], numbers["items"], numbers["with"]
    share = wilson(with_names, read) if read else None
    density = None
    if with_names >= LEAST:
        sums = Sums(read, numbers["characters"], items, numbers["xx"], numbers["xy"], numbers["yy"])
        density = Interval(*(round(1e6 * number, 3) for number in ratio_of_sums(sums)))
    return {
        "documents": read, "characters": numbers["characters"], "items": items, "documents_with_names": with_names,
        "share": share.value if share else None, "low": share.low if share else None,
        "high": share.high if share else None,
        "items_per_million_characters": round(1e6 * items / numbers["characters"], 3) if read else None,
        "density_low": density.low if density else None, "density_high": density.high if density else None,
    }  # fmt: skip
