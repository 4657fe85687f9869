r"""Data sets in TRL's columns, to texts and then to token ids; what is left out or cut is counted.

    dpo     {"prompt": ..., "chosen": ..., "rejected": ...}
    reward  the same, with "strength", "safety_bin" and "head" where they are known
    sft     {"messages": [...]} or {"prompt": ..., "completion": ...}, or {"instruction", "input", "output"} (Alpaca)
    kto     {"prompt": ..., "completion": ..., "label": true}

Texts may be turns ({"role", "content"}). `chosen` and `rejected` may be whole conversations without a prompt, or
transcripts like "\n\nHuman: ...\n\nAssistant: ..." (HH-RLHF); what they begin with in common is then the prompt. Text
is always put into the model's chat template. Every answer of a conversation is an example of its own: what comes
before it is its prompt, and is computed once for all of them (`packed`). Rows are read and tokenised a block at a time;
their tokens lie in a file (`rows`).
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast, get_args

from primum.core.errors import BadInputError, UsageError
from primum.core.progress import Advance, silent
from primum.core.records import JsonDict, Message, Messages, files_of, to_json, user
from primum.models.chat import encode
from primum.models.seeing import encode_all
from primum.pairing.columns import (
    AGAINST_SAFETY,
    against_safety,
    answer_of,
    pair_of,
    prompt_of,
    truth_of,
    turns_of,
    unsafe_of,
)
from primum.pairing.preferences import Head, Strength, strength_of
from primum.prompts.files import Row, read_rows, text_of
from primum.prompts.sources import ACCEPTANCE_SETS, VLGUARD, hub_rows
from primum.prompts.vlguard import training_rows
from primum.training.examples import Answered, Example, Limits, PairExample, example, pictured
from primum.training.methods.reward import Judged
from primum.training.rows import Lazy, TokenFile
from primum.training.templates import instruction

BLOCK = 256
"""Rows that are tokenised together."""
Label = tuple[Head, Strength, tuple[bool, bool] | None]
"""What a preference teaches a reward model beside its texts: head, strength, whether each answer is safe."""


class Answer(NamedTuple):
    """A prompt, an answer to it, and whether the answer is a good one (kto)."""

    prompt: Messages
    text: str
    label: bool = True


class Choice(NamedTuple):
    """A prompt, the answer that was preferred, the other one, and whether each is unsafe (None: nobody says).

    ends: whether each text ends where its author ended.
    """

    prompt: Messages
    chosen: str
    rejected: str
    unsafe: tuple[bool, bool] | None
    where: str
    ends: tuple[bool, bool] = (True, True)


class Ranked(NamedTuple):
    """A preference for a reward model: the pair, the head that it teaches, and how strong it is."""

    choice: Choice
    head: Head
    strength: Strength


@dataclass
class Count:
    """What happened to the rows: how many were read, which were left out and why, how many texts were cut.

    replaced: rows that are learned with another answer than theirs.
    """

    rows: int = 0
    dropped: list[JsonDict] = field(default_factory=list[JsonDict])
    cut: Counter[str] = field(default_factory=Counter[str])
    replaced: list[JsonDict] = field(default_factory=list[JsonDict])

    def replace(self, rows: Iterable[Row]) -> None:
        """Note rows that are learned with another answer than theirs."""
        self.replaced += [{"where": row.where} for row in rows]

    def drop(self, row: Row, reason: str) -> None:
        """Leave a row out, for a reason."""
        self.dropped.append({"reason": reason, "where": row.where})


def rows_of(source: str, limit: int | None = None) -> Iterator[Row]:
    """Yield the rows of a file, a folder, a data set of the hub (hub:ID[@CONFIG][:SPLIT]), or of vlguard:FOLDER.

    Raises:
        UsageError: the source is a set on which models are accepted; nothing may be trained on it.
        BadInputError: no such file, a broken line.
        MissingExtraError: a hub source without datasets, Parquet without pyarrow.
    """
    name = source if source.startswith("hub:") else Path(source).name
    plain = "".join(c for c in name.lower() if c.isalpha())
    if any(known in plain for known in ACCEPTANCE_SETS):
        raise UsageError(f"'{name}' is a set on which models are accepted", cure="train on other prompts")
    if source.startswith("hub:"):
        _, _, rest = source.partition(":")
        name, _, split = rest.partition(":")
        found = hub_rows(name, split or "train")
    elif source.startswith(VLGUARD):
        found = training_rows(Path(source.removeprefix(VLGUARD)))
    else:
        found = read_rows(Path(source))
    for number, row in enumerate(found):
        if limit is not None and number >= limit:
            return
        yield row


def choices(rows: Iterable[Row], count: Count) -> Iterator[Choice]:
    """Yield the preference pairs of rows.

    Raises:
        BadInputError: a row has no prompt, chosen or rejected that can be read; names file and line.
    """
    for row in rows:
        count.rows += 1
        explicit = row if row.values.get("prompt") else _implied(row)
        if explicit is None:
            count.drop(row, "chosen and rejected do not answer the same prompt")
            continue
        pair = pair_of(explicit, row.where)
        if not pair.chosen.strip() or not pair.rejected.strip():
            count.drop(row, "an empty answer")
        elif pair.chosen == pair.rejected:
            count.drop(row, "chosen and rejected are the same")
        else:
            ends = (pair.chosen_ends, pair.rejected_ends)
            yield Choice(pair.prompt, pair.chosen, pair.rejected, unsafe_of(row), row.where, ends)


def ranked(rows: Iterable[Row], count: Count, head: Head | None = None) -> Iterator[Ranked]:
    """Yield preferences for a reward model.

    A row teaches the head that its column `head` names, else the one given; else `safety` where its prompt is harmful
    (`kind`) or an answer is unsafe, and `helpfulness` elsewhere. A vote for safety whose chosen answer alone is unsafe
    is left out.

    Raises:
        BadInputError: a row has no prompt, chosen or rejected, or says of its strength or head what nobody can read.
    """
    for row in rows:
        strength = strength_of(row)
        for choice in choices([row], count):
            unsafe = row.values.get("kind") == "harmful" or any(choice.unsafe or ())
            taught = _head(row) or head or ("safety" if unsafe else "helpfulness")
            if taught == "safety" and against_safety(choice.unsafe):
                count.drop(row, AGAINST_SAFETY)
            else:
                yield Ranked(choice, taught, strength)


def _head(row: Row) -> Head | None:
    value = row.values.get("head")
    if value in (None, ""):
        return None
    if value not in get_args(Head):
        raise BadInputError(
            f"no head '{str(value)[:40]}'", where=row.where, cure=f"one of: {', '.join(get_args(Head))}"
        )
    return cast(Head, value)


def _implied(row: Row) -> Row | None:
    """Return a row whose prompt is written out, taken from what chosen and rejected begin with; None: they differ."""
    missing = [name for name in ("chosen", "rejected") if not row.values.get(name)]
    if missing:
        cure = 'a row is {"prompt": ..., "chosen": ..., "rejected": ...}, each a text or a list of {"role", "content"}'
        raise BadInputError(f"no {' and no '.join(missing)}", where=row.where, cure=cure)
    sides = {name: _transcript(row, name) for name in ("chosen", "rejected")}
    if sides["chosen"][:-1] != sides["rejected"][:-1] or any(len(s) < 2 for s in sides.values()):
        return None
    turns = {name: _as_given(row.values[name], side) for name, side in sides.items()}
    prompt = turns["chosen"][:-1]
    return row._replace(values={**row.values, "prompt": prompt, **{n: side[-1:] for n, side in turns.items()}})


def _as_given(value: Any, side: Messages) -> list[Any]:
    """Return a side's turns as its row has them: the paths of files count from the row's folder."""
    return value if isinstance(value, list) else [to_json(turn) for turn in side]


def _transcript(row: Row, name: str) -> Messages:
    value = row.values[name]
    if not isinstance(value, str):
        return turns_of(row, name)
    marks = {"\n\nHuman:": "user", "\n\nAssistant:": "assistant"}
    turns: list[Message] = []
    rest = value if value.startswith("\n\n") else "\n\n" + value
    while rest:
        mark = next((m for m in marks if rest.startswith(m)), None)
        if mark is None:
            cure = "name the prompt in a column 'prompt', or write '\\n\\nHuman: ...\\n\\nAssistant: ...'"
            raise BadInputError(f"no prompt beside the text of '{name}'", where=row.where, cure=cure)
        rest = rest[len(mark) :]
        end = min((at for m in marks if (at := rest.find(m)) >= 0), default=len(rest))
        turns.append(Message(cast(Any, marks[mark]), rest[:end].strip()))
        rest = rest[end:]
    return tuple(turns)


def answers(rows: Iterable[Row], count: Count, template: str | None = None) -> Iterator[Answer]:
    """Yield the answers of conversations (`messages`), of `prompt` and `completion`, or of Alpaca's columns.

    Args:
        rows: of a file.
        count: what happened to them.
        template: in which the model is talked to, where it is not its own: an instruction has its input there.

    Raises:
        BadInputError: a row has none of these; names file and line.
    """
    for row in rows:
        count.rows += 1
        found = list(_said(row, template))
        kept = [one for one in found if one.text.strip()]
        if not kept:
            count.drop(row, "an empty answer" if found else "no answer of the assistant after a prompt")
        yield from kept


def _said(row: Row, template: str | None) -> Iterator[Answer]:
    if row.values.get("messages"):
        return _of_conversation(row)
    if row.values.get("instruction") and row.values.get("output") is not None:
        return _of_instruction(row, template)
    return _of_prompt(row)


def _of_instruction(row: Row, template: str | None) -> Iterator[Answer]:
    text, more = (text_of(row.values.get(name) or "", name, row) for name in ("instruction", "input"))
    yield Answer((user(instruction(text, more, template)),), text_of(row.values["output"], "output", row))


def _of_conversation(row: Row) -> Iterator[Answer]:
    turns = turns_of(row, "messages")
    for i, turn in enumerate(turns):
        if turn.role == "assistant" and i > 0 and not turn.files:
            yield Answer(turns[:i], turn.text)


def _of_prompt(row: Row) -> Iterator[Answer]:
    missing = [name for name in ("prompt", "completion") if row.values.get(name) is None]
    if missing:
        cure = 'a row is {"messages": [...]} or {"prompt": ..., "completion": ...}'
        raise BadInputError(f"no {' and no '.join(missing)}", where=row.where, cure=cure)
    yield Answer(prompt_of(row), answer_of(row, "completion"))


def labelled(rows: Iterable[Row], count: Count) -> Iterator[Answer]:
    """Yield answers that are good or bad; a preference pair is one of each.

    Raises:
        BadInputError: a row has no prompt, completion or label; names file and line.
    """
    for row in rows:
        if row.values.get("chosen"):
            for pair in choices([row], count):
                yield Answer(pair.prompt, pair.chosen, True)
                yield Answer(pair.prompt, pair.rejected, False)
            continue
        count.rows += 1
        for one in _of_prompt(row):
            label = truth_of(row, "label")
            if one.text.strip():
                yield one._replace(label=label)
            else:
                count.drop(row, "an empty answer")


T = TypeVar("T")


def _blocks(items: Iterable[T]) -> Iterator[list[T]]:
    source = iter(items)
    while block := list(islice(source, BLOCK)):
        yield block


def pair_examples(
    found: Iterable[Choice], tokenizer: Any, limits: Limits, count: Count, advance: Advance = silent
) -> Lazy[PairExample]:
    """Tokenise pairs, each prompt once."""
    unsafe: list[tuple[bool, bool]] = []
    own, seen = _Few[tuple[bool, bool]](), dict[int, Messages]()

    def stretches() -> Iterator[Sequence[int]]:
        for block in _blocks(found):
            for ids, pair in zip(encode_all([pair.prompt for pair in block], tokenizer), block, strict=True):
                if files_of(pair.prompt):
                    seen[len(unsafe)] = pair.prompt
                unsafe.append(own.the(pair.unsafe or (False, True)))
                yield from _sides(ids, pair, tokenizer, limits, count)
            advance(len(block))

    def make(chosen: Example, rejected: Example, i: int) -> PairExample:
        prompt = seen.get(i)
        return PairExample(replace(chosen, seen=prompt), replace(rejected, seen=prompt), unsafe=unsafe[i])

    return _pairs(TokenFile(stretches()), make)


def ranked_examples(
    found: Iterable[Ranked], tokenizer: Any, limits: Limits, count: Count, advance: Advance = silent
) -> Lazy[Judged]:
    """Tokenise preferences for a reward model, each prompt once."""
    labels: list[Label] = []
    own = _Few[Label]()

    def stretches() -> Iterator[Sequence[int]]:
        for block in _blocks(found):
            for ids, one in zip(encode([one.choice.prompt for one in block], tokenizer), block, strict=True):
                unsafe = one.choice.unsafe
                safe = (not unsafe[0], not unsafe[1]) if unsafe else None
                labels.append(own.the((one.head, one.strength, safe)))
                yield from _sides(ids, one.choice, tokenizer, limits, count)
            advance(len(block))

    return _pairs(TokenFile(stretches()), lambda chosen, rejected, i: Judged(chosen, rejected, *labels[i]))


class _Few(dict[T, T]):
    """Values of which there are few among many rows: each is kept once."""

    def the(self, value: T) -> T:
        return self.setdefault(value, value)


def _pairs(tokens: TokenFile, make: Callable[[Example, Example, int], T]) -> Lazy[T]:
    """Return pairs of stretches: prompt, chosen, rejected."""

    def at(place: int) -> T:
        prompt, chosen, rejected = tokens.read(3 * place, 3)
        return make(Example(prompt, chosen), Example(prompt, rejected), place)

    sizes = (tuple(tokens.size(i + side) for side in range(3)) for i in range(0, len(tokens), 3))
    lengths = array("q", (2 * prompt + chosen + rejected for prompt, chosen, rejected in sizes))
    return Lazy(len(lengths), at, lengths)


def _sides(
    ids: Sequence[int], pair: Choice, tokenizer: Any, limits: Limits, count: Count
) -> tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """Return the ids of the prompt, of the chosen and of the rejected answer, cut and counted."""
    chosen, rejected = (
        _example(ids, Answered(pair.prompt, text, limits, end), tokenizer, count)
        for text, end in zip((pair.chosen, pair.rejected), pair.ends, strict=True)
    )
    return chosen.prompt, chosen.answer, rejected.answer


def answer_examples(
    found: Iterable[Answer], tokenizer: Any, limits: Limits, count: Count, advance: Advance = silent
) -> Lazy[Example]:
    """Tokenise answers."""
    seen: dict[int, Messages] = {}

    def stretches() -> Iterator[Sequence[int]]:
        row = 0
        for block in _blocks(found):
            for ids, one in zip(encode_all([one.prompt for one in block], tokenizer), block, strict=True):
                if files_of(one.prompt):
                    seen[row] = one.prompt
                made = _example(ids, Answered(one.prompt, one.text, limits), tokenizer, count)
                yield from (made.prompt, made.answer)
                row += 1
            advance(len(block))

    tokens = TokenFile(stretches())
    lengths = array("q", (tokens.size(i) + tokens.size(i + 1) for i in range(0, len(tokens), 2)))
    return Lazy(len(lengths), lambda i: Example(*tokens.read(2 * i, 2), seen=seen.get(i)), lengths)


def _example(ids: Sequence[int], row: Answered, tokenizer: Any, count: Count) -> Example:
    limits, seen = row.limits, pictured(row.prompt)
    longer = Limits(limits.prompt, limits.answer + 1)
    made = example(ids, row.answer, tokenizer, longer, ends=row.ends, seen=seen)
    count.cut["prompts"] += len(ids) > len(made.prompt)
    count.cut["answers"] += len(made.answer) > limits.answer
    return replace(made, answer=made.answer[: limits.answer])
