"""Safe completions and refusals, put together from pieces by harm category: completions/<category>.yaml, or a policy's.

A safe completion follows the order of Llama 2's expected behaviour (arXiv:2307.09288, section 4.2): address the
immediate safety concern, explain the risk, offer what can be offered. With 16 x 12 x 14 pieces and more a category has
thousands of surfaces, so that a model has to learn what they say and not one sentence.

In other languages (completions/languages/<code>.yaml) the sentences are by family of categories, not by category.

The same pieces stand on both sides of the pairs: chosen after a harmful prompt, rejected after a benign one. Whether
to decline can then only be read off the prompt.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from primum.core.errors import UsageError
from primum.core.languages import ENGLISH, base
from primum.core.records import Prompt
from primum.core.taxonomy import policy

OTHER = "other"
ALWAYS_CONCERNED = ("self_harm", "eating_disorders")
SPACELESS = ("zh", "ja", "yue")
"""Languages that set no blank between sentences."""
ANY_FAMILY, IN_DANGER = "harm", "self"
"""The family of a category that is in none, and the one where somebody may be in danger."""
P_CONCERN, P_RISK = 0.15, 0.75
P_OFFER = 0.5
"""Of the extended refusals, how many end with what can be offered."""
P_SHORT, P_GENERIC = 0.35, 0.25
"""Of the refusals: short ones of the category, generic ones; the rest are whole safe completions."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """The sentences of one category. `short` are whole refusals; `concern` is empty where no danger is near."""

    concern: tuple[str, ...]
    boundary: tuple[str, ...]
    risk: tuple[str, ...]
    offer: tuple[str, ...]
    short: tuple[str, ...]


def speaks(language: str) -> bool:
    """Whether there are answers in a language; where there are none, nothing may be taught in it."""
    return base(language) == ENGLISH or base(language) in _languages()


def pieces(category: str, language: str = ENGLISH) -> Pieces:
    """Return a category's sentences: the policy's, where it has some; else those shipped, else those of `other`.

    In another language than English they are those of the category's family.

    Raises:
        ValueError: there are no answers in that language.
    """
    if base(language) != ENGLISH:
        return _translated(base(language), category)
    part = policy().parts.get(category)
    if part is not None and part.answers:
        return Pieces(**{"concern": (), **part.answers})
    return _shipped(category)


@cache
def _shipped(category: str) -> Pieces:
    # Looked up, never joined to a path: a category may come from a user's file.
    raw = _read(category if category in _written() else OTHER)
    return Pieces(**{part: tuple(sentences) for part, sentences in raw.items()})


@cache
def _translated(code: str, category: str) -> Pieces:
    if code not in _languages():  # looked up, never joined to a path
        raise ValueError(f"no answers in the language '{code}'")
    raw, families = _read("languages", code), _read("languages", "_families")
    family = next((name for name, members in families.items() if category in members), ANY_FAMILY)
    own = raw["families"][family]
    concern: list[str] = raw["concern"] if family == IN_DANGER else []
    return Pieces(*(tuple(part) for part in (concern, raw["boundary"], own["risk"], own["offer"], raw["short"])))


@cache
def _languages() -> frozenset[str]:
    return _names("languages")


@cache
def _written() -> frozenset[str]:
    return _names()


def _names(*folders: str) -> frozenset[str]:
    found = (one.name for one in resources.files("primum.pairing").joinpath("completions", *folders).iterdir())
    return frozenset(name.removesuffix(".yaml") for name in found if name.endswith(".yaml") and name[0] != "_")


@cache
def generic_refusals(language: str = ENGLISH) -> tuple[str, ...]:
    """Return refusals that fit any request; in other languages than English the short ones do."""
    return tuple(_read("_refusals")["forms"]) if base(language) == ENGLISH else pieces("", language).short


@cache
def disclaimers(category: str, language: str = ENGLISH) -> tuple[str, ...]:
    """Return the sentences that end an answer in a category of advice; none for other categories and languages."""
    return tuple(_read("_disclaimers").get(category, ())) if base(language) == ENGLISH else ()


def _read(*path: str) -> dict[str, Any]:
    *folders, name = path
    file = resources.files("primum.pairing").joinpath("completions", *folders, f"{name}.yaml")
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def rng_for(seed: int, prompt_id: str) -> random.Random:
    """Return the prompt's own generator: its text does not depend on which other prompts there are."""
    return random.Random(f"{seed}:{prompt_id}")


def safe_answers(prompts: Sequence[Prompt], seed: int) -> list[tuple[Prompt, str]]:
    """Return the harmful prompts with a safe completion each, in the prompt's own language.

    By id, so that the order in which they came does not count; without those in whose language there are no answers.

    Raises:
        UsageError: there are none.
    """
    harmful = sorted((p for p in prompts if p.intent == "harmful" and speaks(p.language)), key=lambda p: p.id)
    if not harmful:
        cure = "give --prompts in a language that there are answers in, or leave --no-embedded out"
        raise UsageError("there is no harmful prompt to learn from", cure=cure)
    return [(p, compose(p.category, rng_for(seed, p.id), p.language)) for p in harmful]


def compose(category: str, rng: random.Random, language: str = ENGLISH) -> str:
    """Return a safe completion for a harmful request of the category, in the language given.

    Raises:
        ValueError: there are no answers in that language (`speaks`).
    """
    own = pieces(category, language)
    concerned = bool(own.concern) and (category in ALWAYS_CONCERNED or rng.random() < P_CONCERN)
    parts = [rng.choice(own.concern)] if concerned else []
    parts.append(rng.choice(own.boundary))
    if rng.random() < P_RISK:
        parts.append(rng.choice(own.risk))
    return ("" if base(language) in SPACELESS else " ").join([*parts, rng.choice(own.offer)])


def extended(category: str, rng: random.Random, language: str = ENGLISH) -> str:
    """Return an extended refusal: a neutral overview of the subject, the refusal, why (arXiv:2505.19056, section 4).

    What declines is then spread over the whole answer and is no longer one direction behind its first tokens. Where
    somebody may be in danger, the concern still comes first. Overviews are written in English: in another language it
    is a safe completion.

    Raises:
        ValueError: there are no answers in that language (`speaks`).
    """
    if base(language) != ENGLISH:
        return compose(category, rng, language)
    own, written = pieces(category), _read("_overviews")
    topic = rng.choice(written.get(category) or written[OTHER])
    overview = rng.choice(written["forms"]).replace("{topic}", topic)
    parts = [rng.choice(own.concern)] if category in ALWAYS_CONCERNED and own.concern else []
    parts += [overview[:1].upper() + overview[1:], rng.choice(own.boundary), rng.choice(own.risk)]
    return " ".join([*parts, rng.choice(own.offer)] if rng.random() < P_OFFER else parts)


def refusal(category: str, rng: random.Random, language: str = ENGLISH) -> str:
    """Return what a model that refuses would say to a prompt of the category: short, generic, or a whole completion."""
    draw = rng.random()
    if draw < P_SHORT:
        return rng.choice(pieces(category, language).short)
    if draw < P_SHORT + P_GENERIC:
        return rng.choice(generic_refusals(language))
    return compose(category, rng, language)
