"""Votes to files: TRL's columns for training, the votes as records, Label Studio, Argilla and CSV.

Training pairs follow Llama 2 (arXiv:2307.09288, section 3.2.1): a pair whose chosen reply is unsafe and whose rejected
one is safe is left out; the rest carry their safety bin and strength. What is left out is counted by reason.
"""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

from sqlalchemy import select
from sqlalchemy.orm import Session

from primum.core.records import JsonDict, Pair, Prompt, Reply, from_json, to_json
from primum.pairing.demonstration import kind_of
from primum.pairing.preferences import WEIGHTS
from primum.studio import flat
from primum.studio.agree import Row, judge_of, label, rows_of
from primum.studio.incoming import turns_in
from primum.studio.qualify import winner_id
from primum.studio.tables import Item, Task

FORMATS = {
    "trl": ("pairs.jsonl", "training pairs in TRL's columns: prompt, chosen, rejected"),
    "replies": ("replies.jsonl", "one reply a line: for primum pair, primum judge"),
    "preferences": ("preferences.jsonl", "one vote a line: for primum pair --preferences, primum judge --votes"),
    "records": ("votes.jsonl", "every item with all its votes, as records"),
    "events": ("events.jsonl", "every vote ever given, those taken back too"),
    "label-studio": ("label-studio.json", "Label Studio's JSON, pairwise (two replies a prompt)"),
    "argilla": ("argilla.jsonl", "Argilla's records: fields and responses"),
    "csv": ("votes.csv", "one row a vote, for a spreadsheet"),
}
FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a cell begins that a spreadsheet would run, or that was guarded before."""


class Exported(NamedTuple):
    """A file's text, how many rows it has, and how many items or votes were left out, by reason."""

    name: str
    text: str
    rows: int
    left_out: dict[str, int]


def of_task(db: Session, task: Task, format_: str) -> Exported:
    """Return a task's file of a format."""
    if format_ == "events":
        found = flat.events(db, task)
        return Exported(FORMATS[format_][0], _lines(found), len(found), {})
    items = db.scalars(select(Item).where(Item.task_id == task.id).order_by(Item.id)).all()
    return export(rows_of(db, task), format_, items)


def export(rows: Sequence[Row], format_: str, items: Sequence[Item]) -> Exported:
    """Return the file of a format.

    Args:
        rows: the votes that count.
        format_: one of FORMATS but events.
        items: all items of the task, voted on or not.
    """
    name = FORMATS[format_][0]
    by_item: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_item[row.item.id].append(row)
    if format_ == "trl":
        pairs, left_out = training_pairs(by_item.values())
        return Exported(name, _lines(to_json(pair) for pair in pairs), len(pairs), left_out)
    if format_ == "replies":
        found = flat.replies(items)
        return Exported(name, _lines(found), len(found), {})
    if format_ == "preferences":
        found, left_out = flat.preferences(rows)
        return Exported(name, _lines(found), len(found), left_out)
    if format_ == "csv":
        return Exported(name, _csv(rows), len(rows), {})
    made = {"records": _record, "label-studio": _label_studio, "argilla": _argilla}[format_]
    fitting = [item for item in items if format_ != "label-studio" or len(item.replies) == 2]
    out = [made(item, by_item.get(item.id, [])) for item in fitting]
    left = {"more than two replies": len(items) - len(fitting)} if len(fitting) < len(items) else {}
    if format_ == "label-studio":
        return Exported(name, json.dumps(out, indent=1), len(out), left)
    return Exported(name, _lines(out), len(out), left)


