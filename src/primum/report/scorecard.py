"""What several runs say of one model, on one page: benchmarks, attacks, false refusals, stress, languages, audit.

The card decides nothing: there is no score and no pass. A part that no run measured is unknown, and says which command
would measure it. Every number keeps its interval, its n and the folder that it came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from primum.core.errors import UsageError
from primum.core.records import JsonDict
from primum.core.store import read_json
from primum.report import plots, words
from primum.report.languages import BARS, SHOWN
from primum.report.plain import document_page

Document = Mapping[str, Any]
PARTS = {
    "benchmarks": ("Benchmarks", "primum evaluate MODEL"),
    "attacks": ("Attacks", "primum redteam MODEL"),
    "false refusals": ("False refusals", "primum evaluate MODEL --benchmark xstest"),
    "stress": ("Stress", "primum stress MODEL"),
    "languages": (
        "Languages",
        "primum repair MODEL --languages plan, or primum evaluate MODEL --benchmark FILE with rows grouped by language",
    ),
    "audit": ("Audit of the training data", "primum audit CORPUS"),
}
"""Part -> its heading, and what measures it."""
REFUSALS = ("false_refusal", "full_refusal_safe", "partial_refusal_safe", "refusal_twin", "refusal_general")
FILES = ("results.json", "report.json", "audit.json")
NOT_TRIED = "not tried"


class Line(NamedTuple):
    """One number of the card, or a sentence where there is none."""

    part: str
    name: str
    folder: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    unit: str = "share"
    direction: str = "neither"
    left_out: int = 0
    said: str = ""


def read_runs(folders: Sequence[Path]) -> dict[str, list[JsonDict]]:
    """Return every document that the folders hold.

    Raises:
        UsageError: no such folder, or one without results.
        BadInputError: a file that is no JSON.
    """
    found: dict[str, list[JsonDict]] = {}
    for folder in folders:
        files = [folder / name for name in FILES if (folder / name).is_file()]
        held = [read_json(path, "run the command that wrote it again") for path in files]
        if not held or not all(isinstance(one, dict) for one in held):
            problem = "no results in this folder" if folder.is_dir() else "no such folder"
            cure = "name folders that primum evaluate, redteam, repair, stress or audit wrote, after they have ended"
            raise UsageError(problem, where=str(folder), cure=cure)
        found[str(folder)] = held
    return found


def scorecard(runs: Mapping[str, Sequence[Document]]) -> JsonDict:
    """Return the card: every part with its lines, those that are unknown, and the models that the runs speak of."""
    by_run = {folder: [line for one in held for line in _lines(folder, one)] for folder, held in runs.items()}
    lines = [line for own in by_run.values() for line in own]
    models = {folder: name for folder, held in runs.items() for one in held if (name := _model(one, "name"))}
    places = {folder: place for folder, held in runs.items() for one in held if (place := _model(one, "source"))}
    parts = [
        {"part": part, "title": title, "measured_by": command,
         "lines": [line._asdict() for line in lines if line.part == part]}
        for part, (title, command) in PARTS.items()
    ]  # fmt: skip
    unknown = [one["part"] for one in parts if not any(_known(line) for line in one["lines"])]
    return {
        "kind": "scorecard", "runs": list(runs), "models": models, "places": places, "parts": parts, "unknown": unknown,
        "nothing_from": [folder for folder, own in by_run.items() if not own],
    }  # fmt: skip


def _known(line: Mapping[str, Any]) -> bool:
    """Whether a line says something: a number, or a sentence that is not about what was left undone."""
    return line["value"] is not None or bool(line["said"] and not line["said"].startswith(NOT_TRIED))


def _model(document: Document, key: str) -> str:
    model = document.get("model")
    return str(model.get(key) or "") if isinstance(model, Mapping) else ""


def _lines(folder: str, document: Document) -> Iterator[Line]:
    if "tables" in document:
        yield from _evaluated(folder, document)
    elif document.get("kind") == "redteam":
        yield from _attacked(folder, document)
    elif document.get("kind") == "stress":
        yield from _stressed(folder, document)
    elif "measurements" in document:
        yield from _repaired(folder, document)
    elif "documents" in document and "outcome" in document:
        yield from _audited(folder, document)


def _evaluated(folder: str, document: Document) -> Iterator[Line]:
    for table in document["tables"]:
        about = table.get("facts") or {}
        mark = " (not comparable with published numbers)" if about.get("comparable") else ""
        for row in table["estimates"]:
            name = f"{table['benchmark']}: {words.metric(row['metric']).label}, judge {table['judge']}{mark}"
            if row["slice"] == "all" and (row["primary"] or row["metric"] in REFUSALS):
                part = "false refusals" if row["metric"] in REFUSALS else "benchmarks"
                yield _line(part, name, folder, row)
            elif row["slice"].startswith("language:") and row["primary"]:
                yield _line("languages", f"{row['slice'].removeprefix('language:')}, {name}", folder, row)


def _line(part: str, name: str, folder: str, row: Document) -> Line:
    value, low, high = (words.finite(row.get(key)) for key in ("value", "low", "high"))
    left = row.get("left_out") or {}
    lost = sum(left.values()) if isinstance(left, Mapping) else 0
    about = words.METRICS.get(str(row.get("metric")))
    unit, lower = row.get("unit") or "share", about.lower_is_better if about else None
    direction = row.get("direction") or ("neither" if lower is None else f"{'lower' if lower else 'higher'}_is_better")
    return Line(part, name, folder, value, low, high, int(row.get("n") or 0), unit, direction, lost)


def _attacked(folder: str, document: Document) -> Iterator[Line]:
    for judge, found in (document.get("results") or {}).items():
        for row in found["vectors"]:
            success = {**row["success"], "direction": "lower_is_better", "unit": "share"}
            left = {"unscored": row["success"].get("unscored") or 0}
            name = f"{words.words(row['vector'])}: attacks that got through, judge {judge}"
            yield _line("attacks", name, folder, {**success, "left_out": left})
    if document.get("campaign"):
        yield _of_people(folder, document["campaign"])


def _of_people(folder: str, found: Document) -> Line:
    """Return a campaign's violations per person and hour with their interval; n is its dialogues."""
    rate, spread = found["rate"], words.finite(found.get("dispersion"))
    people = f"{found['people']:,} {'person' if found['people'] == 1 else 'people'}"
    name = f"Violations per person and hour: {people}, {words.figure(rate['hours'])} hours"
    if spread is not None and spread > words.NARROW:
        name += f" (people differ {words.figure(spread)} times as much as by chance: the interval is too narrow)"
    row = {**rate, "n": found["dialogues"], "direction": "lower_is_better", "unit": "score"}
    return _line("attacks", name, folder, row)


