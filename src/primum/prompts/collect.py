"""All steps from sources to prompts ready to be sampled: load, deduplicate, decontaminate, split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from primum.core.errors import BadInputError
from primum.core.records import Intent, Prompt
from primum.prompts.decontaminate import benchmarks_at, decontaminate
from primum.prompts.dedup import dedup
from primum.prompts.dropped import Dropped
from primum.prompts.shared import default_data_dir
from primum.prompts.sources import for_evaluation, load
from primum.prompts.split import split


@dataclass(frozen=True, slots=True)
class Source:
    """One source and what its rows are, where they do not say so themselves (see `sources.load`)."""

    spec: str
    intent: Intent = "harmful"
    category: str | None = None
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Collected:
    """Prompts with their splits, what was left out and why, and what the user should know."""

    prompts: tuple[Prompt, ...]
    dropped: tuple[Dropped, ...]
    notes: tuple[str, ...]

    @property
    def dropped_counts(self) -> dict[str, int]:
        """How many were dropped for each reason."""
        return dict(Counter(d.reason for d in self.dropped))


def collect(
    sources: Sequence[Source | str],
    *,
    held_out: Collection[str],
    seed: int,
    data_dir: Path | None = None,
    dev_share: float = 0.1,
    general_test: int = 400,
) -> Collected:
    """Join the sources into one set of prompts with splits; earlier sources win over later ones.

    Prompts of evaluation sets win over all others, whatever their place: it is the user's copy that must go.

    Args:
        sources: in the order of precedence; a bare word is a source of harmful prompts.
        held_out: harm categories for testing only.
        seed: of the split.
        data_dir: the folder of public benchmarks; by default ../shared/data.
        dev_share: see `split`.
        general_test: see `split`.

    Raises:
        UsageError: a source, category or held-out category that cannot be used (see `sources.load`, `split`).
        BadInputError: a broken source, or nothing left.
    """
    folder = data_dir or default_data_dir()
    wanted = [Source(source) if isinstance(source, str) else source for source in sources]
    loaded = [p for s in wanted for p in load(s.spec, intent=s.intent, category=s.category, field=s.field,
                                              data_dir=folder)]  # fmt: skip
    loaded.sort(key=lambda prompt: not for_evaluation(prompt))
    unique = dedup(loaded)
    benchmarks = benchmarks_at(folder)
    for prompt in filter(for_evaluation, loaded):  # an evaluation set may come from elsewhere (a file, a hub)
        benchmarks.setdefault(prompt.source, []).append(prompt.text)
    clean = decontaminate(unique.kept, benchmarks)
    if not clean.kept:
        raise BadInputError("no prompt is left", where=", ".join(s.spec for s in wanted), cure="give other sources")
    prompts = split(clean.kept, held_out, seed, dev_share, general_test)
    dropped = (*unique.dropped, *clean.dropped)
    return Collected(tuple(prompts), dropped, tuple(_notes(prompts, dropped, held_out, benchmarks, folder)))


def _notes(
    prompts: Sequence[Prompt],
    dropped: Sequence[Dropped],
    held_out: Collection[str],
    benchmarks: dict[str, list[str]],
    folder: Path,
) -> list[str]:
    notes: list[str] = []
    if benchmarks:
        total = sum(len(texts) for texts in benchmarks.values())
        notes.append(f"checked against {total:,} prompts of {len(benchmarks)} benchmark sets (8 words in a row)")
    else:
        notes.append(f"not checked against benchmarks: there are none at {folder}")
    notes += [f"dropped {n}: {reason.replace('_', ' ')}" for reason, n in Counter(d.reason for d in dropped).items()]
    absent = sorted(set(held_out) - {prompt.category for prompt in prompts})
    if absent:
        notes.append(f"held out, but without prompts: {', '.join(absent)}")
    return notes
