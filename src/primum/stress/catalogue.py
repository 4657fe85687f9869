"""Which tampers are tried, and at which levels."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple, cast

from primum.core.catalogue import member, names
from primum.core.errors import UsageError, did_you_mean
from primum.stress.setting import Kind, Shape, Tamper

ORDER: tuple[Kind, ...] = ("asking", "weights", "training")


class Cell(NamedTuple):
    """One field of the matrix: a tamper at a level."""

    tamper: str
    level: str
    kind: Kind

    @property
    def id(self) -> str:
        """A name that can be a folder's."""
        return f"{self.tamper}-{self.level}".replace(" ", "-").replace("/", "-")


def cells(wanted: Sequence[str], shape: Shape, only: Sequence[str] = ()) -> list[Cell]:
    """Return the cells of the matrix, cheap ones first.

    Args:
        wanted: names of tampers; all where none is named.
        shape: how large attacks by training are.
        only: cells by their names, or patterns of them ("prefill-*"); all where none is named.

    Raises:
        UsageError: no such tamper, or no cell has such a name; names the nearest.
    """
    chosen = list(dict.fromkeys(wanted)) or names("tampers")
    found: list[Cell] = []
    for name in chosen:
        one = cast(Tamper, member("tampers", name))
        found += [Cell(name, level, one.kind) for level in one.levels(shape)]
    for pattern in only:
        if not any(fnmatchcase(cell.id, pattern) for cell in found):
            raise UsageError(f"no cell '{pattern}'", cure=did_you_mean(pattern, [cell.id for cell in found]))
    kept = [cell for cell in found if not only or any(fnmatchcase(cell.id, pattern) for pattern in only)]
    return sorted(kept, key=lambda cell: ORDER.index(cell.kind))
