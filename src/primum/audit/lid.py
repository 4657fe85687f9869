"""fastText's language classifier (Joulin et al. 2016, arXiv:1607.01759, 1612.03651) in numpy, for many texts at once.

A text's vector is the mean of its words' vectors, and a word's is the sum over the n-grams of its letters. Words come
again and again, so each is summed once and kept: a whole text then costs less than its first 130 characters cost
fastText, which sums every n-gram of every word anew. The file is fastText's own (`.ftz`: quantised rows, a pruned
dictionary, hierarchical softmax); the answers are its own up to rounding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from primum.audit.hashing import Words, hashed_words, slices
from primum.core.errors import BadInputError

MAGIC, VERSION = 793712314, 12
HIERARCHICAL = 1
LABEL, END = b"__label__", b"</s>"
OFFSET, PRIME = np.uint32(2166136261), np.uint32(16777619)
"""FNV-1a of 32 bits; fastText adds its bytes with their sign."""
EPSILON = np.float32(1e-5)
"""fastText's logarithm is that of x + 1e-5."""
SLOTS = 17
"""Binary logarithm of how many words' sums are kept at most, each in the one slot that its hash names."""
_BLANKS = bytes(32 if c in b"\0\t\n\v\f\r" else c for c in range(256))
"""What fastText takes for a blank."""
Floats = NDArray[np.float32]
Whole = NDArray[np.int64]


