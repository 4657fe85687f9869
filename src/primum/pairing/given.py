r"""What a user's file gives to a pairing strategy: prompts, replies, and what is said of them. Read with real schemas.

    replies        prompt, reply [id, intent, category, behaviour, model, finish]: one reply a row, K rows a prompt
    pku_saferlhf   prompt, response_0, response_1, is_response_0_safe, is_response_1_safe, better_response_id,
                   safer_response_id (PKU-SafeRLHF, arXiv:2406.15513)
    beavertails    prompt, response, is_safe [category] (BeaverTails, arXiv:2307.04657)
    hh             chosen, rejected: transcripts "\n\nHuman: ... \n\nAssistant: ..." (HH-RLHF, arXiv:2204.05862)

The layout is told by the first row's columns; a row of another layout is an error with its line, since such schemas
have drifted and a wrong guess would turn labels round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, cast

from primum.core.errors import BadInputError
from primum.core.records import BEHAVIOURS, Behaviour, Intent, JsonDict, Prompt, Reply, Verdict, user
from primum.judging.rows import to_exchange
from primum.prompts.files import Row, read_rows, text_of

COLUMNS = {
    "pku_saferlhf": (
        "prompt", "response_0", "response_1", "is_response_0_safe", "is_response_1_safe", "better_response_id",
        "safer_response_id",
    ),
    "beavertails": ("prompt", "response", "is_safe"),
    "replies": ("prompt", "reply"),
    "hh": ("chosen", "rejected"),
}  # fmt: skip
ANSWER = "\n\nAssistant:"
HUMAN = "\n\nHuman:"
BETTER, WORSE = 2.0, 1.0
"""Ratings of the reply that people preferred and of the other: an order, no measure."""


class Said(NamedTuple):
    """One reply, what the file says of it, and its rank in what people preferred (None: nothing is said)."""

    prompt: Prompt
    reply: Reply
    behaviour: Behaviour | None
    rating: float | None = None


@dataclass(frozen=True, slots=True)
class Given:
    """The prompts by id in the file's order, their replies, and what the file itself says of these."""

    layout: str
    prompts: dict[str, Prompt] = field(default_factory=dict[str, Prompt])
    replies: dict[str, list[Reply]] = field(default_factory=dict[str, list[Reply]])
    said: dict[str, Said] = field(default_factory=dict[str, Said])
    ids: dict[str, str] = field(default_factory=dict[str, str])
    dropped: list[JsonDict] = field(default_factory=list[JsonDict])

    def add(self, one: Said, own: str, where: str) -> None:
        """Keep a reply, and its prompt where it is new.

        Raises:
            BadInputError: the prompt was given before with another intent.
        """
        key = one.prompt.id
        known = self.prompts.setdefault(key, one.prompt)
        self.replies.setdefault(key, [])
        if known.intent != one.prompt.intent:
            problem = f"the prompt is {one.prompt.intent} here and {known.intent} before"
            raise BadInputError(problem, where=where, cure="give every row of a prompt the same intent")
        self.replies[key].append(one.reply)
        self.said[one.reply.id] = one
        self.ids[own] = one.reply.id


def read_given(path: Path) -> Given:
    """Return what the file gives.

    Raises:
        BadInputError: no row, a layout that is not known, a row of another layout, a label that is none; names the
            line.
    """
    rows = list(read_rows(path))
    if not rows:
        raise BadInputError("no rows", where=str(path), cure=_cure())
    layout = layout_of(rows[0])
    given = Given(layout)
    for row in rows:
        missing = [name for name in COLUMNS[layout] if name not in row.values]
        if missing:
            raise BadInputError(f"no {' and no '.join(map(repr, missing))}", where=row.where, cure=_cure(layout))
        _READERS[layout](row, given)
    return given


def layout_of(row: Row) -> str:
    """Return the layout whose columns a row has.

    Raises:
        BadInputError: none of them.
    """
    for name, columns in COLUMNS.items():
        if all(column in row.values for column in columns):
            return name
    shown = ", ".join(sorted(row.values)[:12])
    raise BadInputError(f"a row with the columns {shown} is of no known layout", where=row.where, cure=_cure())


def _cure(layout: str | None = None) -> str:
    known = {layout: COLUMNS[layout]} if layout else COLUMNS
    return "; ".join(f"{name}: {', '.join(columns)}" for name, columns in known.items())


