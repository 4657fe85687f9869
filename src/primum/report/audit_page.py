"""An audit's findings to one HTML page that opens with no network and runs no script.

Sources, ids and terms come from the corpus: they are escaped, cut, and cleaned of control characters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from primum.report import words
from primum.report.audit_words import kind_name, names_masked

Facts = Mapping[str, Any]
MOST_SOURCES, MOST_GROUPS, LONGEST = 200, 80, 160


class Tile(NamedTuple):
    """One number at the top."""

    label: str
    value: str
    about: str


def audit_page(facts: Facts) -> str:
    """Return the report as one self-contained HTML document; the facts are what `primum audit` writes to audit.json."""
    style = resources.files("primum.report").joinpath("templates/page.css").read_text(encoding="utf-8")
    optional = ("pii", "names", "pronouns", "identity", "language", "toxicity", "duplicates", "contamination", "risk")
    view = {
        "facts": dict.fromkeys(optional) | dict(facts) | _notes(facts),
        "style": Markup(style),
        "name": _name(facts),
        "size": _size(facts["bytes"]),
        "tiles": list(_tiles(facts)),
        "sources": [
            {"licence": "", "reviewer": "", "missing": [], "notes": {}} | row for row in facts["sources"][:MOST_SOURCES]
        ],
        "named": (facts.get("names") or {"sources": []})["sources"][:MOST_SOURCES],
        "histogram": _heights((facts.get("toxicity") or {}).get("histogram") or []),
        "erased": _erased(facts),
    }
    return _template().render(view)


def _notes(facts: Facts) -> dict[str, Any]:
    noted: dict[str, Any] = {}
    if facts.get("names"):
        noted["names"] = {"note": names_masked(facts["names"])} | dict(facts["names"])
    if facts.get("contamination"):
        noted["contamination"] = {"note": ""} | dict(facts["contamination"])
    if facts.get("risk"):
        noted["risk"] = {"dropped": None, "kept": None, "first": []} | dict(facts["risk"])
    return noted


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("primum.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else words.clean("" if value is None else value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": words.percent, "words": words.words, "figure": words.figure, "kind": kind_name}
    environment.filters |= {"cut": lambda value: words.clip("" if value is None else value, LONGEST), "width": width}
    return environment.get_template("audit.html")


def width(share: Any) -> str:
    """Return a share as the width of a bar in per cent."""
    return f"{100 * min(max(words.finite(share) or 0.0, 0.0), 1.0):.2f}"


def _name(facts: Facts) -> str:
    first = Path(str(facts["corpus"][0])).name if facts["corpus"] else "the corpus"
    more = len(facts["corpus"]) - 1
    return words.clip(first, LONGEST) + (f" and {more:,} more" if more > 0 else "")


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def _tiles(facts: Facts) -> Sequence[Tile]:
    tiles = [Tile("Documents", f"{facts['documents']:,}", f"{facts['skipped']['total']:,} records could not be read")]
    if facts.get("pii"):
        about = f"{facts['pii']['items']:,} items"
        tiles.append(
            Tile("Documents with personal information", words.percent(facts["pii"]["share_of_documents"]), about)
        )
    if facts.get("names"):
        about = f"of {facts['names']['documents']:,} read"
        tiles.append(Tile("Documents with names of people", words.percent(facts["names"]["share"]), about))
    if facts.get("toxicity"):
        tiles.append(Tile("Toxic documents", words.percent(facts["toxicity"]["share"], 2), "at 0.5 or more"))
    if facts.get("duplicates"):
        tiles.append(Tile("Near-duplicates", words.percent(facts["duplicates"]["share"]), "of documents"))
    if facts.get("risk"):
        tiles.append(Tile("Risky rows", f"{facts['risk']['flagged']:,}", "flagged by a rule or the model"))
    if facts["ledger"]["given"]:
        tiles.append(Tile("Unreviewed sources", f"{len(facts['ledger']['unreviewed']):,}", "by the ledger"))
    return tiles


def _heights(histogram: Sequence[int]) -> list[str]:
    most = max(histogram, default=0) or 1
    return [f"{100 * math.sqrt(number / most):.1f}" for number in histogram]


def _erased(facts: Facts) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the groups of the table, axes and pronouns first, then terms by their ratio."""
    toxicity = facts.get("toxicity")
    if not toxicity:
        return []
    groups = toxicity["erasure"][str(toxicity["threshold"])]["groups"]
    ordered = sorted(groups.items(), key=lambda one: ("/" in one[0], -(one[1]["ratio"] or 0), one[0]))
    return ordered[:MOST_GROUPS]