class Row(NamedTuple):
    """A node of the tree of labels: its two children, numbered as in fastText (leaves first)."""

    left: int
    right: int


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def numbers(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return found

    def word(self) -> bytes:
        end = self.data.index(b"\0", self.at)
        found, self.at = self.data[self.at : end], end + 1
        return found

    def array(self, dtype: str, *shape: int) -> NDArray[Any]:
        found = np.frombuffer(self.data, dtype, int(np.prod(shape)), self.at).reshape(shape)
        self.at += found.nbytes
        return found

    def centroids(self) -> Floats:
        """Return a product quantiser's centroids (parts, 256, numbers a part).

        Raises:
            BadInputError: the last part is shorter than the others.
        """
        _, parts, size, last = self.numbers("4i")
        if size != last:
            raise BadInputError("a quantiser with a shorter last part is not read", cure="name a lid.176.ftz")
        return self.array("<f4", parts, 256, size)


class Classifier:
    """The labels of texts.

    Args:
        path: a supervised fastText model: quantised input, whole output, hierarchical softmax, no word n-grams.

    Raises:
        BadInputError: the file is no such model.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._load(_Reader(path.read_bytes()))
        except (struct.error, ValueError, IndexError) as error:
            raise BadInputError(f"not a quantised fastText model ({error})", where=str(path)) from error

    def _load(self, file: _Reader) -> None:
        magic, version = file.numbers("2i")
        size, _, _, _, _, word_ngrams, loss, _, bucket, self._least, self._most, _ = file.numbers("12i")
        file.numbers("d")
        if (magic, version, word_ngrams, loss) != (MAGIC, VERSION, 1, HIERARCHICAL):
            raise ValueError("another version, loss or word n-grams")
        entries, words, _ = file.numbers("3i")
        _, pruned = file.numbers("2q")
        held = [(file.word(), *file.numbers("qb")) for _ in range(entries)]
        self.labels = [name.removeprefix(LABEL).decode() for name, _, kind in held if kind]
        counts = [count for _, count, kind in held if kind]
        kept = file.array("<i4", pruned, 2)
        rows = self._rows(file)
        self._nothing = len(rows)  # of an n-gram that was pruned
        self._vectors = np.zeros((len(rows) + 1, size + 1), np.float32)  # each with a 1, so that sums are counted, too
        self._vectors[:-1, :-1], self._vectors[:-1, -1] = rows, 1
        self._size = np.uint32(bucket)
        self._buckets = np.full(bucket, self._nothing, np.int32)
        self._buckets[kept[:, 0]] = kept[:, 1] + words
        if file.numbers("?")[0]:
            raise ValueError("its output is quantised, too")
        self._output = file.array("<f4", *file.numbers("2q"))[: len(counts) - 1].T.copy()
        self._paths = paths(tree(counts), len(counts))
        known = hashed_words([b" ".join(name for name, _, kind in held if not kind)], _BLANKS).words
        self._rank = np.argsort(known)
        self._known = known[self._rank]
        self._end = next(number for number, (name, _, _) in enumerate(held) if name == END)
        self._keys, self._sums = np.zeros(1 << SLOTS, np.uint64), np.zeros((1 << SLOTS, size + 1), np.int64)

    def forget(self) -> None:
        """Forget the sums of words; a benchmark that reads the same texts again calls it."""
        self._keys[:] = 0

    def _rows(self, file: _Reader) -> Floats:
        if not file.numbers("?")[0]:
            raise ValueError("its input is not quantised")
        normed, rows, _, size = *file.numbers("?"), *file.numbers("2q"), *file.numbers("i")
        codes = file.array("u1", rows, size // rows)
        centroids = file.centroids()
        found = np.concatenate([part[codes[:, at]] for at, part in enumerate(centroids)], axis=1)
        if normed:
            norms = file.array("u1", rows)
            found *= file.centroids()[0][norms]
        return found

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """Return the probability of every label of `labels` for each text; (texts, labels)."""
        hidden = [self._means(some) for some in slices(texts)] or [np.empty((0, len(self._output)), np.float32)]
        right = 1 / (1 + np.exp(-np.clip(np.concatenate(hidden) @ self._output, -50, 50)))
        return np.exp(np.log(1 - right + EPSILON) @ self._paths[0] + np.log(right + EPSILON) @ self._paths[1])

    def _means(self, texts: Sequence[str]) -> Floats:
        """Return the mean of the vectors of a text's n-grams, of its known words and of its end; (texts, size)."""
        found = hashed_words([text.encode("utf-8", "replace") for text in texts], _BLANKS)
        slots = (found.words >> np.uint64(64 - SLOTS)).astype(np.int64)
        kept = self._keys[slots] == found.words
        sums = _by_part(self._sums, slots, found.first, kept) + _fixed(self._vectors[self._end])
        new = np.flatnonzero(~kept)
        if len(new):
            hashes, first, again = np.unique(found.words[new], return_index=True, return_inverse=True)
            chosen = new[first]
            more = _fixed(self._of_words(hashes, _bracketed(found.blob, found.starts[chosen], found.ends[chosen])))
            sums += _by_part(more, again, np.searchsorted(new, found.first))
            self._keys[slots[chosen]], self._sums[slots[chosen]] = hashes, more
        return (sums[:, :-1] / sums[:, -1:]).astype(np.float32)

    def _of_words(self, hashes: Words, bracketed: bytes) -> Floats:
        """Return the sum of the vectors of each word and of its n-grams.

        Args:
            hashes: of the words.
            bracketed: the words themselves, each as `<word> `.
        """
        places = np.minimum(np.searchsorted(self._known, hashes), len(self._known) - 1)
        sums = self._vectors[np.where(self._known[places] == hashes, self._rank[places], self._nothing)]
        characters = _characters(bracketed)
        begins = np.concatenate([[0], np.flatnonzero(characters.blank) + 1])
        for ngrams, inside in characters.ngrams(self._least, self._most):
            rows = self._buckets[ngrams - ngrams // self._size * self._size]  # numpy's remainder is slower
            rows[~inside] = self._nothing
            sums += _by_part(self._vectors, rows, np.minimum(begins, len(rows)))
        if END in bracketed or LABEL in bracketed:  # in a text they are neither its end nor its label
            words = bracketed.split()
            sums[[at for at, word in enumerate(words) if word == b"<%b>" % END or word.startswith(b"<" + LABEL)]] = 0
        return sums


def _bracketed(blob: bytes, starts: Whole, ends: Whole) -> bytes:
    """Return `<word> ` for each word of a text's bytes, one after the other."""
    sizes = ends - starts + 3
    lasts = np.cumsum(sizes)
    begins = lasts - sizes
    places = np.arange(lasts[-1]) + np.repeat(starts - 1 - begins, sizes)
    found = np.frombuffer(blob, np.uint8)[places]
    found[begins], found[lasts - 2], found[lasts - 1] = ord("<"), ord(">"), ord(" ")
    return found.tobytes()


class _Characters(NamedTuple):
    """Bytes by characters: the k-th byte of each as fastText adds it, whether it has one, and whether it is a blank."""

    bytes: list[NDArray[np.uint32]]
    has: list[NDArray[np.bool_]]
    blank: NDArray[np.bool_]

    def ngrams(self, least: int, most: int) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.bool_]]]:
        """Yield for each length the hash of the n-gram from every character, and whether no blank is in it."""
        hashes = np.full(len(self.blank), OFFSET)
        inside = np.ones(len(self.blank), bool)
        for more in range(most):
            size = len(self.blank) - more
            hashes, inside = hashes[:size], inside[:size] & ~self.blank[more:]
            for value, has in zip(self.bytes, self.has, strict=True):
                taken = (hashes ^ value[more:]) * PRIME
                hashes = taken if value is self.bytes[0] else np.where(has[more:], taken, hashes)
            if more + 1 >= least:
                yield hashes, inside


