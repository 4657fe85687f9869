"""Text that nobody of ours wrote, as it may be shown: every character that acts instead of standing there is named.

Escaping HTML is the template's work; this is about what HTML does not know: control characters, ANSI sequences, null
bytes, lone surrogates, direction overrides, invisible characters and tags. U+202E is shown as ⟨U+202E⟩. Joiners
(used by emoji and by several scripts) stay.
"""

from __future__ import annotations

import re

_ACTS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
LONGEST = 20_000
"""Characters of one text on a page; the rest is one click away, as plain text."""


def visible(text: str) -> str:
    """Return the text with every acting character named; lines end in a plain newline."""
    return _ACTS.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", text.replace("\r\n", "\n"))


def clip(text: str, limit: int = LONGEST) -> str:
    """Return at most `limit` characters and how many were left out, before they are made visible."""
    left = len(text) - limit
    return text if left <= 0 else f"{text[:limit]}\n… {left:,} more characters"


def refused(text: str) -> str | None:
    """Return why a text from a form cannot be taken, or None: it holds a null byte or half a character."""
    if "\x00" in text:
        return "a null byte"
    if any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        return "half of a character (a lone surrogate)"
    return None
