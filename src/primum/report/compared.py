"""A comparison of two runs: a table for the terminal and one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from primum.report import words
from primum.report.plain import document_page

Document = Mapping[str, Any]


def compared_text(document: Document) -> str:
    """Return the comparison over all items in plain text; slices whose change is certain stand below."""
    lines = [f"A: {words.clean(document['a'])}", f"B: {words.clean(document['b'])}", ""]
    rows = document["changes"]
    for row in (row for row in rows if row["slice"] == "all"):
        lines += _lines(row)
    certain = [row for row in rows if row["slice"] != "all" and row["p_holm"] is not None and row["p_holm"] < 0.05]
    if certain:
        lines += ["", "slices that changed (Holm-adjusted p below 0.05):"]
        lines += [f"  {_named(row)} [{words.clean(row['slice'])}]: {_move(row)}" for row in certain]
    lines += [line for row in document.get("win_rates") or [] for line in _preferred(row)]
    for side, names in (("A", document["only_a"]), ("B", document["only_b"])):
        if names:
            lines += ["", f"only in {side}, not compared: {', '.join(map(words.clean, names))}"]
    if document.get("differs"):
        lines += ["", f"the runs also differ in: {'; '.join(map(words.clean, document['differs']))}"]
    return "\n".join(lines)


def _named(row: Mapping[str, Any]) -> str:
    return f"{words.clean(row['benchmark'])} {words.clean(row['metric'])}"


def _lines(row: Mapping[str, Any]) -> list[str]:
    if not row["n"]:
        return [f"{_named(row)}: no item has a number in both runs", *_left_out(row)]
    lines = [f"{_named(row)}: {_move(row)}"]
    detail = f"  {row['fixed']} fixed, {row['broken']} broken of {row['n']:,}; p {words.p_value(row['p'])}"
    if row["p_holm"] is not None:
        detail += f" (Holm {words.p_value(row['p_holm'])})"
    if row["mde"] is not None and row["low"] is not None and row["low"] <= 0 <= row["high"]:
        detail += f"; a change of {words.number(row['mde'], row['unit'])} would have been found four times in five"
    lines += [detail, *_left_out(row)]
    if row["corrected"] and row["corrected"].get("difference"):
        fixed = row["corrected"]["difference"]
        lines.append(f"  corrected by {row['corrected']['labelled_on_both']} labels: {_change(fixed, 'value', row)}")
    if row["anytime"]:
        stop = row["anytime"]["enough_after"]
        lines.append(f"  anytime-valid: {f'enough after {stop:,} items' if stop else 'not enough evidence'}")
    return lines


def _left_out(row: Mapping[str, Any]) -> list[str]:
    said = ", ".join(f"{n} {words.clean(why)}" for why, n in row["left_out"].items() if n)
    return [f"  left out: {said}"] if said else []


def _preferred(row: Mapping[str, Any]) -> list[str]:
    head = f"{words.clean(row['benchmark'])}: B's reply preferred {row['wins']:,} times, A's {row['losses']:,} times"
    left = f", {row['unscored']:,} unscored" if row["unscored"] else ""
    ties = f"{row['ties']:,} ties ({row['by_place']:,} where only the order decided, {row['same']:,} equal replies)"
    if row["net"] is None:
        return ["", f"{head}, {ties}{left}"]
    net = f"net {_change(row, 'net', {'unit': 'share'})}; p {words.p_value(row['p'])}"
    return ["", f"{head}, {ties} of {row['n']:,}{left}", f"  {net}; judge {words.clean(row['judge'])}"]


def _move(row: Mapping[str, Any]) -> str:
    unit = row["unit"]
    return f"{words.number(row['a'], unit)} -> {words.number(row['b'], unit)}, {_change(row, 'difference', row)}"


def _change(numbers: Mapping[str, Any], key: str, row: Mapping[str, Any]) -> str:
    value, low, high = (words.change(numbers[name], row["unit"]) for name in (key, "low", "high"))
    return f"{value} ({low} to {high})"


def compared_page(document: Document) -> str:
    """Return the comparison as one self-contained page."""
    rows = [{**row, "lost": sum(row["left_out"].values())} for row in document["changes"]]
    slices = [row for row in rows if row["slice"] != "all" and row["p_holm"] is not None]
    view = {
        **document,
        "overall": [row for row in rows if row["slice"] == "all"],
        "slices": sorted(slices, key=lambda row: (row["p_holm"], -abs(row["difference"]))),
        "corrected": [row for row in rows if row["corrected"]],
        "groups": _groups(document["changed"]),
    }
    return document_page("compared.html", "Two runs compared", view)


def _groups(changed: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    named: dict[str, list[Mapping[str, Any]]] = {}
    for row in changed:
        named.setdefault(f"{row['benchmark']} {row['metric']}", []).append(row)
    return [{"name": name, "rows": rows} for name, rows in named.items()]
