"""In which language a reply is, and whether it is an answer at all; for any language.

The language is fastText's (audit/language.py, the extra `audit`); where that is not installed or not sure it is
unknown. fastText's small model hardly knows Swahili: for such languages a text that it is not sure of is told by the
share of the language's commonest words (COMMON).
"""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from typing import Literal

from primum.audit import language
from primum.core.errors import MissingExtraError
from primum.core.languages import UNKNOWN, base
from primum.judging.loops import is_loop
from primum.judging.text import clip, normalise
from primum.prompts.text import words

NotAnAnswer = Literal["empty", "babble", "repeats the prompt"]
FIRST_WITHOUT_BLANKS = "\u3040"
MORE = 1.2
"""A reply that holds the whole prompt, and is no more than so many times as long, only says it again."""


COMMON = {
    "sw": frozenset(
        words(
            """na ya wa kwa ni katika za la cha vya kwenye kama hii hiyo hilo huyo hivyo huo hayo lakini ili kwamba yako
            yangu wako wangu yake wake watu mtu siwezi samahani sana kabla baada mimi wewe unaweza naweza inaweza
            anaweza kuwa wengine jambo hili ombi tafadhali hata si ndio bila nami nini gani jinsi wakati"""
        )
    ),
}
"""The commonest words of languages that fastText is seldom sure of."""
CHINESE_WRITING = ("yue", "wuu")
"""What fastText now and then calls a short Chinese text."""
_KANA = re.compile(r"[\u3041-\u30fa]")
LEAST_COMMON, COMMON_SHARE = 2, 0.25
"""At least so many of them, and this share of the words, tell the language."""


@cache
def can_tell() -> bool:
    """Whether languages can be told apart here: the extra `audit` is installed."""
    try:
        language.model()
    except MissingExtraError:
        return False
    return True


def spoken(text: str) -> str:
    """Return the code of a text's language, without region; UNKNOWN where nothing can tell."""
    if not text.strip() or not can_tell():
        return UNKNOWN
    code = base(language.identify(clip(text)).code)
    if code in CHINESE_WRITING or (code == "ja" and not _KANA.search(text)):  # no Japanese sentence is without kana
        return "zh"
    return _by_common_words(text) if code == UNKNOWN else code


def _by_common_words(text: str) -> str:
    said = words(clip(text))
    for code, common in COMMON.items():
        found = sum(word in common for word in said)
        if found >= LEAST_COMMON and found >= COMMON_SHARE * len(said):
            return code
    return UNKNOWN


def no_answer(prompt: str, reply: str) -> NotAnAnswer | None:
    """Return why a reply is no answer whatever its language, or None.

    Scripts that set no blanks are read by pairs of characters, so that a loop in Chinese is one, too.
    """
    text = normalise(reply)
    said, asked = _tokens(text), _tokens(normalise(prompt))
    if not said:
        return "empty"
    if is_loop(text, said):
        return "babble"
    own, whole = " ".join(said), " ".join(asked)
    again = whole and (own in whole or whole in own) and len(own) <= MORE * len(whole)
    return "repeats the prompt" if again and len(said) >= 3 else None


def _tokens(text: str) -> list[str]:
    """Return the words; in a script without blanks each character with the next, since one alone says nothing."""
    found = [*words(text), ""]
    return [a + b if len(a) == 1 and a >= FIRST_WITHOUT_BLANKS else a for a, b in pairwise(found)]
