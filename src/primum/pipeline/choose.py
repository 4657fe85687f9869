"""Which prompts a budget buys: a fixed order by hash, category by category, twins together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from primum.core.records import Pair, Prompt, Split
from primum.pipeline.settings import Budget


def is_general(prompt: Prompt) -> bool:
    """Whether a prompt is benign and nobody's twin."""
    return prompt.intent == "benign" and prompt.twin is None


def choose(prompts: Sequence[Prompt], part: Split, budget: Budget) -> list[Prompt]:
    """Return the prompts of a split that the budget buys: harmful ones with their twins, then general ones.

    Evaluation-only prompts that lie in the test split on their own (no harmful twin chosen) stay in.
    """
    most_harmful = budget.test_harmful if part == "test" else budget.harmful
    most_general = budget.test_general if part == "test" else budget.general
    here = [p for p in prompts if p.split == part]
    harmful = _spread([p for p in here if p.intent != "benign"], most_harmful, budget.share)
    wanted = {p.id for p in harmful}
    twins = [p for p in here if p.intent == "benign" and p.twin in wanted]
    general = _spread([p for p in here if is_general(p)], most_general, budget.share)
    return [*harmful, *twins, *general]


def twinned(prompts: Sequence[Prompt], most: int | None) -> list[Prompt]:
    """Return the first harmful prompts of an order and their twins, and as many other benign ones; None: all."""
    if most is None:
        return list(prompts)
    harmful = [p for p in prompts if p.intent != "benign"][:most]
    wanted = {p.id for p in harmful}
    twins = [p for p in prompts if p.intent == "benign" and p.twin in wanted]
    return [*harmful, *twins, *[p for p in prompts if is_general(p)][:most]]


def readable(prompts: Sequence[Prompt], budget: Budget, share: float) -> list[Prompt]:
    """Return what needs no replies: the prompts that the linear start reads, then those that the line is drawn on.

    Args:
        prompts: of all splits.
        budget: what bounds the prompts of development; those to learn from are all read, whatever it buys.
        share: of the prompts to learn from, how many are read.
    """
    unbounded = replace(budget, harmful=None, general=None, share=share)
    line = replace(unbounded, harmful=budget.dev, share=1.0)
    return [*choose(prompts, "train", unbounded), *choose(prompts, "dev", line)]


def _spread(prompts: Iterable[Prompt], most: int | None, share: float) -> list[Prompt]:
    """Take a share of up to `most`, one of each category in turn, in the order of hashes; with an answer come first."""
    by_category: dict[str, list[Prompt]] = defaultdict(list)
    for prompt in sorted(prompts, key=lambda p: (p.answer is None, p.id)):
        by_category[prompt.category].append(prompt)
    turns = max(map(len, by_category.values()), default=0)
    order = [rows[i] for i in range(turns) for _, rows in sorted(by_category.items()) if i < len(rows)]
    return order[: part_of(len(order) if most is None else min(most, len(order)), share)]


def part_of(count: int, share: float) -> int:
    """Return a share of a count; of some prompts never none."""
    return min(count, max(1, round(share * count)))


def asked(train: Sequence[Prompt], budget: Budget) -> list[Prompt]:
    """Return the training prompts that the model is asked: all benign ones, and the harmful ones the budget buys."""
    harmful = [p for p in train if p.intent != "benign"]
    most = None if budget.asked is None else part_of(budget.asked, budget.share)
    return [*harmful[:most], *(p for p in train if p.intent == "benign")]


def balanced(pairs: Sequence[Pair], prompts: Sequence[Prompt], share: float) -> list[Pair]:
    """Keep every harmful pair and at most `share` times as many benign ones, in the order given.

    Of the benign ones come first those of general prompts and of advice, at most half; then the twins of the harmful
    pairs; then other twins.
    """
    harmful = {pair.prompt_id for pair in pairs if pair.kind == "harmful"}
    room = round(share * len(harmful)) if harmful else len(pairs)
    twin_of = {p.id: p.twin for p in prompts}
    plain = [p.prompt_id for p in pairs if p.kind in ("general", "advice")][: room // 2]
    twins = [p.prompt_id for p in pairs if p.kind == "twin"]
    twins.sort(key=lambda id_: twin_of.get(id_) not in harmful)
    wanted = harmful | set(plain) | set(twins[: room - len(plain)])
    return [pair for pair in pairs if pair.prompt_id in wanted or pair.kind == "given"]
