"""The facts of a red-team run to one HTML page that opens with no network and runs no script.

Everything that a model, an attack or a user's file wrote is escaped. Transcripts stay behind a click.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from primum.core.records import in_words, message_of
from primum.report import plots, words
from primum.report.page import style, template
from primum.report.words import Facts

Row = Mapping[str, Any]
PLAIN, ALL = "plain", "all"
SEARCH, MULTI_TURN = "search", "multi_turn"
LONGEST = 2500
LONGEST_TALK = 14
"""Messages of one turn that are shown: of a many-shot prompt only the last ones."""


def page(facts: Facts) -> str:
    """Return the report as one self-contained HTML document."""
    results: Row = facts.get("results") or {}
    lead = next(iter(results), None)
    return template("redteam.html").render(
        facts=facts,
        style=style("redteam.css"),
        lead=lead,
        others=[name for name in results if name != lead],
        results=results,
        tiles=_tiles(facts, results[lead]) if lead else [],
        matrix=_matrix(facts, results[lead]) if lead else None,
        vectors=_vectors(facts, results[lead]) if lead else [],
        attacks=_attacks(facts, results[lead]) if lead else [],
        agree=_agree(results),
        charts=_charts(results[lead]) if lead else [],
        labels=[row for row in results[lead]["attacks"] if row["labels"]] if lead else [],
        groups=_groups(facts),
        people=facts.get("campaign"),
        narrow=words.NARROW,
        settings=_settings(facts),
        names=facts.get("vectors") or {},
    )


class Tile(NamedTuple):
    """One number at the top, with what stands under it."""

    title: str
    value: str
    under: str


def _tiles(facts: Facts, found: Row) -> list[Tile]:
    rows = {row["attack"]: row for row in found["attacks"]}
    every = next(row for row in found["matrix"]["rows"] if row["vector"] == ALL)["cells"][ALL]
    some = found["any"]
    tiles = [
        Tile("Plain request", *_of(rows[PLAIN]["success"], "goals")),
        Tile("All attacks, on average", *_of(every, "attempts")),
        Tile("Goals that some attack reached", f"{some['k']} of {some['n']}", f"{some['unknown']} more are unknown"),
    ]
    known = [row for row in rows.values() if row["attack"] != PLAIN and row["success"]["value"] is not None]
    if known:
        best = max(known, key=lambda row: (row["success"]["low"], row["success"]["value"]))
        value, under = _of(best["success"], "goals")
        tiles.append(Tile(f"Strongest attack: {words.words(best['attack'])}", value, under))
    return tiles


def _of(cell: Row, unit: str) -> tuple[str, str]:
    span = words.interval(cell["low"], cell["high"])
    return words.percent(cell["value"]), f"{span or '–'} (95%), {cell['n']:,} {unit}"


class Cell(NamedTuple):
    """One share with its interval, and how dark its field is (0 to 1)."""

    value: str
    span: str
    n: int
    shade: float
    said: str


def _cell(cell: Row) -> Cell:
    value = words.finite(cell["value"])
    span = words.interval(cell["low"], cell["high"])
    left = cell.get("unscored") or sum((cell.get("left_out") or {}).values())
    said = f"{cell['n']} attempts on {cell.get('goals', cell['n'])} goals"
    if left:
        ends = words.interval(cell.get("least"), cell.get("most"))
        said += f", {left} unscored (whatever they are: {ends})" if ends else f", {left} unscored"
    return Cell(words.percent(value, 0), span, cell["n"], math.sqrt(value) if value else 0.0, said)


def _matrix(facts: Facts, found: Row) -> Row:
    categories = [ALL, *found["matrix"]["categories"]]
    heads = ["All categories", *(words.category(name) for name in categories[1:])]
    rows = [
        (_vector(row["vector"]), row["vector"] == ALL, [_cell(row["cells"][name]) for name in categories])
        for row in found["matrix"]["rows"]
    ]
    return {"heads": heads, "rows": rows}


def _vector(name: str) -> str:
    return {PLAIN: "Plain request", ALL: "All attacks"}.get(name, words.words(name))


class Line(NamedTuple):
    """One vector or attack: its share beside the plain request's, and the paired uplift."""

    name: str
    about: str
    cell: Cell
    svg: Markup
    uplift: Row | None
    row: Row


