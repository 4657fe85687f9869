"""Files to items: our own rows, TRL's columns, Label Studio's and Argilla's exports, and CSV. The shape tells which.

    {"prompt": ..., "replies": [{"text", "model", "variant"} | "..."], "gold": ..., "priority": ...}   ours
    {"prompt": ..., "chosen": ..., "rejected": ...}                                   TRL
    {"data": {"prompt", "reply_1", "reply_2", ...}, "annotations": [...]}                 Label Studio
    {"fields": {"prompt", "response_1", "response_2"}, "responses": {"preference": [...]}}   Argilla
    prompt,reply_1,reply_2[,outcome,winner,strength,...]                                               CSV
    {"prompt": ..., "reply": ... or "replies": [...], "gold": 1 to 5}           for rating; in CSV with a `rating`

A prompt is a text or a list of {"role", "content"} (in CSV as JSON). Votes and ratings that a file holds come along,
judged by who gave them.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any, cast, get_args

from primum.core.errors import BadInputError
from primum.core.records import (
    BEHAVIOURS,
    JsonDict,
    Message,
    Preference,
    Prompt,
    Reply,
    Role,
    Verdict,
    from_json,
    to_json,
    user,
)  # fmt: skip
from primum.studio.accounts import MODALITIES
from primum.studio.annotate import MOST_REPLIES, OUTCOMES, RATINGS, SKIPPED, STRENGTHS, Incoming, rated

_SHAPES = 'like {"prompt": "...", "replies": ["...", "..."]}, {"prompt", "chosen", "rejected"}, or CSV with a header'
_COLUMNS = ("reply_", "response_", "answer", "completion_")


class _Row:
    """A row and where it stands."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def text(self, name: str) -> str:
        """Return a field as text."""
        value = self.values.get(name)
        if not isinstance(value, str) or not value.strip():
            raise BadInputError(f"'{name}' holds no text", where=self.where, cure=_SHAPES)
        return value


def read(name: str, data: bytes, single: bool = False) -> list[Incoming]:
    """Return the items of a file.

    Args:
        name: its name, for messages.
        data: its bytes, UTF-8.
        single: whether an item is one reply to rate, instead of at least two to compare.

    Raises:
        BadInputError: not UTF-8, broken JSON or CSV, or a row of no known shape; names file, line and cure.
    """
    name = PurePath(name).name
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadInputError("not UTF-8", where=f"{name}:{line}", cure="save the file as UTF-8") from error
    rows = _csv(name, text) if name.lower().endswith(".csv") else _json(name, text)
    found = [item for row in rows for item in (_singles(row) if single else [_item(row)])]
    if not found:
        raise BadInputError("there is no row in this file", where=name, cure=_SHAPES)
    return _merged(found)


def _merged(found: Sequence[Incoming]) -> list[Incoming]:
    """Join rows about the same item (a CSV has one a vote) into one item with all votes."""
    held: dict[str, Incoming] = {}
    for one in found:
        before = held.get(one.key)
        held[one.key] = replace(before, votes=before.votes + one.votes) if before else one
    return list(held.values())


