"""Demonstrations of the user's own: read, checked as all others are, and each one that is left out named by its line.

A row is what `primum train sft` reads: `messages`, or `prompt` and `completion`, or Alpaca's columns. It is a safe
answer to a harmful request unless its column `kind` says `twin`, `general` or `advice`: a good answer to a benign one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from primum.core.errors import BadInputError
from primum.core.records import JsonDict, Messages, Prompt, digest, files_of, to_json
from primum.core.taxonomy import policy
from primum.pairing.checklist import problems
from primum.pairing.demonstration import Demonstration, Kind
from primum.pipeline.context import Context
from primum.prompts.decontaminate import benchmarks_at, decontaminate
from primum.prompts.files import Row
from primum.prompts.rows import GENERAL, OTHER

if TYPE_CHECKING:
    from primum.training.dataset import Count

GIVEN = "given"
"""Where the answer of such a demonstration came from; it is learned, whatever its kind."""
MEASURED = "the prompts this journey measures on"
Check = Literal["drop", "warn"]


@dataclass
class Given:
    """What files gave: demonstrations, what was left out (reason and where), what the checklist found in those kept."""

    demonstrations: list[Demonstration] = field(default_factory=list[Demonstration])
    dropped: list[JsonDict] = field(default_factory=list[JsonDict])
    warned: list[JsonDict] = field(default_factory=list[JsonDict])


def given(context: Context, name: str, files: Sequence[str], check: Check) -> Given:
    """Return the user's demonstrations; what was left out is counted, and written to steps/given-NAME/dropped.jsonl.

    Left out are rows without an answer, repeated ones, those that fail the checklist, those about a category that is
    held out for measuring, and those whose prompt shares eight words in a row with one that is measured on.

    Args:
        context: of the journey.
        name: of the stage.
        files: JSONL, CSV or Parquet, or folders of them.
        check: whether what fails the checklist is left out, or learned and told.

    Raises:
        UsageError: a file of a set on which models are accepted.
        BadInputError: no such file, a row that cannot be read, or nothing that can be learned; names file and line.
    """
    from primum.training import dataset

    found, count, seen = Given(), dataset.Count(), set[str]()
    asked: list[tuple[Demonstration, str]] = []
    for file in files:
        for row in dataset.rows_of(file):
            for one in _demonstrations(context, row, count):
                same = digest([one.prompt_id, one.answer.strip()])
                wrong = "a repeated demonstration" if same in seen else _why_not(one)
                seen.add(same)
                if wrong:
                    found.dropped.append({"reason": wrong, "where": row.where})
                else:
                    asked.append((one, row.where))
    found.dropped = [*count.dropped, *found.dropped]
    _take(context, found, asked, check)
    _tell(context, name, files, found)
    return found


def _demonstrations(context: Context, row: Row, count: Count) -> list[Demonstration]:
    from primum.training import dataset

    kind = row.values.get("kind") or "harmful"
    if kind not in get_args(Kind):
        cure = f"one of: {', '.join(get_args(Kind))}; without a kind it is harmful"
        raise BadInputError(f"no kind '{str(kind)[:40]}' of prompt", where=row.where, cure=cure)
    category = str(row.values.get("category") or "")
    if category not in policy().categories:
        category = OTHER if kind == "harmful" else GENERAL
    return [
        _demonstration(context, one.prompt, one.text, cast(Kind, kind), category)
        for one in dataset.answers([row], count)
    ]


def _demonstration(context: Context, prompt: Messages, answer: str, kind: Kind, category: str) -> Demonstration:
    number = Prompt(prompt, "harmful", category).id
    known = context.sets.by_id.get(number)
    group = min(number, known.twin or number) if known else number  # a twin that the journey has is learned with it
    return Demonstration(prompt, number, answer.strip(), kind, category, GIVEN, group=group)


def _why_not(one: Demonstration) -> str:
    if files_of(one.prompt):
        return "pictures, which journeys do not learn"
    if not any(message.role == "user" for message in one.prompt):
        return "no request before the answer"
    known = policy().categories.get(one.category)
    if one.kind == "harmful" and known and known.held_out:
        return f"its category ({one.category}) is held out for measuring"
    return ""


def _take(context: Context, found: Given, asked: Sequence[tuple[Demonstration, str]], check: Check) -> None:
    """Take what passes, and note why the others do not."""
    measured = {MEASURED: [p.text for p in (*context.sets.dev, *context.sets.test)]}
    known = {**benchmarks_at(context.data_dir), **measured}
    prompts = {one.prompt_id: Prompt(one.prompt, "harmful", one.category) for one, _ in asked}
    unclean = {d.prompt.id: d.of for d in decontaminate(list(prompts.values()), known).dropped}
    for one, where in asked:
        if one.prompt_id in unclean:
            found.dropped.append({"reason": f"its prompt is among {unclean[one.prompt_id]}", "where": where})
            continue
        wrong = problems(one.prompt, one.answer, harmful=one.kind == "harmful", category=one.category)
        if wrong:
            rows = found.dropped if check == "drop" else found.warned
            rows.append({"reason": "; ".join(wrong), "where": where})
        if not wrong or check == "warn":
            found.demonstrations.append(one)


def _tell(context: Context, name: str, files: Sequence[str], found: Given) -> None:
    reasons = Counter(row["reason"] for row in found.dropped)
    key = digest([[to_json(one) for one in found.demonstrations], found.dropped])
    stage = context.journey.stage(f"given-{name}", files=list(files), data=key)
    if not stage.manifest:
        for row in found.dropped:
            stage.drop({"where": row["where"]}, row["reason"])
        stage.finish(demonstrations=len(found.demonstrations))
    if not found.demonstrations:
        problem = "".join(f"; {n} left out: {reason}" for reason, n in reasons.items())
        cure = f"the lines stand in {stage.path('dropped.jsonl')}; with checklist: warn what fails it is learned"
        raise BadInputError(f"no demonstration to learn{problem}", where=", ".join(files), cure=cure)
    first = {reason: next(r["where"] for r in found.dropped if r["reason"] == reason) for reason in reasons}
    notes = [f"{n} of your demonstrations, the first at {first[reason]}: {reason}" for reason, n in reasons.items()]
    context.left_out += [note for note in notes if note not in context.left_out]
    warned = Counter(row["reason"] for row in found.warned)
    for reason, n in warned.items():
        where = next(r["where"] for r in found.warned if r["reason"] == reason)
        context.journey.tell(name, f"{n} of your demonstrations fail the checklist, the first at {where}: {reason}")


def part(found: Sequence[Demonstration], most: int | None) -> list[Demonstration]:
    """Return all benign demonstrations, and at most so many of the harmful ones, in their order."""
    safe = [one for one in found if one.kind == "harmful"][:most]
    return [*safe, *(one for one in found if one.kind != "harmful")]


def cut_note(before: Sequence[Any], after: Sequence[Any], why: str) -> list[str]:
    """Return a line on how many demonstrations were left out for a reason; none where none were."""
    gone = len(before) - len(after)
    return [f"{gone} demonstrations: {why}"] if gone > 0 else []
