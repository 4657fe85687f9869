"""Risk categories, their bridge to other taxonomies, and the behaviour expected: read from one policy file.

The policy is one versioned file that prompts, answer templates, judges and reports all read: the one that ships with
primum (core/policy.yaml), or the project's own, which PRIMUM_POLICY names for every command. A file of one's own says
everything, or `extends: shipped` and what it adds:

    extends: shipped
    version: "2"
    categories:                      # a rule: requests to decline, each beside a benign twin
      sick_notes: {name: Sick notes, risk: unqualified, examples: sick_notes.jsonl, answers: {boundary: [...], ...}}
    uses:                            # what was declined and may now be answered
      coursework: {name: Drafts for trainees, of: academic_dishonesty, examples: coursework.jsonl}
    facts:                           # questions whose right answer is another one now
      opening_hours: {name: Opening hours, examples: opening_hours.jsonl}

`examples` is a file beside the policy's, or the rows themselves (primum.prompts.taught says what is in a row).
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from primum.core.errors import BadInputError, UsageError, did_you_mean
from primum.core.marked import parse_yaml
from primum.core.records import JsonDict, digest

VARIABLE = "PRIMUM_POLICY"
"""The environment variable that names the project's policy file."""
RISKS = ("illicit", "hateful", "unqualified")
PIECES = ("concern", "boundary", "risk", "offer", "short")
"""What the words of a category's answers are made of (pairing/completions); `concern` may be left out."""
SHIPPED = "shipped"
Kind = Literal["rule", "use", "fact"]
_ID = re.compile(r"[a-z][a-z0-9_]{0,39}")
_project: list[Path] = []
_over: list[Path] = []


@dataclass(frozen=True, slots=True)
class Category:
    """One harm category: its Llama 2 risk (arXiv:2307.09288, section 4.2), and its MLCommons hazard if there is one."""

    id: str
    name: str
    risk: str
    mlcommons: str | None
    held_out: bool


@dataclass(frozen=True, slots=True)
class Part:
    """What a policy teaches by examples: a rule (of a category), a use that is allowed again, or facts.

    Attributes:
        id: its key in the file; no two parts share one.
        kind: what its examples are.
        name: in words.
        category: the harm category that a rule is of or a use loosens; `general` for facts.
        examples: a file beside the policy's, or the rows themselves.
        answers: the sentences of which a rule's answers are made, by piece; none: those that ship with primum.
    """

    id: str
    kind: Kind
    name: str
    category: str
    examples: str | tuple[JsonDict, ...] = ()
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


@dataclass(frozen=True, slots=True)
class Policy:
    """The versioned policy: categories, expected behaviour in order, behaviours to avoid, and what a language adds.

    `parts` is what it teaches by examples, and `source` the file that it was read from (its examples lie beside it).
    """

    version: str
    hash: str
    categories: dict[str, Category]
    expected: tuple[str, ...]
    avoid: tuple[str, ...]
    languages: Mapping[str, Mapping[str, tuple[str, ...]]] = field(
        default_factory=dict[str, Mapping[str, tuple[str, ...]]]
    )
    parts: Mapping[str, Part] = field(default_factory=dict[str, Part])
    source: Path | None = None

    def category(self, name: str) -> Category:
        """Return a category by id.

        Raises:
            UsageError: no such category; names the nearest.
        """
        if name not in self.categories:
            raise UsageError(f"no harm category '{name}'", cure=did_you_mean(name, self.categories))
        return self.categories[name]

    def overlay(self, language: str) -> Mapping[str, tuple[str, ...]]:
        """Return what the policy says of a language beside the rest; `pt-br` takes that of `pt` where it has none."""
        name = language.lower()
        return self.languages.get(name) or self.languages.get(name.partition("-")[0]) or {}


def policy() -> Policy:
    """Return the policy in force: the file that PRIMUM_POLICY names, else the studio's own, else the shipped one.

    While a policy is patched in (`using(..., over=True)`) it is that one.

    Raises:
        UsageError: PRIMUM_POLICY names no file.
        BadInputError: the file does not hold together; names line or key.
    """
    if _over:
        return read(_over[-1])
    path = named()
    if path is not None and not path.is_file():
        cure = "name the project's policy file, or unset the variable"
        raise UsageError("no such file", where=f"{VARIABLE}={path}", cure=cure)
    path = path or next((one for one in _project[-1:] if one.is_file()), None)
    return read(path) if path else shipped_policy()


def named() -> Path | None:
    """Return the file that PRIMUM_POLICY names."""
    value = os.environ.get(VARIABLE)
    return Path(value) if value else None


