"""What stands right before a number decides what it is: a phone label, an order number, a version.

Only the text immediately before is looked at, so that "order 212-555-0199" is an order and "order it at 212-555-0199"
is a phone number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

REACH = 48
"""Characters before a candidate that are looked at."""

_LINK = r"(?:[\s_\-]*(?:no|nr|num|number|numbers|id|ids|code|is|was|are|:|#|=|/|\.|\(|\"|'|n[°º]|→|-)){0,4}[\s]*$"
_OTHER = (
    r"order|invoice|isbn(?:-1[03])?|issn|ean|upc|asin|gtin|ref|reference|ticket|sku|serial|s/n|version|case|tracking"
    r"|shipment|parcel|part|item|model|doi|pmid|pmcid|arxiv|lot|batch|build|release|revision|rev|catalog|catalogue"
    r"|article|product|receipt|confirmation|booking|reservation|transaction|trx|po|purchase order|docket|patent"
    r"|grant|trial|imei|barcode|bar code|nct|job|bug|issue|policy|claim|document|record|file|page|timestamp|epoch"
    r"|coordinates?|lat|lon|latitude|longitude|checksum|hash|commit|id"
)
_VERSION = (
    r"v|ver|versions?|release|build|firmware|section|sec|chapter|clause|article|paragraph|para|§|rev|revision|update"
    r"|patch|hotfix|(?:up|down)grad\w*(?: from| to)?|updat\w* (?:from|to)"
    r"|python|chrome|chromium|firefox|safari|edge|opera|nginx|apache|openssl|openssh|windows"
    r"|android|ios|macos|linux|ubuntu|debian|kernel|java|jdk|node|npm|driver|sdk|api|app|software|library|plugin"
    r"|package|table|figure|fig|appendix|item|step|oid|rule|nvidia|cuda|mysql|postgres|postgresql|php|ruby|golang"
    r"|gcc|bios|assembly|schema|spec|protocol|dotnet|\.net"
)
_PHONE = (
    r"phones?|telephone|tel|mobile|mob|cell|cellphone|fax|call|calls|called|dial|text|sms|whatsapp|signal|ring|hotline"
    r"|contact|reach (?:me|us|him|her|them)(?: (?:at|on))?|handy|telefon|téléphone|portable|móvil|teléfono|telefono"
    r"|landline|extension|helpline|pager"
)


class Said(NamedTuple):
    """Words that were found: where they begin and end, and what they are, maybe in lower case."""

    start: int
    end: int
    text: str


class Words:
    """Lower-case words, after no letter, that are sought in any case.

    ASCII text is lowered first, for a search that folds case tries every word at every place, ten times as slow; and a
    blank stands before it, for a pattern that opens with a sign is sought faster than one that may open a text.

    Args:
        words: a pattern in lower case, without flags.
        after: what must stand behind them.
    """

    def __init__(self, words: str, after: str) -> None:
        self._plain = re.compile(rf"[^a-z](?:{words}){after}")
        self._folded = re.compile(rf"(?i)(?:^|[^a-z])(?:{words}){after}")

    def search(self, text: str) -> Said | None:
        """Return where they stand first."""
        return next(self.finditer(text), None)

    def finditer(self, text: str) -> Iterator[Said]:
        """Yield every place where they stand, without overlaps."""
        if text.isascii():
            for match in self._plain.finditer(" " + text.lower()):
                yield Said(max(match.start() - 1, 0), match.end() - 1, match.group())
        else:
            for match in self._folded.finditer(text):
                yield Said(*match.span(), match.group())

    def within(self, text: str, start: int, end: int) -> bool:
        """Return whether they are in a stretch of text; the begin of one that is not the text's is in a word."""
        piece = text[start:end]
        if piece.isascii():
            return self._plain.search(piece.lower() if start else " " + piece.lower()) is not None
        return self._folded.search(text, start, end) is not None


NOT_PERSONAL = Words(_OTHER, _LINK)
"""Ends in a label of something that is no personal number: an order, a ticket, a book."""
VERSION = Words(_VERSION, _LINK)
"""Ends in a word that announces a version or a section number."""
PHONE = Words(
    _PHONE,
    r"(?:[\s\-]*(?:me|us|him|her|them|at|on|no|nr|num|number|is|was|:|#|=|\.|\(|\"|'|\+|/)){0,5}[\s]*$",
)
"""Ends in a word that announces a phone number."""


ANOTHER = re.compile(r"(?:\d+\.){2,3}\d+\s*(?:to|and|or|through|until|,|/|-|–|->|→)\s*$")
"""Ends in a first number of two that belong together ("from 4.18.0.305 to ...")."""
VERSION_AFTER = re.compile(r"(?i)\s+(?:kernel|release|firmware|driver|build|version|update|patch|hotfix)s?\b")


def is_version(text: str, start: int, end: int) -> bool:
    """Return whether a dotted number is a version or a section, by the words on either side."""
    said = ANOTHER.sub("", before(text, start))
    return VERSION.search(said) is not None or VERSION_AFTER.match(text, end) is not None


def before(text: str, start: int) -> str:
    """Return what stands before a position, at most REACH characters, no further than its line."""
    return text[max(0, start - REACH) : start].rpartition("\n")[2]
