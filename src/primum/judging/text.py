"""What judges of words share: text made uniform, sentences, content words. Pure string work, bounded in time."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

HEAD, TAIL = 6000, 1000
"""Characters read from the start and the end of a reply: a reply of any length costs the same."""

_QUOTES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "“": '"', "”": '"', "–": "-", "—": "-", "−": "-"})
_INVISIBLE = re.compile(r"[\u200b-\u200f\u2060\ufeff\u00ad]")
_SPECIAL = re.compile(r"<\|[a-z_]{2,20}\|>")
_HEADING = re.compile(r"^#+ ", re.M)
_SPACES = re.compile(r"[^\S\n]{2,}|[\t\r\f\v\xa0]")
# What stands before is looked at after the letters: a pattern that opens with letters is searched ten times as fast.
_LOOSE = tuple(
    (loose, re.compile(rf"{loose}\b(?<!\w{'.' * len(loose)})"), meant)
    for loose, meant in {"can not": "cannot", "cant": "cannot", "wont": "will not", "im": "i am"}.items()
)
# plain replacement, in this order: ten times faster than one regular expression
_CONTRACTIONS = (
    ("can't", "cannot"), ("won't", "will not"), ("shan't", "shall not"), ("n't", " not"), ("i'm", "i am"),
    ("let's", "let us"), ("it's", "it is"), ("that's", "that is"), ("this's", "this is"), ("here's", "here is"),
    ("what's", "what is"), ("who's", "who is"), ("'re ", " are "), ("'ll ", " will "), ("'ve ", " have "),
    ("'d ", " would "),
)  # fmt: skip
_ENDS = re.compile(r"[.!?\n](?:(?<=\n)\n*|(?<!\n)[\"')\]]?\s+(?!\d))")
_WORD = re.compile(r"[^\W_]+(?:'[a-z]+)?")


def clip(text: str) -> str:
    """Return the start and the end of a long text, all of a short one."""
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}\n{text[-TAIL:]}"


def normalise(text: str) -> str:
    """Return the text in one form: NFKC, plain quotes, no markup or invisible marks, lower case, no contractions."""
    text = clip(text).lower()
    if not text.isascii():
        text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text).translate(_QUOTES)).lower()
    text = _without_markup(text)
    if "'" in text:
        for short, long in _CONTRACTIONS:
            text = text.replace(short, long)
    for loose, pattern, meant in _LOOSE:
        if loose in text:
            text = pattern.sub(meant, text)
    if "  " in text or not text.replace("\n", "").isprintable():  # a blank is the only one that counts as printable
        text = _SPACES.sub(" ", text)
    return text.strip()


def _without_markup(text: str) -> str:
    if "<|" in text:
        text = _SPECIAL.sub(" ", text)
    if "#" in text:
        text = _HEADING.sub("", text)
    return text.replace("**", "").replace("__", "").replace("`", "'")


def sentences(text: str) -> list[str]:
    """Split normalised text into sentences and lines, empty ones left out."""
    parts, start = list[str](), 0
    for found in _ENDS.finditer(text):
        end = found.start()
        parts.append(text[start : end if text[end] == "\n" else end + 1])
        start = found.end()
    parts.append(text[start:])
    return [part.strip() for part in parts if part and part.strip(" -*\"'")]


def words(text: str) -> list[str]:
    """Return the words of normalised text."""
    return _WORD.findall(text)


@lru_cache(maxsize=65_536)
def stem(word: str) -> str:
    """Return a crude stem: enough to see that `removing` and `remove` are one word."""
    for ending in ("ations", "ation", "ings", "ing", "ers", "ies", "ed", "es", "er", "e", "s", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)][:7]
    return word[:7]


class Subjects(dict[str, str]):
    """Word to the stem of a word that carries the subject, or to "" where it carries none; filled as words come.

    Args:
        without: an ending that is taken off first.
    """

    MOST = 200_000

    def __init__(self, without: str = "") -> None:
        super().__init__()
        self.without = without

    def of(self, tokens: Iterable[str]) -> set[str]:
        """Return the stems of the words that carry the subject, given all words."""
        found = set(map(self.__getitem__, tokens))
        found.discard("")
        return found

    def __missing__(self, word: str) -> str:
        if len(self) >= self.MOST:
            self.clear()
        carries = word not in FUNCTION_WORDS and (len(word) > 2 or word.isdigit())
        self[word] = found = stem(word.removesuffix(self.without)) if carries else ""
        return found


_SUBJECTS = Subjects()


def content(text: str) -> set[str]:
    """Return the stems of the words that carry the subject of a normalised text."""
    return content_of(words(text))


def content_of(tokens: Iterable[str]) -> set[str]:
    """Return the stems of the words that carry the subject, given all words."""
    return _SUBJECTS.of(tokens)


FUNCTION_WORDS = frozenset(
    _WORD.findall(
        """a about above after again against all almost also although always am an and another any anyone
        anything are around as at away back be because been before being below best between both but by can
        cannot could did do does doing done down during each either else enough even ever every everything
        few first for from further get gets give go going good got had has have having he help her here hers
        him his how however i if in instead into is it its just keep know last let like look lot made make
        makes many may me might mine more most much must my myself need never new next no nor not nothing
        now of off often on once one only or other our out over own per please put rather really right said
        same say see she should show simple since so some someone something still such sure take tell than
        thank that the their them then there these they thing things think this those though through time to
        together too try two under until up us use used using very want was way ways we well were what when
        where whether which while who whole why will with within without word would write yes yet you your
        yours yourself step steps list called assist assisting certainly process provide providing explain
        describe suggest find whose sort kind three ten"""
    )
)
