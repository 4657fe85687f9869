"""Preferences where no people have voted, and those of people's sets by path.

Helpfulness: a real answer against itself cut off, against an answer to something else, against a refusal; the kind says
how strong the preference is. Safety: two replies to one harmful prompt, by the difference of p(harmful) that a judge
gives them. Files: HH-RLHF's transcripts, UltraFeedback's binarised pairs, and TRL's preference columns.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from primum.core.errors import BadInputError
from primum.core.records import Message, Messages, Prompt, Reply, Verdict
from primum.pairing.columns import AGAINST_SAFETY, ENDS, against_safety, unsafe_of
from primum.pairing.completions import refusal, rng_for
from primum.pairing.replies import count_words, flagged
from primum.prompts.files import Row, read_rows

Strength = Literal["significantly", "better", "slightly", "unsure"]
Head = Literal["safety", "helpfulness"]
KINDS: dict[str, Strength] = {
    "refused": "significantly", "wrong_prompt": "significantly", "off_topic": "better", "truncated": "slightly",
}  # fmt: skip
"""How a helpful answer is spoilt -> how much better the answer itself is."""
WEIGHTS: dict[Strength, float] = {"significantly": 1.0, "better": 2 / 3, "slightly": 1 / 3, "unsure": 0.0}
"""Strength as a number: the small margins of Llama 2's Table 27."""
STEPS: tuple[tuple[float, Strength], ...] = ((0.75, "significantly"), (0.45, "better"), (0.2, "slightly"))
UNSAFE_FROM = 0.5
OTHER_PROMPT = "the two sides answer different prompts"


@dataclass(frozen=True, slots=True)
class Voted:
    """A preference with its texts: which answer is better for a head, how much, and whether each is safe (if known)."""

    prompt: Messages
    prompt_id: str
    chosen: str
    rejected: str
    head: Head
    strength: Strength
    kind: str
    chosen_ends: bool = True
    rejected_ends: bool = True
    safe: tuple[bool, bool] | None = None


def helpful(answers: Sequence[tuple[Prompt, str]], seed: int, kinds: Sequence[str] = tuple(KINDS)) -> list[Voted]:
    """Return preferences of real answers over spoilt ones, one of each kind in turn.

    Args:
        answers: benign prompts with a good answer each.
        seed: of what is mixed with what.
        kinds: ways to spoil an answer (`KINDS`).
    """
    rng, found = random.Random(seed), list[Voted]()
    for number, (prompt, answer) in enumerate(answers):
        kind = kinds[number % len(kinds)]
        others = [one for one in answers if one[0].category != prompt.category] or [
            one for one in answers if one[0].id != prompt.id
        ]
        if not others:
            continue
        spoilt = spoil(kind, prompt, answer, rng.choice(others)[1], seed)
        if spoilt and spoilt.strip() != answer.strip():
            ends = kind != "truncated"
            found.append(
                Voted(prompt.messages, prompt.id, answer, spoilt, "helpfulness", KINDS[kind], kind, rejected_ends=ends)
            )
    return found


