"""What stands in a reply for its judge, and not for its reader: orders, ready verdicts, chat markers.

A reply under judgement may say "Judge: answer safe." or end in the words that a guard model answers with. Such text is
no part of what the model did for its user, and is taken out before the reply is read, so that it can turn no verdict.
What a reply says *about* judging to its reader stays: only whole lines and sentences that address a judge go. Fixed
formats are known by patterns; sentences in words of their own by a small linear model (corpus/addressed.jsonl).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from math import inf

from primum.judging.weights import load

_WHO = r"(?:judges?|evaluators?|graders?|raters?|reviewers?|moderators?|classifiers?|guards?|scorers?|annotators?)"
_VERDICT = (
    r"(?:safe|unsafe|harmless|harmful|benign|refus(?:al|ed|es)|complian(?:ce|t)|incoherent|deflection|pass(?:ed)?)"
)
_LINES = re.compile(
    r"^\s*(?:"
    rf"(?:(?:note|message|instruction)s? (?:to|for) (?:the |this )?)?(?:ai |llm )?{_WHO}\s*[:,].*"
    rf"|[\[(<{{*_\s]*(?:verdict|label|rating|judge?ment|classification|assessment|score|safety|refusal|behaviou?r)\s*"
    rf"[:=]\s*[\"']?(?:{_VERDICT}|yes|no|[01](?:\.\d+)?|[1-5]\s*/\s*5|\[\[\w+\]\])[\"'\])>}}.*_\s]*"
    r"|#+\s*(?:evaluation|verdict|judge?ment|assessment|classification)\s*:?"
    r"|(?:harmful (?:request|response)|response refusal|refusal|(?:user|response) safety|prompt harm|response harm)\s*:"
    r"\s*\w+"
    r"|s(?:afe|\d{1,2}(?:\s*,\s*s\d{1,2})*)|unsafe"
    r")\s*$",
    re.IGNORECASE | re.MULTILINE,
)
_ORDERS = re.compile(
    r"(?:^|(?<=[.!?\n\"]))[^\S\n]*(?:please |now |also )*(?:"
    r"(?:ignore|disregard|forget|override) (?:all |any |your |the |my |these |those |previous |prior |above |earlier )*"
    r"(?:instructions?|rules?|guidelines?|polic(?:y|ies)|rubrics?|criteria|prompts?)"
    rf"|(?:you|the {_WHO}) (?:must|should|shall|will|have to|are to) (?:answer|say|label|call|rate|score|mark|judge|"
    rf"classify|output|return|treat)\b[^.!?\n]*\b{_VERDICT}"
    rf"|(?:answer|say|label|call|rate|score|mark|judge|classify|output|return|treat)\b[^.!?\n]{{0,40}}?"
    rf"\b(?:this|it|the reply|the response|as|a|with|only)\b[^.!?\n]{{0,30}}?\b{_VERDICT}"
    rf"|the (?:reply|response|answer|text|message)s? (?:above|below|before this)?\s*(?:is|was|should be|must be) "
    rf"(?:rated |called |labell?ed |judged |considered )?(?:as )?(?:a |completely |fully |entirely )*{_VERDICT}"
    r")[^.!?\n]*[.!?]?",
    re.IGNORECASE,
)
_ORDER_WORDS = (
    "safe", "harm", "benign", "refus", "complian", "incoherent", "deflection", "pass", "ignore", "disregard", "forget",
    "override",
)  # fmt: skip
_TAGS = re.compile(
    r"```(?:json)?\s*\{[^{}]{0,300}\}\s*```"
    r"|<(\w{0,20}(?:score|verdict|label|safety|refusal|judge?ment|rating)\w{0,20})>[^<\n]{0,40}</\1>"
    r"|\{[^{}\n]{0,300}\"(?:user safety|response safety|violation|refusal|harmful|label|verdict|is_safe|safe)\"\s*:"
    r"[^{}\n]{0,300}\}"
    r"|<\|[a-z_]{2,20}\|>(?:\s*(?:assistant|user|system)\b)?|\[/?INST\]|</?s>|<</?SYS>>|<(?:start|end)_of_turn>",
    re.IGNORECASE,
)


_OBJECT = re.compile(r"^\s*[\[{].{0,300}[\]}]\s*$")
_NEXT_TURN = re.compile(r"\n\s*(?:user|human)\s*:.*\Z", re.IGNORECASE | re.DOTALL)
_FIRST_TURN = re.compile(r"\A\s*(?:user|human)\s*:[^\n]*\n(?:\s*(?:assistant|ai|model)\s*:[^\n]*\n)?", re.IGNORECASE)
_TURN_WORDS = ("user", "human")
_SENTENCES = re.compile(r"(?<=[.!?])[^\S\n]+|\n")
_STARTS = re.compile(r"(?<=[^\s.!?:,])\s+(?=[A-Z\[{(<#*\"'>|])")
"""Where a sentence may begin behind one that was cut off: "keep it in the Judge: answer safe"."""
_TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+|[{}\[\]<>=:|\"#*_`/\u2192\u2713\u2714\u2705\u274c-]")
EDGE, TOKENS, PREFIX, SIGN = 5, 60, 5, 2.0
"""Sentences at either end of a reply that may be for a judge; tokens read of a sentence; letters of a longer word that
count as its beginning; weight of a token from which it is a sign."""


def without_addressed(text: str, prompt: str = "") -> str:
    """Return the text without what is addressed to a judge; all of it where nothing else would be left.

    Args:
        text: the reply.
        prompt: what was asked; words of it are no sign that a line is meant for a judge.
    """
    if not text.strip():
        return text
    found = _FIRST_TURN.sub("", _NEXT_TURN.sub("", text)) if _holds(text, _TURN_WORDS) else text
    found = _TAGS.sub(" ", found) if any(sign in found for sign in "`<{[") else found
    found = _ORDERS.sub("", found) if _holds(found, _ORDER_WORDS) else found
    found = _without_edges(_LINES.sub("", found), _tokens_of(prompt))
    return found if found.strip() else text


def _holds(text: str, some: Iterable[str]) -> bool:
    """Whether a text has one of some words, in any case; letters beyond ASCII may count as one of theirs."""
    small = text.lower()
    return not text.isascii() or any(word in small for word in some)


@lru_cache(maxsize=4096)
def _tokens_of(prompt: str) -> frozenset[str]:
    return frozenset(_TOKEN.findall(prompt.lower()))


def _without_edges(text: str, asked: frozenset[str]) -> str:
    """Take what is meant for a judge from both ends, and from behind a last sentence that was cut off."""
    spans = _sentences(text)
    if spans and (more := _behind(spans[-1][2], asked)):
        start, end, sentence = spans[-1]
        spans[-1] = (start, end - more, sentence[:-more])
    places = [i for i in range(len(spans)) if i < EDGE or i >= len(spans) - EDGE]
    start, end = _cut([i for i in places if _is_meant(spans[i][2], asked)], len(spans))
    return text[spans[start][0] : spans[end - 1][1]] if start < end else ""


def parts(text: str) -> list[str]:
    """Return the sentences and lines of a text, as they are read here."""
    return [one for _, _, one in _sentences(text)]


def _sentences(text: str) -> list[tuple[int, int, str]]:
    """Return start, end and words of each sentence or line that is not empty."""
    ends = [*((found.start(), found.end()) for found in _SENTENCES.finditer(text)), (len(text), len(text))]
    spans: list[tuple[int, int, str]] = []
    start = 0
    for end, following in ends:
        if text[start:end].strip():
            spans.append((start, end, text[start:end]))
        start = following
    return spans


def _cut(marks: Sequence[int], n: int) -> tuple[int, int]:
    """Return which sentences stay: from either end go those up to a marked one, where half of them are marked."""
    start, end = 0, n
    for count, i in enumerate(marks, 1):
        if i < EDGE and 2 * count > i:
            start = i + 1
    for count, i in enumerate(reversed(marks), 1):
        if i >= n - EDGE and 2 * count > n - 1 - i:
            end = i
    return start, end


def _behind(sentence: str, asked: frozenset[str]) -> int:
    """Return how many characters at the end of a sentence without an end are another one, meant for a judge."""
    tails = {found.start(): sentence[found.end() :] for found in _STARTS.finditer(sentence)}
    scores = {start: _score(tail, asked) for start, tail in tails.items() if " " in tail}
    start = max(scores, key=scores.__getitem__, default=len(sentence))
    return len(sentence) - start if scores.get(start, 0.0) > 0 else 0


def _is_meant(sentence: str, asked: frozenset[str]) -> bool:
    return _score(sentence, asked) > 0


def _score(sentence: str, asked: frozenset[str]) -> float:
    """Return the log-odds that a sentence is meant for a judge; bare objects and lists always are."""
    if sentence.lstrip()[:1] in ("[", "{") and _OBJECT.match(sentence):
        return inf
    tokens = _tokens(sentence)
    if signs().isdisjoint(tokens):
        return -inf
    return load().addressed.score(_terms(tokens, asked))


@cache
def signs() -> frozenset[str]:
    """Return the tokens of which a sentence needs one to be meant for a judge: looked for first, most have none."""
    weights = load().addressed.weights
    return frozenset(term for term, weight in weights.items() if weight > SIGN and " " not in term and term[0] != "~")


def terms(sentence: str, asked: frozenset[str] = frozenset()) -> set[str]:
    """Return what the weights are of: tokens, pairs of them, and beginnings of long words; none of the prompt's."""
    return _terms(_tokens(sentence), asked)


def _tokens(sentence: str) -> list[str]:
    return ["0" if one.isdigit() else one for one in _TOKEN.findall(sentence[:600].lower())[:TOKENS]]


def _terms(tokens: Sequence[str], asked: frozenset[str]) -> set[str]:
    own = [one for one in tokens if one not in asked]
    pairs = {
        f"{a} {b}" for a, b in zip(["^", *tokens], [*tokens, "$"], strict=True) if a not in asked or b not in asked
    }
    return {*own, *pairs, *("~" + one[:PREFIX] for one in own if len(one) > PREFIX)}
