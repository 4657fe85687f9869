"""Counts to the toxicity table, its histogram, and demographic erasure. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from primum.audit.toxicity.step import OVERALL, THRESHOLD, THRESHOLDS
from primum.core.records import JsonDict
from primum.core.stats import wilson

LEAST = 5
"""Documents a group must have for an erasure ratio: fewer tell nothing."""


def summarise(scored: Mapping[str, int], removed: Mapping[str, int], histogram: Mapping[str, int]) -> JsonDict:
    """Return the share of toxic documents with its 95% Wilson interval, the histogram of scores, and erasure.

    Args:
        scored: documents by group; `all documents` holds all that were scored.
        removed: documents at or above a threshold, by "threshold<TAB>group".
        histogram: documents by twentieth of the score.
    """
    total = scored.get(OVERALL, 0)
    toxic = removed.get(f"{THRESHOLD}\t{OVERALL}", 0)
    span = wilson(toxic, total) if total else None
    return {
        "threshold": THRESHOLD, "documents": total, "toxic": toxic, "share": span.value if span else None,
        "low": span.low if span else None, "high": span.high if span else None,
        "histogram": [histogram.get(str(i), 0) for i in range(20)],
        "erasure": {str(threshold): erasure(scored, removed, threshold) for threshold in THRESHOLDS},
    }  # fmt: skip


def erasure(scored: Mapping[str, int], removed: Mapping[str, int], threshold: float) -> JsonDict:
    """Return what a filter at a threshold would remove: of all documents, and of those that mention each group.

    The ratio is the group's share over the share of all; above 1 the filter silences the group more than the rest.
    It is None where nothing at all would be removed, or the group has fewer than LEAST documents.
    """
    total, gone = scored.get(OVERALL, 0), removed.get(f"{threshold}\t{OVERALL}", 0)
    overall = gone / total if total else 0.0
    rows: JsonDict = {}
    for group, documents in sorted(scored.items()):
        if group == OVERALL or not documents:
            continue
        lost = removed.get(f"{threshold}\t{group}", 0)
        share = lost / documents
        ratio = share / overall if overall and documents >= LEAST else None
        rows[group] = {"documents": documents, "removed": lost, "share": share, "ratio": ratio}
    return {"documents": total, "removed": gone, "share": overall if total else None, "groups": rows}
