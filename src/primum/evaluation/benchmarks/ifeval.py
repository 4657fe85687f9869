"""IFEval (Zhou et al. 2023, arXiv:2311.07911): does the model do what can be checked by a program?

Prompt-level accuracy: every instruction of the prompt was followed. Strict takes the reply as it stands; loose also
accepts it without its first line, last line or asterisks. The published instruction-level number pools instructions;
here each prompt counts its own share of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from primum.core.errors import BadInputError
from primum.evaluation.data import asked, field, rows_of
from primum.evaluation.following import CHECKS, NEEDS, Outcome, loose, strict
from primum.evaluation.items import Answer, Gold, Item, Metric, Score
from primum.models.sampling import Sampling
from primum.prompts.files import Row

about = "IFEval: 541 prompts whose instructions a program can check; are they followed?"
licence = "Apache-2.0"
judge = "text"
cluster = "a prompt"
settings = Sampling(0.0, 1280)
comparable = "sentences, capital words and languages are told by other means than NLTK and langdetect"
metrics = {
    "prompt_strict": Metric("share of prompts all of whose instructions are followed"),
    "prompt_loose": Metric("the same, leaving out first line, last line or asterisks", primary=False),
    "share_strict": Metric("mean share of a prompt's instructions that are followed", primary=False),
    "share_loose": Metric("the same, leaving out first line, last line or asterisks", primary=False),
}


def items(source: Path | None = None) -> Iterator[Item]:
    """Yield the prompts in the file's order.

    Raises:
        BadInputError: no file, an unknown instruction, or one without its arguments; names file and line.
    """
    for row in rows_of(source, "hub:google/IFEval:train", "ifeval/input_data.jsonl", "IFEval rows"):
        yield _item(row)


def _item(row: Row) -> Item:
    kinds, given = row.values.get("instruction_id_list"), row.values.get("kwargs")
    if (
        not isinstance(kinds, list)
        or not isinstance(given, list)
        or len(cast(list[Any], kinds)) != len(cast(list[Any], given))
    ):
        cure = "each prompt has 'instruction_id_list' and as many 'kwargs'"
        raise BadInputError("not a row of IFEval", where=row.where, cure=cure)
    pairs = zip(cast(list[Any], kinds), cast(list[Any], given), strict=True)
    wanted = [_instruction(str(kind), arguments, row.where) for kind, arguments in pairs]
    prompt = asked(field(row, "prompt"), "benign", "general", "ifeval", licence)
    groups = tuple(dict.fromkeys(f"instruction:{kind}" for kind, _ in wanted))
    made = Item(prompt, "", groups, (), {"wanted": wanted})
    return Item(prompt, made.id, groups, (), made.target)


def _instruction(kind: str, arguments: Any, where: str) -> tuple[str, dict[str, Any]]:
    if kind not in CHECKS:
        raise BadInputError(f"no instruction '{kind}'", where=where, cure=f"known: {', '.join(CHECKS)}")
    given = cast(dict[str, Any], arguments) if isinstance(arguments, dict) else {}
    known = {name: value for name, value in given.items() if value is not None}
    missing = [name for name in NEEDS.get(kind, ()) if name not in known]
    if missing:
        raise BadInputError(f"'{kind}' needs '{missing[0]}'", where=where, cure="see the published rows")
    return kind, known


def score(item: Item, answer: Answer) -> Mapping[str, Score]:
    """Return prompt-level accuracy and the share of instructions followed, strict and loose."""
    return {**_scores("strict", strict, item, answer.text), **_scores("loose", loose, item, answer.text)}


def _scores(
    name: str, check: Callable[[str, Mapping[str, Any], str], Outcome], item: Item, reply: str
) -> dict[str, Score]:
    outcomes = [check(kind, arguments, reply) for kind, arguments in item.target["wanted"]]
    unknown = next((one for one in outcomes if isinstance(one, str)), None)
    # one that was not followed settles the prompt, whatever could not be told
    whole: Score = 0.0 if False in outcomes else unknown or 1.0
    share: Score = unknown or sum(one is True for one in outcomes) / len(outcomes)
    return {f"prompt_{name}": whole, f"share_{name}": share}


_ITEM = Item(
    asked("Write two words in JSON, without commas.", "benign", "general", "gold", licence), "c", (), (),
    {"wanted": [("punctuation:no_comma", {}), ("detectable_format:json_format", {})]},
)  # fmt: skip
gold = (
    Gold(_ITEM, Answer('{"a": 1}'), dict.fromkeys(metrics, 1.0)),
    Gold(_ITEM, Answer("one two"), {"prompt_strict": 0.0, "share_strict": 0.5, "prompt_loose": 0.0}),
    Gold(_ITEM, Answer('Here you are:\n{"a": 1}'), {"prompt_strict": 0.0, "share_strict": 0.5, "prompt_loose": 1.0}),
    Gold(_ITEM, Answer(""), dict.fromkeys(metrics, 0.0)),
)
