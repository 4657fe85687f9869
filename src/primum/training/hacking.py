"""Signs that a policy has learned the reward model and not the task: looked for in the log of on-policy training."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from primum.core.records import JsonDict

WINDOW = 3
"""Iterations that are averaged at the start and at the end."""
LONGER, SHORTER = 1.6, 0.5
REFUSALS, REPETITION = 0.25, 0.2
FLAT = 0.4
GAP = 0.1
"""A gap between the reward and the guard's that is smaller may be chance."""
FOLLOWS, FULL = 0.1, 0.95
"""A guard that rises by a smaller share of the reward's rise stands still; one this high has nowhere to rise."""

FELL = "over_optimised"
GUARDS = {"guard": "the guard's", "second": "the second reward model's"}
"""Who watches, by the log's key: a judge, and a reward model that training never sees."""


def flags(log: Sequence[JsonDict], window: int = WINDOW) -> list[JsonDict]:
    """Return the alarms of a training log: name, step, and what is wrong in one sentence.

    Looked at are mean length, share of refusals, repetition, entropy, and the gap between the reward that is trained
    on and the guards', a judge and a second reward model that training never sees (the over-optimisation of
    arXiv:2210.10760): it grows where the guard's falls, and where it stands still.
    """
    if len(log) < 2 * window:
        return []
    first, last, step = log[:window], log[-window:], int(log[-1]["step"])
    found: list[tuple[str, str]] = []
    for key, name in (("tokens", "length"), ("entropy", "entropy")):
        before, after = _mean(first, key), _mean(last, key)
        if before and after is not None:
            found += _ratio(name, after / before, before, after)
    for key, limit in (("refusals", REFUSALS), ("repetition", REPETITION)):
        before, after = _mean(first, key), _mean(last, key)
        if before is not None and after is not None and after - before > limit:
            found.append((key, f"{key} rose from {100 * before:.0f}% to {100 * after:.0f}% of replies"))
    for key in GUARDS:
        found += _guard(first, last, key)
    return [{"step": step, "name": name, "text": text} for name, text in found]


def _ratio(name: str, ratio: float, before: float, after: float) -> list[tuple[str, str]]:
    if name == "length" and not SHORTER <= ratio <= LONGER:
        return [(name, f"replies went from {before:.0f} to {after:.0f} tokens")]
    if name == "entropy" and ratio < FLAT:
        return [(name, f"entropy fell from {before:.2f} to {after:.2f} nats a token: replies become one and the same")]
    return []


def over_optimised(log: Sequence[JsonDict], key: str = "second", window: int = WINDOW) -> str:
    """Return in one sentence that the reward rose while a guard's fell; an empty text where it did not, so far."""
    if len(log) < 2 * window:
        return ""
    found = dict(_guard(log[:window], log[-window:], key))
    return found.get(FELL, "")


def _guard(first: Sequence[JsonDict], last: Sequence[JsonDict], key: str) -> list[tuple[str, str]]:
    before, after, seen, now = (_mean(part, name) for name in ("reward", key) for part in (first, last))
    if before is None or after is None or seen is None or now is None:
        return []
    return apart((before, after), (seen, now), GUARDS[key])


def apart(reward: tuple[float, float], guard: tuple[float, float], whose: str) -> list[tuple[str, str]]:
    """Return the alarm (name, sentence) where a reward rose, before to after, and a guard's did not follow it.

    Args:
        reward: what is optimised, mean before and after.
        guard: the same of who watches.
        whose: reward the guard's is, for the sentence.
    """
    rise, follow = reward[1] - reward[0], guard[1] - guard[0]
    if rise <= 0 or rise - follow <= GAP:
        return []
    if follow < 0:
        return [(FELL, f"the reward rose by {rise:.2f} while {whose} fell by {-follow:.2f}")]
    if follow < FOLLOWS * rise and guard[1] < FULL:
        return [("unmoved_guard", f"the reward rose by {rise:.2f} while {whose} stood still ({follow:+.2f})")]
    return []


def _mean(rows: Sequence[JsonDict], key: str) -> float | None:
    values = [float(row[key]) for row in rows if row.get(key) is not None]
    return fmean(values) if values else None
