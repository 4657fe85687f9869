"""The results of `primum evaluate`: a few lines for the terminal and one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from primum.evaluation.tables import Table
from primum.report import plots, words
from primum.report.plain import document_page

Document = Mapping[str, Any]
SAMPLES = 12


def summary(document: Document, page: Path) -> str:
    """Return what an evaluation ends with, in plain text."""
    lines: list[str] = []
    for table in document["tables"]:
        repeated = (table.get("facts") or {}).get("repeated")
        more = f" ({repeated:,} more ask the same and were left out)" if repeated else ""
        head = f"{words.clean(table['benchmark'])}, {table['n']:,} items{more}, judge {words.clean(table['judge'])}"
        apart = (table.get("facts") or {}).get("comparable")
        lines += [head, f"  not comparable with published numbers: {words.clean(apart)}"] if apart else [head]
        lines += [f"  {words.too_long(table['prompts_cut'])}"] if table.get("prompts_cut") else []
        unused = (table.get("facts") or {}).get("unused")
        lines += [f"  likelihoods of the bare text; not used: {', '.join(map(words.flag, unused))}"] if unused else []
        lines += [f"  {line}" for line in _not_named(table)]
        for row in table["estimates"]:
            if row["slice"] == "all":
                lines.append("  " + _line(row))
    legend = ["", "Brackets: 95% intervals."] if lines else []
    return "\n".join([words.wrapped([*lines, *legend]), "", "results:", str(page)])


def _not_named(table: Mapping[str, Any]) -> list[str]:
    """Say what was not measured because the model or file that it rests on was not named."""
    missing = (table.get("facts") or {}).get("not_named") or {}
    return [f"not measured, nothing was named: {words.clean(role)} ({words.clean(needs)}; --judge-model {role}=NAME)"
            for role, needs in missing.items()]  # fmt: skip


def _line(row: Mapping[str, Any]) -> str:
    value = words.number(row["value"], row["unit"])
    limits = words.interval(row["low"], row["high"], row["unit"])
    left = sum(row["left_out"].values())
    text = f"{words.metric(row['metric']).label:<26} {value:>8}" + (f"  [{limits}]" if limits else "")
    text += f"  median {words.number(row['median'], row['unit'])}" if "median" in row else ""
    return text + f"  n {row['n']:,}" + (f", {left:,} unscored" if left else "")


def results_page(document: Document, tables: Mapping[str, Table]) -> str:
    """Return the results as one self-contained page; replies are shown of the tables given."""
    shown = [_view(facts, tables.get(_name(facts))) for facts in document["tables"]]
    return document_page("results.html", f"Measured: {document['model']['name']}", {**document, "shown": shown})


def _name(facts: Mapping[str, Any]) -> str:
    return str(facts["rows"]).removeprefix("items/").removesuffix(".jsonl")


def _view(facts: Mapping[str, Any], table: Table | None) -> dict[str, Any]:
    units = {name: metric["unit"] for name, metric in facts["metrics"].items()}
    extremes = [
        {"metric": metric, "kind": kind, "unit": units[metric], **row}
        for metric, kinds in facts["extremes"].items()
        for kind, row in kinds.items()
    ]
    rows = [row for row in table.rows if row.reply][:SAMPLES] if table else []
    about = str(facts["facts"].get("about") or "").rstrip()
    return {
        **facts, "too_long": words.too_long(facts["prompts_cut"]) if facts.get("prompts_cut") else "",
        "not_named": _not_named(facts), "unused": [words.flag(name) for name in facts["facts"].get("unused") or {}],
        "about": about if about.endswith((".", "?", "!")) else f"{about}.", "extremes": extremes,
        "slices": [row for row in facts["estimates"] if row["slice"] != "all"],
        "bands": _bands([row for row in facts["estimates"] if row["slice"] == "all"], facts["metrics"]),
        "samples": [{"label": row.label, "prompt": row.prompt, "reply": row.reply} for row in rows],
    }  # fmt: skip


def _bands(rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each metric's plot; shares are on one scale, other numbers on their own."""
    shares = [row for row in rows if row["unit"] == "share"]
    return [_band(row, metrics[row["metric"]], shares if row["unit"] == "share" else [row]) for row in rows]


def _band(row: Mapping[str, Any], metric: Mapping[str, Any], alike: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    bounds = plots.scale(alike, row["unit"])
    return {
        "row": row, "label": words.metric(row["metric"]).label, "about": metric["about"],
        "better": words.BETTER.get(metric["direction"], words.DESCRIBED),
        "svg": plots.strip(None, row, bounds, row["unit"], row["metric"]), "unscored": sum(row["left_out"].values()),
        "low": words.number(bounds.low, row["unit"]), "high": words.number(bounds.high, row["unit"]),
    }  # fmt: skip
