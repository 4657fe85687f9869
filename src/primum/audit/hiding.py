"""Ids and names of sources that are personal information themselves: a typed placeholder with a hash takes its place.

The hash keeps them apart and lets attributes be joined with masked rows; the value is written nowhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from primum.audit.notes import Counts, Note
from primum.audit.pii.numbers import REGIONS
from primum.audit.pii.scan import scan

_SUSPECT = re.compile(r"@|(?:\d\D{0,3}){7}|\d+\.\d+\.\d+\.\d|[A-Za-z0-9_\-]{20}|:.*:.*:")
"""A quick look that lets most ids pass; what it finds is scanned."""


@lru_cache(maxsize=1024)
def hidden(name: str, regions: Sequence[str] = REGIONS) -> str:
    """Return an id or a source's name with `<EMAIL:1a2b3c4d>` in place of an address, and so on.

    A whole number is left as it is: it may be a count as well as a telephone.
    """
    if not _SUSPECT.search(name) or name.isdecimal():
        return name
    parts: list[str] = []
    at = 0
    for span in scan(name, regions):
        parts += [name[at : span.start], f"<{span.type.upper()}:{_hash(name[span.start : span.end])}>"]
        at = span.end
    return "".join([*parts, name[at:]])


def _hash(value: str) -> str:
    return hashlib.blake2b(value.encode("utf-8", "replace"), digest_size=4).hexdigest()


@dataclass
class HideStep:
    """Hides personal information in ids and sources, before anything is counted or written by them."""

    regions: tuple[str, ...] = REGIONS

    def __call__(self, notes: Sequence[Note], counts: Counts) -> None:
        """Look at a block's ids and sources."""
        del counts
        for note in notes:
            own = note.document
            name, source = hidden(own.id, self.regions), hidden(own.source, self.regions)
            if name != own.id or source != own.source:
                note.document = own._replace(id=name, source=source)
