# ruff: noqa: E501 (sentences are easier to read whole)
"""Made-up text with personal information planted in it, and with look-alikes that are none: for benchmarks/audit.py.

Every value is generated here by its published rule (check digits included), none belongs to a person, and no pattern of
primum is used. Sentences that carry values and look-alikes were written without looking at the patterns' label words.
"""

from __future__ import annotations

import base64
import hashlib
import random
import string
from collections.abc import Callable
from typing import NamedTuple


class Planted(NamedTuple):
    """A text, and what was planted in it as (type, start, end)."""

    text: str
    items: tuple[tuple[str, int, int], ...]


def digits(rng: random.Random, n: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(n))


def luhn_digit(number: str) -> str:
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)


def email(rng):
    local = rng.choice(["anna", "j.smith", "mueller_k", "li-wei", "o.okafor", "contact", "maria.garcia"]) + digits(
        rng, 2
    )
    return f"{local}@{rng.choice(['example.com', 'mail.example.org', 'uni-bern.ch', 'corp.co.uk', 'gmail.com'])}"


def phone(rng):
    area, exchange = f"{rng.choice('23456789')}{digits(rng, 2)}", f"{rng.choice('23456789')}{digits(rng, 2)}"
    area = rng.choice(["212", "415", "617", "303", "713", "206"]) if rng.random() < 0.8 else area
    line = digits(rng, 4)
    forms = [f"({area}) {exchange}-{line}", f"{area}-{exchange}-{line}", f"+1 {area} {exchange} {line}",
             f"{area}.{exchange}.{line}", f"+41 {rng.choice(['21', '44', '22', '79'])} {rng.choice('23456789')}{digits(rng, 2)} {digits(rng, 2)} {digits(rng, 2)}",
             f"+44 20 7{digits(rng, 3)} {digits(rng, 4)}", f"020 7{digits(rng, 3)} {digits(rng, 4)}",
             f"+33 6 {digits(rng, 2)} {digits(rng, 2)} {digits(rng, 2)} {digits(rng, 2)}", f"+49 30 {rng.choice('23456789')}{digits(rng, 6)}"]  # fmt: skip
    return rng.choice(forms)


def ip(rng):
    if rng.random() < 0.2:
        return f"2a02:{rng.randrange(1, 0xFFFF):x}:{rng.randrange(1, 0xFFFF):x}::{rng.randrange(1, 0xFFFF):x}"
    return f"{rng.choice([8, 23, 52, 81, 91, 104, 151, 185])}.{rng.randrange(2, 250)}.{rng.randrange(2, 250)}.{rng.randrange(2, 250)}"


def card(rng):
    start, length = rng.choice([("4", 16), ("51", 16), ("55", 16), ("37", 15), ("6011", 16), ("4", 16)])
    body = start + digits(rng, length - len(start) - 1)
    number = body + luhn_digit(body)
    if length == 15:
        return rng.choice([number, f"{number[:4]} {number[4:10]} {number[10:]}"])
    groups = [number[i : i + 4] for i in range(0, 16, 4)]
    return rng.choice([number, " ".join(groups), "-".join(groups)])


def iban(rng):
    country, body = rng.choice([("DE", digits(rng, 18)), ("CH", digits(rng, 17)), ("FR", digits(rng, 23)),
                                ("GB", rng.choice(["NWBK", "BARC", "HBUK"]) + digits(rng, 14)), ("ES", digits(rng, 20))])  # fmt: skip
    value = int("".join(str(int(c, 36)) for c in f"{body}{country}00"))
    number = f"{country}{98 - value % 97:02d}{body}"
    return number if rng.random() < 0.5 else " ".join(number[i : i + 4] for i in range(0, len(number), 4))


def ssn(rng):
    area = rng.choice([n for n in range(1, 900) if n != 666])
    return f"{area:03d}-{rng.randrange(1, 100):02d}-{rng.randrange(1, 10000):04d}"


def dni(rng):
    number = rng.randrange(10_000_000, 99_999_999)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def ahv(rng):
    body = "756" + digits(rng, 9)
    check = -sum(int(d) * (3 if i % 2 else 1) for i, d in enumerate(body)) % 10
    return f"756.{body[3:7]}.{body[7:11]}.{body[11]}{check}"


