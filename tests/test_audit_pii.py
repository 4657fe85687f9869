"""Personal information by patterns: published examples of each type, and look-alikes that are none."""

import re
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from primum.audit.pii import national, network, numbers, secrets
from primum.audit.pii.context import Words
from primum.audit.pii.national import singapore
from primum.audit.pii.network import base58check, bech32
from primum.audit.pii.scan import _window as found_in
from primum.audit.pii.scan import mask, scan, windows
from primum.audit.pii.secrets import entropy


def found(text):
    return [(span.type, text[span.start : span.end]) for span in scan(text)]


# Examples of the standards themselves, of the issuers' documentation, or test numbers they publish.
@pytest.mark.parametrize(
    ("kind", "value", "around"),
    [
        ("email", "john.smith@example.com", "write to {}."),
        ("email", "anne+x@sub.uni-köln.de", "<{}>"),
        ("phone", "(212) 555-0123", "at {} now"),
        ("phone", "+41 21 693 11 11", "EPFL {}"),
        ("phone", "020 7946 0958", "see {} or"),
        ("phone", "5551234567", "phone: {}"),
        ("phone", "+442079460958", "tel:{}"),
        ("ip", "8.8.8.8", "ping {} failed"),
        ("ip", "2001:4860:4860::8888", "resolver {}"),
        ("credit_card", "4111 1111 1111 1111", "pay with {}"),
        ("credit_card", "378282246310005", "amex {}"),
        ("iban", "DE89 3704 0044 0532 0130 00", "to {} today"),
        ("iban", "GB29NWBK60161331926819", "{}"),
        ("us_ssn", "536-90-4399", "it says {}"),
        ("es_dni", "12345678Z", "DNI {}"),
        ("es_nie", "X1234567L", "{}"),
        ("ch_ahv", "756.9217.0769.85", "insured as {}"),
        ("fr_nir", "2 95 10 99 126 111 93", "{}"),
        ("it_codice_fiscale", "RSSMRA85T10A562S", "{}"),
        ("uk_nino", "AB 12 34 56 C", "{}"),
        ("uk_nino", "AB123456C", "insured as {}."),
        ("uk_nhs", "943 476 5919", "NHS {}"),
        ("br_cpf", "111.444.777-35", "{}"),
        ("sg_nric", "S1234567D", "{}"),
        ("api_key", "AKIAIOSFODNN7EXAMPLE", "id = {}"),
        ("api_key", "a8f5f167f44f4964e6c998dee827110c", 'api_key = "{}"'),
        ("token", "ghp_abcdefghijklmnopqrstuvwxyz0123456789", "{}"),
        ("token", "abcDEF1234567890abcdef", "Authorization: Bearer {}"),
        ("token", "glpat-ABCdefGhiJklMnoPqrSt", "https://{}@host.example/x"),
        ("token", "9944b09199c62bcf9418ad846dd0e4bbdfc6ee4b", "Authorization: Token {}"),
        ("phone", "01 42 68 53 00", "Paris {}"),
        ("phone", "07700 900123", "ring {} tonight"),
        ("iban", "gb82 west 1234 5698 7654 32", "{} it is"),
        ("us_ssn", "123 45 6789", "Social Security Number is {}"),
        ("ca_sin", "046 454 286", "SIN {}"),
        ("de_idnr", "36574261809", "Steuer-ID {}"),
        ("kr_rrn", "971013-9019902", "{}"),
        ("ip", "93.184.216.34", "http://{}/index.html"),
        ("mac", "00:1B:44:11:3A:B7", "adapter {}"),
        ("mac", "001b.4411.3ab7", "port {}"),
        ("crypto", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "send to {}"),
        ("crypto", "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq", "{}"),
        ("crypto", "rEb8TK3gBgk5auZkwc6sHnwrGVJH8DuaLh", "{}"),
        ("crypto", "0x742d35Cc6634C0532925a3b844Bc454e4438f44e", "wallet {}"),
    ],
)
def test_each_type_is_found_where_it_stands(kind, value, around):
    assert found(around.format(value)) == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        "icon@2x.png, lodash@4.17.21, git@github.com:a/b, root@box.local",
        "version 10.2.3.4 and v52.14.23.99 of section 4.2.1.3",
        "upgrade from 4.18.0.305 to 5.14.0.70, the 5.10.15.20 kernel, Firefox/115.0.2.1",
        "EAN 4006381333931, ISSN 0378-5955, arXiv:2307.09288, IMEI 490154203237518, CVE-2021-44228",
        "DNI 12345678A; SKU 11054428 and product code 123-45-6789",
        "API key: YOUR_API_KEY_HERE_12345",
        "192.168.0.1, 10.1.1.1, 127.0.0.1, 203.0.113.5, fe80::1, 300.1.1.1",
        "ISBN 978-3-16-148410-0 and isbn 0-306-40615-2 and 9783161484100",
        "order 212-555-0199, invoice no. 2125550199, tracking number 4111111111111111",
        "4111 1111 1111 1112 is mistyped",
        "DE89 3704 0044 0532 0130 01 fails the check",
        "000-12-3456, 666-12-3456, 078-05-1120 were never given out",
        "12345678A and X1234567A have the wrong letter",
        "3b18e512dba79e4c8300dd08aeb37f8e728b8dad is a commit",
        "550e8400-e29b-41d4-a716-446655440000 is a UUID",
        "00:1B:44:11:3A:B7:00:1B:44:11:3A:B7:00:1B:44:11 is a fingerprint, 00:00:00:00:00:00 nobody's",
        "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNb fails the checksum",
        "on 2023-01-15 10:30, 01.02.2023, 1999-2005, at 1700000000, 7,900,000,000 people, 46.519100, 6.566800",
        "p = 0.0123 (95% CI 1.23-4.56), n = 12345, 3.14159265",
        "api_key = your-key-goes-here and password = changeme",
    ],
)
def test_look_alikes_are_left_alone(text):
    assert found(text) == []


