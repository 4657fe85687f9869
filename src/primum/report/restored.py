"""A restore: what it ends with on the terminal, and its page with the trade-off of every candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup

from primum.report import plots, words
from primum.report.plain import document_page
from primum.report.words import Facts

Row = Mapping[str, Any]
SHOWN = ("harmful_compliance", "refusal_harmful", "refusal_twin", "refusal_general", "incoherent", "nll_domain",
         "accuracy_domain")  # fmt: skip
NAMES = {"accuracy_domain": "Domain accuracy"}
ENDS = ("tuned", "parent")


def closing(facts: Facts, folder: Path) -> str:
    """Return what a restore ends with, in plain text."""
    lines = [f"{'candidate':<22}{'harmful':>9}{'refused':>9}{'incoh.':>8}{'domain':>9}"]
    for row in facts.get("points") or []:
        mark = "  <- taken" if row["name"] == facts["chosen"] else ""
        lines.append(f"{words.clean(row['name'])[:21]:<22}{_p(row['harmful']):>9}{_p(row['refusal']):>9}"
                     f"{_p(row['incoherent']):>8}{_skill(row):>9}{mark}")  # fmt: skip
    if len(lines) == 1:
        lines = ["written without measuring: nothing is known of what it answers"]
    elif facts["chosen"] == "tuned":
        lines += ["", "no candidate is safer within what it may cost: nothing was written"]
    for row in facts.get("comparisons") or []:
        if row["metric"] in ("harmful_compliance", "refusal_twin") and row["n"]:
            span = words.interval(row["low"], row["high"])
            lines += ["", f"{_name(row['metric'])}, test: {words.number(row['before'])} -> {words.number(row['after'])}"
                      f" ({words.change(row['difference'])} points, 95% {span}, n {row['n']})"]  # fmt: skip
    if facts.get("checkpoint"):  # also what training made, which no method wrote
        lines += ["", "checkpoint:", words.clean(folder / "checkpoint")]
    if facts.get("undo"):
        lines += ["", "undo:", f"primum restore undo {words.clean(folder)} --out FOLDER"]
    return "\n".join([*lines, "", "report:", words.clean(folder / "report.html")])


def _p(value: Any) -> str:
    return words.percent(value)


def _skill(row: Row) -> str:
    if row.get("domain_accuracy") is not None:
        return words.percent(row["domain_accuracy"])
    return words.number(row.get("domain_nll"), "nats")


def _name(metric: str) -> str:
    return NAMES.get(metric) or words.metric(metric).label


def page(facts: Facts) -> str:
    """Return the report as one self-contained page; what a user's file or a model wrote is escaped."""
    points = facts.get("points") or []
    view = {
        **facts, "curve": curve(points, facts.get("chosen")), "bands": _bands(facts.get("test") or {}),
        "rows": [{**row, "skill": _skill(row)} for row in points],
        "changes": [{**row, "label": _name(row["metric"])} for row in facts.get("comparisons") or [] if row["n"]],
        "settings_rows": [(key, words.clip("–" if value in (None, "", [], ()) else value, 300))
                          for key, value in (facts.get("settings") or {}).items()],
    }  # fmt: skip
    return document_page("restored.html", str(facts.get("title") or "Restore"), view)


def curve(points: Sequence[Row], chosen: Any) -> Markup | None:
    """Return the trade-off as a picture: across, harmful compliance; upwards, benign refusal; lower left is better."""
    if not points:
        return None
    across = plots.Scale(0.0, max([0.05, *(row["harmful"] for row in points)]) * 1.08)
    up = plots.Scale(0.0, max([0.05, *(row["refusal"] for row in points)]) * 1.08)
    marks = [
        Markup('<line class="grid" x1="0" x2="100%" y1="{0}%" y2="{0}%"/>').format(y) for y in (0, 25, 50, 75, 100)
    ]
    marks += [_dot(row, across, up, chosen) for row in points]
    said = "; ".join(f"{row['name']}: {_p(row['harmful'])} harmful, {_p(row['refusal'])} refused" for row in points)
    head = Markup('<svg class="strip" role="img" aria-label="{}" width="100%" height="260">').format(words.clean(said))
    return Markup("{}{}</svg>").format(head, Markup("").join(marks))


def _dot(row: Row, across: plots.Scale, up: plots.Scale, chosen: Any) -> Markup:
    kind = "after" if row["name"] == chosen else "before"
    x, y = 2 + 0.9 * across.at(row["harmful"]), 96 - 0.9 * up.at(row["refusal"])
    size = 8 if row["name"] == chosen else 5.5
    title = f"{row['name']}: {_p(row['harmful'])} harmful, {_p(row['refusal'])} refused, domain {_skill(row)}"
    return Markup(
        '<g class="{}"><title>{}</title><circle cx="{}%" cy="{}%" r="{}"/>'
        '<text x="{}%" y="{}%" dx="8" dy="4" font-size="11" fill="currentColor">{}</text></g>'
    ).format(kind, words.clean(title), x, y, size, x, y, words.clean(row["name"]))


class Band(NamedTuple):
    """One metric on test prompts: before, after, and the parent beside them."""

    label: str
    svg: Markup
    before: Row | None
    after: Row | None
    parent: Row | None
    unit: str


def _bands(test: Mapping[str, Sequence[Row]]) -> list[Band]:
    found: list[Band] = []
    for metric in SHOWN:
        sides = [_of(test.get(name) or [], metric) for name in ("tuned", "restored", "parent")]
        known = [side for side in sides if side and side["value"] is not None]
        if not known:
            continue
        unit = known[0]["unit"]
        bounds = plots.scale(known, unit)
        svg = plots.strip(sides[0], sides[1] or sides[0], bounds, unit, _name(metric))
        found.append(Band(_name(metric), svg, sides[0], sides[1], sides[2], unit))
    return found


def _of(rows: Sequence[Row], metric: str) -> Row | None:
    return next((row for row in rows if row["metric"] == metric and row["slice"] == "all"), None)
