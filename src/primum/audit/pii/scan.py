"""Every type over one text, fast: cheap triggers first, the patterns only around what they hit.

A text is read three times by C code (is there an "@", where are rows of digits, where are long unbroken strings).
The detailed patterns run only in windows around the hits, so a text without numbers costs next to nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from primum.audit.pii import context, national, network, numbers, secrets
from primum.audit.pii.span import Span

_DIGITS = re.compile(r"\d[\d .()/:\-\u00a0\u202f\u2010\u2011\u2013]{4,}\d")
_DIGITS_ASCII = re.compile(r"[0-9][0-9 .()/:\-]{4,}[0-9]")
"""The same in ASCII text, where it is found in half the time."""
_NO_DIGIT = re.compile(r"\D+")
_NO_DIGIT_BYTES = bytes(range(0x30)) + bytes(range(0x3A, 0x100))
_DIGIT_OR_PREFIX = re.compile(r"\d|gh[opsur]_|github_pat_|hf_|glpat-|xox[a-z]-|npm_|pypi-|ya29\.|AIza|sk-|[rsp]k_|SG\.")
"""A key of 20 random letters and digits has no digit at all in 3 of 100 cases; its prefix tells it."""
LONG = 14
"""An unbroken string of so many characters may be a key, an address or an id."""
_SHORT_IDS = re.compile(r"(?<!\w)[A-Z]{5}\d{4}[A-Z](?!\w)|[0-9A-Fa-f]:(?::[0-9A-Fa-f]|[0-9A-Fa-f]+::)")
TYPES = (
    "email", "phone", "ip", "credit_card", "iban", "us_ssn", "national_id", "api_key", "token", "private_key", "mac",
    "crypto",
)  # fmt: skip


def scan(text: str, regions: Sequence[str] = numbers.REGIONS) -> list[Span]:
    """Return the personal information in a text, in order, without overlaps.

    Where two types claim the same characters the more certain one wins: secrets and addresses with a checksum first,
    phone numbers last.

    Args:
        text: any text.
        regions: countries whose national phone formats are tried (ISO 3166 codes).
    """
    found: list[Span] = []
    if "PRIVATE KEY" in text:
        found += secrets.private_keys(text)
    if "@" in text:
        found += network.emails(text)
    for start, end in windows(text):
        found += _window(text, start, end, regions)
    return _apart(found) if found else found


def windows(text: str) -> list[tuple[int, int]]:
    """Return the stretches of text that are worth the detailed patterns, merged and in order."""
    rows = (_DIGITS_ASCII if text.isascii() else _DIGITS).finditer(text)
    hits = [match.span() for match in rows if _many_digits(match) or _between_letters(match)]
    if len(text) >= LONG:
        hits += _long_strings(text)
    if "::" in text or "PAN" in text:
        hits += [match.span() for match in _SHORT_IDS.finditer(text)]
    if not hits:
        return []
    return list(_merged(text, sorted(hits)))


def _many_digits(match: re.Match[str]) -> bool:
    """Whether a row of digits could be a number of somebody, and not a few decimals: 7 digits, an IP, three pairs."""
    found = match.group()
    if len(found) < 7:
        return False
    digits = len(_NO_DIGIT.sub("", found))
    return digits >= 7 or found.count(".") == 3 or (digits == 6 and found.count(" ") >= 2)


def _between_letters(match: re.Match[str]) -> bool:
    """Whether six digits stand between capitals, as in a British insurance number (AB123456C)."""
    start, end = match.span()
    before, behind = match.string[max(start - 2, 0) : start], match.string[end : end + 1]
    return end - start == 6 and behind in ("A", "B", "C", "D") and before.isalpha() and before.isupper()


def _long_strings(text: str) -> Iterator[tuple[int, int]]:
    at = 0
    plain = "AIza" not in text  # the one prefix of letters alone
    for word in [word for word in text.split() if len(word) >= LONG]:
        if not (plain and word.isalpha()) and _DIGIT_OR_PREFIX.search(word):
            at = text.find(word, at)
            yield at, at + len(word)
            at += len(word)


def _merged(text: str, hits: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    low, high = -1, -1
    for start, end in hits:
        left, right = _left(text, start), _right(text, end)
        if left <= high:
            high = max(high, right)
            continue
        if high >= 0:
            yield low, high
        low, high = left, right
    yield low, high


def _left(text: str, start: int) -> int:
    """Widen to the left by context.REACH, to a blank: labels of secrets and the first letters of spaced ids."""
    edge = max(0, start - context.REACH)
    blank = text.rfind(" ", max(0, edge - 32), edge)
    return blank if blank >= 0 else edge


def _right(text: str, end: int) -> int:
    edge = min(len(text), end + 12)
    blank = text.find(" ", edge, edge + 32)
    return blank if blank >= 0 else edge


def _window(text: str, start: int, end: int, regions: Sequence[str]) -> Iterator[Span]:
    """Yield what the patterns find that this stretch can hold at all: by its longest word and its digits."""
    piece = text[start:end]
    longest, digits = max(map(len, piece.split()), default=0), _digits(piece)
    if longest >= secrets.SHORTEST:
        yield from secrets.find(text, start, end)
    if longest >= network.SHORTEST_CRYPTO:
        yield from network.crypto(text, start, end)
    yield from numbers.ibans(text, start, end)
    if longest >= network.SHORTEST_MAC:
        yield from network.macs(text, start, end)
    yield from network.ips(text, start, end)
    if digits >= numbers.SHORTEST_CARD:
        yield from numbers.cards(text, start, end)
    if digits >= national.FEWEST_DIGITS:
        yield from national.find(text, start, end)
    if digits >= numbers.SHORTEST_PHONE:
        yield from numbers.phones(text, start, end, regions)


def _digits(piece: str) -> int:
    if piece.isascii():
        return len(piece.encode().translate(None, _NO_DIGIT_BYTES))
    return len(_NO_DIGIT.sub("", piece))


_RANK = {
    "private_key": 0, "token": 1, "api_key": 2, "email": 3, "iban": 4, "crypto": 5, "mac": 6, "ip": 7,
    "credit_card": 8, "phone": 10,
}  # fmt: skip


def rank(kind: str) -> int:
    """Return how certain a type is: the smaller wins where two overlap; national ids stand before phones."""
    return _RANK.get(kind, 9)


def _apart(found: list[Span]) -> list[Span]:
    kept: list[Span] = []
    for span in sorted(found, key=lambda s: (rank(s.type), s.start - s.end, s.start)):
        if all(span.end <= other.start or span.start >= other.end for other in kept):
            kept.append(span)
    return sorted(kept)


def mask(text: str, spans: Sequence[Span]) -> str:
    """Return the text with a typed placeholder (`<EMAIL>`, `<US_SSN>`) in place of every span."""
    parts: list[str] = []
    at = 0
    for span in spans:
        parts += [text[at : span.start], f"<{span.type.upper()}>"]
        at = span.end
    return "".join([*parts, text[at:]])


def is_national(kind: str) -> bool:
    """Return whether a type is a national id (a country and the id's name)."""
    return kind in national.TYPES
