"""IFEval's checks of verifiable instructions (Zhou et al. 2023, arXiv:2311.07911), each a pure function of a reply.

Written after the published checkers, and held against them (benchmarks/ifeval_checks.py). What differs, and why:
sentences and capital words are counted by a plain rule instead of NLTK's trained splitter; the language is told by the
audit's identifier instead of langdetect, and unknown (never "followed") where that is not installed; keywords are
words, not regular expressions, so that a row cannot hang a run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from primum.core.errors import MissingExtraError

Arguments = Mapping[str, Any]
Check = Callable[[str, Arguments], bool]
Outcome = bool | str
"""Whether it was followed, or in words why that is not known."""

ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
SENTENCE = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)")
WORD = re.compile(r"[^\W_]+(?:[-'’.][^\W_]+)*")
POSTSCRIPTS = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}


def strict(kind: str, arguments: Arguments, reply: str) -> Outcome:
    """Say whether the reply as it stands follows one instruction.

    Raises:
        KeyError: no such instruction.
    """
    check = CHECKS[kind]
    if not reply.strip():
        return False
    try:
        return check(reply, arguments)
    except MissingExtraError:
        return "the language cannot be told without primum[audit]"


def loose(kind: str, arguments: Arguments, reply: str) -> Outcome:
    """Say whether the reply follows it, or would without its first line, its last line, or its asterisks."""
    outcomes = [strict(kind, arguments, one) for one in variants(reply)]
    if True in outcomes:
        return True
    return next((one for one in outcomes if isinstance(one, str)), False)


def variants(reply: str) -> Iterator[str]:
    """Yield the eight forms that the paper's loose criterion accepts."""
    lines = reply.split("\n")
    cut = (reply, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])))
    yield from cut
    yield from (one.replace("*", "") for one in cut)


def related(count: int, wanted: int, relation: str) -> bool:
    """Compare a count with a threshold: "less than" or "at least"."""
    return count < wanted if relation == "less than" else count >= wanted


def _whole(arguments: Arguments, name: str) -> int:
    return int(arguments[name])


def _named(arguments: Arguments, name: str) -> list[str]:
    return [str(one) for one in cast(Sequence[Any], arguments[name])]


def _keywords(reply: str, arguments: Arguments) -> bool:
    return all(one.lower() in reply.lower() for one in _named(arguments, "keywords"))


def _frequency(reply: str, arguments: Arguments) -> bool:
    count = reply.lower().count(str(arguments["keyword"]).strip().lower())
    return related(count, _whole(arguments, "frequency"), arguments["relation"])


def _forbidden(reply: str, arguments: Arguments) -> bool:
    words = _named(arguments, "forbidden_words")
    return not any(re.search(rf"\b{re.escape(word)}\b", reply, re.IGNORECASE) for word in words)


def _letters(reply: str, arguments: Arguments) -> bool:
    count = reply.lower().count(str(arguments["letter"]).strip().lower())
    return related(count, _whole(arguments, "let_frequency"), arguments["let_relation"])


def is_in(reply: str, code: str) -> bool:
    """Say whether a reply is in a language (ISO 639-1).

    Raises:
        MissingExtraError: the identifier is not installed.
    """
    from primum.audit.language import identify

    return identify(reply).code.partition("-")[0] == code.partition("-")[0]


def _language(reply: str, arguments: Arguments) -> bool:
    return is_in(reply, str(arguments["language"]))


def _sentences(reply: str, arguments: Arguments) -> bool:
    return related(sentences(reply), _whole(arguments, "num_sentences"), arguments["relation"])


def sentences(text: str) -> int:
    """Count sentences: what ends in . ! or ? before a space or the end, and a last part without such an end."""
    parts = SENTENCE.split(text)
    return sum(bool(WORD.search(part)) for part in parts)


def _paragraphs(reply: str, arguments: Arguments) -> bool:
    parts = re.split(r"\s?\*\*\*\s?", reply)
    if any(not part.strip() for part in parts[1:-1]):
        return False
    return sum(bool(part.strip()) for part in parts) == _whole(arguments, "num_paragraphs")


def _words(reply: str, arguments: Arguments) -> bool:
    return related(len(re.findall(r"\w+", reply)), _whole(arguments, "num_words"), arguments["relation"])


def _first_word(reply: str, arguments: Arguments) -> bool:
    parts, nth = reply.split("\n\n"), _whole(arguments, "nth_paragraph")
    filled = sum(bool(part.strip()) for part in parts)
    if nth > filled or not parts[nth - 1].strip():
        return False
    word = re.split(r"[.,?!'\"]", parts[nth - 1].split()[0].lstrip("'").lstrip('"'))[0].lower()
    return filled == _whole(arguments, "num_paragraphs") and word == str(arguments["first_word"]).lower()


def _placeholders(reply: str, arguments: Arguments) -> bool:
    return len(re.findall(r"\[.*?\]", reply)) >= _whole(arguments, "num_placeholders")


