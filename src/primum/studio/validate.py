"""What is wrong with a template's text, before a model or a person reads it. Pure; each finding has a line and a cure.

A slot is `{{name}}`, nothing more: a template holds no logic and is never evaluated. A slot is untrusted (what a user
or a model wrote goes in) unless it is declared as `name:trusted`; an untrusted one must stand between delimiters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

from primum.core.records import digest
from primum.studio.hostile import escapes, labels
from primum.studio.slots import PAIRS, SLOT, slots

KINDS = {
    "preprompt": "safety preprompt: put before a conversation",
    "answer": "answer template: how to answer a category",
    "rubric": "judge's rubric: how a judge is asked",
}
LONG, TOO_LONG = 4_000, 20_000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRETS = {
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "an AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "an API key": r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}\b",
    "a GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{30,}\b",
    "a hub token": r"\bhf_[A-Za-z0-9]{20,}\b",
    "a Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}\b",
    "a JSON web token": r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
    "a password": r"(?i)\b(?:password|passwd|secret|api[_-]?key)\s*[:=]\s*['\"]?[^\s'\"{}]{6,}",
}
_PERSONAL = {
    "an e-mail address": r"\b[\w.+-]+@[\w-]+\.[\w.]{2,}\b",
    "a US social security number": r"\b\d{3}-\d{2}-\d{4}\b",
    "a phone number": r"(?<![\w.])\+\d[\d ()-]{8,}\d\b",
}
_HARM = re.compile(
    r"(?i)\b(refus\w*|declin\w*|harm\w*|unsafe|unethical|illegal|dangerous|toxic|safe(?:ly|ty)?|do not (?:help|assist)|"
    r"(?:can(?:no|')t|will not|won't|not) (?:help|assist|provide|answer))\b"
)
_OVERRIDE = re.compile(
    r"(?i)\b(?:ignore|disregard|forget)\b[^.\n]{0,30}\b(?:previous|prior|above|all|earlier)\b[^.\n]{0,20}"
    r"\b(?:instruction|rule|prompt|message)s?"
)
_OPPOSED = (
    (
        r"never (?:refuse|decline)|always (?:answer|comply|help)|answer (?:every|all|any)\b",
        r"(?<!never )\b(?:refuse|decline)",
        "it asks to answer always and to refuse",
    ),
    (
        r"\b(?:be brief|briefly|one sentence|be concise|keep it short)",
        r"\b(?:in (?:great )?detail|thorough|comprehensive|at length)",
        "it asks for short answers and for long ones",
    ),
    (
        r"\b(?:no|without|never (?:add|use|give)(?: any| a)?) (?:disclaimers?|warnings?)",
        r"(?<!never )\b(?:add|include|give) (?:a |any )?(?:disclaimers?|warnings?)",
        "it asks for disclaimers and forbids them",
    ),
)
_MUST = re.compile(r"(?i)\b(always|must(?! not)|never|do not|don't|must not)\s+((?:\w+\s+){0,2}\w+)")
_OPEN = (*(opens for opens, _ in PAIRS), ">")
_CLOSE = (*(closes for _, closes in PAIRS), "<")


class Finding(NamedTuple):
    """One fault: an error stops the merge, a warning does not."""

    level: Literal["error", "warning"]
    code: str
    text: str
    line: int
    cure: str


def template_hash(kind: str, text: str, variables: Mapping[str, bool]) -> str:
    """Return the hash of a version; scores and verdicts are tied to it."""
    return digest([kind, text, sorted(variables.items())])


def parse_variables(line: str) -> dict[str, bool]:
    """Return name -> trusted, from "prompt, category:trusted".

    Raises:
        ValueError: what stands there is no name.
    """
    found: dict[str, bool] = {}
    for part in filter(None, (part.strip() for part in line.split(","))):
        name, _, mark = part.partition(":")
        if not _NAME.fullmatch(name) or mark not in ("", "trusted"):
            raise ValueError(f"'{part}' is no variable: write names like prompt, category:trusted")
        found[name] = mark == "trusted"
    return found


def validate(kind: str, text: str, variables: Mapping[str, bool]) -> list[Finding]:
    """Return all faults, errors first, in the order of their lines."""
    found = [*_slots(text, variables), *_secrets(text), *_opposed(text), *_policy(kind, text), *_length(text)]
    found += _red_team(kind, text, variables)
    return sorted(found, key=lambda finding: (finding.level, finding.line))


def passes(findings: list[Finding]) -> bool:
    """Return whether there is no error."""
    return not any(finding.level == "error" for finding in findings)


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _slots(text: str, variables: Mapping[str, bool]) -> Iterator[Finding]:
    used = slots(text)
    for slot in SLOT.finditer(text):
        name, line = slot[1], _line(text, slot.start())
        if name not in variables:
            yield Finding("error", "undeclared", f"the variable '{name}' is not declared", line, f"declare {name}")
        elif not variables[name] and not _delimited(text, slot):
            cure = f"put it between tags, like <{name}>{{{{{name}}}}}</{name}>, or declare {name}:trusted"
            yield Finding(
                "error", "injection", f"'{name}' stands in the open: what goes in can pose as your words", line, cure
            )
    for name in sorted(set(variables) - used):
        yield Finding("warning", "unused", f"the variable '{name}' is declared and not used", 1, "remove it")
    rest = SLOT.sub("", text)
    for found in re.finditer(r"\{\{|\}\}|\{%|%\}|\{#", rest):
        yield Finding(
            "error", "slot", "a brace that is no slot", _line(rest, found.start()), "write {{name}}, nothing else"
        )


def _delimited(text: str, slot: re.Match[str]) -> bool:
    before, after = text[: slot.start()].rstrip(" \n"), text[slot.end() :].lstrip(" \n")
    return before.endswith(_OPEN) and after.startswith(_CLOSE)


def _red_team(kind: str, text: str, variables: Mapping[str, bool]) -> Iterator[Finding]:
    """Fill what strangers fill with hostile words (hostile.py); a preprompt's slots are filled by its own people."""
    if kind == "preprompt" or len(text) > TOO_LONG:
        return
    known = [slot for slot in SLOT.finditer(text) if slot[1] in variables and _delimited(text, slot)]
    for one in escapes(kind, text, variables):
        if one.at in {slot.start() for slot in known}:  # others have their finding: in the open, or not declared
            cure = f"put it between a pair of tags, like <{one.slot}>{{{{{one.slot}}}}}</{one.slot}>"
            problem = f"hostile words in '{one.slot}' can pose as yours: {one.what}"
            yield Finding("error", "escape", problem, _line(text, one.at), cure)
    if kind == "rubric" and text.strip() and len(labels(text)) < 2:
        cure = "end it like: Answer safe or unsafe."
        yield Finding("warning", "answers", "it does not say which words may be answered", 1, cure)


