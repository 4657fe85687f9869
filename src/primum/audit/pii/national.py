"""National ids: a shape, the check digits of python-stdnum, and where the shape alone is too common, a word before it.

The type's name is the country and the id: us_ssn, uk_nino, es_dni, ...
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import NamedTuple

from primum.audit.pii import context
from primum.audit.pii.span import Span


class National(NamedTuple):
    """One id: its shape, python-stdnum's module, and the words of which one must stand before it ("": no need)."""

    type: str
    shape: str
    module: str
    words: str = ""


def _alone(shapes: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.\-+/])(?=[A-Z\d])(?:{shapes})(?![\w]|[.\-/]\d)")


def _labels(words: str) -> context.Words:
    return context.Words(words, "(?:[^a-z]|$)")


_ANY = r"id|identity|national id|identification|tax|tin|personal number"
IDS = (
    National("us_ssn", r"\d{3}-\d{2}-\d{4}", "us.ssn"),
    National("us_ssn", r"\d{3} \d{2} \d{4}|\d{9}", "us.ssn", r"ssn|social security|social|ss#|ss no"),
    National("us_itin", r"9\d{2}-\d{2}-\d{4}", "us.itin", r"itin|taxpayer|tin"),
    National("uk_nino", r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]", ""),
    National("uk_nhs", r"\d{3}[ \-]?\d{3}[ \-]?\d{4}", "gb.nhs", r"nhs|health service"),
    National("es_dni", r"\d{8}-?[A-HJ-NP-TV-Z]", "es.dni"),
    National("es_nie", r"[XYZ]-?\d{7}-?[A-HJ-NP-TV-Z]", "es.nie"),
    National("it_codice_fiscale", r"[A-Z]{6}\d{2}[A-EHLMPR-T]\d{2}[A-Z]\d{3}[A-Z]", "it.codicefiscale"),
    National("fr_nir", r"[12378] \d{2} (?:0[1-9]|[1-9]\d) (?:\d{2}|2[AB]) \d{3} \d{3} \d{2}", "fr.nir"),
    National("fr_nir", r"[12378]\d{4}(?:\d{2}|2[AB])\d{8}", "fr.nir", r"s[ée]cu\w*|s[ée]curit[ée] sociale|nir|insee"),
    National("ch_ahv", r"756\.?\d{4}\.?\d{4}\.?\d{2}", "ch.ssn"),
    National(
        "de_idnr",
        r"\d{2} ?\d{3} ?\d{3} ?\d{3}",
        "de.idnr",
        r"idnr|steuer\w*|steuer-id\w*|tax|tin|identifikationsnummer",
    ),
    National("nl_bsn", r"\d{4}\.?\d{2}\.?\d{3}|\d{3}\.?\d{3}\.?\d{3}", "nl.bsn", r"bsn|burgerservicenummer|sofi\w*"),
    National("be_nn", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}", "be.nn"),
    National("pl_pesel", r"\d{11}", "pl.pesel", r"pesel"),
    National("pt_nif", r"\d{3} ?\d{3} ?\d{3}", "pt.nif", r"nif|contribuinte"),
    National("se_personnummer", r"(?:19|20)?\d{6}[\-+]\d{4}", "se.personnummer"),
    National("fi_hetu", r"\d{6}[+\-A-FU-Y]\d{3}[0-9A-FHJ-NPR-Y]", "fi.hetu"),
    National("dk_cpr", r"\d{6}-\d{4}", "dk.cpr", r"cpr|personnummer"),
    National("no_fodselsnummer", r"\d{6} ?\d{5}", "no.fodselsnummer", r"f[øo]dselsnummer|personnummer|national id|fnr"),
    National("ie_pps", r"\d{7}[A-W][A-IW]?", "ie.pps", r"pps|ppsn"),
    National("at_svnr", r"\d{4} ?\d{6}", "at.vnr", r"svnr|sv-?nummer|versicherungsnummer|sozialversicherung\w*"),
    National("ro_cnp", r"[1-8]\d{12}", "ro.cnp", r"cnp"),
    National("bg_egn", r"\d{10}", "bg.egn", r"egn"),
    National("cz_rc", r"\d{6}/\d{3,4}", "cz.rc"),
    National("hr_oib", r"\d{11}", "hr.oib", r"oib"),
    National("gr_amka", r"\d{11}", "gr.amka", r"amka"),
    National("tr_tckn", r"[1-9]\d{10}", "tr.tckimlik", rf"t\.?c\.?|kimlik|tckn|{_ANY}"),
    National("ca_sin", r"\d{3}[ \-]?\d{3}[ \-]?\d{3}", "ca.sin", r"sin|social insurance"),
    National("mx_curp", r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[0-9A-Z]\d", "mx.curp"),
    National("br_cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}", "br.cpf"),
    National("br_cpf", r"\d{11}", "br.cpf", r"cpf"),
    National("ar_dni", r"\d{2}\.\d{3}\.\d{3}|\d{7,8}", "ar.dni", r"dni|documento"),
    National("cl_rut", r"\d{1,2}\.?\d{3}\.?\d{3}-[\dKk]", "cl.rut"),
    National("in_aadhaar", r"(?<!\d{4} )[2-9]\d{3}[ \-]\d{4}[ \-]\d{4}(?! \d)", "in_.aadhaar"),
    National("in_aadhaar", r"[2-9]\d{11}", "in_.aadhaar", r"aadhaar|aadhar|uid|uidai"),
    National("in_pan", r"[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]", "in_.pan"),
    National("au_tfn", r"\d{3} ?\d{3} ?\d{2,3}", "au.tfn", r"tfn|tax file"),
    National("nz_ird", r"\d{2,3}-?\d{3}-?\d{3}", "nz.ird", r"ird"),
    National("sg_nric", r"[STFGM]\d{7}[A-Z]", ""),
    National("my_nric", r"\d{6}-\d{2}-\d{4}", "my.nric"),
    National("th_pin", r"\d-\d{4}-\d{5}-\d{2}-\d", "th.pin"),
    National("kr_rrn", r"\d{6}-\d{7}", "kr.rrn"),
    National("cn_ric", r"[1-9]\d{5}(?:19|20)\d{9}[\dXx]", "cn.ric"),
    National("il_id", r"\d{8,9}", "il.idnr", r"teudat|israeli id|israel id"),
    National("za_id", r"\d{13}|\d{6} \d{4} \d{3}", "za.idnr", rf"rsa|south african?|{_ANY}"),
)


class _Kind(NamedTuple):
    """An id made ready: its shape, standing alone, and its label."""

    id: National
    shape: re.Pattern[str]
    label: context.Words


class _Group(NamedTuple):
    """Ids that are sought together: any of their shapes, and each."""

    any_shape: re.Pattern[str]
    kinds: tuple[_Kind, ...]


def _group(ids: Sequence[National]) -> _Group:
    kinds = tuple(_Kind(one, _alone(one.shape), _labels(one.words)) for one in ids)
    return _Group(_alone("|".join(one.shape for one in ids)), kinds)


FEWEST_DIGITS = 4
"""Digits that the one with the fewest has (in_pan)."""
_PLAIN = _group([one for one in IDS if not one.words])
_LABELLED = _group([one for one in IDS if one.words])
_ANY_LABEL = _labels("|".join(kind.id.words for kind in _LABELLED.kinds))
TYPES = tuple(dict.fromkeys(one.type for one in IDS))


def find(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the national ids of a stretch of text."""
    for kind, match in _shaped(_PLAIN, text, start, end):
        other = context.NOT_PERSONAL.search(context.before(text, match.start()))
        if not (other and not _ID_WORD.search(other.text)) and _valid(kind.id, match.group()):
            yield Span(match.start(), match.end(), kind.id.type)
    if _ANY_LABEL.within(text, start, end):
        for kind, match in _shaped(_LABELLED, text, start, end):
            if _labelled(kind.label, context.before(text, match.start())) and _valid(kind.id, match.group()):
                yield Span(match.start(), match.end(), kind.id.type)


def _shaped(group: _Group, text: str, start: int, end: int) -> list[tuple[_Kind, re.Match[str]]]:
    """Return what has the shape of an id, kind by kind and in order.

    One pattern finds the places where any shape begins; only there the kinds are tried one by one.
    """
    found: list[tuple[int, re.Match[str]]] = []
    done = [start] * len(group.kinds)
    at = group.any_shape.search(text, start, end)
    while at:
        place = at.start()
        for number, kind in enumerate(group.kinds):
            if place >= done[number] and (match := kind.shape.match(text, place, end)):
                done[number] = match.end()
                found.append((number, match))
        at = group.any_shape.search(text, place + 1, end)
    found.sort(key=lambda one: one[0])
    return [(group.kinds[number], match) for number, match in found]


_ID_WORD = re.compile(r"(?i)\b(?:id|identity|ssn|social|national|tax|dni|nie|nin|nino|insurance|passport|personal)\b")


def _labelled(words: context.Words, said: str) -> bool:
    """Whether a word for the id stands before it, and none for another thing between ("DNI ...; SKU 11054428")."""
    label = max((one.end for one in words.finditer(said)), default=-1)
    other = context.NOT_PERSONAL.search(said)
    return label >= 0 and not (other and other.start >= label - 1 and not _ID_WORD.search(other.text))


def _valid(kind: National, number: str) -> bool:
    number = number.replace(" ", "")
    if kind.type == "ca_sin":  # python-stdnum refuses the made-up numbers that start with 0 and 8
        return bool(_checker("luhn")(number.replace("-", "")))
    if kind.type == "sg_nric":
        return singapore(number)
    if kind.type == "uk_nino":
        return number[:2] not in _NINO_UNUSED
    return bool(_checker(kind.module)(number))


@cache
def _checker(module: str) -> Callable[[str], bool]:
    return import_module(f"stdnum.{module}").is_valid


_NINO_UNUSED = frozenset({"BG", "GB", "KN", "NK", "NT", "TN", "ZZ"})
"""Prefixes that HMRC never gives out."""
_NRIC_WEIGHTS, _NRIC_ADD = (2, 7, 6, 5, 4, 3, 2), {"S": 0, "T": 4, "F": 0, "G": 4, "M": 3}


def singapore(number: str) -> bool:
    """Return whether the last letter of a Singapore NRIC or FIN is the one its digits give."""
    total = sum(w * int(d) for w, d in zip(_NRIC_WEIGHTS, number[1:8], strict=True)) + _NRIC_ADD[number[0]]
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "G": "XWUTRQPNMLK", "M": "KLJNPQRTUWX"}
    at = 10 - total % 11 if number[0] == "M" else total % 11
    return letters[number[0]][at] == number[8]
