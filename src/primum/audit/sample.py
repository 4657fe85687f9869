"""Which documents belong to a sample, and a few of a corpus without reading all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from heapq import nsmallest
from itertools import islice

from primum.audit.reading.document import Document
from primum.audit.reading.files import Input
from primum.audit.reading.records import Fields, documents
from primum.audit.reading.sources import Limits, parts

BLOCKS = 16
"""Of a corpus that a glance reads."""


def glance(inputs: Sequence[Input], limits: Limits, fields: Fields, many: int) -> list[Document]:
    """Return some documents of a corpus, of the first blocks of its inputs (of evenly spread ones where many).

    The same of the same corpus each time. What cannot be read is left to the pass to report.

    Raises:
        MissingExtraError: an optional part is needed to read it.
    """
    spread = inputs[:: -(-len(inputs) // BLOCKS)]
    found = (document for one in spread for document in _first(one, limits, fields, max(1, BLOCKS // len(spread))))
    return nsmallest(many, found, key=lambda one: _place(one.where, 0))


def _first(one: Input, limits: Limits, fields: Fields, blocks: int) -> Iterator[Document]:
    for part in islice(parts(one, limits), blocks):
        for found in documents(part, one.name, limits.longest, fields, limits.text_unit):
            if isinstance(found, Document):
                yield found


def sampled(identity: str, share: float, seed: int) -> bool:
    """Return whether a document belongs to the sample; decided by a hash, so by any worker alike."""
    if share >= 1:
        return True
    return _place(identity, seed) < share * (1 << 64)


def _place(identity: str, seed: int) -> int:
    digest = hashlib.blake2b(f"{seed}\0{identity}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big")
