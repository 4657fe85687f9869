from __future__ import annotations

import pytest

from primum.prompts.text import exact_key, ngrams, plain, words


def test_meditrons_key_strips_and_lowers():
    assert exact_key(" Hi ") == exact_key("hi") == "hi"
    assert exact_key("two  blanks") != exact_key("two blanks")  # the published key leaves inner blanks alone


def test_key_sees_through_unicode_unless_asked_not_to():
    fullwidth, hidden = "\uff48\uff49", "h\u200bi\ufeff"
    assert exact_key(fullwidth) == exact_key(hidden) == "hi"
    assert exact_key(fullwidth, unicode=False) == fullwidth
    assert exact_key(hidden, unicode=False) == hidden


def test_plain_drops_direction_marks_and_keeps_accents():
    assert plain("\u202eabc\u202c cafe\u0301") == "abc caf\u00e9"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don't panic!", ("dont", "panic")),
        ("Don\u2019t panic!", ("dont", "panic")),
        ("'quoted' words", ("quoted", "words")),
        ("snake_case, 3.5 kg", ("snake", "case", "3", "5", "kg")),
        ("\u4f60\u597d world", ("\u4f60", "\u597d", "world")),
        ("?!\u2026", ()),
    ],
)
def test_words(text, expected):
    assert words(text) == expected


def test_ngrams_are_runs_of_n_words():
    assert ngrams(("a", "b", "c", "d"), 3) == {"a b c", "b c d"}
    assert ngrams(("a", "b"), 3) == frozenset()
