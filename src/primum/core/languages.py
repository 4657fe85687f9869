"""Languages, their names and families: what a training plan and a report need to know of a language code.

Families are the top level of Glottolog (https://glottolog.org), the coarsest and so the hardest reading of "one
training language a family"; the branch is what is near enough for safety to carry over most easily (RefusEU,
arXiv:2606.07535: Polish and Czech, Portuguese and Spanish). Codes are ISO 639-1, where there is one.
"""

from __future__ import annotations

from typing import NamedTuple

ENGLISH = "en"
UNKNOWN = "unknown"
"""The code of a text whose language nobody could tell; never a language of its own."""

_TABLE = """
Indo-European: Germanic: en English, de German, nl Dutch, sv Swedish, da Danish, no Norwegian, is Icelandic
Indo-European: Romance: es Spanish, fr French, it Italian, pt Portuguese, ro Romanian, ca Catalan
Indo-European: Slavic: ru Russian, pl Polish, cs Czech, uk Ukrainian, bg Bulgarian, sr Serbian, hr Croatian, sl Slovene
Indo-European: Baltic: lt Lithuanian, lv Latvian
Indo-European: Hellenic: el Greek
Indo-European: Indo-Iranian: hi Hindi, ur Urdu, bn Bengali, pa Punjabi, mr Marathi, fa Persian
Uralic: Finnic: fi Finnish, et Estonian
Uralic: Ugric: hu Hungarian
Turkic: Oghuz: tr Turkish, az Azerbaijani
Turkic: Kipchak: kk Kazakh
Afro-Asiatic: Semitic: ar Arabic, he Hebrew, am Amharic, mt Maltese
Afro-Asiatic: Chadic: ha Hausa
Sino-Tibetan: Sinitic: zh Chinese, yue Cantonese
Sino-Tibetan: Burmish: my Burmese
Niger-Congo: Bantu: sw Swahili, zu Zulu, xh Xhosa, sn Shona
Niger-Congo: Volta-Niger: yo Yoruba, ig Igbo
Japonic: Japanese: ja Japanese
Koreanic: Korean: ko Korean
Austronesian: Malayo-Polynesian: id Indonesian, ms Malay, tl Tagalog, jv Javanese
Austroasiatic: Vietic: vi Vietnamese
Tai-Kadai: Tai: th Thai
Dravidian: Southern: ta Tamil, te Telugu, kn Kannada, ml Malayalam
Kartvelian: Georgian: ka Georgian
Basque: Basque: eu Basque
"""


class Language(NamedTuple):
    """A language: its code, its name in English, its family and the branch of it."""

    code: str
    name: str
    family: str
    branch: str


def _read() -> dict[str, Language]:
    found: dict[str, Language] = {}
    for line in _TABLE.strip().splitlines():
        family, branch, listed = line.split(": ")
        for one in listed.split(", "):
            code, _, name = one.partition(" ")
            found[code] = Language(code, name, family, branch)
    return found


LANGUAGES = _read()


def base(code: str) -> str:
    """Return a code without its region or script, in lower case: `pt-BR` and `pt_br` are `pt`."""
    return code.lower().replace("_", "-").partition("-")[0]


def language(code: str) -> Language:
    """Return what is known of a language; one that is not in the table is a family of its own, named by its code."""
    plain = base(code)
    return LANGUAGES.get(plain) or Language(plain, plain, f"family of '{plain}' not known", "")
