"""MinHash with one permutation, against exact overlaps and against its own definition bin by bin."""

import random

import numpy as np
import pytest

from primum.audit import minhash
from primum.audit.minhash import BINS, minhashes

EMPTY = 0xFFFFFFFF


def hashes_of(sets, rng):
    """A fixed random 64-bit number for every member."""
    drawn: dict[int, int] = {}
    rows = [[drawn.setdefault(member, rng.getrandbits(64)) for member in one] for one in sets]
    flat = np.array([value for row in rows for value in row], np.uint64)
    return flat, np.cumsum([0, *map(len, rows)])


def by_definition(hashes):
    """What the papers say, one bin after the other, in Python."""
    least: dict[int, int] = {}
    for value in map(int, hashes):
        place, number = value >> 57, value >> 20 & EMPTY
        least[place] = min(number, least.get(place, EMPTY))
    orders = minhash._ORDERS.T.tolist()
    return [next((least[one] for one in order if one in least), EMPTY) for order in orders]


def test_every_bin_looks_into_every_bin_and_first_into_itself():
    assert minhash._ORDERS[0].tolist() == list(range(BINS))
    assert all(sorted(column) == list(range(BINS)) for column in minhash._ORDERS.T.tolist())
    later = minhash._ORDERS[1]
    assert len(set(later.tolist())) < BINS and (later != np.arange(BINS)).all()  # drawn for each bin by itself


@pytest.mark.parametrize("sizes", [(0, 1, 2, 5), (24, 25, 26, 30), (40, 200, 1000), (300, 400), (), (0,), (3,) * 1500])
def test_numbers_are_those_of_the_definition(sizes):
    rng = random.Random(5)
    hashes, offsets = hashes_of([[rng.randrange(10**9) for _ in range(size)] for size in sizes], rng)
    found = minhashes(hashes, offsets)
    assert found.shape == (len(sizes), BINS) and found.dtype == np.uint32
    for at in range(len(sizes)):
        assert found[at].tolist() == by_definition(hashes[offsets[at] : offsets[at + 1]]), at


@pytest.mark.parametrize(("size", "other"), [(2, 3), (8, 7), (26, 30), (110, 140), (127, 129), (190, 200), (800, 780)])
def test_equal_numbers_estimate_the_overlap_without_bias(size, other):
    rng, off, spread = random.Random(size), [], []
    for _ in range(300):
        common = round(0.9 * min(size, other)) if min(size, other) > 4 else 1
        one, two = set(range(size)), set(range(common)) | set(range(10_000, 10_000 + other - common))
        exact = len(one & two) / len(one | two)
        numbers = minhashes(*hashes_of([one, two], rng))
        off.append(float(np.mean(numbers[0] == numbers[1])) - exact)
        spread.append(exact * (1 - exact) / BINS)
    error = float(np.mean(spread)) ** 0.5  # of as many independent hash functions
    assert abs(float(np.mean(off))) <= 4 * error / 300**0.5
    more = 1.4 if size < 60 else 1.15  # copies tell nothing new; .15: some 3.5 standard errors of a spread of 300
    assert float(np.std(off)) <= more * error
