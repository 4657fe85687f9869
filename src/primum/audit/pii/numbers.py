"""Numbers: phones, payment cards, IBANs. A shape finds the candidate; check digits and the words before it decide."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from primum.audit.pii import context
from primum.audit.pii.span import Span

_IBAN = re.compile(
    r"(?<![\w\-])(?:[A-Z]{2}\d{2}(?:[ \-]?[A-Z0-9]{4}){2,7}(?:[ \-]?[A-Z0-9]{1,4})?"
    r"|[a-z]{2}\d{2}(?:[ \-]?[a-z0-9]{4}){2,7}(?:[ \-]?[a-z0-9]{1,4})?)(?![\w])"
)
_CARD = re.compile(r"(?<![\w.\-+/])(?:\d[ \-\u00a0]?){11,18}\d(?![\w]|[.\-]\d)")
_CARD_GROUPS = re.compile(r"\d{12,19}|\d{4}([ \-\u00a0])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ \-\u00a0])\d{6}\2\d{4,5}")
_BRANDS = (
    (re.compile(r"4"), (13, 16, 19)),  # Visa
    (re.compile(r"5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), (16,)),  # Mastercard
    (re.compile(r"3[47]"), (15,)),  # American Express
    (re.compile(r"3(?:0[0-5]|095|6|[89])"), (14, 16, 17, 18, 19)),  # Diners Club
    (re.compile(r"35(?:2[89]|[3-8])"), (16, 17, 18, 19)),  # JCB
    (re.compile(r"6(?:011|4[4-9]|5)"), (16, 17, 18, 19)),  # Discover
    (re.compile(r"62"), (16, 17, 18, 19)),  # UnionPay
    (re.compile(r"50|5[6-8]|6"), (16, 17, 18, 19)),  # Maestro; shorter ones look like any other number
)
_PHONE = re.compile(
    r"(?<![\w.\-/=@#:$€£%^~])(?:(?<!\d )|(?=[+(0]))(?:\+|00)?[ ]?"
    r"\(?\+?\d(?:[ \t\u00a0\u202f.()\-\u2010\u2011\u2013/]{0,3}\d){5,15}"
    r"(?![\w%$€£^~@=]|[\-/:]\d|\.\d)"
)
_LABELLED = re.compile(r"(?<=[:=/#])(?:\+|00)?\(?\d(?:[ .()\-]{0,3}\d){6,14}(?![\w%]|[\-/:]\d|\.\d)")
_NANP = re.compile(r"(?:\+?1[ .\-]?)?(?:\([2-9]\d\d\)[ ]?[\-]?|[2-9]\d\d[ .\-/]{1,3})[2-9]\d\d[ .\-]{1,3}\d{4}")
_SURE = re.compile(r"\+.*|\(\d{3}\) ?\d{3}-\d{4}|\d{3}-\d{3}-\d{4}")
"""Ways to write a phone number that no version number is written in."""
_DATE = re.compile(
    r"(?:\d{1,2}[./\-]\d{1,2}[./\-](?:19|20)?\d\d|\d{1,2} \d{1,2} (?:19|20)\d\d"
    r"|(?:19|20)\d\d[./\- ]\d{1,2}[./\- ]\d{1,2})(?:[ T.\-]\d{1,4})*"
    r"|(?:19|20)\d\d\s?[\-\u2013/]\s?(?:19|20)\d\d"
)
_SSN = re.compile(r"\d{3}-\d{2}-\d{4}")
_TRUNK_GROUPS = re.compile(r"\(?0\d{1,5}\)?(?:[ .\-/\u00a0]{1,3}\d{2,8}){1,5}")
SHORTEST_CARD, SHORTEST_PHONE = 12, 7
"""Digits that the shortest one has."""
_LOCAL = re.compile(r"[2-9]\d\d[ .\-]\d{4}")
_NO_DIGIT = re.compile(r"\D")
REMEMBERED = 1 << 14
"""Numbers whose answer of phonenumbers is kept: a page's footer comes again and again, and an answer takes long."""
REGIONS = ("US", "GB", "DE", "FR", "CH", "ES", "IT", "IN", "AU", "BR")
"""Whose national ways to write a number are tried where no country code stands before it."""


