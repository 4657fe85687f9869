"""A policy patch: what it ends with on the terminal, and its page with the forgetting matrix; a diff in plain text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from primum.report import words
from primum.report.plain import document_page
from primum.report.words import Facts

Row = Mapping[str, Any]
SIDES = {
    ("rule", "own"): "declined", ("rule", "beside"): "twins answered", ("use", "own"): "answered",
    ("use", "beside"): "look-alikes declined", ("fact", "own"): "new answer given",
    ("fact", "beside"): "near questions left alone",
}  # fmt: skip
WANTED = {"declined": "declined", "answered": "answered", "states": "fact stated", "leaves": "fact left alone"}
FORMS = {"plain": "", "other": ", other words", "likelihood": ": likelier than the old answer"}


def diff_text(document: Facts) -> str:
    """Return what differs between two policies in plain text."""
    old, new = document["old"], document["new"]
    lines = [f"policy {words.clean(old['version'])} ({old['hash']}) -> {words.clean(new['version'])} ({new['hash']})"]
    for one in document["changes"]:
        lines.append(f"  {one['how']:<8} {one['kind']} {words.clean(one['id'])}: {_said(one)}")
        lines.append(f"           to be made again: {', '.join(one['again']) or 'nothing'}")
    if not document["changes"]:
        lines.append("  nothing differs that anything hangs on")
    if document["to_learn"]:
        lines += ["", f"a patch would teach: {', '.join(map(words.clean, document['to_learn']))}"]
    return "\n".join(lines)


def _said(one: Row) -> str:
    fields = one["fields"]
    if one["how"] != "changed":
        side = "new" if one["how"] == "added" else "old"
        return words.clip((fields.get("name") or {}).get(side) or ", ".join(fields), 60)
    return "; ".join(_field(name, pair) for name, pair in fields.items())


def _field(name: str, pair: Row) -> str:
    if isinstance(pair["old"], str | bool | None) and isinstance(pair["new"], str | bool | None) and name != "examples":
        return f"{name} {_value(pair['old'])} -> {_value(pair['new'])}"
    return name


def _value(value: Any) -> str:
    return words.NONE if value is None else words.clip(value, 60)


def closing(facts: Facts, page: Path) -> str:
    """Return what a patch ends with, in plain text."""
    lines = [f"correct behaviour % on held-out prompts, judge {words.clean(facts['judge'])}", "-" * 80]
    lines += [f"  {line['label'][:40]:<41}{line['before']:>5} ->{line['after']:>5}{line['change']:>7}  "
              f"{line['span']:<15} n {line['n']}" for line in _lines(facts)]  # fmt: skip
    moved = ", ".join(f"{WANTED[wanted]} {words.change(value)}" for wanted, value in facts["transfer"].items())
    lines += ["-" * 80, f"backward transfer, mean over old parts: {moved} points", ""]
    lines.append(words.clean(facts["decision"]["text"]))
    if facts["rollback"]["same"]:
        lines.append("without the adapter the model is what it was, bit for bit")
    adapter = words.clean(page.parent / facts["adapter"])
    return "\n".join([*lines, "", "adapter:", adapter, "report:", words.clean(page)])


def _lines(facts: Facts) -> list[dict[str, Any]]:
    kinds = {part["part"]: part["kind"] for part in facts["parts"]}
    names = {part["part"]: part["name"] for part in facts["parts"]}
    return [_line(row, kinds.get(row["part"]), names.get(row["part"])) for row in facts["matrix"] if row["n"]]


def _line(row: Row, kind: str | None, name: str | None) -> dict[str, Any]:
    side = SIDES.get((str(kind), row["side"]), WANTED[row["wanted"]])
    part = words.clean(name or words.category(row["part"]))
    change = row["change"]
    return {
        "label": f"{part}: {side}{FORMS[row['form']]}", "before": words.percent(row["before"]["value"], 0),
        "after": words.percent(row["after"]["value"], 0), "change": words.change(change["value"]),
        "span": f"[{words.change(change['low'])}, {words.change(change['high'])}]", "n": row["n"], "row": row,
        "part": part, "side": f"{side}{FORMS[row['form']]}", "new": row["kind"] == "new",
        "left": sum((row.get("left_out") or {}).values()),
    }  # fmt: skip


def page(facts: Facts) -> str:
    """Return the report as one self-contained page; what a policy's author or a model wrote is escaped."""
    view = {
        **facts, "lines": _lines(facts), "differences": [{**one, "said": _said(one)} for one in facts["changes"]],
        "moved": [(WANTED[wanted], value) for wanted, value in facts["transfer"].items()],
        "rules": facts["decision"]["rules"], "shown": _shown(facts.get("transcripts") or []),
        "settings_rows": [(key, words.clip("–" if value in (None, "", [], ()) else value, 300))
                          for key, value in (facts.get("settings") or {}).items()],
    }  # fmt: skip
    return document_page("policy.html", str(facts.get("title") or "Policy"), view)


def _shown(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [{**row, "wanted": WANTED[row["wanted"]]} for row in rows]


def matrix_text(facts: Facts) -> str:
    """Return the matrix as a Markdown table, for docs."""
    lines = ["| part | wanted | n | before | after | change, points [95%] |", "|---|---|---|---|---|---|"]
    row = "| {part} | {side} | {n} | {before} | {after} | {change} {span} |"
    return "\n".join([*lines, *(row.format(**line) for line in _lines(facts))])