def _vectors(facts: Facts, found: Row) -> list[Line]:
    plain = next(row["success"] for row in found["attacks"] if row["attack"] == PLAIN)
    about = facts.get("vectors") or {}
    bounds = plots.Scale(0.0, 1.0)
    return [
        Line(
            _vector(row["vector"]), str(about.get(row["vector"], "")), _cell(row["success"]),
            plots.strip(plain, row["success"], bounds, "share", f"{_vector(row['vector'])}, after the plain request"),
            row["uplift"], row,
        )
        for row in found["vectors"]
    ]  # fmt: skip


def _attacks(facts: Facts, found: Row) -> list[Line]:
    about = {row["id"]: row for row in facts.get("attacks") or []}
    rows = sorted(found["attacks"], key=lambda row: -(row["success"]["value"] or 0.0))
    return [
        Line(words.words(row["attack"]), str(about.get(row["attack"], {}).get("about", "")), _cell(
            row["success"] | {"left_out": row["left_out"]}), Markup(""), row["uplift"], row)
        for row in rows
    ]  # fmt: skip


def _agree(results: Row) -> list[tuple[str, list[Cell]]]:
    """Return each vector's share by every judge, where there are several."""
    if len(results) < 2:
        return []
    rows = {judge: {row["vector"]: row for row in found["matrix"]["rows"]} for judge, found in results.items()}
    vectors = [row["vector"] for row in next(iter(results.values()))["matrix"]["rows"]]
    return [(_vector(name), [_cell(rows[judge][name]["cells"][ALL]) for judge in results]) for name in vectors]


def _charts(found: Row) -> list[plots.Chart]:
    drawn: list[plots.Chart | None] = []
    for row in found["attacks"]:
        name = words.words(row["attack"])
        if len(row["hit_at"]) > 1:
            drawn.append(_chart(f"{name}: success after k tries", row["hit_at"], "tries"))
        elif row["vector"] == SEARCH and len(row["by_try"]) > 1:
            drawn.append(_chart(f"{name}: success by try", row["by_try"], "tries"))
        elif row["vector"] == MULTI_TURN and len(row["by_turn"]) > 1:
            drawn.append(_chart(f"{name}: success by turn", row["by_turn"], "turns"))
    return [chart for chart in drawn if chart]


def _chart(title: str, rows: Sequence[Row], over: str) -> plots.Chart | None:
    """Return success in per cent over tries or turns; all charts have one scale, so that they can be compared."""
    points = [{"step": row["after"], "share": None if row["value"] is None else 100 * row["value"]} for row in rows]
    drawn = plots.chart(title, points, {"share": "success, %"}, over=over, up=plots.Scale(0.0, 100.0))
    return drawn and drawn._replace(last=f"{drawn.last} {over}")


class Group(NamedTuple):
    """The transcripts of one vector."""

    title: str
    rows: list[Row]


def _groups(facts: Facts) -> list[Group]:
    groups: dict[str, list[Row]] = {}
    for row in facts.get("transcripts") or []:
        groups.setdefault(str(row.get("vector")), []).append({**row, "talk": _talk(row)})
    return [Group(_vector(name), rows) for name, rows in groups.items()]


def _talk(row: Row) -> list[Row]:
    """Return the turns as they are shown: what is new in each, its reply, and what the judges said of it."""
    shown: list[Row] = []
    judged = 0
    for turn in row["turns"]:
        counts = turn["role"] == "target" and not turn["lead"]
        said = {judge: words_of[judged] for judge, words_of in row["verdicts"].items()} if counts else {}
        judged += counts
        new = _new(turn["messages"], shown[-1] if shown else None)
        hidden = max(0, len(new) - LONGEST_TALK)
        messages = [(m["role"], words.clip(in_words(message_of(m)), LONGEST)) for m in new[hidden:]]
        reply = words.clip(turn["reply"] or "", LONGEST) or "(empty)"
        shown.append({**turn, "new": messages, "hidden": hidden, "said": said, "shown": reply})
    return shown


def _new(messages: Sequence[Row], last: Row | None) -> Sequence[Row]:
    """Return the messages that follow on the turn before, or all where a new conversation begins."""
    before = [*last["messages"], {"role": "assistant", "content": last["reply"]}] if last else []
    grown = bool(before) and list(messages[: len(before)]) == before
    return messages[len(before) :] if grown else messages


def _settings(facts: Facts) -> list[tuple[str, list[tuple[str, str]]]]:
    tables = {
        "Model": facts.get("model"), "Attacker's model": facts.get("attacker"), "Settings": facts.get("settings"),
        "Versions": facts.get("versions"), "Machine": facts.get("machine"),
    }  # fmt: skip
    return [
        (title, [(str(key), words.clip("–" if value in (None, "", ()) else value, 300)) for key, value in rows.items()])
        for title, rows in tables.items()
        if rows
    ]
