"""Words as numbers: what stands in columns is what each word, sentence and text gives by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primum.judging import loops, numbered
from primum.judging.numbered import Numbered, different, offsets, owned, spans, sums, tell, unions
from primum.judging.text import normalise, sentences, words

TEXTS = st.lists(st.text("ab c.'\n-9A\u00e9\u4e00_", max_size=80).map(normalise), min_size=1, max_size=6)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_a_block_has_the_words_of_each_text(texts: list[str]) -> None:
    book = Numbered(words, {"length": len})
    told = tell(texts, book)
    assert told.sentences == [one for text in texts for one in sentences(text)]
    for i, text in enumerate(texts):
        assert told.sentences_of(i) == sentences(text)
        own = told.words.numbers[told.begins[i] : told.begins[i + 1]]
        assert book.spelled(own) == [word for one in sentences(text) for word in words(one)]
        assert book.column("length")[own].tolist() == [len(word) for word in book.spelled(own)]


def test_columns_grow_with_the_words() -> None:
    book = Numbered(words, {"length": len})
    for start in range(0, 5000, 700):
        found = book.read([f"w{i} x{i}x" for i in range(start, start + 700)])
        assert book.spelled(found.of(3)) == [f"w{start + 3}", f"x{start + 3}x"]
    found = book.read(["w7 never-seen"])
    assert book.column("length")[found.numbers].tolist() == [2, 5, 4]


def test_a_book_is_full_after_so_many_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Numbered, "MOST", 3 * Numbered.ENTRY)
    book = Numbered(words, {})
    book.read(["one two"])
    assert not book.full
    book.read(["one two three"])
    assert book.full


def test_sums_and_unions_of_segments_by_hand() -> None:
    begins = offsets([2, 0, 1, 0])
    assert begins.tolist() == [0, 2, 2, 3, 3]
    assert sums(np.array([5, 7, 9]), begins).tolist() == [12, 0, 9, 0]
    assert unions(np.array([1, 4, 2]), begins).tolist() == [5, 0, 2, 0]
    assert numbered.rows(begins).tolist() == [0, 0, 2]
    assert spans(np.array([4, 9, 1]), np.array([2, 0, 3])).tolist() == [4, 5, 1, 2, 3]


def test_different_numbers_of_rows_by_hand() -> None:
    found = different(np.array([1, 0, 1, 1, 0]), np.array([8, 3, 8, 2, 0]), 3)
    assert (found.numbers.tolist(), found.begins.tolist()) == ([3, 2, 8], [0, 1, 3, 3])


def test_numbers_are_looked_for_among_those_of_their_own_row() -> None:
    own = owned([np.array([3, 5]), np.array([], np.int64), np.array([5])], 7)
    assert own.among(np.array([0, 0, 1, 2, 2]), np.array([5, 4, 5, 5, 3])).tolist() == [True, False, False, True, False]
    assert not owned([np.array([], np.int64)], 2).among(np.array([0]), np.array([1])).any()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["go", "on", "7", "and", "user", "stop.", "the"]), max_size=40), max_size=4))
def test_many_replies_babble_as_each_does_alone(replies: list[list[str]]) -> None:
    texts, prompt = [" ".join(reply) for reply in replies] + ["", "a" * 30, "user:"], "the go and stop on"
    book = Numbered(words, loops.COLUMNS)
    told = tell(texts, book)
    found = loops.babbles([(prompt, 5)] * len(texts), told, np.arange(len(texts)), [False] * len(texts), book)
    assert found == [loops.babble(prompt, text) for text in texts]
    assert loops.are_foreign(told, book).tolist() == [loops.is_foreign(words(text)) for text in texts]
