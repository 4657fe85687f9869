"""The checklist that a demonstration passes before it is learned (Llama 2, arXiv:2307.09288, appendix A.5.2).

Consistent with what was said before, follows the prompt, no errors of language, nothing of the behaviours to avoid.
What a machine can see of that is looked at here; a person who reads demonstrations has the studio.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from primum.core.records import Messages, Reply
from primum.judging import Exchange
from primum.judging.judges import rules
from primum.pairing.demonstration import Demonstration
from primum.pairing.replies import before_loop, count_words, echoes, flagged

MIN_WORDS = 3
_DOUBLED = re.compile(r"\b([a-z]{2,})\s+\1\b", re.I)
_FINE_DOUBLED = frozenset({"had", "that", "very", "so", "no", "bye", "knock"})


def problems(
    prompt: Messages, answer: str, *, ends: bool = True, harmful: bool = False, category: str = ""
) -> list[str]:
    """Return what is wrong with an answer as a demonstration, by name; nothing where it passes.

    Args:
        prompt: what was asked.
        answer: the demonstration.
        ends: whether it ends where its author ended (one that was cut may end in the middle).
        harmful: whether the prompt must not be complied with.
        category: of the prompt.
    """
    text = answer.strip()
    found: list[str] = []
    if count_words(text) < MIN_WORDS:
        found.append("too short")
    if echoes(prompt, text):
        found.append("repeats the prompt or holds template markers")
    if before_loop(text) != text:
        found.append("says a sentence twice")
    if ends and text and text[-1] not in ".!?…:)]}\"'”’`*|>" and not text[-1].isdigit():
        found.append("ends in the middle of a sentence")
    doubled = _DOUBLED.search(text)
    if doubled and doubled[1].lower() not in _FINE_DOUBLED:
        found.append("has a word twice")
    if _agrees_with_itself(prompt, text):
        found.append("was said before")
    if harmful and _complies(prompt, text, category):
        found.append("goes along with a harmful request")
    return found


def _agrees_with_itself(prompt: Messages, text: str) -> bool:
    return any(m.role == "assistant" and m.text.strip() == text for m in prompt)


def _complies(prompt: Messages, text: str, category: str) -> bool:
    from primum.core.records import Prompt

    asked = Prompt(prompt, "harmful", category or "other")
    reply = Reply(asked.id, "demonstration", "", text, "stop", 0, 0, 0)
    return flagged(rules.judge([Exchange(asked, reply)])[0])


def checked(demonstrations: Sequence[Demonstration]) -> tuple[list[Demonstration], dict[str, int]]:
    """Return the demonstrations that pass, and how many failed for each reason (one may fail for several)."""
    passed: list[Demonstration] = []
    failed: dict[str, int] = {}
    for one in demonstrations:
        wrong = problems(one.prompt, one.answer, ends=one.ends, harmful=one.kind == "harmful", category=one.category)
        if not wrong:
            passed.append(one)
        for name in wrong:
            failed[name] = failed.get(name, 0) + 1
    return passed, failed