def api_key(rng):
    mixed = string.ascii_letters + string.digits
    word = lambda n, kind=mixed: "".join(rng.choice(kind) for _ in range(n))  # noqa: E731
    return rng.choice([
        "AKIA" + word(16, string.ascii_uppercase + string.digits), "AIza" + word(35), "sk-proj-" + word(20) + "7" + word(19),
        "sk_live_" + word(23) + "3", f"SG.{word(22)}.{word(42)}9",
    ])  # fmt: skip


def token(rng):
    mixed = string.ascii_letters + string.digits
    word = lambda n: "".join(rng.choice(mixed) for _ in range(n))  # noqa: E731
    part = lambda text: base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()  # noqa: E731
    web = part('{"alg":"HS256","typ":"JWT"}') + "." + part(f'{{"sub":"{digits(rng, 10)}"}}') + "." + word(43)
    return rng.choice(
        ["ghp_" + word(36), f"xoxb-{digits(rng, 11)}-{word(24)}", web, "hf_" + word(34), "glpat-" + word(20)]
    )


def mac(rng):
    pairs = [f"{rng.randrange(256):02x}" for _ in range(6)]
    pairs[2] = rng.choice(["a4", "be", "0f", "c1"])
    return rng.choice([":".join(pairs), ":".join(pairs).upper(), "-".join(pairs).upper()])


def crypto(rng):
    if rng.random() < 0.4:
        return "0x" + "".join(rng.choice("0123456789abcdef") for _ in range(40))
    data = bytes([rng.choice([0, 5])]) + rng.randbytes(20)
    data += hashlib.sha256(hashlib.sha256(data).digest()).digest()[:4]
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, rest = divmod(number, 58)
        text = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"[rest] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


TYPES: dict[str, tuple[Callable[[random.Random], str], tuple[str, ...]]] = {
    "email": (email, ("You can write to {} any time.", "From: {}", "(see {})", "Anna <{}> replied.")),
    "phone": (phone, ("You can reach us on {} until noon.", "Tel. {}", "My number is {}.", "Ring {} and ask for Ben,", "{} is where she can be found.")),
    "ip": (ip, ("The request came from {} at night.", "Client {} was blocked.", "ping {} failed", "Login from {}, then silence.")),
    "credit_card": (card, ("Please charge {}.", "Card: {}", "He paid with {} last week.", "Visa {} exp 09/27")),
    "iban": (iban, ("Transfer it to {} today.", "IBAN {}", "Account {}, thank you.")),
    "us_ssn": (ssn, ("Her SSN is {}.", "Social security: {}", "The form said {} in box 3.")),
    "es_dni": (dni, ("DNI {}", "con documento {} en Madrid", "The tenant, {}, signed.")),
    "ch_ahv": (ahv, ("AHV-Nr. {}", "insured as {} since May", "No AVS: {}")),
    "api_key": (api_key, ("export KEY={}", "The key {} leaked.", 'client = Client("{}")')),
    "token": (token, ("Authorization: Bearer {}", "git clone https://{}@host.example/x", 'token = "{}"', "He pasted {} into the chat.")),
    "mac": (mac, ("The adapter {} is offline.", "MAC {}", "link/ether {} brd", "Device {} joined.")),
    "crypto": (crypto, ("Donate to {} please.", "wallet {}", "He sent it to {}.")),
}  # fmt: skip


def bad_card(rng):
    number = card(rng)
    return number[:-1] + str((int(number[-1]) + 5) % 10)


