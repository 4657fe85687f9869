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
        "restored": bool((facts.get("test") or {}).get("restored")),
        "steps": list({step["text"]: step for step in facts.get("steps") or []}.values()),
        "rows": [{**row, "skill": _skill(row)} for row in points],
        "changes": [
            {**row, "label": _name(row["metric"]), "unit": words.metric(row["metric"]).unit}
            for row in facts.get("comparisons") or [] if row["n"]
        ],
        "settings_rows": [(key, words.clip("–" if value in (None, "", [], ()) else value, 300))
                          for key, value in (facts.get("settings") or {}).items()],
    }  # fmt: skip
    return document_page("restored.html", str(facts.get("title") or "Restore"), view)


def curve(points: Sequence[Row], chosen: Any) -> Markup | None:
    """Return the trade-off as a picture: across, harmful compliance; upwards, benign refusal; lower left is better.

    Candidates at the same place have one dot, with one label for all.
    """
    if not points:
        return None
    across = plots.Scale(0.0, max([0.05, *(row["harmful"] for row in points)]) * 1.08)
    up = plots.Scale(0.0, max([0.05, *(row["refusal"] for row in points)]) * 1.08)
    marks = [_tick(across, up, share) for share in (0, 0.25, 0.5, 0.75, 1)]
    places: dict[tuple[float, float], list[Row]] = {}
    for row in points:
        places.setdefault((_across(across, row["harmful"]), _up(up, row["refusal"])), []).append(row)
    marks += [_dot(place, rows, chosen) for place, rows in places.items()]
    said = "; ".join(f"{row['name']}: {_p(row['harmful'])} harmful, {_p(row['refusal'])} refused" for row in points)
    head = Markup('<svg class="strip" role="img" aria-label="{}" width="100%" height="300">').format(words.clean(said))
    named = Markup(
        '<g font-size="12" fill="currentColor"><text x="0" y="10">benign prompts refused</text>'
        '<text x="100%" y="296" text-anchor="end">harmful compliance</text></g>'
    )
    return Markup("{}{}{}</svg>").format(head, Markup("").join(marks), named)


def _across(scale: plots.Scale, share: float) -> float:
    return round(6 + 0.9 * scale.at(share), 1)


def _up(scale: plots.Scale, share: float) -> float:
    return round(88 - 0.8 * scale.at(share), 1)


def _tick(across: plots.Scale, up: plots.Scale, share: float) -> Markup:
    """Return one line across and its share, and one share below the picture."""
    right, upper = across.high * share, up.high * share
    return Markup(
        '<line class="grid" x1="6%" x2="100%" y1="{0}%" y2="{0}%"/><g font-size="11" fill="currentColor" opacity=".7">'
        '<text x="5%" y="{0}%" dy="4" text-anchor="end">{1}</text><text x="{2}%" y="93.5%" text-anchor="middle">{3}'
        "</text></g>"
    ).format(_up(up, upper), words.percent(upper), _across(across, right), words.percent(right))


def _dot(place: tuple[float, float], rows: Sequence[Row], chosen: Any) -> Markup:
    """Return one dot for all candidates at a place; the taken one stands first."""
    x, y = place
    rows = sorted(rows, key=lambda row: row["name"] != chosen)
    taken = rows[0]["name"] == chosen
    kind, size = ("after", 8) if taken else ("before", 5.5)
    title = "; ".join(f"{row['name']}: {_p(row['harmful'])} harmful, {_p(row['refusal'])} refused, "
                      f"domain {_skill(row)}" for row in rows)  # fmt: skip
    label = rows[0]["name"] + (f" and {len(rows) - 1} more here" if len(rows) > 1 else "")
    side = ("end", -11) if x > 70 else ("start", 11)
    return Markup(
        '<g class="{}"><title>{}</title><circle cx="{}%" cy="{}%" r="{}"/>'
        '<text x="{}%" y="{}%" text-anchor="{}" dx="{}" dy="4" font-size="11" fill="currentColor">{}</text></g>'
    ).format(kind, words.clean(title), x, y, size, x, y, *side, words.clean(label))


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
        svg = plots.strip(sides[0], sides[1], bounds, unit, _name(metric))
        found.append(Band(_name(metric), svg, sides[0], sides[1], sides[2], unit))
    return found


def _of(rows: Sequence[Row], metric: str) -> Row | None:
    return next((row for row in rows if row["metric"] == metric and row["slice"] == "all"), None)
