"""Plots of growth for the pages of benchmarks: panels side by side as SVG, sizes in powers of ten."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from typing import NamedTuple

WIDE, HIGH, TOP, APART = 280, 210, 40, 380
STYLE = (
    "text{font:12px sans-serif;fill:#333}line{stroke:#ccc}polyline{fill:none;stroke:#1f5fa8;stroke-width:2}"
    "circle{fill:#1f5fa8}rect{fill:#fff}"
)


class Panel(NamedTuple):
    """One panel: its title, a value for each size, and how values are laid out.

    Args:
        title: what is shown, with its unit.
        values: one per size.
        logs: the values in powers of ten; else from nought.
    """

    title: str
    values: Sequence[float]
    logs: bool = False


def growth(label: str, sizes: Sequence[float], unit: str, panels: Sequence[Panel]) -> str:
    """Return panels as SVG over sizes of something.

    Args:
        label: what the picture shows, for those who cannot see it.
        sizes: of the runs, from small to large.
        unit: of the sizes, written behind each power of ten.
        panels: what was measured.
    """
    drawn = "".join(_panel(60 + APART * i, panel, sizes, unit) for i, panel in enumerate(panels))
    wide = APART * len(panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {wide} 300" role="img" aria-label="{label}">'
        f'<style>{STYLE}</style><rect width="{wide}" height="300"/>{drawn}</svg>\n'
    )


def _panel(left: int, panel: Panel, sizes: Sequence[float], unit: str) -> str:
    x, y = [log10(size) for size in sizes], [log10(v) if panel.logs else v for v in panel.values]
    across, (up, marks) = (floor(min(x)), ceil(max(x))), _powers(y) if panel.logs else _quarters(y)
    place_x = _scale(across, left, left + WIDE)
    place_y = _scale(up, TOP + HIGH, TOP)
    parts = [f'<text x="{left}" y="24">{panel.title}</text>']
    for value, text in marks:
        at = place_y(value)
        parts.append(f'<line x1="{left}" x2="{left + WIDE}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
    for power in range(across[0], across[1] + 1):
        text = f"{10**power:,} {unit}".strip()
        parts.append(f'<text x="{place_x(power):.1f}" y="{TOP + HIGH + 18}" text-anchor="middle">{text}</text>')
    points = [(place_x(a), place_y(b)) for a, b in zip(x, y, strict=True)]
    parts.append(f'<polyline points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>')
    parts += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="4"/>' for a, b in points]
    return "".join(parts)


def _scale(span: tuple[float, float], start: float, end: float) -> Callable[[float], float]:
    """Return the function from a span of values to places from `start` to `end`."""
    return lambda value: start + (end - start) * (value - span[0]) / (span[1] - span[0])


def _powers(y: Sequence[float]) -> tuple[tuple[float, float], list[tuple[float, str]]]:
    """Return the span of values in powers of ten, and its marks."""
    span = floor(min(y)), ceil(max(y))
    return span, [(power, f"{10**power:g}") for power in range(span[0], span[1] + 1)]


def _quarters(y: Sequence[float]) -> tuple[tuple[float, float], list[tuple[float, str]]]:
    """Return the span of values from nought, and its marks."""
    most = ceil(max(y) * 1.2 / 100) * 100
    return (0, most), [(most * part / 4, f"{most * part / 4:.0f}") for part in range(5)]
