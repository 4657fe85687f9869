"""Sharding by offset and modulo, as Meditron's post names its files, with the rule that its code left out.

Shard `offset` of `modulo` holds the items whose index leaves that remainder: shards are disjoint, together they are
everything, and merging restores the order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from primum.core.errors import UsageError

T = TypeVar("T")
_NAME = re.compile(r"answers-(0|[1-9]\d*)-([1-9]\d*)\.jsonl")


class Shard(NamedTuple):
    """Which part of how many."""

    offset: int
    modulo: int


def check(offset: int, modulo: int) -> Shard:
    """Return the shard.

    Raises:
        UsageError: modulo is below 1, or offset is not one of 0 ... modulo - 1.
    """
    if modulo < 1:
        raise UsageError(f"modulo must be at least 1, got {modulo}")
    if not 0 <= offset < modulo:
        raise UsageError(f"offset must be 0 to {modulo - 1}, got {offset}", cure="count shards from 0")
    return Shard(offset, modulo)


def take(items: Sequence[T], offset: int, modulo: int) -> list[T]:
    """Return the items whose index i has i % modulo == offset, in order.

    Raises:
        UsageError: no such shard.
    """
    check(offset, modulo)
    return list(items[offset::modulo])


def merge(shards: Sequence[Sequence[T]]) -> list[T]:
    """Return all items in their first order, from the shards 0 ... modulo - 1.

    Raises:
        UsageError: no shards, or one whose length cannot be that of its place (items are missing, or shards swapped).
    """
    check(0, len(shards))
    total = sum(len(shard) for shard in shards)
    for offset, shard in enumerate(shards):
        due = len(range(offset, total, len(shards)))
        if len(shard) != due:
            problem = f"shard {offset} of {len(shards)} holds {len(shard)} items, {due} are due"
            raise UsageError(problem, where=shard_name(offset, len(shards)), cure="finish every shard, then merge")
    return [shards[i % len(shards)][i // len(shards)] for i in range(total)]


def shard_name(offset: int, modulo: int) -> str:
    """Return the shard's file name, `answers-{offset}-{modulo}.jsonl`."""
    check(offset, modulo)
    return f"answers-{offset}-{modulo}.jsonl"


def parse_shard_name(name: str) -> Shard:
    """Return what a shard's file name says.

    Raises:
        UsageError: the name is not of that form.
    """
    match = _NAME.fullmatch(name)
    if not match:
        raise UsageError(f"'{name}' is no shard's name", cure="like answers-0-4.jsonl")
    return check(int(match[1]), int(match[2]))
