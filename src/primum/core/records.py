"""The records that flow between the rooms: frozen, plain, one JSON object a line on disk.

Every step reads records and writes records, so that any step can be rerun, replaced, done by hand or
done on another machine. This file knows nothing of models, files or judges.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar, cast

Role = Literal["system", "user", "assistant"]
Intent = Literal["harmful", "borderline", "benign"]
Split = Literal["train", "dev", "test"]
Behaviour = Literal["refusal", "safe_completion", "deflection", "harmful_compliance", "compliance", "incoherent"]
Direction = Literal["lower_is_better", "higher_is_better"]
Kind = Literal["text", "image", "audio", "video"]
JsonDict = dict[str, Any]
R = TypeVar("R")

BEHAVIOURS: tuple[Behaviour, ...] = (
    "refusal", "safe_completion", "deflection", "harmful_compliance", "compliance", "incoherent",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a turn: words, or a file that is looked at or listened to (docs/decisions/008-parts-of-a-turn.md).

    Args:
        type: what it is; `video` is declared, and nothing here takes it.
        text: of a text part its words; of a file the words that stand in it or describe it, "" where nobody knows.
        path: of the file; as a rule relative to what names it, so that a folder can be copied away.
        sha256: of the file's bytes: which file it is, wherever it lies.
    """

    type: Kind
    text: str = ""
    path: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        if (self.type == "text") == bool(self.path and self.sha256):
            raise ValueError("a text part has no file, and every other part has one with its sha256")

    def to_json(self) -> JsonDict:
        """Return the part as templates and other tools know it; what is empty is left away."""
        named = {"path": self.path, "sha256": self.sha256, "text": self.text}
        return {"type": self.type, **({"text": self.text} if self.type == "text" else _filled(named))}

    @property
    def identity(self) -> list[str]:
        """What tells it from other parts: its words, or its file's bytes (not where the file lies)."""
        return [self.type, self.text if self.type == "text" else self.sha256]


Content = str | tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation: a text, or parts in their order."""

    role: Role
    content: Content

    @property
    def text(self) -> str:
        """The words of the turn; what its pictures and recordings say is not among them (`described`)."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(part.text for part in self.content if part.type == "text")

    @property
    def files(self) -> tuple[Part, ...]:
        """The parts that are no text, in order."""
        return () if isinstance(self.content, str) else tuple(part for part in self.content if part.type != "text")

    @property
    def identity(self) -> list[Any]:
        """What ids are made of: role and words, or the parts' own identities."""
        if isinstance(self.content, str):
            return [self.role, self.content]
        return [self.role, [part.identity for part in self.content]]


Messages = tuple[Message, ...]


def user(content: Content) -> Message:
    """Return a user turn."""
    return Message("user", content)


def assistant(content: str) -> Message:
    """Return an assistant turn."""
    return Message("assistant", content)


def system(content: str) -> Message:
    """Return a system turn."""
    return Message("system", content)


def with_system(messages: Messages, text: str | None) -> Messages:
    """Return a conversation with a system turn before it; one that has its own, or no text to put there, stays."""
    return messages if not text or any(m.role == "system" for m in messages) else (system(text), *messages)


def files_of(messages: Messages) -> tuple[Part, ...]:
    """Return the parts of a conversation that are no text, in order."""
    return tuple(part for message in messages for part in message.files)


def described(messages: Messages) -> Messages | None:
    """Return a conversation with each file put into words, for readers of text; None where one has no words.

    A picture becomes a line that says what it is and what it says: [image: "..."].
    """
    if any(not part.text for part in files_of(messages)):
        return None
    return tuple(Message(m.role, in_words(m)) for m in messages)


def in_words(message: Message) -> str:
    """Return what a turn says, and of each file what it is and says: [image: "..."]."""
    if isinstance(message.content, str):
        return message.content
    return "\n".join(_said(part) for part in message.content)


def _said(part: Part) -> str:
    if part.type == "text":
        return part.text
    return f'[{part.type}: "{part.text}"]' if part.text else f"[{part.type}]"


def digest(value: Any, length: int = 16) -> str:
    """Return a stable hex hash of anything JSON can hold (keys sorted, UTF-8)."""
    text = _JSON.encode(value)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]


