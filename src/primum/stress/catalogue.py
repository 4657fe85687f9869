"""Which tampers are tried, and at which levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

from primum.core.catalogue import member, names
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


def cells(wanted: Sequence[str], shape: Shape) -> list[Cell]:
    """Return the cells of the matrix, cheap ones first.

    Raises:
        UsageError: no such tamper; names the nearest.
    """
    chosen = list(dict.fromkeys(wanted)) or names("tampers")
    found: list[Cell] = []
    for name in chosen:
        one = cast(Tamper, member("tampers", name))
        found += [Cell(name, level, one.kind) for level in one.levels(shape)]
    return sorted(found, key=lambda cell: ORDER.index(cell.kind))
