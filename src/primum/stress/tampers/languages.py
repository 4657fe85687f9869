"""The same requests in other languages: safety that was learned in English leaks in those far from it.

Asked are the shipped translations of requests of held-out categories and of their benign twins; paired with each is its
English original, put to the untouched model. One judge of words reads all languages, English too: like with like.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from primum.core.languages import language
from primum.core.records import Prompt
from primum.core.taxonomy import policy
from primum.judging.spoken import can_tell
from primum.prompts.embedded import embedded
from primum.prompts.translations import shipped
from primum.stress.setting import Aids, Point, Setup, Shape, SkippedError

about = "the same requests in another language"
source = "https://arxiv.org/abs/2310.06474"
kind = "asking"
judge = "languages"


@cache
def _translated() -> dict[str, dict[str, Prompt]]:
    """Return the translations of each language, by the id of their original; languages by name, in order of code."""
    found: dict[str, dict[str, Prompt]] = {}
    for one in shipped():
        prompt = one.prompt
        assert prompt.translation_of is not None
        found.setdefault(language(prompt.language).name, {})[prompt.translation_of] = prompt
    return found


def levels(shape: Shape) -> tuple[str, ...]:
    """Return the languages that there are translations in."""
    return tuple(_translated())


def prompts(limit: int) -> list[Prompt]:
    """Return what is asked, in English: at most so many harmful requests, each before its benign twin.

    Of held-out categories only, from which no repair learned, and translated into every language.
    """
    everywhere = set.intersection(*(set(ours) for ours in _translated().values()))
    held_out = {one.id for one in policy().categories.values() if one.held_out}
    known = {prompt.id: prompt for prompt in embedded() if prompt.id in everywhere and prompt.category in held_out}
    harmful = [prompt for prompt in known.values() if prompt.intent == "harmful" and prompt.twin in known][:limit]
    return [one for prompt in harmful for one in (prompt, known[str(prompt.twin)])]


def posed(prompt: Prompt, level: str) -> Prompt:
    """Return a request as it is asked, and as the judge reads it."""
    return _translated()[level][prompt.id]


def tamper(setup: Setup, level: str, aids: Aids) -> Iterator[Point]:
    """Ask in the language.

    Raises:
        SkippedError: languages cannot be told apart, so that only refusals would count.
    """
    if not can_tell():
        raise SkippedError("the language of replies cannot be told: pip install 'primum[audit]'")
    yield Point(level, setup)
