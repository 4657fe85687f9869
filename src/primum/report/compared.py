"""A comparison of two runs: a table for the terminal and one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from primum.evaluation.versus import EQUAL
from primum.report import words
from primum.report.plain import document_page

Document = Mapping[str, Any]
SAME = "A and B are the same run: nothing can have changed."


def compared_text(document: Document) -> str:
    """Return the comparison over all items in plain text; slices whose change is certain stand below."""
    lines = [f"{side.upper()}: {_side(document, side)}" for side in ("a", "b")] + [""]
    lines += [one for said in warnings(document) for one in (said, "")]
    rows = [{**row, "verdict": verdict(row, document["confidence"])} for row in document["changes"]]
    for row in (row for row in rows if row["slice"] == "all"):
        lines += _lines(row)
    certain = [row for row in rows if row["slice"] != "all" and row["verdict"] in ("better", "worse")]
    if certain:
        lines += ["", "slices that changed (Holm's p over the slices of a metric):"]
        lines += [f"  {_named(row)} [{words.clean(row['slice'])}]: {row['verdict']}, {_move(row)}, n {row['n']:,}"
                  for row in certain]  # fmt: skip
    lines += [line for row in document.get("win_rates") or [] for line in _preferred(row)]
    for side, names in (("A", document["only_a"]), ("B", document["only_b"])):
        if names:
            lines += ["", f"only in {side}, not compared: {', '.join(map(words.clean, names))}"]
    if document.get("differs"):
        lines += ["", f"the runs also differ in: {'; '.join(map(words.clean, document['differs']))}"]
    return words.wrapped([*lines, "", _legend(document["confidence"])])


def warnings(document: Document) -> list[str]:
    """Return what a reader has to know first: that nothing can have changed, in all or in a benchmark."""
    if document.get("same"):
        return [SAME]
    stopped = ", ".join(map(words.clean, document.get("stopped") or []))
    found = [f"{stopped}: drawn until a comparison was decided; p and intervals here do not allow for that."]
    return [equal(one) for one in document.get("equal") or []] + (found if stopped else [])


def equal(one: Mapping[str, Any]) -> str:
    """Say that a benchmark cannot tell two runs apart, and what was set and not used."""
    unused = ", ".join(words.flag(name) for name in one["unused"])
    more = f" (not used: {unused})" if unused else ""
    return (
        f"{words.clean(one['benchmark'])}: the runs are equal by construction: likelihoods of the same weights, which "
        f"neither a system prompt nor decode settings reach{more}."
    )


def _side(document: Document, side: str) -> str:
    model = (document.get("models") or {}).get(side)
    return words.clean(document[side]) + (f" ({words.clean(model)})" if model else "")


def _legend(confidence: float) -> str:
    return (
        f"Changes are B minus A with {words.percent(confidence)} intervals. Better and worse: Holm's p is below "
        f"{words.percent(1 - confidence)}; what is not certain may still have changed."
    )


def verdict(row: Mapping[str, Any], confidence: float) -> str:
    """Return whether B is better or worse by one metric, that it is not certain, or "" where no way is better.

    Of what is equal by construction it says that.
    """
    if row.get("method") == EQUAL:
        return EQUAL
    if row["direction"] not in words.BETTER or row["p_holm"] is None:
        return ""
    if row["p_holm"] >= round(1 - confidence, 9) or not row["difference"]:
        return "not certain"
    return "better" if (row["difference"] < 0) == (row["direction"] == "lower_is_better") else "worse"


def _named(row: Mapping[str, Any]) -> str:
    return f"{words.clean(row['benchmark'])}: {words.metric(row['metric']).label}"


def _lines(row: Mapping[str, Any]) -> list[str]:
    if not row["n"]:
        return [f"{_named(row)}: no item has a number in both runs", *_left_out(row)]
    lines = [f"{_named(row)} ({words.BETTER.get(row['direction'], words.DESCRIBED)})"]
    lines.append(f"  {row['verdict'] + ': ' if row['verdict'] else ''}{_move(row)}")
    detail = f"  {_turned(row)} of {row['n']:,}; p {words.p_value(row['p'])}"
    if row["p_holm"] is not None:
        detail += f" (Holm {words.p_value(row['p_holm'])})"
    lines.append(detail)
    if row["mde"] is not None and row["low"] is not None and row["low"] <= 0 <= row["high"]:
        lines.append(f"  a change of {words.amount(row['mde'], row['unit'])} would have been found four times in five")
    lines += _left_out(row)
    if row["corrected"] and row["corrected"].get("difference"):
        fixed = words.difference(row["corrected"]["difference"], row["unit"], "value")
        lines.append(f"  corrected by {row['corrected']['labelled_on_both']} labels: {fixed}")
    if row["anytime"]:
        stop = row["anytime"]["enough_after"]
        lines.append(f"  anytime-valid: {f'enough after {stop:,} items' if stop else 'not enough evidence'}")
    return lines


def _turned(row: Mapping[str, Any]) -> str:
    """Return how many items changed; where no way is better, none is fixed or broken."""
    if row["direction"] in words.BETTER:
        return f"{row['fixed']:,} fixed, {row['broken']:,} broken"
    return f"{row['fixed'] + row['broken']:,} changed"


def _left_out(row: Mapping[str, Any]) -> list[str]:
    said = ", ".join(f"{n:,} {words.clean(why)}" for why, n in row["left_out"].items() if n)
    return [f"  left out: {said}"] if said else []


def _preferred(row: Mapping[str, Any]) -> list[str]:
    head = f"{words.clean(row['benchmark'])}: B's reply preferred {row['wins']:,} times, A's {row['losses']:,} times"
    left = f", {row['unscored']:,} unscored" if row["unscored"] else ""
    ties = f"{row['ties']:,} ties ({row['by_place']:,} where only the order decided, {row['same']:,} equal replies)"
    cut = [f"  {said}"] if (said := _questions_cut(row)) else []
    if row["net"] is None:
        return ["", f"{head}, {ties}{left}", *cut]
    net = f"net {words.difference(row, 'share', 'net')}; p {words.p_value(row['p'])}"
    return ["", f"{head}, {ties} of {row['n']:,}{left}", f"  {net}; judge {words.clean(row['judge'])}", *cut]


def _questions_cut(row: Mapping[str, Any]) -> str:
    """Say how many questions (two for each pair) the judge's model did not read whole; nothing where it read all."""
    return words.too_long(row["prompts_cut"], "question") if row.get("prompts_cut") else ""