def test_a_private_key_is_one_item_to_its_end():
    text = "x\n-----BEGIN RSA PRIVATE KEY-----\nMIIE/8004123456\n-----END RSA PRIVATE KEY-----\ny"
    assert found(text) == [("private_key", text[2:-2])]


def test_a_masked_text_names_types_and_keeps_the_rest():
    text = "Ann (ann@example.org) has 536-90-4399 and calls 212-555-0199."
    assert mask(text, scan(text)) == "Ann (<EMAIL>) has <US_SSN> and calls <PHONE>."


def test_a_checksum_decides_where_the_shape_is_the_same():
    # BIP 173's and BIP 350's own vectors; the Singapore letter worked by hand: 2+14+18+20+20+18+14 = 106, 106 % 11 = 7
    assert bech32("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4")
    assert bech32("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0")
    assert not bech32("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5")
    assert not bech32("bc1Qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4")
    assert not base58check("z" * 35)
    assert singapore("S1234567D")
    assert not singapore("S1234567E")


def test_entropy_is_shannons():
    assert entropy("aaaa") == 0
    assert entropy("abcd") == pytest.approx(2)


@settings(deadline=None)
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_any_text_gives_spans_in_order_without_overlap(text):
    spans = scan(text)
    assert all(0 <= one.start < one.end <= len(text) for one in spans)
    assert all(a.end <= b.start for a, b in pairwise(spans))


@settings(deadline=None)
@given(st.text(alphabet="0123456789 +-.()@aB:/x=", max_size=200))
def test_windows_cover_what_a_scan_of_the_whole_text_would_find(text):
    for span in scan(text):
        inside = any(low <= span.start and span.end <= high for low, high in next(windows([text])))
        assert inside or span.type in ("email", "private_key")


ROW = re.compile(r"\d[\d .()/:\-\u00a0\u202f\u2010\u2011\u2013]{4,}\d")
SIGNS = " 0123456789.()/:-\u00a0\u202f\u2010\u2011\u2013\u0661\u0967\u2003\n\x1c\x00abcABCéß漢😀_@"


