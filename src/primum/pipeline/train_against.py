"""`primum train reward FILE --against PEOPLE`: a reward model of each labelling, on the same prompts, side by side.

Prompts that both files hold are split once. A model learns FILE's pairs of the prompts to learn, another PEOPLE's, with
the same settings and seed; both put PEOPLE's pairs of the held-out prompts in order. Whether labels of a model do as
well as people's is then one paired difference.

    OUT/file/, OUT/against/    rows.jsonl, and what `primum train reward` writes of them
    OUT/against.json           how many pairs each puts in order, and the difference
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from primum import __version__
from primum.core.errors import BadInputError, Exit
from primum.core.records import JsonDict, Messages, digest, id_of, to_json
from primum.core.store import write_json, write_jsonl
from primum.evaluation.estimates import finite, interval
from primum.evaluation.items import Metric
from primum.evaluation.labelling import difference
from primum.evaluation.tables import Values
from primum.evaluation.versus import Pairs
from primum.pipeline.terminal import Terminal
from primum.report.labelled import rewards_text

if TYPE_CHECKING:
    from primum.pipeline.train_config import TrainConfig
    from primum.training.dataset import Ranked

SIDES = ("file", "against")
HELD, ALONE = "its prompt is held out", "its prompt is in one file only"
LEAST = 2
"""Held-out pairs below which nothing can be compared."""
RIGHT = Metric("held-out pairs of people in order")
Learn = Callable[["TrainConfig", bool], tuple[int, JsonDict]]


class Split(NamedTuple):
    """What each side learns, people's pairs that are held out, and what was left out of each side, by reason."""

    learned: dict[str, list[Ranked]]
    held: list[Ranked]
    left_out: dict[str, dict[str, int]]


def run_verb(config: TrainConfig, json_output: bool, learn: Learn) -> tuple[int, JsonDict]:
    """Train both models and compare them; a run that was stopped goes on in the model where it was.

    Args:
        config: of the whole; `file` are the labels in question, `against` people's.
        json_output: say nothing on the way.
        learn: trains one reward model.

    Raises:
        BadInputError: a row that cannot be read, no prompt in both files, or too few pairs held out.
    """
    out = Path(config.out)
    split = _split(config)
    trained: dict[str, JsonDict] = {}
    for side in SIDES:
        path = out / side / "rows.jsonl"
        write_jsonl(path, map(_row, split.learned[side]))
        own = {"file": str(path), "out": str(out / side), "held_out": 0.0, "against": None, "limit": None, "head": None}
        _, trained[side] = learn(config.model_copy(update=own), json_output)
    terminal = Terminal(quiet=json_output)
    with terminal.step("score held-out pairs", 2 * len(split.held), "pairs") as advance:
        right: dict[str, list[float]] = {}
        for side in SIDES:
            right[side] = in_order(str(out / side / "checkpoint"), split.held)
            advance(len(split.held))
    document: JsonDict = {
        "primum": __version__, "method": "reward", "file": config.file, "against": config.against,
        "held_out": len(split.held), "same_pairs": _same(split), **measured(split.held, right),
        "sides": {side: _side(split, side, trained[side]) for side in SIDES},
    }  # fmt: skip
    write_json(out / "against.json", document)
    if not json_output:
        print("\n".join(rewards_text(document)))
    return Exit.PASSED, document


def _side(split: Split, side: str, trained: JsonDict) -> JsonDict:
    return {
        "pairs": len(split.learned[side]), "left_out": split.left_out[side], "steps": trained["steps"],
        "alarms": trained["alarms"], "checkpoint": trained["outputs"]["checkpoint"],
    }  # fmt: skip


def _split(config: TrainConfig) -> Split:
    """Read both files; split the prompts that both hold, and leave out heads that one side alone would teach.

    Raises:
        BadInputError: a row that cannot be read, nothing that both sides teach, or too few pairs held out.
    """
    found: dict[str, list[Ranked]] = {}
    left_out: dict[str, Counter[str]] = {}
    for side in SIDES:
        found[side], left_out[side] = _read(config, str(getattr(config, side)))
    prompts = [{_key(one.choice.prompt) for one in rows} for rows in found.values()]
    both = sorted(prompts[0] & prompts[1], key=lambda key: digest([config.seed, key]))
    apart = set(both[: round(config.held_out * len(both))])
    learn = set(both) - apart
    heads = set.intersection(*({o.head for o in rows if _key(o.choice.prompt) in learn} for rows in found.values()))
    learned: dict[str, list[Ranked]] = {side: [] for side in SIDES}
    held: list[Ranked] = []
    for side, rows in found.items():
        for one in rows:
            reason = _apart(_key(one.choice.prompt), learn, apart)
            if reason != ALONE and one.head not in heads:
                left_out[side]["one file alone teaches its head"] += 1
            elif reason is None:
                learned[side].append(one)
            elif reason == HELD and side == "against":
                held.append(one)
            else:
                left_out[side][reason] += 1
    _enough(config, learned, held)
    return Split(learned, held, {side: dict(counts) for side, counts in left_out.items()})


