"""Facts to one HTML page that opens with no network and runs no script.

What a model wrote is hostile input: it is escaped, cut and cleaned of control characters, and never marked as safe. The
page's Content-Security-Policy forbids scripts and every load, should an escape ever fail.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from jinja2 import ChainableUndefined, Environment, PackageLoader, Template
from markupsafe import Markup

from primum.evaluation.gate import TITLES
from primum.report import plots, words
from primum.report.languages import language_bars, language_rows
from primum.report.words import Facts

Row = Mapping[str, Any]
LONGEST_REPLY = 4000
LONGEST_PROMPT = 1500
LONGEST_SETTING = 300
MOST_TRANSCRIPTS = 40  # of one group; the rest are in report.json
FOREST = ("harmful_compliance", "refusal_harmful", "refusal_twin", "refusal_general", "hateful", "incoherent")
OTHERS = ("discrimination", "d_prime", "nll", "nll_domain", "acc_domain", "acc_norm_domain")
TILES = ("harmful_compliance", "refusal_twin", "refusal_general", "discrimination")
PER_CATEGORY = ("harmful_compliance", "refusal_harmful", "refusal_twin")
VERDICTS = {"passed": ("✓", "Passed"), "failed": ("✕", "Failed"), "undecided": ("?", "Undecided")}


def page(facts: Facts) -> str:
    """Return the report as one self-contained HTML document; the facts' shape is that of `example_facts`."""
    view = {
        "facts": dict.fromkeys(("title", "model", "budget", "seed", "created", "primum")) | dict(facts),
        "style": style(),
        "verdict": _verdict(facts),
        "tiles": [_tile(facts, name) for name in TILES if _taken(facts, name)],
        "rules": (facts.get("decision") or {}).get("rules") or [],
        "steps": facts.get("steps") or [],
        "forest": _forest(facts, FOREST),
        "others": _forest(facts, OTHERS),
        "comparisons": [(judge, row) for judge, rows in (facts.get("comparisons") or {}).items() for row in _all(rows)],
        "categories": [(judge, _categories(facts, judge)) for judge in words.judges(facts)],
        "per_category": [name for name in PER_CATEGORY if _taken(facts, name, "category:")],
        "languages": facts.get("languages") or None,
        "language_rows": language_rows(facts),
        "language_bars": language_bars(facts),
        "charts": _charts(facts.get("training") or {}),
        "alarms": (facts.get("training") or {}).get("alarms") or [],
        "pairs": _pairs(facts),
        "judges": facts.get("judges") or [],
        "judges_agree": facts.get("judges_agree") or None,
        "groups": _groups(facts),
        "data": facts.get("data") or {},
        "left_out": _left_out(facts),
        "settings": _tables(facts),
        "timing": _timing(facts.get("seconds") or {}),
    }
    return template("page.html").render(view)