def _json(name: str, text: str) -> Iterator[_Row]:
    if text.lstrip().startswith("["):
        try:
            values = json.loads(text)
        except ValueError as error:
            raise BadInputError(
                f"broken JSON ({error})", where=name, cure="one JSON list, or one object a line"
            ) from error
        pairs = [(f"{name}, entry {n}", value) for n, value in enumerate(values, 1)]
    else:
        pairs = [(f"{name}:{n}", line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    for where, value in pairs:
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except ValueError as error:
                raise BadInputError(
                    f"broken JSON ({error})", where=where, cure="each line is one JSON object"
                ) from error
        if not isinstance(value, dict):
            raise BadInputError("not a JSON object", where=where, cure=_SHAPES)
        yield _Row(value, where)


def _csv(name: str, text: str) -> Iterator[_Row]:
    csv.field_size_limit(1 << 30)  # a reply may be long
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for values in reader:
            where = f"{name}:{reader.line_num}"
            if None in values or None in values.values():
                raise BadInputError("more or fewer cells than the header", where=where, cure="quote cells with commas")
            cells: dict[str, Any] = {key: unguarded(value) for key, value in values.items()}
            yield _Row({**cells, "prompt": turns_in(str(cells.get("prompt"))) or cells.get("prompt")}, where)
    except csv.Error as error:
        raise BadInputError(f"broken CSV ({error})", where=f"{name}:{reader.line_num}", cure=_SHAPES) from error


def turns_in(cell: str) -> list[Any] | None:
    """Return the turns that a cell holds as JSON, or None where it is a text."""
    if not cell.lstrip().startswith("[{"):
        return None
    try:
        turns = json.loads(cell)
    except ValueError:
        return None
    return turns if all(isinstance(turn, dict) and {"role", "content"} <= turn.keys() for turn in turns) else None


def unguarded(cell: str) -> str:
    """Take away the quote that `outgoing.guarded` puts before a cell that a spreadsheet would run."""
    return cell[1:] if cell[:1] == "'" and re.match(r"'+[=+\-@\t\r]", cell) else cell


def _item(row: _Row) -> Incoming:
    values = row.values
    if isinstance(values.get("data"), dict):
        return _label_studio(row)
    if isinstance(values.get("fields"), dict):
        return _argilla(row)
    if "chosen" in values and "rejected" in values:
        return _trl(row)
    prompt = _prompt(row)
    replies = _replies(row, prompt)
    if len(replies) < 2:
        raise BadInputError("fewer than two replies to compare", where=row.where, cure=_SHAPES)
    votes = [_flat_vote(row, prompt, replies)] if values.get("outcome") else []
    votes += [_own_vote(row, vote, replies) for vote in values.get("votes") or []]
    return Incoming(prompt, replies, _gold(row, replies), _priority(row), tuple(votes), _round(row), _rewards(row),
                    modality=_modality(row))  # fmt: skip


def _modality(row: _Row) -> str:
    value = row.values.get("modality")
    if value in (None, ""):
        return ""
    if value not in MODALITIES:
        raise BadInputError("'modality' is unknown", where=row.where, cure=f"one of {', '.join(MODALITIES)}, or none")
    return str(value)


def _round(row: _Row) -> int:
    value = row.values.get("round")
    if value in (None, ""):
        return 1
    if isinstance(value, bool) or not str(value).isdecimal() or not 1 <= int(value) <= 100_000:
        raise BadInputError("'round' is no whole number from 1", where=row.where, cure="leave it out, or give a number")
    return int(value)


def _rewards(row: _Row) -> tuple[float, ...] | None:
    """Return a reward model's score of every reply: `reward` in each reply, or `reward_1`, `reward_2`, ... columns."""
    given = row.values.get("replies")
    if given is None:
        given = _columns(row.values)
    found = [value.get("reward") for value in given if isinstance(value, dict)]
    held = [value for value in found if value not in (None, "")]
    if not held:
        return None
    try:
        scores = tuple(float(value) for value in held)
    except (TypeError, ValueError) as error:
        raise BadInputError("a 'reward' is no number", where=row.where, cure="one number a reply") from error
    if len(scores) != len(given) or not all(math.isfinite(score) for score in scores):
        raise BadInputError("not every reply has a 'reward'", where=row.where, cure="one number a reply, or none")
    return scores


def _singles(row: _Row) -> list[Incoming]:
    """Return one item a reply, with the ratings of it: for rating."""
    prompt = _prompt(row)
    replies = _replies(row, prompt)
    if not replies:
        raise BadInputError("no reply to rate", where=row.where, cure='like {"prompt": "...", "reply": "..."}')
    gold, rewards = _rating_gold(row, replies), _rewards(row)
    votes = [_rating(row, vote, replies) for vote in [*_flat_rating(row, replies), *(row.values.get("votes") or [])]]
    return [
        Incoming(prompt, (reply,), gold, _priority(row), tuple(one for one in votes if one["reply_id"] == reply.id),
                 _round(row), (rewards[at],) if rewards else None, modality=_modality(row))
        for at, reply in enumerate(replies)
    ]  # fmt: skip


def _rating_gold(row: _Row, replies: Sequence[Reply]) -> JsonDict | None:
    gold = row.values.get("gold")
    if gold in (None, ""):
        return None
    value = gold.get("rating") if isinstance(gold, dict) else gold
    if isinstance(value, bool) or not str(value).isdecimal() or int(str(value)) not in RATINGS or len(replies) > 1:
        problem = "'gold' is no rating of the one reply in its row"
        raise BadInputError(
            problem, where=row.where, cure="a number from 1 to 5, with one reply a row; or leave it out"
        )
    return {"rating": int(str(value))}


def _flat_rating(row: _Row, replies: Sequence[Reply]) -> list[JsonDict]:
    """Return the rating that a row of a CSV holds, as a record to be checked."""
    values = row.values
    if not values.get("rating") and values.get("outcome") not in ("rating", "skip"):
        return []
    if len(replies) > 1:
        raise BadInputError("a rating beside several replies", where=row.where, cure="one reply a row")
    seconds, names = values.get("seconds"), str(values.get("unsafe_for") or "").split()
    return [{
        "reply_id": replies[0].id, "judge": values.get("judged_by") or "import:csv", "outcome": values.get("outcome"),
        "rating": values.get("rating") or None, "behaviour": values.get("behaviour") or None,
        "categories": [["primum", name] for name in names], "template_hash": values.get("guideline") or "",
        "seconds": seconds or None, "note": values.get("note") or "",
    }]  # fmt: skip


def _rating(row: _Row, value: Any, replies: Sequence[Reply]) -> JsonDict:
    """Return a rating as a record, every part of it checked."""
    cure = "export it from a studio with the replies as they are, or give rating 1 to 5"
    if not isinstance(value, dict) or value.get("reply_id") not in {reply.id for reply in replies}:
        raise BadInputError("a vote that is no rating of its reply", where=row.where, cure=cure)
    skip = value.get("outcome") == "skip"
    rating = None if skip else _number(row, "rating", value.get("rating"))
    if not skip and rating not in RATINGS:
        raise BadInputError("'rating' is none of 1 to 5", where=row.where, cure=cure)
    behaviour = None if skip else value.get("behaviour") or rated(
        int(rating or 0), False, str(row.values.get("intent") or "borderline")
    )  # fmt: skip
    categories = value.get("categories") or []
    fits = all(isinstance(one, list) and len(one) == 2 and all(isinstance(part, str) for part in one)
               for one in categories)  # fmt: skip
    if not fits or behaviour not in (None, *BEHAVIOURS):
        raise BadInputError("a rating's behaviour or categories are unknown", where=row.where, cure=cure)
    record = Verdict(
        value["reply_id"], str(value.get("judge") or "import"), behaviour, rating=rating,
        categories=tuple((one[0], one[1]) for one in categories), unscored=SKIPPED if skip else None,
        template_hash=str(value.get("template_hash") or ""),
    )  # fmt: skip
    seconds = value.get("seconds")
    return {**to_json(record), "note": str(value.get("note") or ""), "outcome": "skip" if skip else "rating",
            "seconds": None if seconds is None else _number(row, "seconds", seconds)}  # fmt: skip


def _number(row: _Row, name: str, value: Any) -> float:
    try:
        found = float(value)
    except (TypeError, ValueError) as error:
        raise BadInputError(f"'{name}' is no number", where=row.where, cure="give a number") from error
    if not math.isfinite(found):
        raise BadInputError(f"'{name}' is no number", where=row.where, cure="give a number")
    return found


def _priority(row: _Row) -> float:
    return _number(row, "priority", row.values.get("priority") or 0)


def _prompt(row: _Row, value: Any = None) -> Prompt:
    value = row.values.get("prompt") if value is None else value
    messages = (user(value),) if isinstance(value, str) and value.strip() else _turns(value, row)
    facts = {key: row.values.get(key) for key in ("intent", "category", "language", "source", "licence")}
    if facts["intent"] not in (None, "", "harmful", "borderline", "benign"):
        problem = f"'intent' is '{facts['intent']}'"
        raise BadInputError(problem, where=row.where, cure="harmful, borderline or benign")
    given = {key: str(value) for key, value in facts.items() if value}
    return Prompt(messages, **cast(Any, {"intent": "borderline", "category": "other", **given}))


def _turns(value: Any, row: _Row) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise BadInputError("'prompt' is neither a text nor a list of turns", where=row.where, cure=_SHAPES)
    turns: list[Message] = []
    for turn in cast(list[Any], value):
        if isinstance(turn, dict) and isinstance(turn.get("content"), list):
            problem = "a turn holds parts, and the studio shows text only"
            raise BadInputError(problem, where=row.where, cure="leave out the rows with pictures or recordings")
        fits = isinstance(turn, dict) and turn.get("role") in get_args(Role) and isinstance(turn.get("content"), str)
        if not fits:
            cure = 'like {"role": "user", "content": "..."}'
            raise BadInputError("a turn has no role or no content", where=row.where, cure=cure)
        turns.append(Message(turn["role"], turn["content"]))
    if turns[-1].role != "user":
        raise BadInputError(
            "the prompt does not end with a user turn", where=row.where, cure="put the answer in replies"
        )
    return tuple(turns)


def _replies(row: _Row, prompt: Prompt) -> tuple[Reply, ...]:
    given = row.values.get("replies")
    if given is None and row.values.get("reply") is not None:
        given = [row.values["reply"]]
    if given is None:
        given = _columns(row.values)
    if not isinstance(given, list) or len(given) > MOST_REPLIES:
        raise BadInputError(f"'replies' is no list of at most {MOST_REPLIES}", where=row.where, cure=_SHAPES)
    return tuple(_reply(value, n, prompt, row) for n, value in enumerate(cast(list[Any], given), 1))


def _columns(values: Mapping[str, Any]) -> list[Any]:
    """Return reply_1, reply_2, ... with model_1, model_2, ... where they are there."""
    found: list[Any] = []
    for n in range(1, MOST_REPLIES + 1):
        text = next((values[f"{name}{n}"] for name in _COLUMNS if values.get(f"{name}{n}")), None)
        if text is not None:
            model = values.get(f"model_{n}") or f"model {n}"
            reward = values.get(f"reward_{n}")
            found.append({"text": text, "model": model, "variant": values.get(f"variant_{n}") or "", "reward": reward})
    return found


def _reply(value: Any, n: int, prompt: Prompt, row: _Row) -> Reply:
    if isinstance(value, str):
        value = {"text": value, "model": f"model {n}"}
    if not isinstance(value, dict) or not isinstance(value.get("text"), str):
        raise BadInputError(f"reply {n} holds no text", where=row.where, cure=_SHAPES)
    facts = {"model": "unknown", "variant": "", "finish": "stop", "prompt_tokens": 0, "reply_tokens": 0, "seed": 0}
    return from_json(Reply, {**facts, **value, "prompt_id": prompt.id})


def _gold(row: _Row, replies: Sequence[Reply]) -> JsonDict | None:
    """Return {"outcome", "winner": a reply's id}; a row says a place (from 0), or an outcome."""
    gold = row.values.get("gold")
    if gold in (None, ""):
        return None
    if isinstance(gold, str) and gold.isdecimal():
        gold = int(gold)
    if isinstance(gold, int) and 0 <= gold < len(replies):
        return {"outcome": "winner", "winner": replies[gold].id}
    if gold in ("tie", "both_unsafe"):
        return {"outcome": gold, "winner": None}
    cure = "the place of the better reply (0 is the first), tie, or both_unsafe"
    raise BadInputError("'gold' names no reply and no outcome", where=row.where, cure=cure)


def _vote(prompt: Prompt, replies: Sequence[Reply], winner: int | None, by: str, **more: Any) -> JsonDict:
    record = Preference(prompt.id, tuple(reply.id for reply in replies), winner, more.pop("outcome", "winner"),
                        more.pop("strength", "unsure"), by, **more)  # fmt: skip
    return {**to_json(record), "categories": [], "note": ""}


def _own_vote(row: _Row, value: Any, replies: Sequence[Reply]) -> JsonDict:
    ids = {reply.id for reply in replies}
    if not isinstance(value, dict) or set(value.get("reply_ids") or ()) != ids or value.get("outcome") not in OUTCOMES:
        cure = "export it from a studio, with the replies as they are"
        raise BadInputError("a vote that does not fit its replies", where=row.where, cure=cure)
    extra = {"categories": value.get("categories") or [], "note": value.get("note") or ""}
    return {**to_json(from_json(Preference, value)), **extra}


def _flat_vote(row: _Row, prompt: Prompt, replies: Sequence[Reply]) -> JsonDict:
    values = row.values
    outcome, winner = str(values["outcome"]), values.get("winner")
    place = int(winner) - 1 if isinstance(winner, str) and winner.isdecimal() else None
    strength = values.get("strength") or "unsure"
    fits = outcome in OUTCOMES and (outcome == "winner") == (place is not None) and strength in STRENGTHS
    if not fits or (place is not None and not 0 <= place < len(replies)):
        cure = f"outcome: {', '.join(OUTCOMES)}; winner: from 1; strength: {', '.join(STRENGTHS)}"
        raise BadInputError("a vote that does not fit", where=row.where, cure=cure)
    seconds = values.get("seconds")
    more = {"seconds": _number(row, "seconds", seconds)} if seconds else {}
    safety = tuple(mark == "safe" for mark in str(values.get("safety") or "").split())
    by = str(values.get("judged_by") or "import:csv")
    made = _vote(prompt, replies, place, by, outcome=outcome, strength=strength, safety=safety,
                 guideline=str(values.get("guideline") or ""), **more)  # fmt: skip
    extra = {"categories": str(values.get("unsafe_for") or "").split(), "note": str(values.get("note") or "")}
    return made | extra


def _trl(row: _Row) -> Incoming:
    prompt = _prompt(row)
    texts = [_side(row, name) for name in ("chosen", "rejected")]
    sources = [row.values.get(f"{name}_from") or name for name in ("chosen", "rejected")]
    replies = tuple(
        _reply({"text": text, "model": str(source)}, 1, prompt, row)
        for text, source in zip(texts, sources, strict=True)
    )
    if replies[0].text == replies[1].text:
        raise BadInputError("chosen and rejected are the same text", where=row.where, cure="remove the row")
    return Incoming(prompt, replies, None, _priority(row), (_vote(prompt, replies, 0, "import:trl"),))


def _side(row: _Row, name: str) -> str:
    value = row.values[name]
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        value = value[-1].get("content")
    if not isinstance(value, str):
        raise BadInputError(f"'{name}' is neither a text nor one turn", where=row.where, cure=_SHAPES)
    return value


def _label_studio(row: _Row) -> Incoming:
    """Pairwise projects: `selected` is left or right (reply_1 or reply_2)."""
    data = _Row({**row.values["data"]}, row.where)
    prompt = _prompt(data)
    replies = _replies(data, prompt)
    if len(replies) != 2:
        cure = "data: prompt, reply_1, reply_2 (or answer1, answer2)"
        raise BadInputError("a pairwise task has two replies", where=row.where, cure=cure)
    votes: list[JsonDict] = []
    for annotation in row.values.get("annotations") or []:
        who = annotation.get("completed_by")
        who = who.get("email") if isinstance(who, dict) else who
        places = [r["value"].get("selected") for r in annotation.get("result") or [] if r.get("type") == "pairwise"]
        if places and places[0] in ("left", "right"):
            lead = annotation.get("lead_time")
            more = {"seconds": float(lead)} if lead else {}
            votes.append(_vote(prompt, replies, (places[0] == "right" and 1) or 0, f"label-studio:{who}", **more))
    return Incoming(prompt, replies, _gold(data, replies), _priority(data), tuple(votes))


def _argilla(row: _Row) -> Incoming:
    fields = _Row({**row.values["fields"], **(row.values.get("metadata") or {})}, row.where)
    prompt = _prompt(fields)
    replies = _replies(fields, prompt)
    if len(replies) < 2:
        cure = "fields: prompt, response_1, response_2"
        raise BadInputError("fewer than two replies to compare", where=row.where, cure=cure)
    votes: list[JsonDict] = []
    for answer in (row.values.get("responses") or {}).get("preference") or []:
        value, by = answer.get("value"), f"argilla:{answer.get('user_id')}"
        if value in ("tie", "both_unsafe"):
            votes.append(_vote(prompt, replies, None, by, outcome=value))
        elif isinstance(value, str) and value.removeprefix("response_") in map(str, range(1, len(replies) + 1)):
            votes.append(_vote(prompt, replies, int(value.removeprefix("response_")) - 1, by))
    return Incoming(prompt, replies, _gold(fields, replies), _priority(fields), tuple(votes))