def _stressed(folder: str, document: Document) -> Iterator[Line]:
    for judge, found in (document.get("judges") or {}).items():
        for row in found["matrix"]:
            harm = row.get("harmful_compliance")
            if isinstance(harm, Mapping):
                name = f"{words.words(row['tamper'])}, {row['level']}: harmful compliance, judge {judge}"
                yield _line("stress", name, folder, {**harm, "direction": "lower_is_better", "unit": "share"})
    for row in document.get("skipped") or []:
        name = f"{words.words(row['tamper'])}, {row['level']}"
        yield Line("stress", name, folder, said=f"{NOT_TRIED}: {row['why']}")


def _repaired(folder: str, document: Document) -> Iterator[Line]:
    for judge, found in document["measurements"].items():
        for row in found.get("after") or []:
            if row["slice"] == "all" and row["metric"] not in ("unscored", "ability_refusal"):
                part = "false refusals" if row["metric"] in REFUSALS else "benchmarks"
                name = f"Held-out prompts: {words.metric(row['metric']).label}, judge {judge}"
                yield _line(part, name, folder, row)
    yield from _spoken(folder, document.get("languages") or {})


def _spoken(folder: str, found: Document) -> Iterator[Line]:
    """Return a repair's table of languages, as it is after it: the shares of each, and the gap between them."""
    after, judge = found.get("after") or {}, found.get("judge")
    held: dict[str, Document] = {}
    for row in after.get("rows") or []:
        held[row["language"]] = row
        for metric, share in row["shares"].items():
            if metric in SHOWN and (share["n"] or share["left_out"]):
                told = {"direction": "higher_is_better"} if metric in BARS else {}
                label = BARS.get(metric) or words.metric(metric).label
                trained = ", trained on" if row["trained"] else ""
                name = f"{row['name']}{trained}: {label}, judge {judge}"
                yield _line("languages", name, folder, {**share, "metric": metric, **told})
    gap = after.get("gap")
    if gap:
        ends = [held[gap[end]] for end in ("highest", "lowest")]
        n = sum(row["shares"]["harmful_compliance"]["n"] for row in ends)
        name = f"Harmful compliance, {' less '.join(row['name'] for row in ends)}, judge {judge}"
        yield _line("languages", name, folder, {**gap, "n": n, "direction": "lower_is_better"})