def _characters(blob: bytes) -> _Characters:
    signed = np.frombuffer(blob, np.int8).astype(np.uint32)
    begins = np.flatnonzero((signed & 0xC0) != 0x80)  # not of what continues a character
    sizes = np.diff(begins, append=len(blob))
    places = [np.minimum(begins + step, len(blob) - 1) for step in range(int(sizes.max()))]
    return _Characters([signed[at] for at in places], [sizes > step for step in range(len(places))],
                       signed[begins] == 32)  # fmt: skip


def _fixed(sums: Floats) -> Whole:
    """Return sums as whole numbers of 2 ** -24.

    Whole numbers add up to the same in any order, so that a text's answer does not hang on which words were kept: a run
    that was stopped and goes on writes the same bytes.
    """
    return np.rint(sums.astype(np.float64) * (1 << 24)).astype(np.int64)


def _by_part(
    table: NDArray[Any], rows: NDArray[Any], first: Whole, counted: NDArray[np.bool_] | None = None
) -> NDArray[Any]:
    """Return the sums of a table's rows by parts.

    Args:
        table: what is summed; (rows, size).
        rows: one number of a row after the other.
        first: where in `rows` each part begins, and the last one ends.
        counted: which of them count (default: all).
    """
    from scipy.sparse import csr_array  # several times as fast as taking the rows and adding them up by numpy

    weights = np.ones(len(rows), table.dtype) if counted is None else counted.astype(table.dtype)
    return np.asarray(csr_array((weights, rows, first), shape=(len(first) - 1, len(table))) @ table)


def tree(counts: Sequence[int]) -> list[Row]:
    """Return fastText's Huffman tree over labels that are ordered by their counts, the most frequent first.

    Node i of the list is number `len(counts) + i`; the last one is the root, and a node stands behind its children.
    """
    size = len(counts)
    weights = [*counts, *[10**15] * (size - 1)]
    leaf, node, found = size - 1, size, list[Row]()

    def smallest() -> int:
        nonlocal leaf, node
        if leaf >= 0 and weights[leaf] < weights[node]:
            leaf -= 1
            return leaf + 1
        node += 1
        return node - 1

    for at in range(size, 2 * size - 1):
        row = Row(smallest(), smallest())
        weights[at] = weights[row.left] + weights[row.right]
        found.append(row)
    return found


def paths(nodes: Sequence[Row], labels: int) -> tuple[Floats, Floats]:
    """Return on which nodes the way from the root to a label goes left, and on which right; (nodes, labels) each."""
    ways = np.zeros((2, 2 * labels - 1, labels), np.float32)
    under = np.zeros((2 * labels - 1, labels), np.float32)
    under[:labels] = np.eye(labels)
    for at, node in enumerate(nodes, labels):
        ways[0, at], ways[1, at] = under[node.left], under[node.right]
        under[at] = under[node.left] + under[node.right]
    return ways[0, labels:], ways[1, labels:]
