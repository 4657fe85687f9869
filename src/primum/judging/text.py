"""What judges of words share: text made uniform, sentences, content words. Pure string work, bounded in time."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

HEAD, TAIL = 6000, 1000
"""Characters read from the start and the end of a reply: a reply of any length costs the same."""

_QUOTES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "“": '"', "”": '"', "–": "-", "—": "-", "−": "-"})
_INVISIBLE = re.compile(r"[\u200b-\u200f\u2060\ufeff\u00ad]")
_SPECIAL = re.compile(r"<\|[a-z_]{2,20}\|>")
_MARKUP = re.compile(r"\*\*|__|^#+ ", re.M)
_SPACES = re.compile(r"[^\S\n]+")
_CONTRACTIONS = (
    (re.compile(r"\bcan't\b|\bcan not\b|\bcant\b"), "cannot"),
    (re.compile(r"\bwon't\b|\bwont\b"), "will not"),
    (re.compile(r"\bshan't\b"), "shall not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\bi'm\b|\bim\b"), "i am"),
    (re.compile(r"\blet's\b"), "let us"),
    (re.compile(r"\b(it|that|this|there|here|what|who)'s\b"), r"\1 is"),
    (re.compile(r"(?<=\w)'re\b"), " are"),
    (re.compile(r"(?<=\w)'ll\b"), " will"),
    (re.compile(r"(?<=\w)'ve\b"), " have"),
    (re.compile(r"(?<=\w)'d\b"), " would"),
)
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]?\s+(?!\d)|\n+")
_WORD = re.compile(r"[^\W_]+(?:'[a-z]+)?")


def clip(text: str) -> str:
    """Return the start and the end of a long text, all of a short one."""
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}\n{text[-TAIL:]}"


def normalise(text: str) -> str:
    """Return the text in one form: NFKC, plain quotes, no markup or invisible marks, lower case, no contractions."""
    text = clip(text).lower()
    if not text.isascii():
        text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text).translate(_QUOTES)).lower()
    text = _MARKUP.sub("", _SPECIAL.sub(" ", text).replace("`", "'"))
    for pattern, words in _CONTRACTIONS if "'" in text else _CONTRACTIONS[:1]:
        text = pattern.sub(words, text)
    return _SPACES.sub(" ", text).strip()


def sentences(text: str) -> list[str]:
    """Split normalised text into sentences and lines, empty ones left out."""
    return [part.strip() for part in _SENTENCE.split(text) if part and part.strip(" -*\"'")]


def words(text: str) -> list[str]:
    """Return the words of normalised text."""
    return _WORD.findall(text)


@lru_cache(maxsize=4096)
def stem(word: str) -> str:
    """Return a crude stem: enough to see that `removing` and `remove` are one word."""
    for ending in ("ations", "ation", "ings", "ing", "ers", "ies", "ed", "es", "er", "e", "s", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)][:7]
    return word[:7]


def content(text: str) -> set[str]:
    """Return the stems of the words that carry the subject of a normalised text."""
    return {stem(word) for word in words(text) if word not in FUNCTION_WORDS and (len(word) > 2 or word.isdigit())}


FUNCTION_WORDS = frozenset(
    """a about above after again against all almost also although always am an and another any anyone anything are
    around as at away back be because been before being below best between both but by can cannot could did do does
    doing done down during each either else enough even ever every everything few first for from further get gets give
    go going good got had has have having he help her here hers him his how however i if in instead into is it its
    just keep know last let like look lot made make makes many may me might mine more most much must my myself need
    never new next no nor not nothing now of off often on once one only or other our out over own per please put rather
    really right said same say see she should show simple since so some someone something still such sure take tell
    than thank that the their them then there these they thing things think this those though through time to together
    too try two under until up us use used using very want was way ways we well were what when where whether which
    while who whole why will with within without word would write yes yet you your yours yourself step steps list
    called assist assisting certainly process provide providing explain describe suggest find whose sort kind three ten""".split()
)