@settings(deadline=None, max_examples=300)
@given(st.lists(st.text(alphabet=SIGNS, max_size=60), max_size=6))
def test_windows_of_many_texts_hold_every_row_of_seven_digits_and_every_long_word_with_one(texts):
    found = list(windows(texts))
    assert found == [next(windows([text])) for text in texts]
    for text, stretches in zip(texts, found, strict=True):
        rows = [one.span() for one in ROW.finditer(text) if len(re.findall(r"\d", one.group())) >= 7]
        words = [one.span() for one in re.finditer(r"\S{14,}", text) if re.search(r"\d", one.group())]
        for start, end in rows + words:
            assert any(low <= start and end <= high for low, high in stretches), (start, end)
        for low, high in stretches:  # and none is there for nothing
            held = text[low:high]
            assert ROW.search(held) or re.search(r"(?=\S*\d)\S{14,}", held) or "::" in held


@settings(deadline=None)
@given(st.text(alphabet="iIıİkK\u212asSſ .:n1\n", max_size=30), st.integers(0, 30), st.integers(0, 30))
def test_words_are_found_as_a_search_that_folds_case_finds_them(text, start, end):
    start, end = min(start, len(text)), min(end, len(text))
    for said, after in ((r"sin|ski|n\.i", r"\s*$"), ("kin|is", "(?:[^a-z]|$)")):
        words, folded = Words(said, after), re.compile(rf"(?i)(?:^|[^a-z])(?:{said}){after}")
        one, other = words.search(text), folded.search(text)
        assert (one and (one.start, one.end)) == (other and other.span())
        assert [(one.start, one.end) for one in words.finditer(text)] == [one.span() for one in folded.finditer(text)]
        assert words.within(text, start, end) == bool(folded.search(text, start, end))


PIECES = """
536-90-4399 12345678Z X1234567L 9434765919 nhs AB123456C ABCDE1234F 4111111111111111 DE89370400440532013000 8.8.8.8
2a02::1 001b.4411.3ab7 00:1B:44:11:3A:B7 bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq 1 22 333 4444 - + . , key: token=
AKIAIOSFODNN7EXAMPLE a8f5f167f44f4964e6c998dee827110c (212) 555-0123 order ſecret_key: é ٣٤٥٦٧٨٩ xoxb-1234567890 95 10
36574261809 steuer-id insee 756.9217.0769.85 2 99 126 111 93
"""
NUMBERS = st.lists(st.sampled_from([*PIECES.split(), "\n"]), max_size=14)


@settings(deadline=None, max_examples=300)
@given(NUMBERS, st.sampled_from([" ", "", ", "]))
def test_what_is_left_out_of_a_stretch_would_have_found_nothing(parts, between):
    text = between.join(parts)
    finders = (
        secrets.find,
        network.crypto,
        network.bech32s,
        numbers.ibans,
        network.macs,
        network.ips,
        numbers.cards,
        national.find,
    )
    every = [span for find in (*finders, numbers.phones) for span in find(text, 0, len(text))]
    assert list(found_in(text, 0, len(text), numbers.REGIONS)) == every


@settings(deadline=None, max_examples=300)
@given(NUMBERS, st.sampled_from([" ", "", ", "]))
def test_shapes_that_are_sought_together_are_those_of_each_alone(parts, between):
    text = between.join(parts)
    for group in (national._PLAIN, national._LABELLED):
        alone = [(kind, one.span()) for kind in group.kinds for one in kind.shape.finditer(text)]
        assert [(kind, one.span()) for kind, one in national._shaped(group, text, 0, len(text))] == alone


def test_long_unbroken_strings_take_linear_time():
    import time

    for text in ("a1" * 100_000, "1" * 100_000, "1 " * 50_000, "a@" * 50_000, "1." * 50_000, "ab:" * 30_000):
        start = time.process_time()
        scan(text)
        assert time.process_time() - start < 5, text[:4]


@pytest.mark.parametrize("seed", [11, 12])
def test_recall_and_precision_on_planted_text(root, seed, monkeypatch):
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    from planted import planted

    texts = planted(240, seed)
    hits = total = wrong = 0
    for one in texts:
        spans = scan(one.text)
        total += len(one.items)
        hits += sum(any(s.type == k and s.start < e and s.end > b for s in spans) for k, b, e in one.items)
        wrong += sum(not any(s.type == k and s.start < e and s.end > b for k, b, e in one.items) for s in spans)
    assert "planted" in sys.modules
    assert hits >= 0.98 * total
    assert hits >= 0.95 * (hits + wrong)