def ibans(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the IBANs: the country's length and the check modulo 97 (ISO 7064) must hold."""
    from stdnum import iban

    for match in _IBAN.finditer(text, start, end):
        stop = match.end()
        while stop - match.start() >= 15:  # the pattern may have swallowed a word behind a spaced IBAN
            if iban.is_valid(match.string[match.start() : stop], check_country=False):
                yield Span(match.start(), stop, "iban")
                break
            stop = max(text.rfind(" ", match.start(), stop), text.rfind("-", match.start(), stop))


def cards(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the payment cards: a known brand's first digits and length, Luhn's check, and even groups."""
    from stdnum import luhn

    for match in _CARD.finditer(text, start, end):
        digits = _NO_DIGIT.sub("", match.group())
        if not _CARD_GROUPS.fullmatch(match.group()) or not _brand(digits) or len(set(digits)) < 2:
            continue
        if luhn.is_valid(digits) and not context.NOT_PERSONAL.search(context.before(text, match.start())):
            yield Span(match.start(), match.end(), "credit_card")


def _brand(digits: str) -> bool:
    return any(pattern.match(digits) and len(digits) in lengths for pattern, lengths in _BRANDS)


def phones(text: str, start: int, end: int, regions: Sequence[str] = REGIONS) -> Iterator[Span]:
    """Yield the phone numbers.

    With a country code phonenumbers must find it valid (or at least possible, where it is written in groups).
    Without one it must be written as North American numbers are (3-3-4), or valid in one of the regions and written
    in groups from a leading 0; a bare row of digits needs a word before it that announces a phone.
    """
    for match in _PHONE.finditer(text, start, end):
        first = match.start() + len(match.group()) - len(match.group().lstrip())
        if _is_phone(text, first, match.end(), regions):
            yield Span(first, match.end(), "phone")
    for match in _LABELLED.finditer(text, start, end):
        if context.PHONE.search(context.before(text, match.start())) and _is_phone(text, *match.span(), regions):
            yield Span(match.start(), match.end(), "phone")


def _is_phone(text: str, start: int, end: int, regions: Sequence[str]) -> bool:
    found, said = text[start:end], context.before(text, start)
    digits = _NO_DIGIT.sub("", found)
    if not 7 <= len(digits) <= 15 or len(set(digits)) < 2 or found.count("(") != found.count(")"):
        return False
    announced = bool(context.PHONE.search(said))
    if not announced and (_DATE.fullmatch(found) or context.NOT_PERSONAL.search(said)):
        return False
    if not announced and not _SURE.fullmatch(found) and context.VERSION.search(said):
        return False
    if digits.startswith(("978", "979")) and len(digits) == 13 and not found.startswith("+"):
        return False  # a book's number
    if found.startswith(("+", "(+")):
        return _with_code(found, grouped=not found[1:].isdigit())
    if digits.startswith("00"):
        return _with_code("+" + digits[2:], grouped=False)
    if _NANP.fullmatch(found):
        return True
    if announced:
        return _possible(found, tuple(regions)) or _LOCAL.fullmatch(found) is not None
    if _SSN.fullmatch(found):  # one that was never given out, or national ids would have it
        return False
    return bool(_TRUNK_GROUPS.fullmatch(found)) and _valid(found, tuple(regions))


@lru_cache(REMEMBERED)
def _with_code(number: str, *, grouped: bool) -> bool:
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return False
    return phonenumbers.is_valid_number(parsed) or (grouped and phonenumbers.is_possible_number(parsed))


def _parsed(number: str, regions: Sequence[str]) -> Iterator[Any]:
    import phonenumbers

    for region in regions:
        try:
            yield phonenumbers.parse(number, region)
        except phonenumbers.NumberParseException:
            continue


@lru_cache(REMEMBERED)
def _valid(number: str, regions: tuple[str, ...]) -> bool:
    import phonenumbers

    return any(phonenumbers.is_valid_number(parsed) for parsed in _parsed(number, regions))


@lru_cache(REMEMBERED)
def _possible(number: str, regions: tuple[str, ...]) -> bool:
    import phonenumbers

    return any(phonenumbers.is_possible_number(parsed) for parsed in _parsed(number, regions))
