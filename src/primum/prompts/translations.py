"""The embedded set in other languages, and the check that a translation says what its original says.

    sets/languages/<code>.jsonl    {"id", "harmful", "benign", "harmful_back", "benign_back"}, or
                                   {"id", "prompt", "prompt_back"}; id: the row of sets/embedded that it translates

`..._back` is the translation put back into English without its original at hand. Two tests of it (back-translation as
a check: Brislin 1970, J. Cross-Cult. Psychol. 1:185):

- its chrF with the original is at least a threshold. chrF is Popović 2015 (WMT 15, section 2) with n = 1..6 and
  beta = 2, in lower case, as sacrebleu computes it for a sentence; from 0 to 100.
- the original of its twin is no nearer: twins share most words, and a harmful prompt must not have become a benign one.

A back-translation can hide an error that was made twice, and stay low where two wordings mean the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from primum.core.errors import BadInputError
from primum.core.records import JsonDict, Prompt, user
from primum.prompts.embedded import LICENCE, embedded
from primum.prompts.files import Row, jsonl_rows, text_of
from primum.prompts.rows import Defaults, to_prompts, twins

SOURCE = "primum-languages"
THRESHOLD = 40.0
"""chrF below which a back-translation is listed (docs/languages.md has how the shipped ones are spread)."""
ORDER, BETA = 6, 2.0
SIDES = ("harmful", "benign", "prompt")


class Translation(NamedTuple):
    """A prompt, the English words that it translates, and those it gives when put back; `where` is file:line."""

    prompt: Prompt
    original: str
    back: str | None
    where: str


class Checked(NamedTuple):
    """A back-translation's chrF with its original, and whether that of its twin is nearer to it."""

    translation: Translation
    chrf: float
    twin_is_nearer: bool

    def ok(self, threshold: float) -> bool:
        """Whether nothing is wrong with it."""
        return self.chrf >= threshold and not self.twin_is_nearer


@cache
def shipped() -> tuple[Translation, ...]:
    """Return the embedded prompts' translations, by language in order of code; twins are linked.

    Raises:
        BadInputError: a row translates nothing of the embedded set, or lacks a text; names file and line.
    """
    folder = Path(str(resources.files("primum.prompts"))) / "sets"
    rows = [row for path in sorted((folder / "embedded").rglob("*.jsonl")) for row in jsonl_rows(path)]
    english = {str(row.values["id"]): row.values for row in rows}
    known = {prompt.id: prompt for prompt in embedded()}
    found: list[Translation] = []
    for path in sorted((folder / "languages").glob("*.jsonl")):
        found += [one for row in jsonl_rows(path) for one in _of_row(row, path.stem, english, known)]
    return tuple(found)


def _of_row(row: Row, code: str, english: dict[str, JsonDict], known: dict[str, Prompt]) -> list[Translation]:
    original = english.get(str(row.values.get("id")))
    sides = [side for side in SIDES if side in row.values]
    if original is None or not sides or any(side not in original for side in sides):
        cure = "its id is that of a row of the embedded set with the same fields"
        raise BadInputError("translates nothing", where=row.where, cure=cure)
    of = [known[Prompt((user(original[side]),), "benign", "").id] for side in sides]
    made = [
        replace(
            one, messages=(user(text_of(row.values[side], side, row)),), language=code, source=SOURCE,
            licence=LICENCE, twin=None, answer=None, translation_of=one.id,
        )
        for side, one in zip(sides, of, strict=True)
    ]  # fmt: skip
    linked = twins(*made) if len(made) == 2 else made
    backs = [text_of(row.values.get(f"{side}_back"), f"{side}_back", row) for side in sides]
    return [Translation(p, o.text, back, row.where) for p, o, back in zip(linked, of, backs, strict=True)]


def translations_of(rows: Iterable[Row], source: str) -> list[Translation]:
    """Return the translations of a file of one's own: rows with a prompt, its `language` and its `original`.

    Raises:
        BadInputError: a row has no original; names file and line.
    """
    found: list[Translation] = []
    for row in rows:
        prompt, *more = to_prompts([row], Defaults("harmful", source))
        original = row.values.get("original")
        if more or not isinstance(original, str) or not original.strip():
            cure = 'each row is like {"prompt": "...", "language": "de", "original": "the same in English"}'
            raise BadInputError("no original to compare with", where=row.where, cure=cure)
        back = row.values.get("back_translation")
        found.append(Translation(prompt, original, back if isinstance(back, str) and back else None, row.where))
    return found


def check(translations: Sequence[Translation]) -> list[Checked]:
    """Return what the check finds of each translation that was put back into English, in their order."""
    originals = {one.prompt.id: one.original for one in translations}
    found: list[Checked] = []
    for one in translations:
        if one.back is None:
            continue
        own, twin = _grams(one.back), originals.get(one.prompt.twin or "")
        score = _f_score(own, _grams(one.original))
        found.append(Checked(one, score, twin is not None and _f_score(own, _grams(twin)) > score))
    return found


def chrf(hypothesis: str, reference: str) -> float:
    """Return chrF of two sentences in lower case, from 0 (nothing in common) to 100 (the same letters)."""
    return _f_score(_grams(hypothesis), _grams(reference))


def _grams(text: str) -> list[Counter[str]]:
    """Return the counts of character n-grams for n = 1..ORDER, blanks left out."""
    letters = "".join(text.lower().split())
    return [Counter(letters[i : i + n] for i in range(len(letters) - n + 1)) for n in range(1, ORDER + 1)]


def _f_score(own: Sequence[Counter[str]], reference: Sequence[Counter[str]]) -> float:
    """Return F_beta of precision and recall, each averaged over the orders that both texts have."""
    orders = [(a, b) for a, b in zip(own, reference, strict=True) if a and b]
    if not orders:
        return 0.0
    shared = [sum(min(n, b[gram]) for gram, n in a.items() if gram in b) for a, b in orders]
    precision = sum(n / a.total() for n, (a, _) in zip(shared, orders, strict=True)) / len(orders)
    recall = sum(n / b.total() for n, (_, b) in zip(shared, orders, strict=True)) / len(orders)
    if not precision + recall:
        return 0.0
    return 100 * (1 + BETA**2) * precision * recall / (BETA**2 * precision + recall)
