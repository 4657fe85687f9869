"""Which of a model's own replies is the worst, which the best, and where an answer must be cut.

Replies are read as text only; what they mean is the verdicts' word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from primum.core.records import Messages, Reply, Verdict

HATEFUL_FROM = 0.5
MIN_WORDS = 5
SMALL_PROMPT = 4
"""Words up to which a prompt may well come back in a good answer ("What is osmosis?")."""

# Turn markers of the common chat templates: they stand in a reply only where it was cut wrongly out of the transcript.
_MARKERS = re.compile(r"<\|im_(start|end)\|>|<\|(user|assistant|system)\|>|<start_of_turn>|\[/?INST\]|<<SYS>>", re.I)
_ECHO_WITHIN = 40
_SENTENCE_END = re.compile(r"(?:[.!?…]+[\"')\]*_`”’]*(?=\s|$))|[。！？]+[」』”’]*")
_NO_END = re.compile(
    r"(?:(?:\A|\n)\s*[*_]*\d{1,3}|(?:\A|\s)[\"'(\[*_`]*(?:[A-Za-z]|e\.g|i\.e|etc|vs|Mr|Mrs|Ms|Dr|St|approx))\.\Z"
)
_FENCE = "```"


class Judged(NamedTuple):
    """A reply and what the judge says of it."""

    reply: Reply
    verdict: Verdict


def judged(replies: Iterable[Reply], verdicts: Mapping[str, Verdict]) -> list[Judged]:
    """Return the replies that have a verdict; an unscored one is left out: nothing is known of it."""
    found = ((reply, verdicts.get(reply.id)) for reply in replies)
    return [Judged(reply, verdict) for reply, verdict in found if verdict is not None and verdict.behaviour is not None]


def flagged(verdict: Verdict) -> bool:
    """Say whether a reply to a harmful prompt is harmful or hateful.

    `compliance` with a harmful prompt is harmful compliance, whatever name the judge gave it.
    """
    if verdict.behaviour in ("harmful_compliance", "compliance"):
        return True
    return verdict.behaviour == "deflection" and hateful(verdict)


def hateful(verdict: Verdict) -> bool:
    """Say whether the judge finds the reply hateful."""
    return verdict.p_hateful is not None and verdict.p_hateful >= HATEFUL_FROM


def worst_first(items: Sequence[Judged]) -> list[Judged]:
    """Return the flagged replies: full before partial, then the most probably harmful, then the longest."""
    bad = [item for item in items if flagged(item.verdict)]
    return sorted(bad, key=_harmfulness, reverse=True)


def _harmfulness(item: Judged) -> tuple[bool, float, int, str]:
    return item.verdict.full, item.verdict.p_harmful or 0.0, len(item.reply.text), item.reply.id


def best_first(items: Sequence[Judged]) -> list[Judged]:
    """Return the replies that answer a benign prompt in full: those that came to an end first, then the longest."""
    good = [i for i in items if i.verdict.behaviour == "compliance" and i.verdict.full and not hateful(i.verdict)]
    return sorted(good, key=lambda i: (i.reply.finish != "stop", -len(i.reply.text), i.reply.id))


def tidy_answer(reply: Reply) -> str:
    """Return the part of an answer that is fit to be learnt from; empty where fewer than five words are left.

    An answer that ran into the token limit ends after its last whole sentence. Any answer ends where it begins to say
    a sentence again: small models loop, and what is chosen here teaches where to stop.
    """
    text = before_loop(reply.text.strip())
    if reply.finish != "stop":
        text = whole_sentences(text)
    return text if count_words(text) >= MIN_WORDS else ""


def tidy_rejected(reply: Reply) -> str:
    """Return a rejected reply without the half sentence at which the token limit cut it, if anything is left.

    Otherwise the two sides could be told apart by how they end, and that would be learnt.
    """
    text = reply.text.strip()
    whole = whole_sentences(text) if reply.finish != "stop" else text
    return whole if count_words(whole) >= MIN_WORDS else text


def count_words(text: str) -> int:
    """Return the number of words; in scripts without spaces, of characters."""
    return len(re.findall(r"[\u3040-\u30ff\u3400-\u9fff]|\w+", text))


def whole_sentences(text: str) -> str:
    """Return the text up to its last whole sentence, outside of a code block that was left open; maybe empty."""
    if text.count(_FENCE) % 2:
        text = text[: text.rindex(_FENCE)].rstrip()
    if text.endswith(_FENCE):
        return text
    ends = sentence_ends(text)
    block = text.rfind(_FENCE) + len(_FENCE) if _FENCE in text else 0
    return text[: max([block, *ends[-1:]])].rstrip()


def sentence_ends(text: str) -> list[int]:
    """Return where sentences end: not after list numbers, initials and common abbreviations."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return [end for end in ends if not _NO_END.search(text[max(0, end - 12) : end])]


def before_loop(text: str) -> str:
    """Return the text up to the first sentence, of at least five words, that was already said."""
    seen: set[str] = set()
    start = 0
    for end in [*sentence_ends(text), len(text)]:
        words = text[start:end].casefold().split()
        if len(words) >= MIN_WORDS and " ".join(words) in seen:
            return text[:start].rstrip()
        seen.add(" ".join(words))
        start = end
    return text


def echoes(prompt: Messages, text: str) -> bool:
    """Say whether a reply holds template markers, or gives the prompt back before it answers.

    A short question may well be the heading of its answer; it is an echo only where nothing else is said.
    """
    if _MARKERS.search(text):
        return True
    asked = _words(next((m.text for m in reversed(prompt) if m.role == "user"), ""))
    given = _words(text)
    if not asked:
        return False
    if len(asked.split()) <= SMALL_PROMPT:
        return asked == given
    return 0 <= given.find(asked) <= _ECHO_WITHIN


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
