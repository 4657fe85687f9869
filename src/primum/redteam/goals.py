"""What is asked for: the embedded held-out prompts, prompts of the user's own, or a benchmark's harmful ones.

Goals are only asked, never trained on, so that acceptance sets may be used here. Kept are prompts of harmful intent;
what else a source holds is counted, not hidden.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from primum.core.catalogue import member, names
from primum.core.errors import BadInputError
from primum.core.records import Messages, Prompt, files_of, from_json, to_json
from primum.core.store import read_jsonl, write_jsonl
from primum.core.taxonomy import policy
from primum.prompts.collect import Source, collect
from primum.prompts.sources import load

EMBEDDED = "embedded"
FILE = "goals.jsonl"


class Goals(NamedTuple):
    """Harmful prompts to attack with, and how many of the sources' prompts are left out, by reason."""

    prompts: list[Prompt]
    left_out: dict[str, int]


def goals_from(sources: Sequence[str], limit: int | None) -> Goals:
    """Return the goals of the sources, without duplicates, at most `limit`, spread over their categories.

    Args:
        sources: `embedded` (the held-out test split), the name of a benchmark, a JSONL/CSV/Parquet file, `shared:NAME`
            or `hub:ID:SPLIT:FIELD`.
        limit: the most; None takes all.

    Raises:
        BadInputError: a source that cannot be read, or none that holds a harmful prompt.
        UsageError: a source that does not exist.
    """
    found = [prompt for source in sources for prompt in _load(source)]
    unique = list({prompt.id: prompt for prompt in reversed(found)}.values())[::-1]
    harmful = [prompt for prompt in unique if prompt.intent == "harmful" and not files_of(prompt.messages)]
    if not harmful:
        problem = "holds no prompt of harmful intent, in words alone, to attack with"
        raise BadInputError(problem, where=", ".join(sources), cure="give prompts that a model should not answer")
    left_out = Counter(f"intent is {prompt.intent}" for prompt in unique if prompt.intent != "harmful")
    pictured = [prompt for prompt in unique if prompt.intent == "harmful" and files_of(prompt.messages)]
    left_out += Counter({"holds a picture or recording, which attacks do not wrap": len(pictured)})
    left_out += Counter({"the same words twice": len(found) - len(unique)})
    taken = spread(harmful, limit)
    left_out += Counter({"over the limit": len(harmful) - len(taken)})
    return Goals(taken, dict(left_out))


def _load(source: str) -> Iterable[Prompt]:
    if source == EMBEDDED:
        held_out = tuple(c.id for c in policy().categories.values() if c.held_out)
        return [p for p in collect([Source(EMBEDDED)], held_out=held_out, seed=0).prompts if p.split == "test"]
    if source in names("benchmarks") and not Path(source).exists():
        asked = [getattr(item, "prompt", item) for item in member("benchmarks", source).items()]
        return [prompt for prompt in asked if isinstance(prompt, Prompt)]
    return load(source)


def spread(prompts: Iterable[Prompt], most: int | None) -> list[Prompt]:
    """Take up to `most`, one of each category in turn, in the order of ids: the same whatever the input's order."""
    waiting: dict[str, list[Prompt]] = defaultdict(list)
    for prompt in sorted(prompts, key=lambda p: p.id):
        waiting[prompt.category].append(prompt)
    turns = max(map(len, waiting.values()), default=0)
    order = [rows[i] for i in range(turns) for _, rows in sorted(waiting.items()) if i < len(rows)]
    return order[:most]


def before(goal: Prompt) -> Messages:
    """Return what stands before the request in the goal itself: its own system prompt and earlier turns."""
    last = max(i for i, message in enumerate(goal.messages) if message.role == "user")
    return goal.messages[:last]


def keep(folder: Path, goals: Sequence[Prompt]) -> None:
    """Write the goals into the run folder, so that a later run can ask the same ones."""
    write_jsonl(folder / FILE, [to_json(goal) for goal in goals])


def kept(folder: Path) -> list[Prompt]:
    """Read the goals of an earlier run.

    Raises:
        BadInputError: the folder holds none, or a line is broken.
    """
    path = folder / FILE
    if not path.is_file():
        raise BadInputError("no goals of a red-team run here", where=str(folder), cure="name its --out folder")
    return [from_json(Prompt, row) for _, row in read_jsonl(path)]
