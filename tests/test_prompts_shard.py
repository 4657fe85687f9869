from __future__ import annotations

import pytest

from primum.core.errors import UsageError
from primum.prompts.shard import merge, parse_shard_name, shard_name, take


@pytest.mark.parametrize("modulo", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("n", [0, 1, 6, 7, 10])
def test_shards_are_disjoint_together_all_and_merge_in_order(n, modulo):
    items = [f"item {i}" for i in range(n)]
    shards = [take(items, offset, modulo) for offset in range(modulo)]
    assert sorted(item for shard in shards for item in shard) == sorted(items)
    assert merge(shards) == items


def test_a_shard_holds_the_indices_with_its_remainder():
    assert take(range(10), 1, 4) == [1, 5, 9]


@pytest.mark.parametrize(("offset", "modulo"), [(2, 2), (3, 2), (-1, 2), (0, 0), (0, -1)])
def test_impossible_shards_are_rejected(offset, modulo):
    with pytest.raises(UsageError):
        take([1, 2, 3], offset, modulo)
    with pytest.raises(UsageError):
        shard_name(offset, modulo)


@pytest.mark.parametrize("shards", [[], [[0], [1, 3]], [[0, 2, 4], [1]], [["a"], ["b"], ["c", "d"]]])
def test_merge_refuses_shards_that_cannot_belong_together(shards):
    with pytest.raises(UsageError):
        merge(shards)


def test_names_are_meditrons_and_read_back():
    assert shard_name(3, 8) == "answers-3-8.jsonl"
    assert parse_shard_name("answers-3-8.jsonl") == (3, 8)


@pytest.mark.parametrize("name", ["answers-8-8.jsonl", "answers-1.jsonl", "answers-01-8.jsonl", "../answers-0-1.jsonl"])
def test_other_names_are_refused(name):
    with pytest.raises(UsageError):
        parse_shard_name(name)