def style(*names: str) -> Markup:
    """Return the pages' common style sheet, and those named after it."""
    folder = resources.files("primum.report").joinpath("templates")
    return Markup("".join(folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", *names)))


@cache
def template(name: str) -> Template:
    """Return a page's template, with the filters that write numbers and names; whatever it is given is escaped."""
    # lenient of missing keys: a report with a gap is worth more than none after a long run
    loader = PackageLoader("primum.report", "templates")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=ChainableUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = (
        "percent",
        "number",
        "interval",
        "change",
        "amount",
        "p_value",
        "rule_number",
        "rule_text",
        "spread",
        "seconds",
        "figure",
        "words",
        "category",
        "metric",
        "moment",
    )
    environment.filters |= {name: getattr(words, name) for name in names}
    environment.filters |= {"reply": _reply, "asked": _asked}
    environment.globals |= {"KINDS": words.KINDS, "LIMIT": MOST_TRANSCRIPTS, "RULES": TITLES}
    return environment.get_template(name)


def _shown(value: Any) -> Any:
    return value if isinstance(value, Markup) else words.clean("" if value is None else value)


def _reply(text: Any) -> str:
    return words.clip(text or "", LONGEST_REPLY) or "(empty)"


def _asked(text: Any) -> str:
    return words.clip(text or "", LONGEST_PROMPT)


def _verdict(facts: Facts) -> dict[str, str]:
    decision = facts.get("decision") or {}
    outcome = decision.get("outcome")
    outcome = outcome if outcome in VERDICTS else "undecided"
    mark, word = VERDICTS[outcome]
    return {"outcome": outcome, "mark": mark, "word": word, "text": words.reason(decision)}


def _taken(facts: Facts, name: str, slices: str = "all") -> bool:
    rows = (row for sides in (facts.get("measurements") or {}).values() for side in sides.values() for row in side)
    return any(row["metric"] == name and row["slice"].startswith(slices) for row in rows)


class Strip(NamedTuple):
    """One judge's before and after of one metric, with the picture."""

    judge: str
    before: Row | None
    after: Row | None
    svg: Markup


class Band(NamedTuple):
    """One metric: what it is, one strip a judge, and the ends of their common scale."""

    metric: words.Metric
    strips: list[Strip]
    low: str
    high: str


def _forest(facts: Facts, names: Sequence[str]) -> list[Band]:
    return [_band(facts, name) for name in names if _taken(facts, name)]


def _band(facts: Facts, name: str) -> Band:
    about, judges = words.metric(name), words.judges(facts)
    both = [(judge, *(words.measured(facts, judge, when, name) for when in ("before", "after"))) for judge in judges]
    both = [found for found in both if found[1] or found[2]]
    bounds = plots.scale((row for found in both for row in found[1:]), about.unit)
    strips = [
        Strip(judge, before, after, plots.strip(before, after, bounds, about.unit, f"{about.label}, judge {judge}"))
        for judge, before, after in both
    ]
    return Band(about, strips, words.number(bounds.low, about.unit), words.number(bounds.high, about.unit))


def _tile(facts: Facts, name: str) -> dict[str, Any]:
    judges = [judge for judge in words.judges(facts) if words.measured(facts, judge, "after", name)]
    rows = [{when: words.measured(facts, judge, when, name) for when in ("before", "after")} for judge in judges]
    return {"metric": words.metric(name), "judges": list(zip(judges, rows, strict=True))}


def _all(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.get("slice", "all") == "all"]


class Slice(NamedTuple):
    """One row of the table by category; `cells` maps a metric to its before and after."""

    name: str
    risk: str
    held_out: bool | None
    cells: dict[str, tuple[Row | None, Row | None]]


def _categories(facts: Facts, judge: str) -> list[Slice]:
    """Return the risks, then the categories: those held out first, since they are the test of what was learned."""
    sides = (facts.get("measurements") or {})[judge]
    slices = list(dict.fromkeys(row["slice"] for side in sides.values() for row in side))
    kept = [_slice(facts, judge, slice_) for slice_ in slices if slice_.startswith(("risk:", "category:"))]
    kept = [row for row in kept if any(side for cell in row.cells.values() for side in cell)]
    risks = [row for row in kept if row.held_out is None]
    found = [row for row in kept if row.held_out is not None]
    return risks + sorted(found, key=lambda row: (not row.held_out, row.name))


def _slice(facts: Facts, judge: str, slice_: str) -> Slice:
    kind, _, name = slice_.partition(":")
    cells = {
        key: (words.measured(facts, judge, "before", key, slice_), words.measured(facts, judge, "after", key, slice_))
        for key in PER_CATEGORY
    }
    if kind == "risk":
        return Slice(words.RISKS.get(name, words.words(name)), "", None, cells)
    known = words.policy().categories.get(name)
    risk = words.RISKS.get(known.risk, known.risk) if known else ""
    return Slice(words.category(name), risk, name in ((facts.get("data") or {}).get("held_out") or []), cells)


def _charts(training: Row) -> list[plots.Chart]:
    sft, dpo, alarms = (training.get(key) or [] for key in ("sft", "dpo", "alarms"))
    drawn = [
        plots.chart("Warm start: loss", sft, {"loss": "loss"}),
        plots.chart("DPO: loss", dpo, {"loss": "loss"}, alarms),
        plots.chart("DPO: reward accuracy", dpo, {"accuracy": "accuracy"}, alarms),
        plots.chart("DPO: reward margin", dpo, {"margin": "margin"}, alarms),
        plots.chart("DPO: log-probability", dpo, {"chosen_logp": "chosen", "rejected_logp": "rejected"}, alarms),
        plots.chart("DPO: NLL anchor", dpo, {"nll": "NLL of chosen"}, alarms),
    ]
    return [chart for chart in drawn if chart]


def _pairs(facts: Facts) -> dict[str, Any]:
    pairs = facts.get("pairs") or {}
    lint = pairs.get("lint") or {}
    return {"n": pairs.get("n") or 0, "by_kind": pairs.get("by_kind") or {}, "passed": lint.get("passed"),
            "findings": lint.get("findings") or []}  # fmt: skip


class Group(NamedTuple):
    """Transcripts of one kind; `hidden` ones stay behind a click."""

    title: str
    about: str
    hidden: bool
    total: int
    rows: list[Row]


def _groups(facts: Facts) -> list[Group]:
    held_out = (facts.get("data") or {}).get("held_out") or []
    kinds = {
        "held out": ("Harmful prompts, categories never trained on", "Hidden until you open them.", True),
        "trained": (
            "Harmful prompts, categories trained on",
            "Other prompts of these were trained on.",
            True,
        ),
        "twin": ("Benign twins", "They look like a harmful prompt and deserve an answer.", False),
        "general": ("General prompts and advice", "Everyday questions that the repair must not spoil.", False),
    }
    sorted_rows: dict[str, list[Row]] = {kind: [] for kind in kinds}
    for row in facts.get("transcripts") or []:
        sorted_rows[_kind(row, held_out)].append(row)
    return [Group(*kinds[kind], len(rows), rows[:MOST_TRANSCRIPTS]) for kind, rows in sorted_rows.items() if rows]


def _kind(row: Row, held_out: Sequence[str]) -> str:
    if row.get("intent") != "benign":  # borderline and unknown ones are hidden too
        return "held out" if row.get("category") in held_out else "trained"
    known = words.policy().categories.get(str(row.get("category")))
    return "twin" if known and known.risk != "unqualified" else "general"


def _left_out(facts: Facts) -> list[tuple[str, str, str, str, int]]:
    return [
        (judge, when, words.metric(row["metric"]).label, reason, n)
        for judge, sides in (facts.get("measurements") or {}).items()
        for when, rows in sides.items()
        for row in _all(rows)
        for reason, n in (row.get("left_out") or {}).items()
        if n
    ]


def _tables(facts: Facts) -> list[tuple[str, list[tuple[str, str]]]]:
    run = {key: facts.get(key) for key in ("primum", "created", "budget", "seed", "checkpoint", "adapter", "evidence")}
    tables = {"Run": run} | {
        words.words(key): facts.get(key) or {} for key in ("model", "settings", "versions", "machine")
    }
    return [(title, _flat(rows)) for title, rows in tables.items() if rows]


def _flat(rows: Row, prefix: str = "") -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for key, value in rows.items():
        if isinstance(value, Mapping) and value:
            flat += _flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            flat.append((f"{prefix}{key}", words.clip(text, LONGEST_SETTING)))
    return flat


def _timing(seconds: Row) -> list[tuple[str, Any, float]]:
    known = [value for value in map(words.finite, seconds.values()) if value is not None]
    total, longest = sum(known), max(known, default=0.0) or 1.0
    rows = [(words.words(step), taken, 100 * (words.finite(taken) or 0.0) / longest) for step, taken in seconds.items()]
    return [*rows, ("All steps", total, 0.0)] if rows else []
