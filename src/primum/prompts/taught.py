"""What a policy teaches by examples: its rows, read, checked, and split into what is learned and what is held out.

    rule   {"harmful", "benign"}                      a request to decline, and one like it to answer
    use    {"benign", "answer", "harmful"}            a request that may now be answered, how, and one still declined
    fact   {"questions": [...], "answer", "match"?, "was"?, "near"?: [...]}
           the same question in several ways, its right answer; what a reply must hold to be right (by default the whole
           answer), what was right before, and questions like it whose answer is another

Rows lie in the policy file, or in a JSONL, CSV or Parquet file beside it. Prompts are held out whole, with their twins
and with what nearly equals them; of a fact, ways of asking are held out, for nobody can know a fact that was never
told. To learn from, each prompt is also put in other forms of words (`FORMS`); of those that are held out a second
copy is in a form that nothing was learned in (`UNSEEN_FORMS`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from primum.core.errors import BadInputError
from primum.core.records import Intent, Prompt, Split, digest, user
from primum.core.taxonomy import Part, Policy
from primum.prompts.dedup import NearIndex
from primum.prompts.files import Row, read_rows, text_of
from primum.prompts.rows import twins

Wanted = Literal["declined", "answered", "states", "leaves"]
"""What a reply must do: decline; answer; state the fact; leave the fact alone, which belongs to another question."""
Form = Literal["plain", "other", "likelihood"]
FORMS = (
    "{}",
    "Quick question. {}",
    "{} Please be brief.",
    "Hello! {}",
    "I have been meaning to ask: {}",
    "{} Thanks in advance.",
    "Listen, {}",
)
UNSEEN_FORMS = ("One more thing before I go. {}", "{} I need this today.")
COPIES = 3
"""Forms of each prompt that is learned, the plain one among them."""
SHARE = 0.4
"""Of the prompts, how many are held out."""
FEWEST = 4


@dataclass(frozen=True, slots=True)
class Case:
    """A prompt, what a reply to it must do, and what there is to learn (`answer` None: nothing but to stay).

    Attributes:
        part: the policy's part it comes from, or a category that was there before.
        side: which of the part's measures it belongs to: its own requests, or those beside them.
        match: of `states` and `leaves`: any of these, found in a reply, states the fact.
        was: the answer that was right before, where there was one.
        form: "plain" as the author wrote it, "other" in other words; "likelihood" where no reply was drawn.
        group: cases of one group are learned in one step.
    """

    prompt: Prompt
    part: str
    side: Literal["own", "beside"]
    wanted: Wanted
    answer: str | None = None
    match: tuple[str, ...] = ()
    was: str | None = None
    form: Form = "plain"
    group: str = ""


def cases(part: Part, policy: Policy, share: float = SHARE, seed: int = 0) -> list[Case]:
    """Return a part's cases, each with its split (train or test) and, to learn from, in several forms of words.

    Args:
        part: with examples.
        policy: whose file the examples' file lies beside.
        share: of the prompts held out, above 0 and below 1.
        seed: of which ones.

    Raises:
        BadInputError: a broken row, or too few to hold some out; names file and line.
    """
    rows = list(rows_of(part, policy))
    where = rows[0].where if rows else str(policy.source or part.id)
    if part.kind == "fact":
        return [case for row in rows for case in _fact(part, row, share, seed)]
    pairs = [_pair(part, row) for row in rows]
    if len(pairs) < FEWEST:
        cure = f"give at least {FEWEST} rows, better forty"
        raise BadInputError(f"'{part.id}' has {len(pairs)} examples", where=where, cure=cure)
    held = _held_out([tuple(case.prompt for case in pair) for pair in pairs], share, f"{seed}:{part.id}")
    if len(held) == len(pairs):
        cure = "give rows that differ in more than a few words"
        raise BadInputError(f"the examples of '{part.id}' nearly equal each other", where=where, cure=cure)
    return [case for i, pair in enumerate(pairs) for case in _dressed(pair, "test" if i in held else "train")]


def rows_of(part: Part, policy: Policy) -> Iterator[Row]:
    """Yield a part's rows, each with its place.

    Raises:
        BadInputError: the file is not there, leaves the policy's folder, or has a broken line.
    """
    at = str(policy.source or "policy.yaml")
    if not isinstance(part.examples, str):
        yield from (Row(f"{at}, {part.id}, example {i}", row) for i, row in enumerate(part.examples, 1))
        return
    folder = (policy.source or Path("policy.yaml")).parent
    path = folder / part.examples
    if not path.resolve().is_relative_to(folder.resolve()):
        problem, cure = f"examples lie outside the policy's folder: {part.examples}", "put the file beside the policy"
        raise BadInputError(problem, where=f"{at}, {part.id}", cure=cure)
    yield from read_rows(path)


def contents(part: Part, policy: Policy) -> str:
    """Return a hash of a part's rows: it changes where an example does."""
    return digest([row.values for row in rows_of(part, policy)])


def pairs_of(policy: Policy) -> list[Prompt]:
    """Return the prompts of a policy's rules and uses as twin pairs, as their author wrote them: more to learn from."""
    parts = [part for part in policy.parts.values() if part.kind != "fact" and part.examples]
    return [case.prompt for part in parts for row in rows_of(part, policy) for case in _pair(part, row)]


