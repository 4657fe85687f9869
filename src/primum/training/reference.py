"""Reference log-probabilities on disk, one entry a row: they survive a new seed, rank, or edited data set.

The key of an entry is the weights, the number format, the tokenizer with its template, and the row's token ids. Rows
are scored in groups that depend on the rows alone, and a group is written whole: a pass that was killed goes on, and
ends with the numbers of one that was not.
"""

from __future__ import annotations

import hashlib
import sqlite3
from array import array
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from primum.core.progress import Advance, silent
from primum.core.records import digest
from primum.models.embedded import cache_folder
from primum.models.load import Model
from primum.training.batches import indexed_batches
from primum.training.examples import Example
from primum.training.score import score
from primum.training.team import Team

ALONE = Team()
WAIT = 60.0
"""Seconds to wait for another process that writes."""


class References:
    """A file of reference log-probabilities of one model."""

    def __init__(self, model: Model, path: Path | None = None) -> None:
        """Open or make the file.

        Args:
            model: whose log-probabilities these are.
            path: the file; by default `reference.sqlite` in primum's cache.
        """
        self.path = path or cache_folder() / "reference.sqlite"
        self.key = digest([model.key, str(model.network.dtype)])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._open()) as file, file:
            file.execute("create table if not exists logps (key text, row blob, logp real, primary key (key, row))")

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=WAIT)

    @torch.no_grad()
    def scores(
        self,
        network: Any,
        examples: Sequence[Example],
        token_budget: int = 1024,
        advance: Advance = silent,
        team: Team = ALONE,
    ) -> list[float]:
        """Return the log-probability of each example's answer (nats, summed), from the file where it is there.

        Args:
            network: the model, with an adapter that changes nothing yet or without one.
            examples: what to score.
            token_budget: tokens of a forward pass.
            advance: told the examples done.
            team: the processes that share the work; all get all numbers.
        """
        rows = [row_key(e) for e in examples]
        found: dict[int, float] = {}
        with closing(self._open()) as file:
            for group in team.share(indexed_batches(examples, token_budget)):
                known = {g.index: self._known(file, rows[g.index]) for g in group}
                if None in known.values():
                    logps = score(network, [g.example for g in group]).logps.float().tolist()
                    new = {g.index: value for g, value in zip(group, logps, strict=True) if known[g.index] is None}
                    with file:
                        values = [(self.key, rows[i], value) for i, value in new.items()]
                        file.executemany("insert or ignore into logps values (?, ?, ?)", values)
                    known |= new
                found |= {i: value for i, value in known.items() if value is not None}
                advance(len(group))
        everywhere = dict(pair for part in team.gathered(list(found.items())) for pair in part)
        return [everywhere[i] for i in range(len(examples))]

    def _known(self, file: sqlite3.Connection, row: bytes) -> float | None:
        found = file.execute("select logp from logps where key = ? and row = ?", (self.key, row)).fetchone()
        return found[0] if found else None


def row_key(example: Example) -> bytes:
    """Return the hash of a row's token ids and of where its answer begins."""
    ids = array("q", (len(example.prompt), *example.prompt, *example.answer))
    return hashlib.sha256(ids.tobytes()).digest()[:16]
