"""Which of two replies to the same request is better? Asked in both orders; ties apart.

Each pair is shown in both orders (`judging.duel`); how often only the order decided is reported beside the result.
Equal replies are ties that nobody is asked about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from primum.core.records import user
from primum.core.stats import bonett_price, mcnemar_exact
from primum.evaluation.tables import ScoredItem, Table
from primum.judging.duel import Prefer, Shown, duels, question

if TYPE_CHECKING:
    from primum.models.load import Model

FAILED = "error"
"""How a reply ended that the engine did not give: it is none, and loses to nobody."""


@dataclass(frozen=True, slots=True)
class WinRate:
    """Run B against run A: counts over n pairs, and the wins of B less its losses as a share of n, with limits.

    `by_place` counts ties that only the order made; `same` those whose replies are equal. `p` is the sign test's, over
    wins and losses. `prompts_cut` counts the questions, two for each pair, that the judge's model did not read whole.
    """

    benchmark: str
    n: int
    wins: int
    losses: int
    ties: int
    by_place: int
    same: int
    unscored: int
    net: float | None
    low: float | None
    high: float | None
    p: float | None
    prompts_cut: int = 0


def win_rates(
    a: Sequence[Table], b: Sequence[Table], prefer: Prefer, most: int | None = None, confidence: float = 0.95
) -> list[WinRate]:
    """Compare the replies of two runs to the same items, benchmark by benchmark.

    A benchmark that several judges read counts once. At most `most` items of each are asked about: the first by the
    hash of their id, which has nothing to do with the replies.
    """
    second = {table.benchmark: table for table in b}
    first = {table.benchmark: table for table in reversed(a)}
    found: list[WinRate] = []
    for name, table in reversed(first.items()):
        pairs = _pairs(table, second[name]) if name in second else []
        shown = [
            Shown(row.prompt, row.reply, new.reply) for row, new in pairs if FAILED not in (row.finish, new.finish)
        ]
        if pairs:
            one = rate(name, shown[:most], prefer, confidence)
            found.append(replace(one, unscored=one.unscored + len(pairs) - len(shown)))
    return found


def _pairs(a: Table, b: Table) -> list[tuple[ScoredItem, ScoredItem]]:
    other = {row.item: row for row in b.rows}
    both = [(row, other[row.item]) for row in a.rows if row.item in other and row.finish and other[row.item].finish]
    both.sort(key=lambda pair: hashlib.sha256(pair[0].item.encode("utf-8", "surrogatepass")).digest())
    return both


def rate(benchmark: str, pairs: Sequence[Shown], prefer: Prefer, confidence: float = 0.95) -> WinRate:
    """Ask about every pair in both orders, and count; in each pair A's reply stands first."""
    asked = [one for one in pairs if one.first.strip() != one.second.strip()]
    before = _cut(prefer)
    outcomes = duels(asked, prefer)
    wins, losses = outcomes.count("b"), outcomes.count("a")
    by_place, unscored, same = outcomes.count("tie"), outcomes.count("unscored"), len(pairs) - len(asked)
    n = len(pairs) - unscored
    net = bonett_price(losses, wins, n, confidence) if n else None
    return WinRate(
        benchmark, n, wins, losses, by_place + same, by_place, same, unscored, net.value if net else None,
        net.low if net else None, net.high if net else None, mcnemar_exact(losses, wins) if n else None,
        _cut(prefer) - before,
    )  # fmt: skip


def _cut(prefer: Prefer) -> int:
    return prefer.cut if isinstance(prefer, ByModel) else 0


@dataclass
class ByModel:
    """A judge: how much likelier a model answers "1" than "2" (nats), in its chat template.

    `cut` counts the questions so far that were longer than its window, so that it did not read their beginning.
    """

    model: Model
    cut: int = 0

    def __call__(self, shown: Sequence[Shown]) -> list[float]:
        """Return for each how much more the first reply is preferred."""
        from primum.evaluation.likelihood import Request, loglikelihoods
        from primum.models.chat import render

        contexts = [render((user(question(one)),), self.model.tokenizer) for one in shown]
        requests = [Request(context, answer) for context in contexts for answer in ("1", "2")]
        found = loglikelihoods(self.model, requests)
        pairs = list(zip(found[::2], found[1::2], strict=True))
        self.cut += sum(max(one.context_cut, two.context_cut) > 0 for one, two in pairs)
        return [one.logp - two.logp for one, two in pairs]
