"""What was left out, and why: a dropped prompt keeps its reason, and the twin links of the rest are mended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from primum.core.records import JsonDict, Prompt, to_json

Reason = Literal["blank", "exact_duplicate", "near_duplicate", "same_words_other_intent", "in_benchmark"]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A prompt left out.

    `of` is the id of the prompt it duplicates, or the name of the benchmark that holds it; empty for blank ones.
    """

    prompt: Prompt
    reason: Reason
    of: str = ""
    detail: str = ""

    def row(self) -> JsonDict:
        """Return the line of dropped.jsonl."""
        return {**to_json(self.prompt), "reason": self.reason, "of": self.of, "detail": self.detail}


def mend_twins(kept: Sequence[Prompt], instead: Mapping[str, str]) -> list[Prompt]:
    """Point each twin link at a prompt that is still there, or at none.

    Args:
        kept: the prompts that stay.
        instead: id of a dropped prompt -> id of the kept one that says the same. A link follows it, so that
            look-alikes still end on the same side of a split.
    """
    by_id = {prompt.id: prompt for prompt in kept}
    twin: dict[str, str | None] = {}
    for own, prompt in by_id.items():
        target = instead.get(prompt.twin or "", prompt.twin)
        mate = by_id.get(target or "")
        twin[own] = mate.id if mate and mate.intent != prompt.intent else None
    for own, target in list(twin.items()):
        if target and twin[target] is None:
            twin[target] = own
    return [p if p.twin == twin[p.id] else replace(p, twin=twin[p.id]) for p in kept]