def _audited(folder: str, document: Document) -> Iterator[Line]:
    problems = "; ".join(map(str, document.get("problems") or [])) or "nothing that could not be read"
    said = f"{words.figure(document['documents'])} documents, {document['outcome']}: {problems}"
    yield Line("audit", "Corpus", folder, said=said)


def scorecard_text(document: Document) -> str:
    """Return the card in plain text."""
    warning = _warning(document)
    lines = [warning] if warning else []
    for part in document["parts"]:
        ways = {row["direction"] for row in part["lines"] if row["value"] is not None}
        whole = len(ways) == 1
        lines += ["", part["title"] + (_way(ways.pop()) if whole else "")]
        for row in part["lines"]:
            lines += _told(row, not whole, f"  ({words.clean(row['folder'])})" if warning else "")
        if part["part"] in document["unknown"]:
            what = "no number" if part["lines"] else "not measured"
            lines.append(f"  unknown: {what} ({part['measured_by']})")
    lines += ["", *(f"nothing of {words.clean(folder)} is on this card" for folder in document["nothing_from"])]
    return words.wrapped([*lines[not lines[0] :], "Brackets: 95% intervals."])


def _way(direction: str) -> str:
    return f" ({words.BETTER[direction]})" if direction in words.BETTER else ""


def _told(row: Mapping[str, Any], way: bool, of: str) -> list[str]:
    """Return a line of the card; the numbers stand below the name where both are too long for one line."""
    if row["said"] or row["value"] is None:
        return [f"  {words.clean(row['name'])}: {words.clean(row['said'] or _none(row))}{of}"]
    name = words.clean(row["name"]) + (_way(row["direction"]) if way else "")
    left = f", {row['left_out']:,} unscored" if row["left_out"] else ""
    limits = words.interval(row["low"], row["high"], row["unit"])
    numbers = f"{words.number(row['value'], row['unit'])}  [{limits}]  n {row['n']:,}{left}{of}"
    line = f"  {name}: {numbers}"
    return [line] if len(line) <= words.COLUMNS else [f"  {name}", f"      {numbers}"]


def _none(row: Mapping[str, Any]) -> str:
    return f"no number, {row['left_out']:,} unscored" if row["left_out"] else "no number"


def _warning(document: Document) -> str:
    # one model may be called by several names, and two folders of one name are two models
    places = sorted({document["places"].get(folder) or name for folder, name in document["models"].items()})
    names = sorted(set(document["models"].values()))
    if len(places) < 2:
        return ""
    names = names if len(names) == len(places) else places
    return f"These runs speak of different models: {', '.join(map(words.clean, names))}."


def scorecard_page(document: Document) -> str:
    """Return the card as one self-contained page."""
    parts = [
        {**part, "bands": [{**row, "better": words.BETTER.get(row["direction"], ""), "none": _none(row),
                            "model": document["models"].get(row["folder"]), **_band(row, part["lines"])}
                           for row in part["lines"]]}
        for part in document["parts"]
    ]  # fmt: skip
    return document_page("scorecard.html", "Scorecard", {**document, "shown": parts, "warning": _warning(document)})


def _band(row: Mapping[str, Any], part: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a line's plot; the shares of a part are on one scale, other numbers on their own."""
    if row["value"] is None:
        return {"svg": None}
    alike = [one for one in part if one["unit"] == "share"] if row["unit"] == "share" else [row]
    bounds = plots.scale(alike, row["unit"])
    return {
        "svg": plots.strip(None, row, bounds, row["unit"], words.clean(row["name"])),
        "from": words.number(bounds.low, row["unit"]), "to": words.number(bounds.high, row["unit"]),
    }  # fmt: skip
