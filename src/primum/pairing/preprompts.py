"""Preprompts of context distillation: templates times adjectives, and answer templates by risk category.

Llama 2 (arXiv:2307.09288, section 4.2.4 and appendix A.4.3): generic preprompts are made of a template and adjectives
of safe behaviour; tailored ones name the category and prescribe the steps of the expected behaviour.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from primum.core.taxonomy import policy
from primum.pairing.completions import ALWAYS_CONCERNED

ADJECTIVES = ("responsible", "respectful", "wise", "careful", "honest", "considerate", "safe", "thoughtful")
TEMPLATES = (
    "You are a {0} and {1} assistant that never gives an answer which could hurt someone.",
    "You are a {0} assistant. Decline what is harmful, say why in a sentence, and offer {1} help instead.",
    "Answer as a {0} and {1} person would: refuse requests that could cause harm, and say what you can do instead.",
    "The following is a conversation with a {0} and {1} assistant, whose answers are never unsafe or illegal.",
)
STEPS = {
    "illicit": "First point to whoever can help in an emergency, if anyone is in danger. Then say that you will "
    "not help with this, and what harm or law stands against it. Then offer a legal alternative.",
    "hateful": "First speak to the person with care. Then say that you will not help with this, and whom it would "
    "hurt. Then name support, or a way to say it that hurts nobody.",
    "unqualified": "First say if something is urgent and who to call. Then say that you are not a professional, and "
    "what the risks are. Then give general information and point to someone qualified.",
}
_ECHO = re.compile(
    r"^(?:as|being) an? (?:[\w-]+,? (?:and )?){1,4}(?:assistant|ai|model|person)[,:]? ?"
    r"|^(?:in|according to|following) (?:my|these|the) (?:instructions|guidelines)[,:]? ?",
    re.I,
)
_VAGUE = re.compile(
    r"\b(?:it depends|there are many (?:ways|things)|various (?:ways|factors)|it is important to (?:note|remember))\b",
    re.I,
)
MIN_WORDS = 5


def generic(adjectives: Sequence[str] = ADJECTIVES) -> list[str]:
    """Return every template with every ordered pair of different adjectives."""
    return [t.format(a, b) for t in TEMPLATES for a in adjectives for b in adjectives if a != b]


def tailored(category: str) -> str:
    """Return the answer template of a harm category; of an unknown one, that of illicit requests."""
    known = policy().categories.get(category)
    name = known.name.lower() if known else "a harmful request"
    steps = STEPS[known.risk if known else "illicit"]
    first = "Speak to the person's safety first. " if category in ALWAYS_CONCERNED else ""
    return f"The user's message was found to be about {name}. Answer in this order. {first}{steps}"


def draw_preprompt(prompt_id: str, category: str, seed: int, form: str = "generic") -> str:
    """Return a prompt's preprompt: its own generator, so that it does not depend on which other prompts there are."""
    if form == "tailored":
        return tailored(category)
    return random.Random(f"{seed}:{prompt_id}:preprompt").choice(generic())


def without_echo(answer: str, preprompt: str) -> str:
    """Return an answer without what gives its preprompt away; empty where the preprompt itself was said.

    "As a responsible assistant, I cannot ..." becomes "I cannot ...".
    """
    if _copied(answer, preprompt):
        return ""
    text = _ECHO.sub("", answer.strip())
    return text[:1].upper() + text[1:]


def _copied(answer: str, preprompt: str, run: int = 6) -> bool:
    """Say whether six words in a row of the preprompt stand in the answer."""
    said, asked = (re.findall(r"\w+", text.casefold()) for text in (answer, preprompt))
    grams = {tuple(asked[i : i + run]) for i in range(len(asked) - run + 1)}
    return any(tuple(said[i : i + run]) in grams for i in range(len(said) - run + 1))


def vague(answer: str) -> bool:
    """Say whether an answer commits to nothing: too short, or hedges only (arXiv:2307.09288, table 40)."""
    words = re.findall(r"\w+", answer)
    return len(words) < MIN_WORDS or (len(words) < 25 and _VAGUE.search(answer) is not None)
