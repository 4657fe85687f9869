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
from typing import Any, cast

import torch

from primum.core.progress import Advance, silent
from primum.core.records import digest, files_of
from primum.models.embedded import cache_folder
from primum.models.load import Model
from primum.training.batches import cut_rows
from primum.training.examples import Example
from primum.training.rows import lengths_of
from primum.training.score import score, shares_prompts
from primum.training.sharding import sharded
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
    ) -> Sequence[float]:
        """Return the log-probability of each example's answer (nats, summed), from the file where it is there.

        Args:
            network: the model, with an adapter that changes nothing yet or without one.
            examples: what to score.
            token_budget: tokens of a forward pass.
            advance: told the examples done.
            team: the processes that share the work; all get all numbers.
        """
        found, lengths = array("d", bytes(8 * len(examples))), lengths_of(examples)
        groups = cut_rows(examples, token_budget, shares_prompts(network, examples[:4]))
        own = [groups[n] for n in team.deal([sum(lengths[i] for i in group) for group in groups])]

        def put(group: Sequence[int], logps: Sequence[float | None]) -> None:
            for i, logp in zip(group, logps, strict=True):
                found[i] = cast(float, logp)
            advance(len(group))

        with closing(self._open()) as file:
            todo: list[Sequence[int]] = []
            for group in own:
                logps = self._known(file, [examples[i] for i in group])
                if None in logps:
                    todo.append(group)
                else:
                    put(group, logps)
            passes = max(team.gathered(len(todo)))
            for group in todo:
                rows = [examples[i] for i in group]
                put(group, self._scored(file, network, rows, self._known(file, rows)))
        if team.size > 1 and sharded(network):
            for _ in range(passes - len(todo)):  # blocks are put together by all processes at once
                score(network, [examples[0]])
        if team.size > 1:
            for part in team.gathered([(i, found[i]) for group in own for i in group]):
                for i, logp in part:
                    found[i] = logp
        return found

    def _known(self, file: sqlite3.Connection, rows: Sequence[Example]) -> list[float | None]:
        wanted = "select logp from logps where key = ? and row = ?"
        found = [file.execute(wanted, (self.key, row_key(row))).fetchone() for row in rows]
        return [one[0] if one else None for one in found]

    def _scored(
        self, file: sqlite3.Connection, network: Any, rows: Sequence[Example], known: Sequence[float | None]
    ) -> list[float | None]:
        """Score all rows of a group and write those that were not known."""
        logps: list[float] = score(network, rows).logps.float().tolist()
        each = list(zip(rows, known, logps, strict=True))
        with file:
            new = [(self.key, row_key(row), logp) for row, old, logp in each if old is None]
            file.executemany("insert or ignore into logps values (?, ?, ?)", new)
        return [logp if old is None else old for _, old, logp in each]


def row_key(example: Example) -> bytes:
    """Return the hash of a row's token ids, of where its answer begins, and of its pictures."""
    ids = array("q", (len(example.prompt), *example.prompt, *example.answer))
    pictures = "".join(part.sha256 for part in files_of(example.seen or ()))
    return hashlib.sha256(ids.tobytes() + pictures.encode()).digest()[:16]