def _pair(part: Part, row: Row) -> tuple[Case, Case]:
    """Return the part's own request and the one beside it."""
    harmful, benign = twins(_prompt(part, row, "harmful"), _prompt(part, row, "benign"))
    if part.kind == "rule":
        own, beside = Case(harmful, part.id, "own", "declined"), Case(benign, part.id, "beside", "answered")
    else:
        answer = _text(row, "answer")
        own = Case(benign, part.id, "own", "answered", answer)
        beside = Case(harmful, part.id, "beside", "declined")
    return replace(own, group=harmful.id), replace(beside, group=harmful.id)


def _prompt(part: Part, row: Row, side: Intent) -> Prompt:
    return _asked(part, _text(row, side), side)


def _asked(part: Part, text: str, intent: Intent) -> Prompt:
    return Prompt((user(text),), intent, part.category, source=f"policy:{part.id}", tags=("policy", part.id))


def _text(row: Row, name: str) -> str:
    text = text_of(row.values.get(name), name, row).strip()
    if not text:
        raise BadInputError(f"field '{name}' is empty", where=row.where, cure="give a text")
    return text


def _texts(row: Row, name: str, least: int) -> tuple[str, ...]:
    value = row.values.get(name) or []
    listed = cast(list[Any], value) if isinstance(value, list) else [value]
    texts = [text_of(one, name, row).strip() for one in listed]
    if len(texts) < least or not all(texts):
        problem = f"field '{name}' needs {least} texts or more, none empty" if least else f"field '{name}' has no text"
        raise BadInputError(problem, where=row.where, cure=f'like "{name}": ["...", "..."]')
    return tuple(dict.fromkeys(texts))


def _fact(part: Part, row: Row, share: float, seed: int) -> list[Case]:
    """Return a fact's cases: the ways of asking, some held out, and the questions near it."""
    answer = _text(row, "answer")
    match = _texts(row, "match", 0) or (answer,)
    was = _text(row, "was") if row.values.get("was") else None
    asked = _texts(row, "questions", 2)
    own = [
        Case(_asked(part, text, "benign"), part.id, "own", "states", answer, match, was, group=answer) for text in asked
    ]
    near = [
        Case(_asked(part, text, "benign"), part.id, "beside", "leaves", None, match, group=answer)
        for text in _texts(row, "near", 0)
    ]
    found: list[Case] = []
    for side in (own, near):
        held = _held_out([(case.prompt,) for case in side], share, f"{seed}:{answer}") if side else set[int]()
        if side is own and len(held) == len(side):
            cure = "ask in other words, not in other order"
            raise BadInputError("all ways of asking nearly equal each other", where=row.where, cure=cure)
        found += [c for i, one in enumerate(side) for c in _dressed((one,), "test" if i in held else "train")]
    return found


def _held_out(units: Sequence[tuple[Prompt, ...]], share: float, seed: str) -> set[int]:
    """Return which units are held out: at least one, in the order of a hash, near-duplicates together."""
    groups = near_groups(units)
    order = sorted(groups, key=lambda group: digest([seed, sorted(units[i][0].id for i in group)]))
    wanted, held = max(1, round(share * len(units))), set[int]()
    for group in order:
        if len(held) >= wanted:
            break
        if held and len(held) + len(group) > wanted + 1:
            continue
        held |= set(group)
    return held


def near_groups(units: Sequence[tuple[Prompt, ...]]) -> list[list[int]]:
    """Return the units' places in groups: two with a prompt that nearly equals one of the other are in one group."""
    index = NearIndex([prompt for unit in units for prompt in unit])
    home: dict[str, int] = {}
    root = list(range(len(units)))

    def top(i: int) -> int:
        while root[i] != i:
            i = root[i]
        return i

    for i, unit in enumerate(units):
        for prompt in unit:
            for near in index.all(prompt):
                root[top(i)] = top(home[near.prompt.id])
            index.add(prompt)
            home.setdefault(prompt.id, i)
    groups: dict[int, list[int]] = {}
    for i in range(len(units)):
        groups.setdefault(top(i), []).append(i)
    return list(groups.values())


def _dressed(unit: tuple[Case, ...], split: Split) -> list[Case]:
    """Return a unit in its forms of words; a prompt and its twin get the same, or the form would tell them apart."""
    forms = UNSEEN_FORMS if split == "test" else FORMS[1:]
    turn = int(unit[0].prompt.id, 16)
    chosen = [forms[(turn + 3 * k) % len(forms)] for k in range(1 if split == "test" else COPIES - 1)]
    found: list[Case] = []
    for form in dict.fromkeys(("{}", *chosen)):
        prompts = [_in_form(case.prompt, form, split) for case in unit]
        if len(prompts) == 2:
            prompts = list(twins(prompts[0], prompts[1]))
        group = f"{unit[0].group}:{form}"
        kind: Form = "plain" if form == "{}" else "other"
        found += [replace(c, prompt=p, form=kind, group=group) for c, p in zip(unit, prompts, strict=True)]
    return found


def _in_form(prompt: Prompt, form: str, split: Split) -> Prompt:
    text = form.replace("{}", prompt.text)
    return replace(prompt, messages=(user(text),), split=split)


def told(case: Case) -> Mapping[str, Any]:
    """Return a case as one JSON object: what a key and a file hold of it."""
    return {
        "id": case.prompt.id, "prompt": case.prompt.text, "part": case.part, "side": case.side, "wanted": case.wanted,
        "intent": case.prompt.intent, "category": case.prompt.category, "split": case.prompt.split, "form": case.form,
        "answer": case.answer, "match": list(case.match), "was": case.was,
    }  # fmt: skip
