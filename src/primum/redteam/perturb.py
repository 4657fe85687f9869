"""Changes of a text's form that leave its meaning readable. Pure: text and a source of chance in, text out."""

from __future__ import annotations

import re
from random import Random

_WORD = re.compile(r"[^\W\d_]+")
_LEET = str.maketrans({"a": "4", "e": "3", "i": "1", "o": "0", "s": "5", "t": "7"})
_HOMOGLYPHS = str.maketrans(
    {"a": "а", "c": "с", "e": "е", "i": "і", "j": "ј", "o": "о", "p": "р", "s": "ѕ", "x": "х", "y": "у"}
)
"""Latin letters to Cyrillic ones that look alike."""


def misspelled(text: str, rng: Random, share: float = 0.3) -> str:
    """Return the text with two neighbouring letters inside a word swapped, in about `share` of the longer words."""

    def swap(found: re.Match[str]) -> str:
        word = found.group()
        if len(word) < 4 or rng.random() >= share:
            return word
        at = rng.randrange(1, len(word) - 2)
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]

    return _WORD.sub(swap, text)


def scrambled(text: str, rng: Random, share: float) -> str:
    """Return the text with the middle letters of `share` of its words (longer than three) in another order."""

    def mix(found: re.Match[str]) -> str:
        word = found.group()
        if len(word) < 4 or rng.random() >= share:
            return word
        middle = list(word[1:-1])
        rng.shuffle(middle)
        return word[0] + "".join(middle) + word[-1]

    return _WORD.sub(mix, text)


def capitals(text: str, rng: Random, share: float) -> str:
    """Return the text with the case of `share` of its letters turned round."""
    return "".join(c.swapcase() if c.isalpha() and rng.random() < share else c for c in text)


def noisy(text: str, rng: Random, share: float) -> str:
    """Return the text with `share` of its printable ASCII characters moved up or down by one."""

    def near(c: str) -> str:
        moved = chr(ord(c) + rng.choice((-1, 1)))
        return moved if " " < moved <= "~" else c

    return "".join(near(c) if "!" <= c <= "~" and rng.random() < share else c for c in text)


def leet(text: str) -> str:
    """Return the text with digits for the letters that they look like."""
    return text.lower().translate(_LEET)


def homoglyphs(text: str, rng: Random, share: float = 0.5) -> str:
    """Return the text with `share` of the letters that have a Cyrillic look-alike replaced by it."""
    return "".join(c.translate(_HOMOGLYPHS) if rng.random() < share else c for c in text)


def longest_words(text: str, most: int) -> list[str]:
    """Return up to `most` different words of five letters or more, the longest first: those that carry the meaning."""
    found = sorted(dict.fromkeys(_WORD.findall(text)), key=lambda word: (-len(word), text.index(word)))
    return [word for word in found if len(word) >= 5][:most]