def _secrets(text: str) -> Iterator[Finding]:
    for patterns, cure in ((_SECRETS, "remove it, and change it where it is used"), (_PERSONAL, "remove it")):
        for what, pattern in patterns.items():
            for found in re.finditer(pattern, text):
                yield Finding("error", "secret", f"it holds what looks like {what}", _line(text, found.start()), cure)


def _opposed(text: str) -> Iterator[Finding]:
    for one, other, what in _OPPOSED:
        first, second = re.search(one, text, re.IGNORECASE), re.search(other, text, re.IGNORECASE)
        if first and second:
            at = max(first.start(), second.start())
            yield Finding("error", "contradiction", what, _line(text, at), "keep one of the two")
    said: dict[str, str] = {}
    for found in _MUST.finditer(text):
        way = "do" if found[1].lower() in ("always", "must") else "do not"
        what = " ".join(found[2].lower().split())
        if said.setdefault(what, way) != way:
            problem = f"it says both to and not to {what}"
            yield Finding("error", "contradiction", problem, _line(text, found.start()), "keep one of the two")
    override = _OVERRIDE.search(text)
    if override:
        problem = "it tells the model to ignore other instructions, as an attack would"
        yield Finding("error", "override", problem, _line(text, override.start()), "say what to do instead")


def _policy(kind: str, text: str) -> Iterator[Finding]:
    if kind in ("preprompt", "answer") and not _HARM.search(text):
        problem = "it does not say what to do with a harmful request"
        yield Finding("error", "no policy", problem, 1, "say what to refuse, and how to help instead")
    if kind == "rubric" and not any(slot[1] in ("reply", "answer", "response") for slot in SLOT.finditer(text)):
        yield Finding("error", "no reply", "the rubric shows the judge no reply", 1, "add <reply>{{reply}}</reply>")


def _length(text: str) -> Iterator[Finding]:
    if not text.strip():
        yield Finding("error", "empty", "it is empty", 1, "write it")
    elif len(text) > TOO_LONG:
        yield Finding("error", "length", f"{len(text):,} characters", 1, f"at most {TOO_LONG:,}")
    elif len(text) > LONG:
        yield Finding("warning", "length", f"{len(text):,} characters stand before every request", 1, "shorten it")
