"""Plots as inline SVG: strips with before and after, lines over training steps, values with whiskers over amounts.

Positions are per cent of the width, so that text and dots keep their size on a phone. Pure: numbers to Markup; every
text that enters is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from primum.report.words import clean, finite, interval, number

Row = Mapping[str, Any]
MOST_POINTS = 400
SMOOTH = 0.75  # weight of the past in the running mean of a curve


class Scale(NamedTuple):
    """The numbers at the left and right end of a strip."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Return the position of a value in per cent, kept inside the strip."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(100 * min(max(share, 0.0), 1.0), 2)


def scale(rows: Iterable[Row | None], unit: str) -> Scale:
    """Return one scale for all rows: shares start at 0 and end at 20% or 100%, others have their range and air.

    The air is at least a hundredth of the largest number, so that a rounding error does not look like a change.
    """
    ends = [end for row in rows if row for key in ("value", "low", "high") if (end := finite(row.get(key))) is not None]
    if unit == "share":
        below = math.floor(min([0.0, *ends]) * 4) / 4
        return Scale(below, 0.2 if ends and below == 0 and max(ends) <= 0.2 else 1.0)
    if not ends:
        return Scale(0.0, 1.0)
    if unit == "z":
        ends.append(0.0)
    air = max(0.12 * (max(ends) - min(ends)), 0.01 * max(map(abs, ends))) or 0.1
    return Scale(min(ends) - (air if min(ends) else 0.0), max(ends) + air)


def strip(before: Row | None, after: Row | None, bounds: Scale, unit: str, title: str) -> Markup:
    """Return a dumbbell: before hollow, after filled, each with its 95% whisker, on a common scale."""
    marks = [Markup('<line class="axis" x1="0" x2="100%" y1="21" y2="21"/>')]
    marks += [Markup('<line class="grid" x1="{0}%" x2="{0}%" y1="0" y2="42"/>').format(p) for p in (0, 25, 50, 75, 100)]
    points = [finite(row.get("value")) if row else None for row in (before, after)]
    if points[0] is not None and points[1] is not None:
        ends = (bounds.at(points[0]), bounds.at(points[1]))
        marks.append(Markup('<line class="bar" x1="{}%" x2="{}%" y1="21" y2="21"/>').format(*ends))
    marks += [_mark(row, when, bounds, unit) for when, row in (("before", before), ("after", after)) if row]
    label = f"{title}: {_said(before, unit)} before, {_said(after, unit)} after"
    return _svg("strip", clean(label), Markup("").join(marks), Markup('height="42"'))


def _said(row: Row | None, unit: str) -> str:
    if row is None:
        return "not measured"
    span = interval(row.get("low"), row.get("high"), unit)
    return number(row.get("value"), unit) + (f" (95% interval {span})" if span else "")


def _mark(row: Row, when: str, bounds: Scale, unit: str) -> Markup:
    value, low, high = (finite(row.get(key)) for key in ("value", "low", "high"))
    if value is None:
        return Markup("")
    y = 14 if when == "before" else 28  # apart, so that neither whisker hides the other
    parts = [Markup("<title>{}: {}</title>").format(when, _said(row, unit))]
    if low is not None and high is not None:
        left, right = bounds.at(low), bounds.at(high)
        parts.append(Markup('<line x1="{0}%" x2="{1}%" y1="{2}" y2="{2}"/>').format(left, right, y))
        caps = Markup('<line x1="{0}%" x2="{0}%" y1="{1}" y2="{2}"/>')
        parts += [caps.format(end, y - 4, y + 4) for end in (left, right)]
    parts.append(Markup('<circle cx="{}%" cy="{}" r="5.5"/>').format(bounds.at(value), y))
    return Markup('<g class="{}">{}</g>').format(when, Markup("").join(parts))


def _svg(kind: str, label: str, inside: Markup, extra: Markup) -> Markup:
    return Markup('<svg class="{}" role="img" aria-label="{}" width="100%" {}>{}</svg>').format(
        kind, label, extra, inside
    )


class Chart(NamedTuple):
    """One small chart: its title, its picture, the ends of its axes, and a legend of (class, name, last value).

    Where places are evenly spaced and each has its own number under it, these are `ticks`, and `over` is what they say.
    """

    title: str
    svg: Markup
    top: str
    bottom: str
    first: str
    last: str
    legend: list[tuple[str, str, str]]
    ticks: tuple[str, ...] = ()
    over: str = ""


def chart(
    title: str,
    rows: Sequence[Row],
    series: Mapping[str, str],
    alarms: Sequence[Row] = (),
    over: str = "training steps",
    up: Scale | None = None,
) -> Chart | None:
    """Return lines over training steps, or None where nothing was logged.

    Args:
        title: what is drawn.
        rows: one mapping a step, with "step" and the series' keys.
        series: key in the rows to its name in the legend (at most three; the third is dashed).
        alarms: rows with "step" and "text", drawn as upright lines.
        over: what "step" is.
        up: the numbers at bottom and top; without it those of the data, and air.
    """
    lines = {key: _points(rows, key) for key in series}
    values = [y for points in lines.values() for _, y in points]
    if not values:
        return None
    steps = [x for points in lines.values() for x, _ in points]
    across = Scale(min(steps), max(steps))
    up = up or _padded(min(values), max(values), 1.0 if "accuracy" in series else math.inf)
    marks = [Markup('<line class="grid" x1="0" x2="100" y1="{0}" y2="{0}"/>').format(y) for y in (0, 25, 50, 75, 100)]
    marks += [_alarm(row, across) for row in alarms]
    legend: list[tuple[str, str, str]] = []
    for index, (key, points) in enumerate(lines.items()):
        marks += _lines(points, across, up, f"series{index + 1}")
        legend.append((f"series{index + 1}", series[key], f"{points[-1][1]:.3g}".replace("-", "−") if points else "–"))
    said = "; ".join(f"{name} ends at {value}" for _, name, value in legend)
    frame = Markup('height="150" viewBox="0 0 100 100" preserveAspectRatio="none"')
    svg = _svg("chart", f"{title} over {over}: {said}", Markup("").join(marks), frame)
    top, bottom = (f"{end:.3g}".replace("-", "−") for end in (up.high, up.low))
    return Chart(title, svg, top, bottom, f"{across.low:.4g}", f"{across.high:.4g}", legend)