def _replies(row: Row, given: Given) -> None:
    own = row.values.get("id")
    asked = to_exchange(row._replace(values={**row.values, "id": row.where if own in (None, "") else own}))
    said = row.values.get("behaviour") or row.values.get("label")
    if said and said not in BEHAVIOURS:
        cure = f"one of {', '.join(BEHAVIOURS)}; or leave it out, and let --judge decide"
        raise BadInputError(f"'{str(said)[:40]}' is no behaviour", where=row.where, cure=cure)
    if not asked.answered:
        given.dropped.append({"row": row.where, "reason": "no reply in the row"})
        return
    # the row's place keeps two equal replies apart
    reply = replace(asked.exchange.reply, variant=f"{asked.id}@{row.where}")
    given.add(Said(asked.exchange.prompt, reply, cast(Behaviour, said) if said else None), str(asked.id), row.where)


def _pku(row: Row, given: Given) -> None:
    prompt = _asked(row)
    better = row.values["better_response_id"]
    if better not in (0, 1, -1):
        raise BadInputError(f"better_response_id is {better!r}", where=row.where, cure="0, 1, or -1 for neither")
    for i in (0, 1):
        text = text_of(row.values[f"response_{i}"], f"response_{i}", row)
        rating = None if better == -1 else BETTER if better == i else WORSE
        behaviour: Behaviour = "compliance" if _boolean(row, f"is_response_{i}_safe") else "harmful_compliance"
        own = f"{row.where}#{i}"
        given.add(Said(prompt, _reply(prompt, own, text), behaviour, rating), own, row.where)


def _boolean(row: Row, name: str) -> bool:
    value = row.values[name]
    if not isinstance(value, bool):
        raise BadInputError(f"{name} is {value!r}", where=row.where, cure="true or false")
    return value


def _beavertails(row: Row, given: Given) -> None:
    prompt = _asked(row)
    behaviour: Behaviour = "compliance" if _boolean(row, "is_safe") else "harmful_compliance"
    reply = _reply(prompt, row.where, text_of(row.values["response"], "response", row))
    given.add(Said(prompt, reply, behaviour), row.where, row.where)


def _hh(row: Row, given: Given) -> None:
    sides = [_split(text_of(row.values[name], name, row), name, row) for name in COLUMNS["hh"]]
    if sides[0][0] != sides[1][0]:
        given.dropped.append({"row": row.where, "reason": "the two transcripts differ before the last answer"})
        return
    prompt = Prompt((user(sides[0][0]),), "borderline", "other")
    for name, rating, (_, text) in zip(COLUMNS["hh"], (BETTER, WORSE), sides, strict=True):
        own = f"{row.where}#{name}"
        given.add(Said(prompt, _reply(prompt, own, text), None, rating), own, row.where)


def _split(transcript: str, name: str, row: Row) -> tuple[str, str]:
    """Return what stands before the last answer, and that answer (Rafailov et al. 2023 split there too)."""
    before, mark, answer = transcript.rpartition(ANSWER)
    if not mark or HUMAN not in before:
        cure = r"a transcript is '\n\nHuman: ...\n\nAssistant: ...'"
        raise BadInputError(f"'{name}' is no transcript", where=row.where, cure=cure)
    asked = before.removeprefix(HUMAN).strip()
    return asked, answer.strip()


def _asked(row: Row) -> Prompt:
    return Prompt((user(text_of(row.values["prompt"], "prompt", row)),), "borderline", "other")


def _reply(prompt: Prompt, own: str, text: str) -> Reply:
    return Reply(prompt.id, "file", own, text, "stop", 0, 0, 0)


_READERS: dict[str, Callable[[Row, Given], None]] = {
    "replies": _replies, "pku_saferlhf": _pku, "beavertails": _beavertails, "hh": _hh,
}  # fmt: skip


def with_intents(given: Given, verdicts: dict[str, Verdict]) -> tuple[list[Prompt], Counter[str]]:
    """Return the prompts, those of unknown intent with the one that their verdicts show; and how many of each kind.

    One reply that goes along harmfully shows a harmful prompt. Where all that went along did so harmlessly, the prompt
    is benign, unless they are labelled safe and no more. Anything else stays borderline.
    """
    found: list[Prompt] = []
    counts: Counter[str] = Counter()
    for prompt in given.prompts.values():
        seen: list[Behaviour | None] = [
            verdicts[reply.id].behaviour for reply in given.replies[prompt.id] if reply.id in verdicts
        ]
        intent = _shown(seen, given.layout)
        stated = prompt.intent != "borderline"
        counts["stated" if stated else "from verdicts" if intent else "not known"] += 1
        found.append(replace(prompt, intent=intent) if intent and not stated else prompt)
    return found, counts


def _shown(seen: Sequence[Behaviour | None], layout: str) -> Intent | None:
    if "harmful_compliance" in seen:
        return "harmful"
    only_safe = layout in ("pku_saferlhf", "beavertails")  # "safe" may be a refusal there
    return "benign" if "compliance" in seen and not only_safe else None
