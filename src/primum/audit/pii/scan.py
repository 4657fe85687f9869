"""Every type over one text, fast: cheap triggers first, the patterns only around what they hit.

The detailed patterns run only in windows around rows of digits and long unbroken strings (windows.py), so a text
without numbers costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from primum.audit.pii import national, network, numbers, secrets
from primum.audit.pii.span import Span
from primum.audit.pii.windows import Window, digits_of, windows

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
    return next(scan_all([text], regions))


def scan_all(texts: Sequence[str], regions: Sequence[str] = numbers.REGIONS) -> Iterator[list[Span]]:
    """Yield for each text what `scan` returns of it; many texts at once are read in less time.

    Args:
        texts: any texts.
        regions: countries whose national phone formats are tried (ISO 3166 codes).
    """
    for text, found in zip(texts, windows(texts), strict=True):
        yield _scanned(text, found, regions)


def _scanned(text: str, stretches: Sequence[Window], regions: Sequence[str]) -> list[Span]:
    found: list[Span] = []
    if "PRIVATE KEY" in text:
        found += secrets.private_keys(text)
    if "@" in text:
        found += network.emails(text)
    for start, end in stretches:
        found += _window(text, start, end, regions)
    return _apart(found) if found else found


def _window(text: str, start: int, end: int, regions: Sequence[str]) -> Iterator[Span]:
    """Yield what the patterns find that this stretch can hold at all: by its longest word and its digits."""
    piece = text[start:end]
    longest, digits = max(map(len, piece.split()), default=0), digits_of(piece)
    if longest >= secrets.SHORTEST:
        yield from secrets.find(text, start, end)
    if longest >= network.SHORTEST_CRYPTO:
        yield from network.crypto(text, start, end)
    yield from network.bech32s(text, start, end)
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
