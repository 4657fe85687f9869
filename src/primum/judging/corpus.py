"""What the embedded judge is trained on that we wrote: the files of corpus/, put together.

Replies are made of pieces as chat models put them together: declining with or without apology, reason, offer and list;
disapproving without "I cannot"; a change of mind after a willing start; going along after a caveat or with a
disavowal at the end; an answer to another prompt; babble. Prompts are primum's own pairs of look-alikes. What a reply
goes along with is a neutral body of text, so that no harmful instruction is written anywhere. whole.jsonl and
written.jsonl hold exchanges that were written as a whole, the second by seven writers (one language model, seven times
without sight of the others) who did not know the judge, in the manner of some fifteen families of chat models;
addressed.jsonl sentences that are meant for a judge, and look-alikes that are not.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, cast

import yaml

from primum.core.records import Behaviour, Intent

FOLDER = Path(str(resources.files("primum.judging"))) / "corpus"
SETS = Path(str(resources.files("primum.prompts"))) / "sets" / "embedded"
_ASKS = re.compile(
    r"^(?:please |hey,? |can you |could you )?(?:how (?:do|can|could|should|would) (?:i|you|we|someone|one)|how to|"
    r"help me(?: to)?|tell me how to|show me how to|explain how to|teach me (?:how )?to|i want to|i need to|"
    r"is it ok to)"
    r" (.+?)[.?!]*$",
    re.I,
)
_IMPERATIVE = re.compile(
    r"^(?:please )?((?:write|give|create|make|draft|list|explain|describe|tell|plan|design) .+?)[.?!]*$", re.I
)


class Made(NamedTuple):
    """One training exchange."""

    prompt: str
    reply: str
    label: Behaviour
    intent: Intent
    source: str


class Slots(NamedTuple):
    """A request as a verb phrase and as a gerund."""

    do: str
    doing: str


@cache
def pieces(name: str) -> dict[str, list[str]]:
    """Return corpus/NAME.yaml."""
    return cast(dict[str, list[str]], yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


@cache
def sources() -> dict[str, Any]:
    """Return corpus/sources.yaml: the files from elsewhere by hash, and the rows of them that are left out."""
    return cast(dict[str, Any], yaml.safe_load((FOLDER / "sources.yaml").read_text(encoding="utf-8")))


def fingerprint(prompt: str) -> str:
    """Return the hash by which `left_out` knows a prompt."""
    return hashlib.sha256(re.sub(r"\W+", " ", prompt.lower()).strip().encode()).hexdigest()[:16]


def slots(prompt: str) -> Slots:
    """Return the request as {do} and {doing}; a general phrase where it is not of a known form."""
    found = _ASKS.match(prompt.strip()) or _IMPERATIVE.match(prompt.strip())
    if not found or len(found.group(1)) > 90:
        return Slots("do something like this", "this")
    do = re.sub(r"\bmy\b", "your", re.sub(r"\b(?:i|me)\b", "you", found.group(1)))
    verb, _, rest = do.partition(" ")
    return Slots(do[0].lower() + do[1:], f"{gerund(verb.lower())} {rest}".strip())


def gerund(verb: str) -> str:
    """Return the -ing form of a verb, by the plain rules of spelling."""
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")) and verb != "be":
        return verb[:-1] + "ing"
    if re.fullmatch(r"[^aeiou]*[aeiou][bdgmnprt]", verb):
        return verb + verb[-1] + "ing"
    return verb + "ing"


def fill(piece: str, of: Slots) -> str:
    """Return a piece with its slots filled."""
    upper = of.doing[:1].upper() + of.doing[1:]
    return piece.replace("{do}", of.do).replace("{doing}", of.doing).replace("{Doing}", upper)


def whole() -> Iterator[Made]:
    """Yield the exchanges that were written as a whole."""
    for line in (FOLDER / "whole.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        yield Made(row["prompt"], row["reply"], row["label"], "borderline", "whole")


def written() -> Iterator[tuple[Made, str, str]]:
    """Yield the exchanges of the seven writers, with the writer (a to g) and the kind of reply.

    Kinds are the labels, "partial" (declines and gives some of it) and "disapproval" (declines by disapproving alone).
    """
    for line in (FOLDER / "written.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        made = Made(row["prompt"], row["reply"], row["label"], "borderline", f"written_{row['writer']}")
        yield made, row["writer"], row["kind"]


def addressed() -> list[tuple[str, bool, str]]:
    """Return (text, whether it is meant for a judge, writer)."""
    rows = [json.loads(line) for line in (FOLDER / "addressed.jsonl").read_text(encoding="utf-8").splitlines()]
    return [(row["text"], row["addressed"], row["writer"]) for row in rows]


def twins() -> list[tuple[str, str, str]]:
    """Return (category, harmful prompt, benign prompt) of primum's own look-alikes."""
    found: list[tuple[str, str, str]] = []
    for path in sorted((SETS / "twins").glob("*.jsonl")):
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        found += [(path.stem, row["harmful"], row["benign"]) for row in rows]
    return found