def _move(row: Mapping[str, Any]) -> str:
    unit = row["unit"]
    return f"{words.number(row['a'], unit)} -> {words.number(row['b'], unit)}, {words.difference(row, unit)}"


def compared_page(document: Document) -> str:
    """Return the comparison as one self-contained page."""
    rows = [
        {**row, "lost": sum(row["left_out"].values()), "verdict": verdict(row, document["confidence"]),
         "label": words.metric(row["metric"]).label, "better": words.BETTER.get(row["direction"], words.DESCRIBED)}
        for row in document["changes"]
    ]  # fmt: skip
    slices = [row for row in rows if row["slice"] != "all" and row["p_holm"] is not None]
    view = {
        **document,
        "overall": [row for row in rows if row["slice"] == "all"],
        "slices": sorted(slices, key=lambda row: (row["p_holm"], -abs(row["difference"]))),
        "corrected": [row for row in rows if row["corrected"]],
        "groups": _groups(document["changed"], rows),
        "sides": [(side.upper(), _side(document, side)) for side in ("a", "b")],
        "warnings": warnings(document),
        "win_rates": [{**row, "too_long": _questions_cut(row)} for row in document.get("win_rates") or []],
        "legend": _legend(document["confidence"]),
    }
    return document_page("compared.html", "Two runs compared", view)


def _groups(changed: Sequence[Mapping[str, Any]], changes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the replies that are shown, by metric, with how many changed in all."""
    many = {(one["benchmark"], one["metric"]): one["fixed"] + one["broken"] for one in changes if one["slice"] == "all"}
    named: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in changed:
        named.setdefault((row["benchmark"], row["metric"]), []).append(row)
    return [
        {"name": f"{key[0]}: {words.metric(key[1]).label}", "rows": rows, "of": many[key]}
        for key, rows in named.items()
    ]
