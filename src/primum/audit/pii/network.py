"""Addresses: e-mail, public IP, MAC, crypto. Pure: text in, spans out."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterator

from primum.audit.pii import context
from primum.audit.pii.span import Span

_LABEL = r"[^\W_](?:[\w\-]{0,61}[^\W_])?"
_EMAIL = re.compile(
    rf"(?<![\w.%+\-@])[\w](?:[\w.%+\-'&]{{0,62}}[\w+\-])?@(?:{_LABEL}\.){{1,8}}(?:[^\W\d_]{{2,24}}|xn--[a-z0-9\-]{{2,59}})"
    r"(?![\w@])"
)
_FILE_ENDINGS = (
    "png jpg jpeg gif svg webp ico bmp tif tiff pdf js ts css py html htm json yaml yml xml md txt csv zip gz tar exe "
    "dll local localhost localdomain internal invalid lan home arpa"
)
_NO_TLD = frozenset(re.findall(r"\w+", _FILE_ENDINGS))
_V4 = re.compile(r"(?<![\w.\-])(?:(?:0|[1-9]\d{0,2})\.){3}(?:0|[1-9]\d{0,2})(?![\w]|\.\d|-[A-Za-z0-9])")
_V6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}:){1,7}(?:(?::[0-9A-Fa-f]{1,4}){1,6}|[0-9A-Fa-f]{1,4}|:)(?![\w:]|\.\d)"
)
_MAC = re.compile(
    r"(?<![\w:.\-])(?:[0-9A-Fa-f]{2}([:\-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}|(?:[0-9A-Fa-f]{4}\.){2}[0-9A-Fa-f]{4})"
    r"(?![\w:\-]|\.[0-9A-Fa-f])"
)
_MAC_WORD = re.compile(r"(?i)\b(?:mac|ethernet|hardware|physical|wi-?fi|bluetooth|bssid|device)\b")
_ETH = re.compile(r"(?<![\w])0x[0-9A-Fa-f]{40}(?![\w])")
_BASE58 = re.compile(r"(?<![\w])[13LMDAXT9][1-9A-HJ-NP-Za-km-z]{25,34}(?![\w])")
_RIPPLE = re.compile(r"(?<![\w])r[1-9A-HJ-NP-Za-km-z]{24,34}(?![\w])")
_BECH32 = re.compile(r"(?<![\w])(?:bc1|BC1|ltc1|LTC1|addr1)[02-9AC-HJ-NP-Zac-hj-np-z]{8,98}(?![\w])")
_MONERO = re.compile(r"(?<![\w])[48][0-9AB][1-9A-HJ-NP-Za-km-z]{93}(?![\w])")
_DIGITS58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_RIPPLE58 = "rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz"
_DIGITS32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VERSIONS58 = frozenset({0, 5, 30, 48, 50, 22, 65, 76, 16})
"""First byte of an address: Bitcoin, Litecoin, Dogecoin, Tron, Dash."""
_BECH32_ENDS = (1, 0x2BC830A3)
"""Checksums of Bech32 (BIP 173) and Bech32m (BIP 350)."""
SHORTEST_CRYPTO, SHORTEST_MAC = 25, 14
"""Characters of the shortest one; neither has a blank in it. A Bech32 address may have fewer."""
_BECH32_BEGIN = re.compile(r"[bl][ct]1|[BL][CT]1|addr1")
LONGEST_LOCAL, LONGEST_DOMAIN = 66, 255


def emails(text: str) -> Iterator[Span]:
    """Yield the e-mail addresses; an image's name (icon@2x.png) and a machine's (root@host.local) are none."""
    at = text.find("@")
    done = 0
    while at >= 0:
        for match in _EMAIL.finditer(text, max(done, at - LONGEST_LOCAL), at + LONGEST_DOMAIN):
            done = match.end()
            if _is_email(match, text):
                yield Span(match.start(), match.end(), "email")
        at = text.find("@", max(at + 1, done))


def _is_email(match: re.Match[str], text: str) -> bool:
    local, _, domain = match.group().partition("@")
    if domain.rpartition(".")[2].lower() in _NO_TLD or ".." in local:
        return False
    return not (local == "git" and text[match.end() : match.end() + 1] == ":")  # git@host:path is a remote


def ips(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the public IP addresses (`ipaddress.is_global`); private ones, versions and section numbers are none."""
    for match in _V4.finditer(text, start, end) if text.count(".", start, end) >= 3 else ():
        if _global(match.group()) and not context.is_version(text, *match.span()):
            yield Span(match.start(), match.end(), "ip")
    for match in _V6.finditer(text, start, end) if text.count(":", start, end) >= 2 else ():
        if any(c.isdigit() for c in match.group()) and _global(match.group()):
            yield Span(match.start(), match.end(), "ip")


def _global(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return address.is_global and not address.is_multicast


def macs(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the MAC addresses; all zeros and the broadcast address are no device's.

    Written with hyphens or dots and without a letter it may be any number, so a word must say what it is.
    """
    for match in _MAC.finditer(text, start, end):
        digits = re.sub(r"[:.\-]", "", match.group()).lower()
        plain = match[1] != ":" and digits.isdigit()
        if len(set(digits)) > 1 and not (plain and not _MAC_WORD.search(context.before(text, match.start()))):
            yield Span(match.start(), match.end(), "mac")


def crypto(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the addresses of crypto-currencies: Ethereum's and Monero's form, Base58Check by checksum."""
    for match in _ETH.finditer(text, start, end):
        if len(set(match.group()[2:])) > 2:
            yield Span(match.start(), match.end(), "crypto")
    for match in _MONERO.finditer(text, start, end):
        yield Span(match.start(), match.end(), "crypto")
    for pattern, valid in ((_BASE58, base58check), (_RIPPLE, ripple)):
        for match in pattern.finditer(text, start, end):
            if valid(match.group()):
                yield Span(match.start(), match.end(), "crypto")


def bech32s(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the addresses of crypto-currencies in Bech32, by checksum."""
    for match in _BECH32.finditer(text, start, end) if _BECH32_BEGIN.search(text, start, end) else ():
        if bech32(match.group()):
            yield Span(match.start(), match.end(), "crypto")


def ripple(address: str) -> bool:
    """Return whether the checksum of a Ripple address holds: Base58Check in another order of the letters."""
    return base58check(address, _RIPPLE58)


def base58check(address: str, alphabet: str = _DIGITS58) -> bool:
    """Return whether the last four bytes are the double SHA-256 of the rest, and the first is a known coin's."""
    number = 0
    for character in address:
        number = number * 58 + alphabet.index(character)
    try:
        data = number.to_bytes(25, "big")
    except OverflowError:
        return False
    digest = hashlib.sha256(hashlib.sha256(data[:-4]).digest()).digest()
    return digest[:4] == data[-4:] and data[0] in _VERSIONS58


def bech32(address: str) -> bool:
    """Return whether the checksum of BIP 173 or BIP 350 holds; mixed case is refused, as both say."""
    if address.lower() != address and address.upper() != address:
        return False
    human, _, data = address.lower().partition("1")
    values = [ord(c) >> 5 for c in human] + [0] + [ord(c) & 31 for c in human]
    checksum = 1
    for value in values + [_DIGITS32.index(c) for c in data]:
        top = checksum >> 25
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            checksum ^= generator if top >> bit & 1 else 0
    return checksum in _BECH32_ENDS