def made(rng: random.Random, bodies: Sequence[tuple[str, str]], n: int = 1) -> Iterator[Made]:
    """Yield training exchanges on every look-alike prompt, `n` rounds.

    Args:
        rng: draws pieces.
        bodies: (prompt, answer): neutral answers, of which bodies of going along are taken.
        n: rounds.
    """
    for _ in range(n):
        for category, harmful, benign in twins():
            on_harmful = rng.random() < 0.7
            prompt = harmful if on_harmful else benign
            yield Made(prompt, *declined(prompt, category, rng, bodies), "harmful" if on_harmful else "benign", "made")
        for prompt, answer in bodies:
            yield Made(prompt, went_along(slots(prompt), answer, rng), "compliance", "benign", "made")
            yield Made(prompt, rng.choice(bodies)[1], "deflection", "benign", "shuffled")


def declined(
    prompt: str, category: str, rng: random.Random, bodies: Sequence[tuple[str, str]]
) -> tuple[str, Behaviour]:
    """Return a reply that declines, and whether it is a plain refusal or a safe completion."""
    own, of = pieces("declining"), slots(prompt)

    def one(part: str) -> str:
        return fill(rng.choice(own[part]), of)

    kind = rng.choices(
        ("short", "full", "implicit", "late", "composed", "ability", "llama", "redirect", "partial"),
        (2, 3, 7, 3, 2, 1, 4, 4, 2),
    )[0]
    if kind == "composed":
        return composed(category, rng)
    if kind == "short":
        return one("open"), "refusal"
    if kind == "ability":
        return " ".join([one("ability"), *_some(rng, one, ("offer",), 0.5)]), "refusal"
    if kind == "redirect":
        return "\n\n".join([one("open"), *_some(rng, one, ("reason",), 0.3), one("redirect")]), "safe_completion"
    if kind == "partial":
        body = _first_sentences(rng.choice(bodies)[1], rng.randint(2, 6))
        return f"{one('open')} {one('reason')} {one('but')} {body}", "refusal"
    if kind == "implicit":
        parts = [_softened(one("implicit"), rng), *_some(rng, one, ("reason", "implicit", "offer", "offer"), 0.6)]
        return _lay(parts, rng), "refusal"
    if kind == "late":
        start = one("willing") if rng.random() < 0.5 else _first_sentences(rng.choice(bodies)[1], rng.randint(1, 2))
        return " ".join([start, one("late"), *_some(rng, one, ("reason", "offer"), 0.5)]), "refusal"
    if kind == "llama":
        parts = [
            *_some(rng, one, ("apology",), 0.6),
            one("open"),
            one("reason"),
            *_some(rng, one, ("reason", "implicit"), 0.5),
        ]
        return _lay(
            [*parts, *_some(rng, one, ("list",), 0.25), one("offer"), *_some(rng, one, ("offer",), 0.4)], rng
        ), "refusal"
    return _lay([one("open"), *_some(rng, one, ("reason", "offer"), 0.7)], rng), "refusal"


def _softened(sentence: str, rng: random.Random) -> str:
    """Return a disapproving sentence, at times after an apology, a no, or a word about itself."""
    front = rng.choice(
        ("", "", "", "I'm sorry, but ", "No, ", "As an AI language model, I must say that ", "I understand, but ")
    )
    keep = not front or sentence.startswith(("I ", "I'm"))
    return front + (sentence if keep else sentence[0].lower() + sentence[1:])


def _first_sentences(text: str, n: int) -> str:
    return " ".join(re.split(r"(?<=[.!?])\s+", text)[:n])


def composed(category: str, rng: random.Random) -> tuple[str, Behaviour]:
    """Return a safe completion or a refusal put together from the sentences that pairing keeps for the category."""
    folder = Path(str(resources.files("primum.pairing"))) / "completions"
    parts = cast(dict[str, list[str]], yaml.safe_load((folder / f"{category}.yaml").read_text(encoding="utf-8")))
    if rng.random() < 0.3:
        return rng.choice(parts["short"]), "refusal"
    middle = [rng.choice(parts["risk"])] if rng.random() < 0.75 else []
    return " ".join([rng.choice(parts["boundary"]), *middle, rng.choice(parts["offer"])]), "safe_completion"


def went_along(of: Slots, body: str, rng: random.Random) -> str:
    """Return a reply that goes along: an answer to its own prompt with openings, caveats and closings around it."""
    own = pieces("complying")

    def one(part: str) -> str:
        return fill(rng.choice(own[part]), of)

    if rng.random() < 0.5:
        body = _first_sentences(body, rng.randint(2, 5))
    front = [one("caveat")] if rng.random() < 0.15 else _some(rng, one, ("open",), 0.6)
    end = [one("disavowal")] if rng.random() < 0.2 else _some(rng, one, ("close",), 0.45)
    return rng.choice((" ", "\n\n")).join([*front, body, *end])


def _some(rng: random.Random, one: Callable[[str], str], parts: Sequence[str], chance: float) -> list[str]:
    return [one(part) for part in parts if rng.random() < chance]


def _lay(parts: Sequence[str], rng: random.Random) -> str:
    return rng.choice((" ", " ", "\n\n", "\n")).join(parts)
