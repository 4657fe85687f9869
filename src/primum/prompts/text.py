"""What counts as the same text. Pure: text in, text out.

Words are runs of letters and digits; each Han or Kana character is a word of its own, since those scripts
set no spaces. Scripts that set no spaces otherwise (Thai, Khmer) come out as long runs: their near-duplicates
are found less well.
"""

from __future__ import annotations

import re
import unicodedata

_HAN_KANA = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_HAN_KANA}]|[^\W_{_HAN_KANA}]+")
_APOSTROPHE = re.compile(r"(?<=\w)['\u2019\u02bc](?=\w)")


def plain(text: str) -> str:
    """Return the text without invisible format characters (zero-width, direction marks), in Unicode's NFKC form."""
    if text.isascii():
        return text  # holds no format characters and is its own normal form
    visible = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFKC", visible)


def exact_key(text: str, *, unicode: bool = True) -> str:
    """Return Meditron's key, `strip().lower()`; first made plain, unless `unicode` is False (the post as published)."""
    return (plain(text) if unicode else text).strip().lower()


def words(text: str) -> tuple[str, ...]:
    """Return the lower-cased words in order, punctuation stripped ("Don't!" is "dont")."""
    return tuple(_WORD.findall(_APOSTROPHE.sub("", plain(text)).lower()))


def ngrams(sequence: tuple[str, ...], n: int) -> frozenset[str]:
    """Return the set of runs of `n` words, each joined by blanks; empty where there are fewer than `n` words."""
    return frozenset(" ".join(sequence[i : i + n]) for i in range(len(sequence) - n + 1))