LOOK_ALIKES: tuple[Callable[[random.Random], str], ...] = (
    lambda r: f"We moved to version {r.randrange(1, 20)}.{r.randrange(20)}.{r.randrange(20)}.{r.randrange(90)} yesterday.",
    lambda r: f"The router at 192.168.{r.randrange(255)}.{r.randrange(255)} answered 10.0.{r.randrange(255)}.{r.randrange(255)}.",
    lambda r: f"Chrome/{r.randrange(80, 130)}.0.{r.randrange(3000, 6000)}.{r.randrange(200)} on Linux",
    lambda r: f"ISBN 978-{r.randrange(10)}-{digits(r, 2)}-{digits(r, 6)}-{r.randrange(10)} is out of print.",
    lambda r: f"The book (978{digits(r, 10)}) costs 12 euros.",
    lambda r: f"Order {digits(r, 3)}-{digits(r, 7)}-{digits(r, 7)} has shipped.",
    lambda r: f"Your order number is {r.choice('12')}{digits(r, 9)}.",
    lambda r: f"Invoice #{digits(r, 10)} of 2023-0{r.randrange(1, 10)}-1{r.randrange(10)} is due.",
    lambda r: f"Tracking 1Z{digits(r, 16)} says delivered.",
    lambda r: f"The card {bad_card(r)} was declined as mistyped.",
    lambda r: f"commit {hashlib.sha1(r.randbytes(8)).hexdigest()} fixes it",
    lambda r: f"sha256 {hashlib.sha256(r.randbytes(8)).hexdigest()} matches",
    lambda r: f"Session 3f2b{digits(r, 4)}-{digits(r, 4)}-4abc-8def-{digits(r, 12)} ended.",
    lambda r: f"Population grew from {r.randrange(1, 9)},{digits(r, 3)},{digits(r, 3)} to {r.randrange(1, 9)},{digits(r, 3)},{digits(r, 3)}.",
    lambda r: f"At 46.{digits(r, 6)}, 6.{digits(r, 6)} stands a tower.",
    lambda r: f"The year 19{digits(r, 2)}-19{digits(r, 2)} and 12:3{r.randrange(10)}:45 on 0{r.randrange(1, 10)}.11.2021",
    lambda r: f"icon@2x.png and lodash@4.17.{r.randrange(30)} and @user{digits(r, 2)} were changed.",
    lambda r: f"timestamp 1{digits(r, 9)} and 1{digits(r, 12)} in the log",
    lambda r: f"p = 0.0{digits(r, 4)}, 95% CI {r.randrange(9)}.{digits(r, 2)}-{r.randrange(9)}.{digits(r, 2)}, n = {digits(r, 5)}",
    lambda r: f"fingerprint {':'.join(f'{r.randrange(256):02x}' for _ in range(16))}",
    lambda r: f"doi:10.{r.randrange(1000, 9999)}/s{digits(r, 5)}-0{digits(r, 2)}-{digits(r, 5)}-{r.randrange(10)}",
    lambda r: f"Part {digits(r, 3)}-{digits(r, 2)}-{digits(r, 3)} fits; SKU {digits(r, 8)}.",
    lambda r: f"See section 4.2.{r.randrange(1, 9)}.{r.randrange(1, 9)} of the manual.",
    lambda r: f"tx 0x{hashlib.sha256(r.randbytes(8)).hexdigest()} was mined",
)  # fmt: skip
FILLER = (
    "The patient was seen in the morning and sent home with advice.", "Nobody knew why the gate stood open that day.",
    "We compared both groups after twelve weeks of treatment.", "It rained, and the market closed early.",
    "The committee will meet again when the report is finished.", "A short walk leads down to the old harbour.",
)  # fmt: skip


def planted(n: int, seed: int = 0) -> list[Planted]:
    """Return n texts of about 1 kB: in each two items, three look-alikes, and sentences without numbers."""
    rng = random.Random(seed)
    kinds = list(TYPES)
    texts = []
    for number in range(n):
        pieces: list[tuple[str, str | None, str]] = []
        for step in range(2):
            kind = kinds[(2 * number + step) % len(kinds)]
            make, sentences = TYPES[kind]
            pieces.append((rng.choice(sentences), kind, make(rng)))
        pieces += [(rng.choice(LOOK_ALIKES)(rng), None, "") for _ in range(3)]
        pieces += [(rng.choice(FILLER), None, "") for _ in range(11)]
        rng.shuffle(pieces)
        texts.append(_joined(pieces))
    return texts


def _joined(pieces: list[tuple[str, str | None, str]]) -> Planted:
    text, items = "", []
    for sentence, kind, value in pieces:
        if kind:
            before, _, after = sentence.partition("{}")
            start = len(text) + len(before)
            items.append((kind, start, start + len(value)))
            sentence = before + value + after
        text += sentence + " "
    return Planted(text, tuple(items))