def spaced(
    title: str, rows: Sequence[Row], series: Mapping[str, str], over: str, bounds: Scale, unit: str = "share"
) -> Chart | None:
    """Return values with their 95% whiskers, each place as far from the next, or None where nothing was measured.

    Amounts like 0, 1, 10 and 100% would lie on one another on a scale of their own.

    Args:
        title: what is drawn.
        rows: one mapping a place, with "at" (what stands under it) and a measurement by key.
        series: key in the rows to its name in the legend (at most two).
        over: what "at" is.
        bounds: the numbers at bottom and top.
        unit: of the values.
    """
    marks = [
        Markup('<line class="grid" x1="0" x2="100%" y1="{0}%" y2="{0}%"/>').format(y) for y in (0, 25, 50, 75, 100)
    ]
    legend: list[tuple[str, str, str]] = []
    for index, (key, name) in enumerate(series.items()):
        known = _known(rows, key)
        if known:
            aside = 1.0 * (2 * index + 1 - len(series))  # so that neither whisker hides the other
            placed = [(round(100 * (i + 0.5) / len(rows) + aside, 2), cell) for i, cell in known]
            marks.append(_whiskered(placed, bounds, unit, f"series{index + 1}"))
            legend.append((f"series{index + 1}", name, number(known[-1][1]["value"], unit)))
    if not legend:
        return None
    ticks = tuple(clean(row["at"]) for row in rows)
    said = "; ".join(f"{series[key]} " + ", ".join(_said(row.get(key), unit) for row in rows) for key in series)
    label = clean(f"{title} over {over} {', '.join(ticks)}: {said}")
    svg = _svg("chart dots", label, Markup("").join(marks), Markup('height="150"'))
    return Chart(
        title, svg, number(bounds.high, unit), number(bounds.low, unit), ticks[0], ticks[-1], legend, ticks, over
    )


def _known(rows: Sequence[Row], key: str) -> list[tuple[int, Row]]:
    """Return what was measured at each place, and the place."""
    cells: list[tuple[int, Row]] = [(place, row.get(key) or {}) for place, row in enumerate(rows)]
    return [(place, cell) for place, cell in cells if finite(cell.get("value")) is not None]


def _whiskered(placed: Sequence[tuple[float, Row]], bounds: Scale, unit: str, style: str) -> Markup:
    at = [(x, round(100 - bounds.at(cell["value"]), 2)) for x, cell in placed]
    line = Markup('<line{} x1="{}%" y1="{}%" x2="{}%" y2="{}%"/>')
    parts = [line.format("", *left, *right) for left, right in pairwise(at)]
    for (x, y), (_, cell) in zip(at, placed, strict=True):
        low, high = finite(cell.get("low")), finite(cell.get("high"))
        if low is not None and high is not None:
            ends = (round(100 - bounds.at(end), 2) for end in (low, high))
            parts.append(line.format(Markup(' class="whisker"'), x, next(ends), x, next(ends)))
        dot = Markup('<circle cx="{}%" cy="{}%" r="4"><title>{}</title></circle>')
        parts.append(dot.format(x, y, _said(cell, unit)))
    return Markup('<g class="{}">{}</g>').format(style, Markup("").join(parts))


def _points(rows: Sequence[Row], key: str) -> list[tuple[float, float]]:
    pairs = [(finite(row.get("step", index)), finite(row.get(key))) for index, row in enumerate(rows)]
    points = [(x, y) for x, y in pairs if x is not None and y is not None]
    stride = -(-len(points) // MOST_POINTS) or 1
    return points[::stride] if stride == 1 else [*points[:-1:stride], points[-1]]


def _padded(low: float, high: float, most: float) -> Scale:
    air = 0.06 * (high - low) or abs(high) * 0.1 or 0.1
    return Scale(max(low - air, 0.0) if low >= 0 else low - air, min(high + air, most))


def _lines(points: Sequence[tuple[float, float]], across: Scale, up: Scale, name: str) -> list[Markup]:
    smooth, mean = [], points[0][1] if points else 0.0
    for x, y in points:
        mean = SMOOTH * mean + (1 - SMOOTH) * y
        smooth.append((x, mean))
    long = len(points) > 20  # a running mean of a few points would only mislead
    lines = [(points, f"{name} raw"), (smooth, name)] if long else [(points, name)]
    return [_line(line, across, up, style) for line, style in lines]


def _line(points: Sequence[tuple[float, float]], across: Scale, up: Scale, style: str) -> Markup:
    path = " ".join(f"{across.at(x)},{round(100 - up.at(y), 2)}" for x, y in points)
    return Markup('<polyline class="{}" points="{}"/>').format(style, path)


def _alarm(row: Row, across: Scale) -> Markup:
    step = finite(row.get("step"))
    if step is None:
        return Markup("")
    text = escape(clean(row.get("text", "")))
    return Markup('<line class="alarm" x1="{0}" x2="{0}" y1="0" y2="100"><title>{1}</title></line>').format(
        across.at(step), text
    )