def _read(config: TrainConfig, name: str) -> tuple[list[Ranked], Counter[str]]:
    from primum.training import dataset

    count = dataset.Count()
    rows = list(dataset.ranked(dataset.rows_of(name, config.limit), count, config.head))
    return rows, Counter(row["reason"] for row in count.dropped)


def _apart(prompt: str, learn: set[str], apart: set[str]) -> str | None:
    """Return why pairs of a prompt are not learned."""
    return None if prompt in learn else HELD if prompt in apart else ALONE


def _enough(config: TrainConfig, learned: dict[str, list[Ranked]], held: Sequence[Ranked]) -> None:
    for side, name in zip(SIDES, (config.file, config.against), strict=True):
        if not learned[side]:
            cure = "give two labellings of the same replies: primum pair --strategy ai_feedback, and llama2 for votes"
            raise BadInputError("holds no pair of a prompt and head that the other file teaches", where=name, cure=cure)
    if len(held) < LEAST:
        problem = f"only {len(held)} of its pairs are held out"
        raise BadInputError(problem, where=config.against, cure="give more prompts, or a larger --held-out")


def _key(prompt: Messages) -> str:
    return id_of(prompt)


def _row(one: Ranked) -> JsonDict:
    """Return a preference in TRL's columns, with all that it teaches said outright."""
    choice, row = one.choice, dict[str, Any]()
    if choice.unsafe is not None:
        row = {"chosen_safe": not choice.unsafe[0], "rejected_safe": not choice.unsafe[1]}
    return {
        "prompt": [to_json(turn) for turn in choice.prompt],
        "chosen": choice.chosen, "rejected": choice.rejected, "head": one.head, "strength": one.strength,
        "chosen_ends": choice.ends[0], "rejected_ends": choice.ends[1], **row,
    }  # fmt: skip


def _same(split: Split) -> JsonDict:
    """Return on how many pairs of replies both sides have a label for a head, and how many of these they contradict."""
    sides = [
        {(_key(one.choice.prompt), one.head, one.choice.chosen, one.choice.rejected) for one in split.learned[side]}
        for side in SIDES
    ]
    turned = {(prompt, head, rejected, chosen) for prompt, head, chosen, rejected in sides[1]}
    return {"n": len(sides[0] & (sides[1] | turned)), "contrary": len(sides[0] & turned)}


def in_order(folder: str, held: Sequence[Ranked]) -> list[float]:
    """Return 1 for each pair that the reward model in a folder puts in order by the pair's head; a tie is wrong."""
    from primum.models.reward import load_reward

    model = load_reward(folder)
    prompts = [one.choice.prompt for one in held]
    chosen, rejected = (
        model.scores(prompts, texts, [one.choice.ends[place] for one in held])
        for place, texts in enumerate(([one.choice.chosen for one in held], [one.choice.rejected for one in held]))
    )
    both = zip(held, chosen, rejected, strict=True)
    return [float(good[one.head] > bad[one.head]) for one, good, bad in both]


def measured(held: Sequence[Ranked], right: dict[str, list[float]]) -> JsonDict:
    """Return each side's share in order and the paired difference, file less against; whole, and by head.

    Independent pairs have McNemar's exact p and Bonett and Price's interval; several pairs of a prompt are a cluster.
    """
    found: JsonDict = {}
    heads: dict[str, JsonDict] = {}
    names = sorted({one.head for one in held})
    for name in ("all", *(names if len(names) > 1 else ())):
        places = [i for i, one in enumerate(held) if name in ("all", one.head)]
        clusters = [_key(held[i].choice.prompt) for i in places]
        numbers = {side: [right[side][i] for i in places] for side in SIDES}
        pairs = Pairs(numbers["against"], numbers["file"], clusters, [str(i) for i in places], {})
        accuracy = {side: _share(numbers[side], clusters) for side in SIDES}
        row: JsonDict = {"accuracy": accuracy, "difference": difference(RIGHT, pairs)}
        if name == "all":
            found = row
        else:
            heads[name] = row
    return {**found, "by_head": heads}


def _share(numbers: list[float], clusters: list[str]) -> JsonDict:
    value, low, high = interval(Values(numbers, clusters, {}))
    return {"value": value, "low": finite(low), "high": finite(high), "n": len(numbers)}