def _postscript(reply: str, arguments: Arguments) -> bool:
    marker = str(arguments["postscript_marker"]).strip()
    pattern = POSTSCRIPTS.get(marker, rf"\s*{re.escape(marker.lower())}.*$")
    return bool(re.search(pattern, reply.lower(), re.MULTILINE))


def _bullets(reply: str, arguments: Arguments) -> bool:
    stars, dashes = r"^\s*\*[^\*].*$", r"^\s*-.*$"
    found = sum(len(re.findall(one, reply, re.MULTILINE)) for one in (stars, dashes))
    return found == _whole(arguments, "num_bullets")


def _constrained(reply: str, arguments: Arguments) -> bool:
    return any(one in reply for one in ANSWERS)


def _highlights(reply: str, arguments: Arguments) -> bool:
    single = sum(bool(one.strip("*").strip()) for one in re.findall(r"\*[^\n\*]*\*", reply))
    double = sum(bool(one[2:-2].strip()) for one in re.findall(r"\*\*[^\n\*]*\*\*", reply))
    return single + double >= _whole(arguments, "num_highlights")


def _sections(reply: str, arguments: Arguments) -> bool:
    splitter = re.escape(str(arguments["section_spliter"]).strip())
    return len(re.split(rf"\s?{splitter}\s?\d+\s?", reply)) - 1 >= _whole(arguments, "num_sections")


def _json(reply: str, arguments: Arguments) -> bool:
    text = reply.strip()
    for fence in ("```json", "```Json", "```JSON", "```"):
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(reply: str, arguments: Arguments) -> bool:
    return any(one.lstrip("<").rstrip(">").strip() for one in re.findall(r"<<[^\n]+>>", reply))


def _two(reply: str, arguments: Arguments) -> bool:
    parts = reply.split("******")
    if any(not part.strip() for part in parts[1:-1]):
        return False
    said = [part.strip() for part in parts if part.strip()]
    return len(said) == 2 and said[0] != said[1]


def _repeated(reply: str, arguments: Arguments) -> bool:
    return reply.strip().lower().startswith(str(arguments["prompt_to_repeat"]).strip().lower())


def _end(reply: str, arguments: Arguments) -> bool:
    return reply.strip().strip('"').lower().endswith(str(arguments["end_phrase"]).strip().lower())


def _capitals(reply: str, arguments: Arguments) -> bool:
    count = sum(word.isupper() for word in WORD.findall(reply))
    return related(count, _whole(arguments, "capital_frequency"), arguments["capital_relation"])


def _upper(reply: str, arguments: Arguments) -> bool:
    # in capitals, identifiers of language guess wildly: they are shown the text in small letters
    return reply.isupper() and is_in(reply.lower(), "en")


def _lower(reply: str, arguments: Arguments) -> bool:
    return reply.islower() and is_in(reply, "en")


def _no_comma(reply: str, arguments: Arguments) -> bool:
    return "," not in reply


def _quoted(reply: str, arguments: Arguments) -> bool:
    text = reply.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


CHECKS: Mapping[str, Check] = {
    "keywords:existence": _keywords, "keywords:frequency": _frequency, "keywords:forbidden_words": _forbidden,
    "keywords:letter_frequency": _letters, "language:response_language": _language,
    "length_constraints:number_sentences": _sentences, "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:number_words": _words, "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders, "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets, "detectable_format:constrained_response": _constrained,
    "detectable_format:number_highlighted_sections": _highlights, "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json, "detectable_format:title": _title, "combination:two_responses": _two,
    "combination:repeat_prompt": _repeated, "startend:end_checker": _end,
    "change_case:capital_word_frequency": _capitals, "change_case:english_capital": _upper,
    "change_case:english_lowercase": _lower, "punctuation:no_comma": _no_comma, "startend:quotation": _quoted,
}  # fmt: skip
"""The 25 kinds of instruction in the published set."""
NEEDS: Mapping[str, tuple[str, ...]] = {
    "keywords:existence": ("keywords",), "keywords:frequency": ("keyword", "frequency", "relation"),
    "keywords:forbidden_words": ("forbidden_words",),
    "keywords:letter_frequency": ("letter", "let_frequency", "let_relation"),
    "language:response_language": ("language",),
    "length_constraints:number_sentences": ("num_sentences", "relation"),
    "length_constraints:number_paragraphs": ("num_paragraphs",),
    "length_constraints:number_words": ("num_words", "relation"),
    "length_constraints:nth_paragraph_first_word": ("num_paragraphs", "nth_paragraph", "first_word"),
    "detectable_content:number_placeholders": ("num_placeholders",),
    "detectable_content:postscript": ("postscript_marker",),
    "detectable_format:number_bullet_lists": ("num_bullets",),
    "detectable_format:number_highlighted_sections": ("num_highlights",),
    "detectable_format:multiple_sections": ("section_spliter", "num_sections"),
    "combination:repeat_prompt": ("prompt_to_repeat",), "startend:end_checker": ("end_phrase",),
    "change_case:capital_word_frequency": ("capital_frequency", "capital_relation"),
}  # fmt: skip
"""The arguments that a kind must come with."""