@contextmanager
def using(path: Path, over: bool = False) -> Generator[None]:
    """Let a file be the policy for a while, where it is there and PRIMUM_POLICY names no other; `over`: in any case."""
    held = _over if over else _project
    held.append(path)
    try:
        yield
    finally:
        held.remove(path)


def stamp() -> dict[str, str]:
    """Return what a report says of the policy in force."""
    found = policy()
    return {"version": found.version, "hash": found.hash}


def read(path: Path) -> Policy:
    """Return the policy of a file; it is read again when it has changed.

    Raises:
        BadInputError: it cannot be read, or does not hold together; names line or key.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise BadInputError(f"cannot read: {error.strerror}", where=str(path), cure="check the path") from error
    return _read(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=8)
def _read(path: Path, _time: int, _size: int) -> Policy:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"cannot be read: {error}", where=str(path), cure="save it as UTF-8") from error
    return replace(parse(text, str(path)), source=path)


def shipped() -> str:
    """Return the text of the policy that ships with primum."""
    return resources.files("primum.core").joinpath("policy.yaml").read_text(encoding="utf-8")


@cache
def shipped_policy() -> Policy:
    """Return the policy that ships with primum."""
    return _made(yaml.safe_load(shipped()))


def parse(text: str, where: str = "policy.yaml") -> Policy:
    """Return a policy from its text.

    Raises:
        BadInputError: see `check`.
    """
    return _made(check(text, where))


def _made(raw: Mapping[str, Any]) -> Policy:
    categories = {
        str(key): Category(str(key), row["name"], row["risk"], row.get("mlcommons"), bool(row.get("held_out", False)))
        for key, row in raw["categories"].items()
    }
    given = cast(dict[str, dict[str, list[Any]]], raw.get("languages") or {})
    languages = {
        str(name).lower(): {key: tuple(map(str, rows)) for key, rows in row.items()} for name, row in given.items()
    }
    expected, avoid = tuple(raw["expected"]), tuple(raw["avoid"])
    return Policy(str(raw["version"]), digest(raw), categories, expected, avoid, languages, _parts(raw))


def _parts(raw: Mapping[str, Any]) -> dict[str, Part]:
    """Return what has examples, or words of its own for answers."""
    rules = {key: row for key, row in raw["categories"].items() if row.get("examples") or row.get("answers")}
    tables: tuple[tuple[Kind, Mapping[str, Any]], ...] = (
        ("rule", rules), ("use", raw.get("uses") or {}), ("fact", raw.get("facts") or {})
    )  # fmt: skip
    return {key: _part(str(key), kind, row) for kind, rows in tables for key, row in rows.items()}


def _part(key: str, kind: Kind, row: Mapping[str, Any]) -> Part:
    given = row.get("examples") or ()
    category = {"rule": key, "use": row.get("of", ""), "fact": "general"}[kind]
    words = cast(dict[str, list[str]], row.get("answers") or {})
    answers = {name: tuple(texts) for name, texts in words.items()}
    return Part(key, kind, row["name"], category, given if isinstance(given, str) else tuple(given), answers)


def check(text: str, where: str = "policy.yaml") -> dict[str, Any]:
    """Return a policy's text as data.

    Raises:
        BadInputError: no YAML, or something that every policy has is missing; names line or key.
    """
    raw = parse_yaml(text, where).value
    if not isinstance(raw, dict):
        raise BadInputError("no policy", where=where, cure="keys: version, expected, avoid, categories")
    raw = _extended(cast(dict[str, Any], raw), where)
    for key in ("expected", "avoid"):
        if not _list(raw.get(key)) or not raw[key] or not all(isinstance(v, str) for v in raw[key]):
            raise BadInputError(f"'{key}' is no list of sentences", where=f"{where}, {key}", cure="a dash a line")
    if raw.get("version") in (None, ""):
        raise BadInputError("the policy has no version", where=f"{where}, version", cure='like version: "2"')
    _check_categories(raw, f"{where}, categories")
    _check_languages(raw, f"{where}, languages")
    _check_parts(raw, where)
    return raw


def _extended(raw: dict[str, Any], where: str) -> dict[str, Any]:
    """Put what a file says over what it extends: tables entry by entry, everything else whole."""
    if "extends" not in raw:
        return raw
    if raw["extends"] != SHIPPED:
        cure = f"extends: {SHIPPED}, or leave the line out and say everything"
        raise BadInputError("a policy extends the shipped one or none", where=f"{where}, extends", cure=cure)
    base, own = yaml.safe_load(shipped()), {key: value for key, value in raw.items() if key != "extends"}
    tables = {key: {**base.get(key, {}), **value} for key, value in own.items() if _table(value) is not None}
    return {**base, **own, **tables}


def _check_categories(raw: Mapping[str, Any], where: str) -> None:
    rows = _table(raw.get("categories"))
    if not rows:
        raise BadInputError("there are no categories", where=where, cure="like fraud: {name: ..., risk: illicit}")
    for name, given in rows.items():
        if not _ID.fullmatch(str(name)):
            cure = "small letters, digits and underscores, at most 40"
            raise BadInputError(f"'{str(name)[:60]}' is no name of a category", where=where, cure=cure)
        row = _table(given) or {}
        if not isinstance(row.get("name"), str) or row.get("risk") not in RISKS:
            raise BadInputError("needs a name and a risk", where=f"{where}: {name}", cure="risk: " + ", ".join(RISKS))
    missing = [name for name in _shipped_categories() if name not in rows]
    if missing:
        cure = "keep it: prompts that ship with primum are of it (names, risks and held_out may change)"
        raise BadInputError(f"the category '{missing[0]}' is missing", where=where, cure=cure)


@cache
def _shipped_categories() -> tuple[str, ...]:
    return tuple(yaml.safe_load(shipped())["categories"])


def _check_languages(raw: Mapping[str, Any], where: str) -> None:
    """`languages` may say, per language, other expected or avoided behaviour."""
    overlays = _table(raw.get("languages") or {})
    rows = [_table(row) for row in (overlays or {}).values()]
    fits = overlays is not None and all(
        row is not None and set(row) <= {"expected", "avoid"} and all(map(_list, row.values())) for row in rows
    )
    if not fits:
        cure = "like languages: {de: {avoid: [...]}}"
        raise BadInputError("a language has expected and avoid, both lists", where=where, cure=cure)


def _check_parts(raw: Mapping[str, Any], where: str) -> None:
    """Every use and fact has a name and examples, a use names its category, and no two parts share an id."""
    seen = set(map(str, raw["categories"]))
    for key in ("uses", "facts"):
        rows = _table(raw.get(key) or {})
        if rows is None:
            raise BadInputError("no table", where=f"{where}, {key}", cure="a name a line, each with its settings")
        for name, given in rows.items():
            place, row = f"{where}, {key}: {name}", _table(given) or {}
            if not _ID.fullmatch(str(name)) or str(name) in seen:
                cure = "small letters, digits and underscores, at most 40; no category has it"
                raise BadInputError(f"'{str(name)[:60]}' is no name, or has been given", where=place, cure=cure)
            seen.add(str(name))
            if not isinstance(row.get("name"), str) or not row.get("examples"):
                raise BadInputError("needs a name and examples", where=place, cure="examples: FILE.jsonl")
            if key == "uses" and row.get("of") not in raw["categories"]:
                cure = "of: " + did_you_mean(str(row.get("of")), map(str, raw["categories"]))
                raise BadInputError("says of no category that it is loosened", where=place, cure=cure)
            _check_examples(row, place)
    for name, row in raw["categories"].items():
        _check_examples(row, f"{where}, categories: {name}")


def _check_examples(row: Mapping[str, Any], where: str) -> None:
    given, answers = row.get("examples"), row.get("answers")
    rows = cast(list[Any], given) if _list(given) else []
    if given is not None and not isinstance(given, str) and not (rows and all(_table(one) for one in rows)):
        raise BadInputError("examples are a file or a list of rows", where=where, cure="examples: FILE.jsonl")
    if answers is None:
        return
    texts = _table(answers) or {}
    whole = set(PIECES) - {"concern"} <= set(texts) <= set(PIECES)
    if not whole or not all(_sentences(value, key == "concern") for key, value in texts.items()):
        cure = f"lists of sentences for {', '.join(PIECES[1:])} (and concern, where danger may be near)"
        raise BadInputError("answers lack a piece, or hold no sentences", where=f"{where}, answers", cure=cure)


def _sentences(value: Any, may_be_empty: bool) -> bool:
    if not _list(value):
        return False
    texts = cast(list[Any], value)
    return (bool(texts) or may_be_empty) and all(isinstance(text, str) and text.strip() for text in texts)


def _table(value: Any) -> dict[str, Any] | None:
    return cast(dict[str, Any], value) if isinstance(value, dict) else None


def _list(value: Any) -> bool:
    return isinstance(value, list)
