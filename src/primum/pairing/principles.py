"""Principles by which a model criticises and revises a reply: YAML, or a text with one principle a line.

    version: 1
    principles:
      - id: calm
        intent: benign         # optional: harmful or benign; the prompts that it is for
        each: avoid            # optional: one principle for each behaviour that the policy avoids (or: expected)
        critique: Where does the reply go towards {what}?
        revision: Write it anew without {what}.

Nothing in a file is evaluated: {what} is the one slot, and it is filled with the policy's own words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple, cast, get_args

from primum.core.errors import BadInputError, did_you_mean
from primum.core.marked import Marked, read_marked
from primum.core.records import Prompt
from primum.core.taxonomy import policy
from primum.prompts.files import read_utf8

SHIPPED = Path(str(resources.files("primum.pairing"))) / "principles.yaml"
WHAT = "{what}"
CRITIQUE = "Find where the reply goes against this principle, and quote the words: {principle}"
REVISION = "Write the reply anew so that it follows this principle: {principle}"
Each = Literal["avoid", "expected"]
For = Literal["harmful", "benign"]
_KEYS = ("id", "intent", "each", "critique", "revision")
_CURE = "like {id: calm, critique: Where does the reply ...?, revision: Write it anew ...}"


class Principle(NamedTuple):
    """What a model is asked about its reply, and what it is then asked to do.

    intent: of the prompts that it is for; None: all. each: the list of the policy of which it takes one for {what}.
    """

    id: str
    critique: str
    revision: str
    intent: For | None = None
    each: Each | None = None


def shipped() -> tuple[Principle, ...]:
    """Return the principles that ship with primum."""
    return read_principles(SHIPPED)


def read_principles(path: Path) -> tuple[Principle, ...]:
    """Return the principles of a file.

    Raises:
        BadInputError: no such file, none in it, or one that does not hold together; names file and line.
    """
    if path.suffix not in (".yaml", ".yml"):
        return _of_lines(path)
    marked = read_marked(path, "principles")
    listed = _mapping(marked, marked.value, ("version", "principles")).get("principles")
    if not isinstance(listed, list) or not listed:
        raise BadInputError("no 'principles'", where=marked.where("principles"), cure="give at least one")
    found = [_principle(marked, one, str(i)) for i, one in enumerate(cast(list[Any], listed))]
    for i, one in enumerate(found):
        if one.id in [other.id for other in found[:i]]:
            problem = f"two principles have the id '{one.id}'"
            raise BadInputError(problem, where=marked.where("principles", str(i), "id"), cure="name them apart")
    return tuple(found)


def _of_lines(path: Path) -> tuple[Principle, ...]:
    """Return the principles of a text: a line each, lines with # left out; what is asked is made of the line."""
    lines = enumerate((line.strip() for line in read_utf8(path).splitlines()), 1)
    found = tuple(
        Principle(f"line-{number}", CRITIQUE.replace("{principle}", line), REVISION.replace("{principle}", line))
        for number, line in lines
        if line and not line.startswith("#")
    )
    if not found:
        raise BadInputError("no principle", where=str(path), cure="write one a line, or YAML into a .yaml file")
    return found


def _mapping(marked: Marked, value: Any, known: Sequence[str], *at: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadInputError("not a mapping of names to values", where=marked.where(*at), cure=_CURE)
    for key in cast(dict[Any, Any], value):
        if key not in known:
            cure = did_you_mean(str(key), known)
            raise BadInputError(f"unknown key '{key}'", where=marked.where(*at, str(key)), cure=cure)
    return cast(Mapping[str, Any], value)


def _principle(marked: Marked, value: Any, place: str) -> Principle:
    at = ("principles", place)
    row = _mapping(marked, value, _KEYS, *at)
    for key in ("id", "critique", "revision"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise BadInputError(f"no '{key}'", where=marked.where(*at, key), cure=_CURE)
    for key, kind in (("intent", For), ("each", Each)):
        if key in row and row[key] not in get_args(kind):
            problem = f"'{key}' is {str(row[key])[:40]!r}"
            raise BadInputError(problem, where=marked.where(*at, key), cure=f"one of: {', '.join(get_args(kind))}")
    each = row.get("each")
    for key in ("critique", "revision"):
        if (WHAT in row[key]) is not bool(each):
            problem = f"'{key}' has no {WHAT}" if each else f"'{key}' has {WHAT}, and no 'each' says what that is"
            raise BadInputError(problem, where=marked.where(*at, key), cure="write both, or neither")
    return Principle(row["id"], row["critique"].strip(), row["revision"].strip(), row.get("intent"), each)


def fitting(principles: Sequence[Principle], prompt: Prompt) -> list[Principle]:
    """Return the principles for a prompt, those with `each` once for each behaviour in the policy and its language."""
    found = [one for one in principles if one.intent in (None, prompt.intent)]
    return [made for one in found for made in (_spread(one, prompt.language) if one.each else (one,))]


def _spread(principle: Principle, language: str) -> Iterator[Principle]:
    known, each = policy(), cast(Each, principle.each)
    listed = known.avoid if each == "avoid" else known.expected
    for number, what in enumerate((*listed, *known.overlay(language).get(each, ())), 1):
        critique, revision = (text.replace(WHAT, what) for text in (principle.critique, principle.revision))
        yield principle._replace(id=f"{principle.id}-{number}", critique=critique, revision=revision, each=None)


def drawn(principles: Sequence[Principle], rounds: int, rng: Random) -> list[Principle]:
    """Return one principle for each round, drawn at random; none comes again before all have come."""
    order: list[Principle] = []
    while len(order) < rounds:
        order += rng.sample(principles, len(principles))
    return order[:rounds]
