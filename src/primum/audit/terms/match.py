"""Which pronoun groups and which terms a document mentions. Pure: text in, names out; each counts once a document.

A term matches as whole words, in any case; between the words of a longer one stand blanks or hyphens ("Native
American", "native-american"). Terms are sought independently: "African-American" also mentions African and American.
"I" is a pronoun in "So do I." and not in "i.e.", in "A.I." or as a list's "i."; all-caps "US" and "IT" are a country
and a trade, unless the whole text is in capitals.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from primum.audit.hashing import PLAIN, Words, hashed_words, slices
from primum.audit.terms.lexicon import Lexicon

WORD = re.compile(r"[^\W_]+")
# What stands before is looked at after the letter: a pattern that opens with a letter is searched ten times as fast.
_I = re.compile(r"[Ii](?<![\w.].)(?:(?<=I)(?!\w|\.\w)|(?<=i)(?![\w.)]))")
_US, _IT = (re.compile(rf"[{w[0].upper()}{w[0]}]{w[1]}(?<![^\W_]..)(?![^\W_])") for w in ("us", "it"))
_CHECKED = {"i": (" I ", _I), "us": (" us ", _US), "it": (" it ", _IT)}
_TOP = np.uint64(48)
_GENDERED = ("she", "he", "unspecified")


class Mentions(NamedTuple):
    """What a document mentions: pronoun groups (she, ..., gendered, any) and (axis, term)."""

    pronouns: tuple[str, ...]
    terms: tuple[tuple[str, str], ...]


class _Long(NamedTuple):
    axis: str
    term: str
    pattern: re.Pattern[str]
    words: frozenset[str]


def _letters(error: UnicodeError) -> tuple[bytes, int]:
    """Keep the letters and digits beyond ASCII, and a blank for whatever else is there."""
    assert isinstance(error, UnicodeEncodeError)
    signs = error.object[error.start : error.end]
    return "".join([sign if sign.isalnum() else " " for sign in signs]).encode(), error.end


codecs.register_error("primum-letters", _letters)


class Matcher:
    """A lexicon made ready: the hashes of its words, by which those of many texts are picked out, then a few checks."""

    def __init__(self, lexicon: Lexicon) -> None:
        self._groups = {word.lower(): group for group, words in lexicon.pronouns.items() for word in words}
        self._english = lexicon.language == "en"
        self._single: dict[str, tuple[str, str]] = {}
        self._long: dict[str, list[_Long]] = {}
        for axis, terms in lexicon.axes.items():
            for term in terms:
                self._add(axis, term)
        parts = [word for longs in self._long.values() for long in longs for word in long.words]
        known = sorted({*self._groups, *self._single, *parts})
        hashes = _hashes([" ".join(known)])[0]
        order = np.argsort(hashes)
        self._known, self._hashes = [known[at] for at in order], hashes[order]
        self._begins = np.zeros(1 << 16, bool)
        self._begins[self._hashes >> _TOP] = True

    def _add(self, axis: str, term: str) -> None:
        parts = WORD.findall(term.lower())
        if parts == [term.lower()]:
            self._single[term.lower()] = (axis, term)
        elif parts:
            self._long.setdefault(parts[0], []).append(_Long(axis, term, _phrase(term), frozenset(parts)))

    def __call__(self, text: str) -> Mentions:
        """Return what a text mentions; many at once are read sooner by `all`."""
        return next(self.all([text]))

    def all(self, texts: Sequence[str]) -> Iterator[Mentions]:
        """Yield what each text mentions."""
        for some in slices(texts):
            words, first = _hashes(some)
            may = np.flatnonzero(self._begins[words >> _TOP])  # most words are passed over by the first of their bits
            places = np.minimum(np.searchsorted(self._hashes, words[may]), len(self._hashes) - 1)
            held = self._hashes[places] == words[may]
            at = np.searchsorted(may[held], first).tolist()
            known = [self._known[place] for place in places[held].tolist()]
            for number, text in enumerate(some):
                yield self._mentions(text, frozenset(known[at[number] : at[number + 1]]))

    def _mentions(self, text: str, found: frozenset[str]) -> Mentions:
        if not found:
            return Mentions((), ())
        groups = {group for word in found if (group := self._groups.get(word)) and self._is_pronoun(word, text)}
        terms = [self._single[word] for word in found if word in self._single]
        for word in self._long.keys() & found:
            for long in self._long[word]:
                if (long.words <= found or not text.isascii()) and long.pattern.search(text):
                    terms.append((long.axis, long.term))
        return Mentions(_with_unions(groups), tuple(sorted(terms)))

    def _is_pronoun(self, word: str, text: str) -> bool:
        if not self._english or word not in _CHECKED:
            return True
        plain, pattern = _CHECKED[word]
        return plain in text or pattern.search(text) is not None or (word != "i" and text.isupper())


def _hashes(texts: Sequence[str]) -> tuple[Words, NDArray[np.int64]]:
    """Return the hashes of the lower-cased words of texts, and where each text's begin (and the last one's end)."""
    plain = [text if text.isascii() else text.lower() for text in texts]  # the table lowers what is ASCII
    found = hashed_words([text.encode("ascii", "primum-letters") for text in plain], PLAIN)
    return found.words, found.first


def _phrase(term: str) -> re.Pattern[str]:
    """Return the pattern of a term with blanks, hyphens or other signs in it ("LGBTQ+", "Bahá'í", "two-spirit")."""
    parts = [re.escape(part) for part in re.split(r"[\s\-]+", term) if part]
    body = r"[\s\-\u2010\u2011]+".join(parts).replace("'", "['\u2019]")
    return re.compile(rf"(?i)(?<![^\W_]){body}(?![^\W_])")


def _with_unions(groups: set[str]) -> tuple[str, ...]:
    if not groups:
        return ()
    found = groups | {"any"}
    if groups & set(_GENDERED):
        found |= {"gendered", "third"}
    return tuple(sorted(found))


def shares(counts: Mapping[str, int], documents: int) -> dict[str, object]:
    """Return the paper's pronoun table: unions over all documents, groups within their union.

    Args:
        counts: documents by group, with the unions "gendered" and "any".
        documents: how many there are.
    """
    gendered, mentioned = counts.get("gendered", 0), counts.get("any", 0)
    return {
        "documents": documents,
        "any_gendered": share(gendered, documents, "all documents"),
        **{name: share(counts.get(name, 0), gendered, "documents with a gendered pronoun") for name in _GENDERED},
        "any_pronoun": share(mentioned, documents, "all documents"),
        **{
            f"{name}_person": share(counts.get(name, 0), mentioned, "documents with any pronoun")
            for name in ("first", "second", "third")
        },
    }


def share(part: int, whole: int, of: str) -> dict[str, object]:
    """Return a share with its counts and the name of its denominator; None where there is nothing to divide by."""
    return {"documents": part, "denominator": whole, "of": of, "share": part / whole if whole else None}
