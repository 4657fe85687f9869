"""Slots of a template: which there are, what stands around them, and how they are filled.

A slot is `{{name}}`, nothing more. What a user or a model wrote goes into slots between delimiters; `filled` takes the
delimiters out of such words, so that they cannot end their own quotation and go on as the template's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

SLOT = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
PAIRS = (('"""', '"""'), ("```", "```"), ("<<<", ">>>"), ("[[", "]]"), ("«", "»"))
"""Delimiters that are no tags: what opens, and what closes it."""
_LOOK_ALIKES = {"<": "‹", "«": "‹", "»": "›"}
_TAG = re.compile(r"<([A-Za-z][\w.:-]*)(?:\s[^<>]*)?>$")


def slots(text: str) -> set[str]:
    """Return the names of a text's slots."""
    return {slot[1] for slot in SLOT.finditer(text)}


def render(text: str, values: Mapping[str, str]) -> str:
    """Return the text with its slots filled, once: a slot inside a value stays as it is.

    Raises:
        KeyError: a slot has no value.
    """
    return SLOT.sub(lambda slot: values[slot[1]], text)


class Quotes(NamedTuple):
    """What opens a quotation and what closes it.

    `parts` matches where either begins inside a value, `ends` what a reader takes for the close, however it is spaced.
    """

    opens: str
    closes: str
    parts: re.Pattern[str]
    ends: re.Pattern[str]


def quotes(text: str, slot: re.Match[str]) -> Quotes | None:
    """Return the delimiters around a slot, or None where what stands before it is not closed after it."""
    before, after = text[: slot.start()].rstrip(" \n"), text[slot.end() :].lstrip(" \n")
    tag = _TAG.search(before)
    if tag and after.startswith(f"</{tag[1]}>"):
        name = re.escape(tag[1])
        parts = re.compile(rf"<(?=\s*/?\s*{name}\b)", re.IGNORECASE)
        return Quotes(tag[0], f"</{tag[1]}>", parts, re.compile(rf"<\s*/\s*{name}\s*>", re.IGNORECASE))
    for opens, closes in PAIRS:
        if before.endswith(opens) and after.startswith(closes):
            close = re.escape(closes)
            return Quotes(opens, closes, re.compile(f"{re.escape(opens)}|{close}"), re.compile(close))
    return None


def quoted(value: str, marks: Quotes) -> str:
    """Return a value without its delimiters: single marks give way to a look-alike, longer ones are spaced out."""
    while marks.parts.search(value):  # four quotation marks hold three once they are apart
        value = marks.parts.sub(lambda found: _LOOK_ALIKES.get(found[0]) or " ".join(found[0]) + " ", value)
    # a mark that is half in the value and half in the template would close one character early
    return f"{value} " if value.endswith(marks.closes[0]) else value


def filled(text: str, values: Mapping[str, str], variables: Mapping[str, bool]) -> str:
    """Return the text with its slots filled; what is not trusted cannot end its own quotation.

    Args:
        text: the template.
        values: what stands in each slot.
        variables: slot -> whether it is trusted.

    Raises:
        KeyError: a slot has no value.
    """

    def put(slot: re.Match[str]) -> str:
        value = values[slot[1]]
        marks = None if variables.get(slot[1]) else quotes(text, slot)
        return quoted(value, marks) if marks else value

    return SLOT.sub(put, text)


def own_words(text: str, marks: Quotes) -> str:
    """Return what a reader of a filled text takes for the template's own: all that stands in no such quotation."""
    found, rest = "", text
    while marks.opens in rest:
        before, _, rest = rest.partition(marks.opens)
        found += before + "\n"
        closed = marks.ends.search(rest)
        if not closed:
            return found
        rest = rest[closed.end() :]
    return found + rest
