"""Which documents belong to a sample."""

from __future__ import annotations

import hashlib


def sampled(identity: str, share: float, seed: int) -> bool:
    """Return whether a document belongs to the sample; decided by a hash, so by any worker alike."""
    if share >= 1:
        return True
    digest = hashlib.blake2b(f"{seed}\0{identity}".encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * (1 << 64)