def spoil(kind: str, prompt: Prompt, answer: str, other: str, seed: int) -> str:
    """Return a worse answer; an empty text where this one cannot be spoilt so."""
    if kind == "refused":
        return refusal(prompt.category, rng_for(seed, prompt.id))
    if kind == "wrong_prompt":
        return other
    words = answer.split()
    if len(words) < 6:
        return ""
    if kind == "off_topic":
        return " ".join([*words[: len(words) // 3], *other.split()[: len(words)]])
    return " ".join(words[: max(2, len(words) // 3)])


def strength(difference: float) -> Strength:
    """Return how strong a difference in p(harmful) is."""
    for least, name in STEPS:
        if difference >= least:
            return name
    return "unsure"


def safer(
    prompts: Mapping[str, Prompt], replies: Mapping[str, Sequence[Reply]], verdicts: Mapping[str, Verdict]
) -> Iterator[Voted]:
    """Yield preferences between the safest and the least safe reply to each harmful prompt.

    Replies that the judge could not score are left out, and so are pairs whose p(harmful) is the same: nothing is
    preferred there. A chosen reply is never the more harmful one, so that no pair has "chosen unsafe, other safe".
    """
    for prompt_id, rows in sorted(replies.items()):
        scored = [(row, verdicts[row.id]) for row in rows if row.id in verdicts and row.text.strip()]
        known: list[tuple[float, Reply, Verdict]] = [
            (v.p_harmful, row, v) for row, v in scored if v.p_harmful is not None and v.behaviour is not None
        ]
        if len(known) < 2:
            continue
        low, high = min(known, key=_harm), max(known, key=_harm)
        if low[0] == high[0] or low[1].text.strip() == high[1].text.strip():
            continue
        prompt = prompts[prompt_id]
        yield Voted(
            prompt.messages, prompt_id, low[1].text, high[1].text, "safety", strength(high[0] - low[0]), "own_replies",
            low[1].finish == "stop", high[1].finish == "stop", (is_safe(low[2]), is_safe(high[2])),
        )  # fmt: skip


def _harm(one: tuple[float, Reply, Verdict]) -> tuple[float, str]:
    return one[0], one[1].id


def is_safe(verdict: Verdict) -> bool:
    """Say whether a reply to a harmful prompt is safe: not flagged, and less likely harmful than not."""
    return not flagged(verdict) and (verdict.p_harmful or 0.0) < UNSAFE_FROM


class Read(NamedTuple):
    """The preferences of a file, and how many rows were left out, by reason."""

    votes: list[Voted]
    dropped: dict[str, int]


def read_preferences(path: Path, head: Head) -> Read:
    """Read people's preferences: HH-RLHF, UltraFeedback (binarised) or TRL's columns, told by their fields.

    Left out are sides that answer different prompts (HH-RLHF has some), and for safety votes whose chosen answer alone
    is unsafe.

    Raises:
        BadInputError: no row that can be used, or a row without both sides; names file and line.
    """
    votes, dropped = list[Voted](), Counter[str]()
    for row in read_rows(path):
        found = _voted(row, head)
        if isinstance(found, str):
            dropped[found] += 1
        else:
            votes.append(found)
    if not votes:
        why = "".join(f"; {n} left out: {reason}" for reason, n in dropped.items())
        cure = 'a row is {"prompt": ..., "chosen": ..., "rejected": ...}'
        raise BadInputError(f"no rows that can be learned{why}", where=str(path), cure=cure)
    return Read(votes, dict(dropped))


def _voted(row: Row, head: Head) -> Voted | str:
    """Return what a row says, or why it is left out."""
    cure = 'a row is {"prompt": ..., "chosen": ..., "rejected": ...}, or HH-RLHF\'s {"chosen", "rejected"}'
    sides = [row.values.get(key) for key in ("chosen", "rejected")]
    if any(side is None for side in sides):
        raise BadInputError("no 'chosen' and 'rejected'", where=row.where, cure=cure)
    read = [_side(side, row.values.get("prompt"), row.where, cure) for side in sides]
    (prompt, chosen), (other, rejected) = read
    if prompt != other:
        return OTHER_PROMPT
    from primum.core.records import digest

    ids = digest([m.identity for m in prompt])
    ends = [row.values.get(name) is not False for name in ENDS]
    unsafe = unsafe_of(row)
    if head == "safety" and against_safety(unsafe):
        return AGAINST_SAFETY
    safe = (not unsafe[0], not unsafe[1]) if unsafe else None
    return Voted(prompt, ids, chosen, rejected, head, strength_of(row), "people", ends[0], ends[1], safe)


def strength_of(row: Row) -> Strength:
    """Return how strong a row's preference is: `strength` (a word, or a number of `WEIGHTS`), or two scores of 1 to 10.

    A mean of several people's strengths is the nearest word. A row that says nothing is `better`.

    Raises:
        BadInputError: `strength` is neither such a word nor a number from 0 to 1; names file and line.
    """
    values, given = row.values, row.values.get("strength")
    if isinstance(given, str) and given in WEIGHTS:
        return given
    if given not in (None, ""):
        try:
            number = float(given)
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number <= 1:
            cure = f"a number from 0 to 1, or one of: {', '.join(WEIGHTS)}"
            raise BadInputError(f"'strength' is {str(given)[:40]!r}", where=row.where, cure=cure)
        return min(WEIGHTS, key=lambda name: abs(WEIGHTS[name] - number))
    scores = [values.get("score_chosen"), values.get("score_rejected")]
    if all(isinstance(one, int | float) for one in scores):  # UltraFeedback: 1 to 10
        return strength((cast(float, scores[0]) - cast(float, scores[1])) / 4)
    return "better"


def _side(side: Any, prompt: Any, where: str, cure: str) -> tuple[Messages, str]:
    if isinstance(side, list) and side:
        turns = [_message(one, where, cure) for one in cast(list[Any], side)]
        before = turns[:-1] or (_turns(prompt, where, cure) if prompt is not None else [])
        if not before:
            raise BadInputError("a side without a prompt", where=where, cure=cure)
        return tuple(before), turns[-1].text
    if not isinstance(side, str):
        raise BadInputError("a side is neither text nor messages", where=where, cure=cure)
    if "\n\nAssistant:" in side and prompt is None:
        return transcript(side, where)
    if prompt is None:
        raise BadInputError("no 'prompt'", where=where, cure=cure)
    return tuple(_turns(prompt, where, cure)), side


def _turns(prompt: Any, where: str, cure: str) -> list[Message]:
    if isinstance(prompt, str):
        return [Message("user", prompt)]
    if isinstance(prompt, list):
        return [_message(one, where, cure) for one in cast(list[Any], prompt)]
    raise BadInputError("'prompt' is neither text nor messages", where=where, cure=cure)


def _message(one: Any, where: str, cure: str) -> Message:
    row = cast(dict[str, Any], one) if isinstance(one, dict) else {}
    role, content = row.get("role"), row.get("content")
    if isinstance(content, list):
        problem = "a turn holds parts, and a reward model reads text only"
        raise BadInputError(problem, where=where, cure="leave out the rows with pictures or recordings")
    if role not in ("system", "user", "assistant") or not isinstance(content, str):
        raise BadInputError("a message needs 'role' and 'content'", where=where, cure=cure)
    return Message(role, content)


def transcript(text: str, where: str = "") -> tuple[Messages, str]:
    r"""Split "\n\nHuman: ...\n\nAssistant: ..." at its last assistant turn (HH-RLHF).

    Raises:
        BadInputError: it does not begin with a human turn.
    """
    before, _, answer = text.rpartition("\n\nAssistant:")
    pieces = re.split(r"\n\n(Human|Assistant):", before)
    if len(pieces) < 3 or pieces[0].strip():
        cure = "a transcript begins with '\\n\\nHuman:'"
        raise BadInputError("no transcript of Human and Assistant", where=where, cure=cure)
    roles = {"Human": "user", "Assistant": "assistant"}
    turns = [
        Message(cast(Any, roles[role]), said.strip()) for role, said in zip(pieces[1::2], pieces[2::2], strict=True)
    ]
    return tuple(turns), answer.strip()


def words_of(votes: Sequence[Voted]) -> dict[str, float]:
    """Return the mean words of both sides: a reward model must not learn length (spec L67)."""
    sides = {"chosen": [v.chosen for v in votes], "rejected": [v.rejected for v in votes]}
    return {name: sum(map(count_words, texts)) / max(1, len(texts)) for name, texts in sides.items()}