@functools.lru_cache(1 << 14)  # a step asks for the id of each of its prompts a dozen times
def id_of(messages: Messages) -> str:
    """Return the id of the prompt that these messages make."""
    return digest([m.identity for m in messages])


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked of a model, and what we know of the asking.

    `twin` is the id of the look-alike prompt of the other intent; both carry it. `translation_of` is the id of the
    English prompt that says the same.
    """

    messages: Messages
    intent: Intent
    category: str
    language: str = "en"
    source: str = "user"
    licence: str = "unknown"
    split: Split = "train"
    tags: tuple[str, ...] = ()
    twin: str | None = None
    answer: str | None = None
    translation_of: str | None = None

    @property
    def id(self) -> str:
        """The hash of the messages: the same words and files are the same prompt, wherever they came from."""
        return id_of(self.messages)

    @property
    def text(self) -> str:
        """The words of the last user turn."""
        return next(m.text for m in reversed(self.messages) if m.role == "user")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered, and under which settings (`variant` is their hash with the sample number).

    `prompt_cut` counts the tokens at the prompt's beginning that the model's window had no room for.
    """

    prompt_id: str
    model: str
    variant: str
    text: str
    finish: Literal["stop", "length", "error"]
    prompt_tokens: int
    reply_tokens: int
    seed: int
    prompt_cut: int = 0

    @property
    def id(self) -> str:
        """The hash of prompt, model, variant and text."""
        return digest([self.prompt_id, self.model, self.variant, self.text])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge says of a reply. `behaviour` is None where it could not say: then `unscored` says why.

    `full` is False where the behaviour is partial ("I shouldn't, but..."). `reason` tells a refusal for safety
    from one for lack of ability; the second is no false refusal. `by_words`: the prompt holds pictures or recordings,
    and the judge was told their words in their place.
    """

    reply_id: str
    judge: str
    behaviour: Behaviour | None
    full: bool = True
    reason: Literal["safety", "ability"] | None = None
    p_harmful: float | None = None
    p_hateful: float | None = None
    rating: float | None = None
    categories: tuple[tuple[str, str], ...] = ()
    unscored: str | None = None
    template_hash: str = ""
    judge_revision: str = ""
    by_words: bool = False

    def __post_init__(self) -> None:
        if (self.behaviour is None) == (not self.unscored):
            raise ValueError("a verdict has a behaviour, or a reason why it is unscored: exactly one")


@dataclass(frozen=True, slots=True)
class Preference:
    """Which of the replies shown was preferred, by a person, a judge or a reward model."""

    prompt_id: str
    reply_ids: tuple[str, ...]
    winner: int | None
    outcome: Literal["winner", "tie", "both_unsafe", "skip"]
    strength: Literal["significantly", "better", "slightly", "unsure"]
    judged_by: str
    guideline: str = ""
    safety: tuple[bool, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference pair in TRL's columns (prompt, chosen, rejected as message lists) with its provenance.

    `chosen_ends`, `rejected_ends`: whether the text ends where its author ended. One that a token limit cut must not
    teach the model to stop there.
    """

    prompt: Messages
    chosen: str
    rejected: str
    prompt_id: str
    kind: str
    category: str
    chosen_from: str
    rejected_from: str
    why: str
    strength: float = 1.0
    safety_bin: Literal["chosen_safe", "both_safe", "both_unsafe"] = "chosen_safe"
    chosen_ends: bool = True
    rejected_ends: bool = True

    def to_json(self) -> JsonDict:
        """Return TRL's conversational preference columns, and our own beside them."""
        row = cast(JsonDict, _plain(self))
        row["chosen"] = [{"role": "assistant", "content": self.chosen}]
        row["rejected"] = [{"role": "assistant", "content": self.rejected}]
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Pair:
        """Read what `to_json` wrote."""
        flat = dict(row)
        for side in ("chosen", "rejected"):
            flat[side] = row[side] if isinstance(row[side], str) else row[side][-1]["content"]
        return from_json(cls, flat)


@dataclass(frozen=True, slots=True)
class Measurement:
    """One number with its interval, its n, and how many were left out and why."""

    metric: str
    slice: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    direction: Direction
    left_out: Mapping[str, int] = field(default_factory=dict[str, int])
    unit: Literal["share", "nats", "z"] = "share"


def _filled(row: JsonDict) -> JsonDict:
    return {key: value for key, value in row.items() if value}


def _plain(value: Any) -> Any:
    if isinstance(value, Part):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in cast(Mapping[Any, Any], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in cast(Sequence[Any], value)]
    if isinstance(value, set | frozenset):  # it has no order of its own, and each process gives it another
        return sorted((_plain(v) for v in cast(frozenset[Any], value)), key=str)
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    return str(value)


_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=_plain)  # made once: `json.dumps` makes one a call


def to_json(record: Any) -> JsonDict:
    """Return the record as one JSON object; records that have an id carry it."""
    cls = cast(type[object], type(record))
    own = getattr(cls, "to_json", None)
    row = own(record) if own else _plain(record)
    if isinstance(getattr(cls, "id", None), property):
        row = {"id": record.id, **row}
    return cast(JsonDict, row)


def from_json(cls: type[R], row: Mapping[str, Any]) -> R:
    """Build a record from its JSON object; unknown keys are dropped, missing ones raise TypeError."""
    names = {f.name for f in dataclasses.fields(cast(Any, cls))}
    values = {k: _tuples(v) for k, v in row.items() if k in names}
    for key in ("messages", "prompt"):
        if key in values and isinstance(values[key], tuple):
            values[key] = tuple(message_of(m) for m in values[key])
    return cls(**values)


def message_of(row: Mapping[str, Any]) -> Message:
    """Read a turn as `to_json` wrote it."""
    content = row["content"]
    return Message(row["role"], content if isinstance(content, str) else tuple(Part(**part) for part in content))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in cast(list[Any], value)) if isinstance(value, list) else value