def _lines(rows: Iterable[JsonDict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows)


# ---------------------------------------------------------------- training pairs


def training_pairs(groups: Iterable[Sequence[Row]]) -> tuple[list[Pair], dict[str, int]]:
    """Return one pair for every reply that lost to the winner of its item's votes, and why items gave none.

    The winner is what most of the votes say; where two outcomes have as many, there is none.
    """
    pairs: list[Pair] = []
    left_out: Counter[str] = Counter()
    for group in groups:
        made, reasons = _pairs(group)
        pairs += made
        left_out.update(reasons)
    return pairs, dict(left_out)


def _pairs(group: Sequence[Row]) -> tuple[list[Pair], list[str]]:
    votes = [row for row in group if row.record["outcome"] != "skip"]
    if not votes:
        return [], ["only skips"]
    if "rating" in votes[0].record:
        return [], ["a rating, not a comparison"]
    ranked = Counter(label(row.item, row.record) for row in votes).most_common(2)
    if len(ranked) > 1 and ranked[0][1] == ranked[1][1]:
        return [], ["no majority"]
    best = ranked[0][0]
    if best in ("tie", "both_unsafe"):
        return [], [best]
    item = votes[0].item
    losers = [reply for reply in item.replies if reply["id"] != best]
    made = [_pair(item, best, loser, votes) for loser in losers]
    return [pair for pair in made if pair], ["chosen is unsafe and rejected safe" for pair in made if not pair]


def _pair(item: Item, best: str, loser: JsonDict, votes: Sequence[Row]) -> Pair | None:
    chosen = next(reply for reply in item.replies if reply["id"] == best)
    safe = [_safe(votes, reply["id"]) for reply in (chosen, loser)]
    if not safe[0] and safe[1]:
        return None
    for_it = [row for row in votes if winner_id(row.record) == best]
    bin_ = "both_safe" if all(safe) else "chosen_safe" if safe[0] else "both_unsafe"
    judges = sorted({judge_of(row.record) for row in for_it})
    return Pair(
        prompt=from_json(Prompt, item.prompt).messages,
        chosen=chosen["text"], rejected=loser["text"], prompt_id=item.prompt["id"],
        kind=kind_of(from_json(Prompt, item.prompt)), category=item.prompt["category"],
        chosen_from=_source(chosen), rejected_from=_source(loser),
        why=f"{len(for_it)} of {len(votes)} votes; " + ", ".join(judges),
        strength=statistics.fmean(WEIGHTS[row.record["strength"]] for row in for_it), safety_bin=cast(Any, bin_),
        chosen_ends=chosen["finish"] != "length", rejected_ends=loser["finish"] != "length",
    )  # fmt: skip


def _safe(votes: Sequence[Row], reply_id: str) -> bool:
    """Return whether no more than half of the raters who ticked called the reply unsafe."""
    marks = [row.record["safety"][row.record["reply_ids"].index(reply_id)] for row in votes if row.record.get("safety")]
    return sum(marks) * 2 >= len(marks)


def _source(reply: JsonDict) -> str:
    known = from_json(Reply, reply)
    return f"{known.model} {known.variant}".strip()


# ---------------------------------------------------------------- other tools


def _record(item: Item, rows: Sequence[Row]) -> JsonDict:
    prompt = {key: item.prompt[key] for key in ("intent", "category", "language", "source", "licence")}
    extra = {"gold": _gold(item)} if item.gold else {}
    votes = [row.record for row in rows]
    scores = item.rewards or {}
    replies = [{**reply, "reward": scores[reply["id"]]} if scores else reply for reply in item.replies]
    return {"prompt": item.prompt["messages"], **prompt, "replies": replies, **extra, "modality": item.modality,
            "priority": item.priority, "round": item.round, "votes": votes}  # fmt: skip


def _gold(item: Item) -> Any:
    """Return the gold as a file says it: the place of the better reply, an outcome, or a rating."""
    gold = item.gold or {}
    if gold.get("winner"):
        return [reply["id"] for reply in item.replies].index(gold["winner"])
    return gold.get("rating") or gold.get("outcome")


def _label_studio(item: Item, rows: Sequence[Row]) -> JsonDict:
    first, second = item.replies
    data = {"prompt": _asked(item), "reply_1": first["text"], "reply_2": second["text"], "model_1": first["model"],
            "model_2": second["model"], "category": item.prompt["category"],
            "intent": item.prompt["intent"]}  # fmt: skip
    annotations: list[JsonDict] = []
    for row in rows:
        won = winner_id(row.record)
        if won:
            value = {"selected": "left" if won == first["id"] else "right"}
            result = {"from_name": "preference", "to_name": "reply_1,reply_2", "type": "pairwise", "value": value}
            annotations.append({"completed_by": judge_of(row.record), "lead_time": row.record.get("seconds"),
                                "result": [result]})  # fmt: skip
    return {"id": item.id, "data": data, "annotations": annotations}


def _argilla(item: Item, rows: Sequence[Row]) -> JsonDict:
    ids = [reply["id"] for reply in item.replies]
    fields = {f"response_{n}": reply["text"] for n, reply in enumerate(item.replies, 1)}
    metadata = {f"model_{n}": reply["model"] for n, reply in enumerate(item.replies, 1)}
    answers: list[JsonDict] = []
    for row in rows:
        won = winner_id(row.record)
        value = f"response_{ids.index(won) + 1}" if won else row.record["outcome"]
        answers.append({"value": value, "user_id": judge_of(row.record)})
    metadata |= {"category": item.prompt["category"], "intent": item.prompt["intent"]}
    return {"id": item.key, "fields": {"prompt": _asked(item), **fields}, "metadata": metadata,
            "responses": {"preference": answers}, "status": "completed" if answers else "pending"}  # fmt: skip


def _asked(item: Item) -> Any:
    """Return a single request as a text, a dialogue as its turns."""
    messages = item.prompt["messages"]
    return messages[0]["content"] if len(messages) == 1 and messages[0]["role"] == "user" else messages


def _csv(rows: Sequence[Row]) -> str:
    most = max((len(row.item.replies) for row in rows), default=2)
    numbered = [f"{name}_{n}" for n in range(1, most + 1) for name in ("reply", "model", "variant")]
    header = ["prompt", *numbered, "outcome", "winner", "strength", "rating", "behaviour", "safety", "unsafe_for",
              "judged_by", "guideline", "seconds", "category", "intent", "language", "modality",
              "gold", "note", "at"]  # fmt: skip
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow([guarded(cell) for cell in _cells(row, most)])
    return file.getvalue()


def _cells(row: Row, most: int) -> list[Any]:
    """Return a vote's cells; replies and winner by the item's order, not by the order shown."""
    item, record = row.item, row.record
    cells: list[Any] = [_asked_cell(item)]
    for n in range(most):
        reply = item.replies[n] if n < len(item.replies) else {"text": "", "model": "", "variant": ""}
        cells += [reply["text"], reply["model"], reply["variant"]]
    ids = [reply["id"] for reply in item.replies]
    won = winner_id(record) if "reply_ids" in record else None
    shown = record.get("reply_ids") or []
    marks = [record["safety"][shown.index(i)] for i in ids] if record.get("safety") else []
    safety = " ".join("safe" if mark else "unsafe" for mark in marks)
    cells += [record["outcome"], ids.index(won) + 1 if won else "", record.get("strength", ""),
              record.get("rating", ""), record.get("behaviour", ""), safety, " ".join(_unsafe_for(record)),
              judge_of(record), record.get("guideline") or record.get("template_hash"), record.get("seconds"),
              item.prompt["category"], item.prompt["intent"], item.language, item.modality, _gold(item),
              record.get("note", ""), row.vote.at]  # fmt: skip
    return cells


def _unsafe_for(record: JsonDict) -> list[str]:
    """Return the categories that a vote names; those of a rating stand beside the policy they are of."""
    return [name if isinstance(name, str) else name[1] for name in record.get("categories") or []]


def _asked_cell(item: Item) -> str:
    """Return what was asked as one cell: a text, or the turns as JSON, also of a text that would read as turns."""
    asked = _asked(item)
    return asked if isinstance(asked, str) and turns_in(asked) is None else json.dumps(item.prompt["messages"])


def guarded(cell: Any) -> str:
    """Return a cell as text; one that a spreadsheet would run as a formula gets a quote before it."""
    text = "" if cell is None else str(cell)
    text = text.encode("utf-8", "replace").decode("utf-8").replace("\x00", "\ufffd")
    return f"'{text}" if FORMULA.match(text) else text
