"""Keys and tokens: known prefixes first, then a label with a random-looking value. Pure: text in, spans out.

A hash, a commit or a UUID that stands alone is no secret: nothing says so.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from primum.audit.pii.span import Span

_END = r"(?![A-Za-z0-9_\-])"
_START = r"(?<![A-Za-z0-9_])"
KEYS = (
    r"(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[A-Z0-9]{16}",  # AWS
    r"AIza[A-Za-z0-9_\-]{35}",  # Google
    r"sk-(?:proj-|ant-|or-|svcacct-)?[A-Za-z0-9_\-]{20,200}",  # OpenAI, Anthropic, OpenRouter
    r"(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{16,120}",  # Stripe
    r"SG\.[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{30,64}",  # SendGrid
    r"key-[a-f0-9]{32}",  # Mailgun
    r"[a-f0-9]{32}-us\d{1,2}",  # Mailchimp
    r"(?:SK|AC)[a-f0-9]{32}",  # Twilio
    r"(?:gsk|xai|pplx|r8|re|sq0atp|sq0csp|shppa|shpss|dop_v1|phc|lin_api|sntrys|PMAK|NRAK|FLWSECK)[_\-][A-Za-z0-9_\-]{20,200}",
)
TOKENS = (
    r"(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{30,255}",  # GitHub
    r"github_pat_[A-Za-z0-9_]{22,255}",
    r"glpat-[A-Za-z0-9_\-]{20,64}",  # GitLab
    r"xox[abeoprs]-[A-Za-z0-9\-]{10,250}",  # Slack
    r"hf_[A-Za-z0-9]{30,64}",  # Hugging Face
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-[A-Za-z0-9_\-]{50,250}",
    r"shpat_[a-fA-F0-9]{32}",  # Shopify
    r"EAA[A-Za-z0-9]{60,250}",  # Facebook
    r"ya29\.[A-Za-z0-9_\-]{20,250}",  # Google OAuth
    r"\d{8,10}:AA[A-Za-z0-9_\-]{32,35}",  # Telegram
    r"[MNO][A-Za-z0-9_\-]{23,27}\.[A-Za-z0-9_\-]{6}\.[A-Za-z0-9_\-]{27,40}",  # Discord
    r"eyJ[A-Za-z0-9_\-]{8,2000}\.eyJ[A-Za-z0-9_\-]{8,4000}\.[A-Za-z0-9_\-]{8,1000}",  # JSON Web Token
)
_KEY = re.compile(_START + "(?:" + "|".join(KEYS) + ")" + _END)
_TOKEN = re.compile(_START + "(?:" + "|".join(TOKENS) + ")" + _END)
_VALUE = r"[\"'`]?(?P<value>[A-Za-z0-9_\-./+=~]{16,256})"
_SAID = r"[\"'`]?\s{0,3}(?:[:=]|:=|=>|is|was)\s{0,3}"
_LABELLED_KEY = re.compile(
    rf"(?i)(?<![A-Za-z])(?:api|secret|access|private|encryption|account|client|app|subscription)[_\- ]?(?:api)?[_\- ]?"
    rf"(?:key|secret)(?:[_\- ]?id)?{_SAID}{_VALUE}"
)
_LABELLED_TOKEN = re.compile(
    rf"(?i)(?:(?<![A-Za-z])(?:(?:access|auth|api|bearer|refresh|session|id|oauth|bot|private|deploy|csrf)[_\- ]?)?token"
    rf"{_SAID}|(?<![A-Za-z])bearer[ :]{{1,2}}|authorization: {{0,2}}token ){_VALUE}"
)
_LABELLED = ((_LABELLED_TOKEN, ("token", "bearer"), "token"), (_LABELLED_KEY, ("key", "secret"), "api_key"))
"""Each with the words of which one stands in every match."""
SHORTEST = 14
"""No key and no token is shorter, and none has a blank in it."""
_PRIVATE = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_PLACEHOLDER = re.compile(r"(?i)your[_\-]|[_\-]here|x{4}|placeholder|changeme|insert[_\-]|replace[_\-]|dummy")
LEAST_ENTROPY = 2.8
"""Bits a character of a labelled value: words and counters have less, random strings of 16 characters more."""


def find(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the keys and tokens of a stretch of text."""
    for match in _TOKEN.finditer(text, start, end):
        yield Span(match.start(), match.end(), "token")
    for match in _KEY.finditer(text, start, end):
        if match.group().startswith("AIza") or any(c.isdigit() for c in match.group()):
            yield Span(match.start(), match.end(), "api_key")
    for pattern, words, name in _LABELLED:
        for match in pattern.finditer(text, start, end) if _any_of(words, text, start, end) else ():
            value = match["value"].rstrip(".-/")
            if random_looking(value):
                yield Span(match.start("value"), match.start("value") + len(value), name)


def _any_of(words: Sequence[str], text: str, start: int, end: int) -> bool:
    """Whether a stretch may hold one of these words in any case (beyond ASCII other letters fold to theirs)."""
    piece = text[start:end]
    if not piece.isascii():
        return True
    lower = piece.lower()
    return any(word in lower for word in words)


def private_keys(text: str) -> Iterator[Span]:
    """Yield the private keys in PEM form, from BEGIN to END (to the end of the text where END is missing)."""
    for match in _PRIVATE.finditer(text):
        close = text.find("-----END ", match.end())
        end = text.find("-----", close + 9) + 5 if close >= 0 else len(text)
        yield Span(match.start(), end if end > 4 else len(text), "private_key")


def random_looking(value: str) -> bool:
    """Return whether a value could be a secret: letters and digits mixed, and no word, path, host or placeholder."""
    if not (any(c.isdigit() for c in value) and any(c.isalpha() for c in value)):
        return False
    if value.count("/") > 2 or value.lower().endswith((".com", ".org", ".net", ".html", ".json", ".py", ".md")):
        return False
    return len(value) >= 16 and entropy(value) >= LEAST_ENTROPY and not _PLACEHOLDER.search(value)


def entropy(value: str) -> float:
    """Return Shannon's entropy of the characters, in bits a character."""
    counts = Counter(value).values()
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts)
